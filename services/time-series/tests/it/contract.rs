//! The examples of the contract: data of section 6, "Answer shapes".

use serde_json::{Value, json};
use time_series::config::Dialect;

use crate::{
    api::{Answer, Api},
    stores,
};

const T0: &str = "2030-01-01T00:00:00.000+00:00";
const T1: &str = "2030-01-01T01:00:00.000+00:00";

fn entity(id: &str, entity_type: &str, at: &str, lux: f64, label: Option<&str>) -> Value {
    let mut entity = json!({"id": id, "type": entity_type, "lux": {"type": "Number", "value": lux,
        "metadata": {"TimeInstant": {"type": "DateTime", "value": at}}}});
    if let Some(label) = label {
        entity["label"] = json!({"type": "Text", "value": label});
    }
    entity
}

async fn lamps_in(dialect: Dialect) -> Api {
    let api = Api::with(dialect, stores::early()).await;
    for (id, entity_type, at, lux, label) in [
        ("lamp:1", "Lamp", T0, 10.0, Some("a")),
        ("lamp:1", "Lamp", T1, 12.0, None),
        ("lamp:2", "Lamp", T1, 5.0, None),
        ("bin:1", "Bin", T1, 7.0, None),
    ] {
        let answer = api.notify(json!([entity(id, entity_type, at, lux, label)])).await;
        assert_eq!(
            (answer.status.as_u16(), answer.text.as_str()),
            (200, "\"Notification successfully processed\"")
        );
    }
    api
}

async fn lamps() -> Api {
    lamps_in(Dialect::New).await
}

fn assert_json(answer: &Answer, expected: &Value, path: &str) {
    assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    // Compared as text: the order of fields and 10.0 against 10 count.
    assert_eq!(answer.text, expected.to_string(), "{path}");
    assert_eq!(answer.headers["content-type"], "application/json", "{path}");
}

fn shapes() -> Vec<(&'static str, Value)> {
    let bin = json!({"id": "bin:1", "index": [T1], "values": [7.0]});
    let lamp1 = json!({"id": "lamp:1", "index": [T0, T1], "values": [10.0, 12.0]});
    let lamp2 = json!({"id": "lamp:2", "index": [T1], "values": [5.0]});
    let attributes =
        json!([{"attrName": "label", "values": ["a", null]}, {"attrName": "lux", "values": [10.0, 12.0]}]);
    let lamp2_all = json!({"id": "lamp:2", "index": [T1],
        "attributes": [{"attrName": "label", "values": [null]}, {"attrName": "lux", "values": [5.0]}]});
    let lamp1_all = json!({"id": "lamp:1", "index": [T0, T1], "attributes": attributes});
    let types = json!([{"type": "Bin", "entities": [bin]}, {"type": "Lamp", "entities": [lamp1, lamp2]}]);
    vec![
        (
            "/v2/entities/lamp:1/attrs/lux",
            json!({"id": "lamp:1", "type": "Lamp", "attrName": "lux", "index": [T0, T1], "values": [10.0, 12.0]}),
        ),
        ("/v2/entities/lamp:1/attrs/LUX/value", json!({"index": [T0, T1], "values": [10.0, 12.0]})),
        (
            "/v2/entities/lamp:1",
            json!({"id": "lamp:1", "type": "Lamp", "index": [T0, T1], "attributes": attributes}),
        ),
        ("/v2/entities/lamp:1/value", json!({"index": [T0, T1], "attributes": attributes})),
        (
            "/v2/entities/lamp:1?attrs=Lux&type=lamp",
            json!({"id": "lamp:1", "type": "Lamp", "index": [T0, T1],
            "attributes": [{"attrName": "lux", "values": [10.0, 12.0]}]}),
        ),
        ("/v2/types/Lamp/attrs/lux", json!({"type": "Lamp", "attrName": "lux", "entities": [lamp1, lamp2]})),
        (
            "/v2/types/lamp/attrs/lux?id=lamp:2,x,lamp:1",
            json!({"type": "lamp", "attrName": "lux", "entities": [lamp2, lamp1]}),
        ),
        ("/v2/types/Lamp/attrs/lux/value", json!({"values": [lamp1, lamp2]})),
        ("/v2/types/Lamp", json!({"type": "Lamp", "entities": [lamp1_all, lamp2_all]})),
        ("/v2/types/Lamp?idPattern=P:2$", json!({"type": "Lamp", "entities": [lamp2_all]})),
        ("/v2/types/Lamp/value?id=lamp:2", json!({"values": [lamp2_all]})),
        ("/v2/attrs/lux", json!({"attrName": "lux", "types": types})),
        ("/v2/attrs/lux/value", json!({"values": types})),
        (
            "/v2/attrs/label",
            json!({"attrName": "label", "types": [{"type": "Lamp", "entities": [
            {"id": "lamp:1", "index": [T0, T1], "values": ["a", null]},
            {"id": "lamp:2", "index": [T1], "values": [null]}]}]}),
        ),
        (
            "/v2/attrs?type=Bin",
            json!({"attrs": [{"attrName": "lux", "types": [{"type": "Bin", "entities": [bin]}]}]}),
        ),
        ("/v2/attrs/value?attrs=lux", json!({"values": [{"attrName": "lux", "types": types}]})),
        (
            "/v2/entities",
            json!([{"id": "bin:1", "type": "Bin", "index": T1},
            {"id": "lamp:1", "type": "Lamp", "index": T1}, {"id": "lamp:2", "type": "Lamp", "index": T1}]),
        ),
        ("/v2/entities?toDate=2030-01-01T00:30:00Z", json!([{"id": "lamp:1", "type": "Lamp", "index": T0}])),
        ("/v2/entities?limit=1", json!([{"id": "bin:1", "type": "Bin", "index": T1}])),
        ("/v2/entities/nowhere", json!([])),
        ("/v2/types/Lamp/attrs/nothing", json!([])),
        ("/v2/attrs/nothing", json!([])),
        ("/v2/entities?type=No", json!([])),
    ]
}

