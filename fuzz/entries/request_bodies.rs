//! Bodies of requests: whatever is accepted can be applied, rendered, stored and read back.

use ngsi::{
    UpdateAction, UpdateOptions, WriteContext, parse,
    render::{Format, Selection, write_entity},
    subscription::Subscription,
};

pub(crate) fn run(body: &[u8]) {
    for format in [parse::BodyFormat::Normalized, parse::BodyFormat::KeyValues] {
        let _batch = parse::batch(body, format);
        let Ok(request) = parse::entity(body, format) else { continue };
        let mut slot = None;
        let context = WriteContext { path: &scope::ServicePath::root(), now_us: 1 };
        for action in [UpdateAction::Append, UpdateAction::Update, UpdateAction::Replace] {
            let _outcome = ngsi::apply(&mut slot, &request, action, UpdateOptions::default(), context);
        }
        if let Some(entity) = &slot {
            let mut out = Vec::new();
            write_entity(&mut out, entity, &Selection::default(), Format::Normalized);
            parse::entity(&out, parse::BodyFormat::Normalized).expect("what is shown can be sent back");
        }
    }
    let _query = parse::batch_query(body);
    let _value = parse::value_from_text("a", body);
    if let Ok(subscription) = Subscription::parse(body) {
        let again = Subscription::parse(&subscription.definition_json());
        assert_eq!(again.as_ref(), Ok(&subscription));
    }
}
