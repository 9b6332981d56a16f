//! Geographic queries and locations: any text as `georel`, `geometry` and `coords`, any JSON as the value of a location. What
//! is accepted as a location is one, and what a query finds there is also found through the index.

use ngsi::{
    Entity, UpdateAction, UpdateOptions, WriteContext,
    geo::{GeoQuery, Shape, cell_of},
    parse,
};
use serde_json::{Value, json};

/// Three lines: the parameters; then the value.
pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut parts = text.splitn(4, '\n');
    let mut part = || parts.next().unwrap_or_default();
    let (georel, geometry, coords, value) = (part(), part(), part(), part());
    let mut queries: Vec<GeoQuery> = GeoQuery::parse(georel, geometry, coords).into_iter().collect();
    for georel in ["coveredBy", "intersects", "equals", "disjoint"] {
        queries.extend(GeoQuery::parse(georel, geometry, coords));
    }
    let Ok(value) = serde_json::from_str::<Value>(value) else { return };
    for kind in ["geo:json", "geo:point", "geo:line", "geo:box", "geo:polygon"] {
        let Some(entity) = entity_at(kind, &value) else { continue };
        let Some(location) = entity.location() else {
            assert!(value.is_null(), "{kind} {value} was accepted, and is nowhere");
            continue;
        };
        for query in &queries {
            check(query, &location, &entity);
        }
        check_relations(under_each_relation(geometry, coords), &location);
    }
}

/// A new entity with this location, if the value is accepted.
fn entity_at(kind: &str, value: &Value) -> Option<Entity> {
    let body = json!({"id": "E", "l": {"type": kind, "value": value}}).to_string();
    let request = parse::entity(body.as_bytes(), parse::BodyFormat::Normalized).ok()?;
    let mut slot = None;
    let context = WriteContext { path: &scope::ServicePath::root(), now_us: 1 };
    ngsi::apply(&mut slot, &request, UpdateAction::Create, UpdateOptions::default(), context)
        .expect("what is parsed can be created");
    slot
}

fn check(query: &GeoQuery, location: &Shape, entity: &Entity) {
    assert_eq!(query.matches(entity), query.holds(location));
    let metres = query.distance(entity).expect("it has a location");
    assert!(metres >= 0.0 && metres.is_finite(), "{metres} m");
    if query.holds(location)
        && let Some(cells) = query.cells()
    {
        let cell = cell_of(location);
        assert!(
            cells.iter().any(|(from, to)| (*from..=*to).contains(&cell)),
            "{query:?} misses {location:?}"
        );
    }
}

/// The same place under each relation.
fn under_each_relation(geometry: &str, coords: &str) -> [Option<GeoQuery>; 4] {
    ["intersects", "disjoint", "equals", "coveredBy"]
        .map(|georel| GeoQuery::parse(georel, geometry, coords).ok())
}

fn check_relations([intersects, disjoint, equals, covered]: [Option<GeoQuery>; 4], location: &Shape) {
    let (Some(intersects), Some(disjoint)) = (intersects, disjoint) else { return };
    assert_ne!(intersects.holds(location), disjoint.holds(location));
    for closer in [equals, covered].into_iter().flatten() {
        assert!(!closer.holds(location) || intersects.holds(location), "{closer:?} of {location:?}");
    }
}