#[tokio::test]
async fn every_query_route_answers_in_the_shape_of_the_contract() {
    let api = lamps().await;
    for (path, expected) in shapes() {
        assert_json(&api.get(path).await, &expected, path);
    }
}

#[tokio::test]
async fn ranges_and_windows_count_rows_of_the_type() {
    let api = lamps().await;
    for (query, lamp1, lamp2) in [
        ("fromDate=2030-01-01T00:30:00Z", vec![12.0], vec![5.0]),
        ("toDate=%222030-01-01T00:00:00%22", vec![10.0], vec![]),
        ("fromDate=2030-01-01T00:00:00&toDate=2030-01-01T00:00:00", vec![10.0], vec![]),
        ("fromDate=2030-01-01T01:00:00+01:00&toDate=2030-01-01T01:30:00%2B01:00", vec![10.0], vec![]),
        ("limit=1", vec![10.0], vec![]),
        ("lastN=2", vec![12.0], vec![5.0]),
        ("lastN=3&limit=2", vec![12.0], vec![5.0]),
        ("limit=10&offset=1", vec![12.0], vec![5.0]),
        ("limit=99999&unknown=x", vec![10.0, 12.0], vec![5.0]),
        ("lastN=10&offset=2", vec![10.0], vec![]),
    ] {
        let path = format!("/v2/types/Lamp/attrs/lux/value?{query}");
        let answer = api.get(&path).await.json();
        let values = |id: &str| {
            let entities = answer["values"].as_array().unwrap();
            let entity = entities.iter().find(|entity| entity["id"] == id);
            entity.map_or(json!([]), |entity| entity["values"].clone())
        };
        assert_eq!((values("lamp:1"), values("lamp:2")), (json!(lamp1), json!(lamp2)), "{path}");
    }
}

