//! ngsi-v2.md 6 and 7: lists of entities and of types.

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::broker::{Broker, Reply, request};

async fn broker() -> Broker {
    let broker = Broker::start().await;
    for entity in [
        r#"{"id":"room1","type":"Room","t":{"value":20},"s":{"value":"warm"}}"#,
        r#"{"id":"room2","type":"Room","t":{"value":25}}"#,
        r#"{"id":"car1","type":"Car","t":{"value":"20"},"v":{"value":{"k":1}}}"#,
    ] {
        broker.given(entity).await;
    }
    broker
}

async fn ids(broker: &Broker, query: &str) -> String {
    let reply = broker.send(request(&format!("GET /v2/entities{query}"))).await;
    assert_eq!(reply.status, 200, "{query}: {}", reply.body);
    let entities: Vec<serde_json::Value> = serde_json::from_str(&reply.body).unwrap();
    entities.iter().map(|entity| entity["id"].as_str().unwrap()).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn entities_are_selected_by_every_parameter() {
    let broker = broker().await;
    for (query, expected) in [
        ("", "room1 room2 car1"),
        ("/", "room1 room2 car1"),
        ("?type=Room", "room1 room2"),
        ("?type=Car,Room", "room1 room2 car1"),
        ("?id=car1,room2", "room2 car1"),
        ("?idPattern=1$", "room1 car1"),
        ("?typePattern=^C", "car1"),
        ("?idPattern=.*&type=Car", "car1"),
        ("?q=t==20", "room1"),
        ("?q=t%3E20", "room2"),
        ("?q=t%3E19%3Bt%3C21", "room1"),
        ("?q=t=='20'", "car1"),
        ("?q=s", "room1"),
        ("?q=!s", "room2 car1"),
        ("?q=v.k==1", "car1"),
        ("?q=t==20..30", "room1 room2"),
        ("?orderBy=!id", "room2 room1 car1"),
        ("?orderBy=t", "room1 room2 car1"),
        ("?limit=1&offset=1", "room2"),
        ("?offset=10", ""),
        ("?limit=0", ""),
        ("?unknown=1", "room1 room2 car1"),
    ] {
        assert_eq!(ids(&broker, query).await, expected, "{query}");
    }
}

#[tokio::test]
async fn the_total_is_told_when_asked_for_in_any_order_of_options() {
    let broker = broker().await;
    for (query, total) in [
        ("?options=count&limit=1", Some("3")),
        ("?options=count,normalized&type=Room", Some("2")),
        ("?options=values,count&q=t%3E20", Some("1")),
        ("?options=count&limit=0", Some("3")),
        ("?options=keyValues", None),
    ] {
        let reply = broker.send(request(&format!("GET /v2/entities{query}"))).await;
        assert_eq!(reply.header("fiware-total-count"), total, "{query}");
    }
}

#[tokio::test]
async fn bad_queries_are_named() {
    let broker = Broker::start().await;
    for (query, description) in [
        ("id=a&idPattern=b", "Incompatible parameters: id, IdPattern"),
        ("type=a&typePattern=b", "Incompatible parameters: type, typePattern"),
        ("q=a%3E1..2", "ranges only valid for equal and not equal ops"),
        ("q=;", "empty q-item"),
        ("mq=a", "no metadata in right-hand-side of q-item"),
        ("orderBy=a,a", "duplicate orderBy token detected"),
        ("q=a~=(", "error compiling filter regex: &#39;&#40;&#39;"),
    ] {
        broker.refuses(request(&format!("GET /v2/entities?{query}")), 400, "BadRequest", description).await;
    }
}

#[tokio::test]
async fn types_are_listed_with_their_attributes() {
    let broker = broker().await;
    let car = r#""attrs":{"t":{"types":["Text"]},"v":{"types":["StructuredValue"]}},"count":1"#;
    let room = r#""attrs":{"s":{"types":["Text"]},"t":{"types":["Number"]}},"count":2"#;
    let all = format!(r#"[{{"type":"Car",{car}}},{{"type":"Room",{room}}}]"#);
    let reply = broker.expect(request("GET /v2/types?options=count"), 200, &all).await;
    assert_eq!(reply.header("fiware-total-count"), Some("2"));
    broker.expect(request("GET /v2/types?options=values"), 200, r#"["Car","Room"]"#).await;
    let without = r#"[{"type":"Room","attrs":{"s":{"types":[]},"t":{"types":[]}},"count":2}]"#;
    broker.expect(request("GET /v2/types?options=noAttrDetail&offset=1"), 200, without).await;
    broker.expect(request("GET /v2/types/Room"), 200, &format!("{{{room}}}")).await;
    broker.refuses(request("GET /v2/types/Boat"), 404, "NotFound", "Entity type not found").await;
}

#[tokio::test]
async fn a_query_that_reads_too_long_is_given_up_with_a_clear_error() {
    let query = context_broker::QueryConfig { max_ms: 1 };
    let config = context_broker::Config { query, ..Default::default() };
    let broker = Broker::start_with(config, std::sync::Arc::new(bus::EmbeddedBus::default())).await;
    // So many that no machine reads them in a millisecond.
    for kind in ["E", "F", "G", "H", "I"] {
        let entities: Vec<String> = (0..2000).map(|n| format!(r#"{{"id":"{kind}{n}","n":{n}}}"#)).collect();
        let body = format!(r#"{{"actionType":"append","entities":[{}]}}"#, entities.join(","));
        broker.expect(request("POST /v2/op/update?options=keyValues").json(&body), 204, "").await;
    }
    let description = "the query takes longer than 1 ms, restrict it by type or id";
    let unindexed = request("GET /v2/entities?q=n==2000");
    broker.refuses(unindexed, 413, "NoResourcesAvailable", description).await;
    // What an index answers is not meant.
    assert_eq!(ids(&broker, "?offset=1999&limit=2").await.split(' ').count(), 2);
}

#[tokio::test]
async fn the_nearest_are_found_page_by_page_however_far_they_are() {
    let broker = Broker::start().await;
    let entities: Vec<String> = (0..90)
        .map(|n| format!(r#"{{"id":"E{n:02}","at":{{"type":"geo:point","value":"{n},0"}}}}"#))
        .collect();
    let body = format!(r#"{{"actionType":"append","entities":[{}]}}"#, entities.join(","));
    broker.expect(request("POST /v2/op/update").json(&body), 204, "").await;
    let near = |georel: &str, more: &str| format!("?georel=near;{georel}&geometry=point&coords=0,0{more}");
    for (query, expected) in [
        (near("maxDistance:30000000", "&limit=3"), "E00 E01 E02"),
        (near("minDistance:200000", "&limit=2"), "E02 E03"),
        (near("minDistance:0", "&limit=2&offset=88"), "E88 E89"),
        (near("minDistance:0", "&limit=5&offset=88"), "E88 E89"),
        (near("minDistance:0", "&limit=2&q=!none&orderBy=!geo:distance"), "E89 E88"),
        (near("minDistance:0", "&limit=2&idPattern=5$"), "E05 E15"),
    ] {
        assert_eq!(ids(&broker, &query).await, expected, "{query}");
    }
}

#[tokio::test]
async fn the_nearest_are_found_in_a_crowd_too() {
    let broker = Broker::start().await;
    // 900 within 30 m of the place, 300 at one and the same place, and a few far away.
    let crowd = (0..900).map(|n| ("C", n, f64::from(n + 1) * 3e-7));
    let one_place = (0..300).map(|n| ("S", n, 1.0));
    let far = (0..5).map(|n| ("F", n, f64::from(n + 2)));
    let entities: Vec<String> = crowd
        .chain(one_place)
        .chain(far)
        .map(|(kind, n, latitude)| {
            format!(r#"{{"id":"{kind}{n:03}","type":"{kind}","at":{{"type":"geo:point","value":"{latitude},0"}}}}"#)
        })
        .collect();
    let body = format!(r#"{{"actionType":"append","entities":[{}]}}"#, entities.join(","));
    broker.expect(request("POST /v2/op/update").json(&body), 204, "").await;
    let near = |from: &str, more: &str| {
        format!("?georel=near;maxDistance:900000&geometry=point&coords={from},0{more}")
    };
    for (query, expected) in [
        (near("0", "&limit=3"), "C000 C001 C002"),
        (near("0", "&limit=2&offset=898"), "C898 C899"),
        (near("0", "&limit=2&offset=899"), "C899 S000"),
        (near("0", "&limit=2&type=F"), "F000 F001"),
        (near("0", "&limit=2&type=S"), "S000 S001"),
        (near("1", "&limit=2"), "S000 S001"),
        (near("1", "&limit=2&offset=299"), "S299 C899"),
        (near("1", "&limit=2&type=F"), "F000 F001"),
        (near("4.1", "&limit=3"), "F002 F003 F001"),
        (near("0", "&limit=2&idPattern=8$"), "C008 C018"),
    ] {
        assert_eq!(ids(&broker, &query).await, expected, "{query}");
    }
    // What is counted without being read is as much as can be read.
    for (georel, more, least) in [
        ("maxDistance:15", "", 400),
        ("maxDistance:15.02", "&type=C", 400),
        ("minDistance:7.7;maxDistance:22", "", 400),
        ("maxDistance:22", "&idPattern=8$", 60),
        ("maxDistance:22", "&id=C004,S000,C009", 2),
        ("maxDistance:0.4", "", 10),
        ("maxDistance:300000", "&type=S,F", 300),
    ] {
        let near = format!("?georel=near;{georel}&geometry=point&coords=0,0&limit=1000{more}");
        let all = ids(&broker, &near).await.split(' ').count();
        for limit in [0, 2, 1000] {
            let counted = format!("GET /v2/entities{near}&options=count")
                .replace("limit=1000", &format!("limit={limit}"));
            let reply = broker.send(request(&counted)).await;
            assert_eq!(reply.header("fiware-total-count"), Some(&*all.to_string()), "{counted}");
            let page: Vec<serde_json::Value> = serde_json::from_str(&reply.body).unwrap();
            assert_eq!(page.len(), limit.min(all), "{counted}");
        }
        assert!(all >= least, "{near}: {all}");
    }
}

/// A query that asks more than a place reads every candidate: it has to find the same.
#[tokio::test]
async fn what_is_near_is_the_same_whether_cells_or_rows_say_so() {
    let broker = Broker::start().await;
    let mut random = StdRng::seed_from_u64(8);
    let mut within = |low: f64, high: f64| random.random_range(low..high);
    let mut places = Vec::new();
    for n in 0..6000 {
        // Two crowds of a few hundred metres, and the country around them.
        let (reach, middle) = match n % 4 {
            0 | 1 => (0.003, 40.0),
            2 => (0.0005, 40.01),
            _ => (2.0, 40.0),
        };
        let mut at = |middle: f64| middle + within(-reach, reach);
        let (latitude, longitude) = (at(middle), at(-3.7));
        places.push(match n % 50 {
            7 => format!(
                r#"{{"type":"geo:line","value":["{latitude},{longitude}","{},{}"]}}"#,
                latitude + reach / 10.0,
                longitude
            ),
            _ => format!(r#"{{"type":"geo:point","value":"{latitude},{longitude}"}}"#),
        });
    }
    for (chunk, places) in places.chunks(1000).enumerate() {
        let entities = places.iter().enumerate().map(|(n, place)| {
            format!(r#"{{"id":"P{}","type":"{}","at":{place}}}"#, chunk * 1000 + n, ["A", "B"][n % 2])
        });
        let entities: Vec<String> = entities.collect();
        let body = format!(r#"{{"actionType":"append","entities":[{}]}}"#, entities.join(","));
        broker.expect(request("POST /v2/op/update").json(&body), 204, "").await;
    }
    for round in 0..60 {
        let (latitude, longitude) = (40.0 + within(-0.02, 0.02), -3.7 + within(-0.02, 0.02));
        let max = 10.0_f64.powf(within(0.5, 6.0));
        let min = if round % 3 == 0 { format!("minDistance:{};", within(0.0, max)) } else { String::new() };
        let offset = if round % 4 == 0 { within(0.0, 300.0).round() } else { 0.0 };
        let more = ["", "&type=A", "&id=P1,P2,P3,P7"][round % 3];
        let near = format!(
            "?georel=near;{min}maxDistance:{max}&geometry=point&coords={latitude},{longitude}&limit=30&offset={offset}{more}"
        );
        for count in ["", "&options=count"] {
            let cells = broker.send(request(&format!("GET /v2/entities{near}{count}"))).await;
            let rows = broker.send(request(&format!("GET /v2/entities{near}{count}&q=!none"))).await;
            assert_eq!(cells.body, rows.body, "{near}{count}");
            let total = |reply: &Reply| reply.header("fiware-total-count").map(str::to_owned);
            assert_eq!(total(&cells), total(&rows), "{near}{count}");
        }
    }
}
