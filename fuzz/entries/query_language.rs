//! The simple query language: any text, parsed and run on one entity that has a value of each kind.

use std::sync::LazyLock;

use ngsi::{
    Entity, UpdateAction, UpdateOptions, WriteContext, parse,
    query::{Expression, Pattern, QueryKind, parse_order},
};

static ENTITY: LazyLock<Entity> = LazyLock::new(|| {
    let body = br#"{"id":"E","type":"T","n":{"value":1.5,"metadata":{"m":{"value":1}}},"s":{"value":"text"},
        "b":{"value":true},"z":{"value":null},"l":{"value":[1,"a",{"k":2}]},"o":{"value":{"a":{"b":1}}},
        "d":{"type":"DateTime","value":"2026-01-31T10:00:00Z"}}"#;
    let request = parse::entity(body, parse::BodyFormat::Normalized).expect("a good entity");
    let mut slot = None;
    let context = WriteContext { path: &scope::ServicePath::root(), now_us: 1 };
    ngsi::apply(&mut slot, &request, UpdateAction::Create, UpdateOptions::default(), context)
        .expect("a new entity");
    slot.expect("was created")
});

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for kind in [QueryKind::Attributes, QueryKind::Metadata] {
        if let Ok(expression) = Expression::parse(text, kind) {
            assert_eq!(Expression::parse(expression.as_str(), kind).as_ref(), Ok(&expression));
            expression.matches(&ENTITY);
        }
    }
    if let Ok(pattern) = Pattern::parse(text) {
        pattern.is_match(text);
    }
    let _order = parse_order(text);
}