#[tokio::test]
async fn aggregates_have_the_index_that_each_route_gives_them() {
    let api = lamps().await;
    let hour = json!([T0, T1]);
    let ends = json!(["2030-01-01T00:00:00+00:00", ""]);
    for (path, pointer, index, values) in [
        ("/v2/entities/lamp:1/attrs/lux?aggrMethod=avg", "", json!([]), json!([11.0])),
        ("/v2/entities/lamp:1/attrs/lux?aggrMethod=sum&aggrPeriod=day", "", json!([T0]), json!([22.0])),
        (
            "/v2/entities/lamp:1/attrs/lux?aggrMethod=max&aggrPeriod=hour",
            "",
            hour.clone(),
            json!([10.0, 12.0]),
        ),
        (
            "/v2/entities/lamp:1/attrs/lux?aggrMethod=min&aggrPeriod=hour&lastN=1",
            "",
            json!([T1]),
            json!([12.0]),
        ),
        ("/v2/entities/lamp:1/attrs/label?aggrMethod=count&aggrPeriod=hour", "", hour.clone(), json!([1, 0])),
        ("/v2/entities/lamp:1/attrs/label?aggrMethod=min", "", json!([]), json!(["a"])),
        ("/v2/entities/lamp:2/attrs/label?aggrMethod=max", "", json!([]), json!([null])),
        ("/v2/types/Lamp/attrs/lux?aggrMethod=count", "/entities/0", json!([]), json!([2])),
        (
            "/v2/types/Lamp/attrs/lux?aggrMethod=sum&id=lamp:1&fromDate=2030-01-01T00:00",
            "/entities/0",
            json!(["2030-01-01T00:00", ""]),
            json!([22.0]),
        ),
        (
            "/v2/attrs/lux?aggrMethod=sum&type=Lamp&fromDate=2030-01-01",
            "/types/0/entities/0",
            ends.clone(),
            json!([22.0]),
        ),
        (
            "/v2/attrs?aggrMethod=sum&attrs=lux&type=Lamp&fromDate=2030-01-01",
            "/attrs/0/types/0/entities/0",
            ends.clone(),
            json!([22.0]),
        ),
    ] {
        let answer = api.get(path).await;
        let json = answer.json();
        let entity = json.pointer(pointer).unwrap_or_else(|| panic!("{path}: {json}"));
        assert_eq!((&entity["index"], &entity["values"]), (&index, &values), "{path}");
    }
    let one_entity = api.get("/v2/entities/lamp:1?aggrMethod=avg&attrs=lux").await.json();
    assert_eq!(one_entity["index"], json!([]));
    assert_eq!(one_entity["attributes"], json!([{"attrName": "lux", "values": [11.0]}]));
    let one_type = api.get("/v2/types/Lamp?aggrMethod=avg&attrs=lux&fromDate=2030-01-01").await.json();
    assert_eq!(one_type.pointer("/entities/0/index"), Some(&ends));
}

#[tokio::test]
async fn the_older_dialect_has_its_own_names_and_404() {
    let api = lamps_in(Dialect::Old).await;
    let answer = api.get("/v2/entities/lamp:2/attrs/lux").await.json();
    assert_eq!(
        answer,
        json!({"entityId": "lamp:2", "entityType": "Lamp", "attrName": "lux", "index": [T1], "values": [5.0]})
    );
    let nothing = json!({"error": "Not Found", "description": "No records were found for such query."});
    for answer in
        [api.get("/v2/entities/x").await, api.delete("/v2/entities/x").await, api.get("/v2/attrs/x").await]
    {
        assert_eq!((answer.status.as_u16(), answer.json()), (404, nothing.clone()));
    }
}

#[tokio::test]
async fn fixed_routes_answer() {
    let api = Api::new().await;
    assert!(api.get("/version").await.json()["version"].is_string());
    let health = api.get("/health").await;
    assert_eq!(
        (health.text.as_str(), &health.headers["cache-control"]),
        ("{\"status\":\"pass\"}", &"max-age=180".parse().unwrap())
    );
    let links = json!({"entities_url": "/v2/entities", "types_url": "/v2/types", "attributes_url": "/v2/attrs",
        "notify_url": "/v2/notify", "subscriptions_url": "/v2/subscriptions"});
    for path in ["/v2", "/v2/"] {
        assert_eq!(api.get(path).await.json(), links);
    }
    assert_eq!(api.get("/management/queue/notifications/count").await.text, "0");
    assert_eq!(api.delete("/management/queue/notifications").await.status, 204);
}

