//! The case of the suite about pages in another order.

use ngsi::query::{EntityQuery, parse_order};
use serde_json::json;
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
