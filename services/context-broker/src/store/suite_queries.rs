//! Cases of the suite about pages in another order and about places.

use ngsi::query::{EntityQuery, parse_order};
use serde_json::{Value, json};
use service_kit::Clock;

use super::{
    Selection, decode,
    suite::{Bench, append, scope},
};

pub(super) async fn sorted_pages_are_those_of_the_whole_sort(bench: Bench) {
    let s = scope("t", "/");
    let values = json!([
        3, -1, 1.5, 1e300, "b", "B", "", "1", true, false, null, [2], [1, "a"], {"k": 1}, {"k": 0}, 9_007_199_254_740_993_i64
    ]);
    for (n, value) in values.as_array().unwrap().iter().enumerate() {
        bench.clock.set_us(bench.clock.now_us() + 1);
        let id = format!("e{:02}", n * 7 % 16);
        bench.write(&s, append(&id, &[("v", value.clone()), ("n", json!(n % 3))])).await.unwrap();
    }
    bench.write(&s, append("without", &[])).await.unwrap();
    // Changed once more, so that the order of changes is not that of creation.
    bench.clock.set_us(bench.clock.now_us() + 1);
    bench.write(&s, append("e07", &[("n", json!(1))])).await.unwrap();

    let everything = s.exactly();
    let all = bench.store.scan(&everything, &Selection::default(), None, 100).await.unwrap();
    let mut served = 0;
    for order in [
        "id",
        "!id",
        "type,id",
        "dateCreated",
        "!dateCreated",
        "dateModified",
        "!dateModified",
        "servicePath,!id",
        "v",
        "!v",
        "n,v",
        "!n,!v",
        "none",
        "geo:distance",
    ] {
        let query = EntityQuery { order_by: parse_order(order).unwrap(), ..EntityQuery::default() };
        let mut expected: Vec<_> = all.iter().map(|entity| decode(entity).unwrap()).collect();
        query.sort(&mut expected);
        for (offset, limit) in [(0_u32, 5_u32), (4, 6), (0, 100), (15, 5), (90, 5)] {
            let page = (offset.into(), limit);
            let found = bench.store.sorted(&everything, &Selection::default(), &query.order_by, page).await;
            let Some(found) = found.unwrap() else { continue };
            served += 1;
            let mut found: Vec<_> = found.iter().map(|entity| decode(entity).unwrap()).collect();
            query.sort(&mut found);
            let expected = expected.iter().skip(offset as usize).take(limit as usize);
            let expected: Vec<&str> = expected.map(|entity| entity.id.as_str()).collect();
            let found: Vec<&str> = found.iter().map(|entity| entity.id.as_str()).collect();
            assert_eq!(found, expected, "{order} {page:?}");
        }
    }
    assert!(served >= 45, "{served} pages were sorted by the store");
}

pub(super) async fn places_are_found_by_their_cells_wherever_they_move(bench: Bench) {
    use ngsi::geo::GeoQuery;
    let s = scope("t", "/");
    let put = async |id: &str, place: Value| {
        let mut operation = append(id, &[("at", place)]);
        operation.update.attributes["at"].attribute_type = Some("geo:point".to_owned());
        bench.write(&s, operation).await.unwrap();
    };
    put("near", json!("40.4, -3.7")).await;
    put("far", json!("48.8, 2.3")).await;
    bench.write(&s, append("nowhere", &[("n", json!(1))])).await.unwrap();
    let cells = GeoQuery::parse("near;maxDistance:1000", "point", "40.4,-3.7").unwrap().cells().unwrap();
    let located = async |bench: &Bench, selection: &Selection, limit: u32| {
        let counted = bench.store.count_located(&s.exactly(), selection, &cells, limit).await.unwrap();
        let found = bench.store.located(&s.exactly(), selection, &cells, limit).await.unwrap();
        let mut ids: Vec<String> = found.iter().map(|entity| entity.id.to_string()).collect();
        ids.sort();
        assert_eq!(counted, ids.len() as u64);
        if bench.store.knows_places() {
            let places = bench.store.places(&s.exactly(), selection, &cells, limit).await.unwrap();
            let rows: Vec<i64> = places.iter().map(|place| place.row).collect();
            let placed = bench.store.placed(&s.exactly(), selection, &rows).await.unwrap();
            let mut placed: Vec<String> = placed.iter().map(|entity| entity.id.to_string()).collect();
            placed.sort();
            assert_eq!(placed, ids);
            let elsewhere = bench.store.placed(&scope("u", "/").exactly(), selection, &rows).await.unwrap();
            assert!(elsewhere.is_empty(), "rows alone open no tenant");
            let in_cells = |place: &crate::store::Place| {
                cells.iter().any(|(low, high)| (*low..=*high).contains(&place.cell))
            };
            assert!(places.iter().all(in_cells));
        }
        ids.join(" ")
    };
    let any = Selection::default();
    assert_eq!(located(&bench, &any, 10).await, "near");
    put("far", json!("40.401, -3.701")).await;
    bench.write(&s, append("far", &[("n", json!(1))])).await.unwrap();
    assert_eq!(located(&bench, &any, 10).await, "far near");
    assert_eq!(located(&bench, &any, 1).await.split(' ').count(), 1);
    let some = Selection { ids: vec!["far".into()], types: vec!["T".into()], ..Selection::default() };
    assert_eq!(located(&bench, &some, 10).await, "far");
    put("near", json!(null)).await;
    assert_eq!(located(&bench, &any, 10).await, "far");
    assert_eq!(located(&bench.reopen().await, &any, 10).await, "far");
    let elsewhere = bench.store.located(&scope("u", "/").exactly(), &any, &cells, 10).await.unwrap();
    assert!(elsewhere.is_empty());
    assert_eq!(bench.store.count_located(&s.exactly(), &any, &[], 10).await.unwrap(), 0);
}