#[tokio::test]
async fn newest_values_are_answered_as_a_context_provider() {
    let api = lamps().await;
    let ask = |body: Value| {
        let api = &api;
        async move { api.send("POST", "/v2/op/query", &[], &body.to_string()).await }
    };
    let lamp = json!({"id": "lamp:1", "type": "Lamp"});
    let answer = ask(json!({"entities": [lamp], "attrs": ["lux"]})).await;
    let modified = json!({"type": "DateTime", "value": T1});
    let newest = json!([{"id": "lamp:1", "type": "Lamp", "lux": {"type": "Number", "value": 12.0}, "dateModified": modified}]);
    assert_json(&answer, &newest, "op/query");
    let all = ask(json!({"entities": [lamp], "attrs": []})).await.json();
    assert_eq!(all[0]["label"], json!({"type": "Text", "value": null}));
    let unknown = ask(json!({"entities": [lamp, {"id": "x", "type": "Lamp"}], "attrs": []})).await;
    assert_json(&unknown, &json!([]), "unknown entity");
    for (body, text) in [
        (json!({"entities": [{"id": "a"}], "attrs": []}), "\"Entity type is required\""),
        (json!({"entities": [{"type": "a"}], "attrs": []}), "\"Entity id is required\""),
        (json!({"entities": [{"idPattern": "a", "type": "a"}], "attrs": []}), "\"Entity id is required\""),
        (
            json!({"entities": [{"id": "a", "idPattern": "a", "type": "a"}], "attrs": []}),
            "\"idPattern is Not Supported\"",
        ),
        (json!({"entities": [lamp], "attrs": [], "expression": {}}), "\"expression is Not Supported\""),
        (json!({"entities": [lamp], "attrs": [], "metadata": []}), "\"metadata is Not Supported\""),
    ] {
        let answer = ask(body).await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (400, text));
    }
    assert_eq!(ask(json!({"attrs": []})).await.json()["detail"], "'entities' is a required property");
    assert_eq!(ask(json!({"entities": []})).await.json()["detail"], "'attrs' is a required property");
}

#[tokio::test]
async fn deletes_follow_the_table() {
    let api = lamps().await;
    api.notify(json!([entity("lamp:1", "Other", T0, 1.0, None)])).await;
    let ambiguous = api.delete("/v2/entities/lamp:1").await;
    assert_eq!(ambiguous.status, 409);
    assert_eq!(
        ambiguous.json(),
        json!({"error": "AmbiguousNGSIIdError",
        "description": "There are multiple entities with the given entity_id lamp:1. Please specify entity_type."})
    );
    let part = api.delete("/v2/entities/lamp:1?type=Lamp&fromDate=2030-01-01T00:30:00Z").await;
    assert_eq!((part.status.as_u16(), part.text.as_str()), (204, ""));
    assert_eq!(
        api.get("/v2/entities/lamp:1/attrs/lux/value?type=Lamp").await.json(),
        json!({"index": [T0], "values": [10.0]})
    );
    assert_json(&api.delete("/v2/entities/nowhere").await, &json!([]), "nothing deleted");
    assert_eq!(api.delete("/v2/types/Lamp?toDate=2030-01-01T00:30:00Z").await.status, 204);
    assert_eq!(api.get("/v2/types/Lamp/attrs/lux/value").await.json()["values"].as_array().unwrap().len(), 1);
    let below = [("Fiware-ServicePath", "/a")];
    let refused = api.send("DELETE", "/v2/types/Lamp?dropTable=true", &below, "").await;
    assert_eq!(
        (refused.status.as_u16(), refused.text.as_str()),
        (422, "\"dropTable requires the root fiware-servicepath: '/'\"")
    );
    assert_eq!(api.delete("/v2/types/Lamp?dropTable=true").await.status, 204);
    assert_eq!(api.delete("/v2/types/Unknown?dropTable=true").await.status, 204);
    assert_json(&api.get("/v2/types/Lamp").await, &json!([]), "dropped");
    // After a drop the type may hold other things under the same names.
    api.notify(json!([{"id": "lamp:9", "type": "Lamp", "lux": {"type": "Text", "value": "bright"}}])).await;
    assert_eq!(api.get("/v2/entities/lamp:9/attrs/lux/value").await.json()["values"], json!(["bright"]));
}
