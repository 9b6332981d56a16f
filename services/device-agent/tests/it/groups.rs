//! iot-agent 1.2.

use serde_json::{Value, json};

use crate::{broker::FakeBroker, harness::Agent};

const T: (&str, &str) = ("t", "/p");

async fn agent() -> Agent {
    Agent::with_broker(&FakeBroker::default()).await
}

#[tokio::test]
async fn missing_headers_are_named_before_anything_else() {
    let agent = agent().await;
    let text = |names: &str| format!("Some headers were missing from the request: {names}");
    for (headers, missing) in [
        (vec![], r#"["fiware-service","fiware-servicepath"]"#),
        (vec![("fiware-service", "t")], r#"["fiware-servicepath"]"#),
        (vec![("fiware-servicepath", "/")], r#"["fiware-service"]"#),
    ] {
        for (method, path) in [("POST", "/iot/services"), ("GET", "/iot/groups"), ("GET", "/iot/devices/x")] {
            let answer = agent.send("north", method, path, &headers, "{").await;
            let expected = json!({"name": "MISSING_HEADERS", "message": text(missing)});
            assert_eq!((answer.status, answer.json()), (400, expected), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_group_is_created_shown_changed_and_deleted() {
    let agent = agent().await;
    agent.group(T, "k", json!({"cbroker": "http://orion:1026", "timestamp": false})).await;
    let shown = agent.north("GET", "/iot/services", T, Value::Null).await;
    assert_eq!(shown.status, 200);
    let group = &shown.json()["services"][0];
    assert_eq!(shown.json()["count"], 1);
    let plain = [
        "apikey",
        "resource",
        "service",
        "subservice",
        "entity_type",
        "cbroker",
        "timestamp",
        "creationDate",
    ];
    let fields: Vec<&Value> = plain.iter().map(|field| &group[*field]).collect();
    let expected =
        json!(["k", "/iot/d", "t", "/p", "Room", "http://orion:1026", false, "2026-01-02T03:04:05.678Z"]);
    assert_eq!(json!(fields), expected);
    assert_eq!(group["_id"].as_str().map(str::len), Some(24));

    let at = "/iot/services?resource=/iot/d&apikey=k";
    let changed = agent.north("PUT", at, T, json!({"timestamp": true})).await;
    assert_eq!((changed.status, changed.text.as_str()), (204, ""));
    let group = agent.north("GET", "/iot/groups", T, Value::Null).await.json()["groups"][0].clone();
    assert_eq!((&group["timestamp"], &group["entity_type"]), (&json!(true), &json!("Room")));

    assert_eq!(agent.north("DELETE", at, T, Value::Null).await.status, 204);
    let gone = agent.north("GET", "/iot/services", T, Value::Null).await;
    assert_eq!(gone.error(), (404, "DEVICE_GROUP_NOT_FOUND".into()));
}

#[tokio::test]
async fn both_paths_have_their_own_root_key() {
    let agent = agent().await;
    let group = json!([{"apikey": "k", "resource": "/iot/d", "entity_type": "Room"}]);
    for (path, key, status) in
        [("/iot/services", "groups", 400), ("/iot/groups", "services", 400), ("/iot/groups", "groups", 201)]
    {
        let answer = agent.north("POST", path, T, json!({ key: group })).await;
        assert_eq!(answer.status, status, "{path} {key}: {}", answer.text);
    }
}

#[tokio::test]
async fn resource_and_key_are_unique_over_all_tenants() {
    let agent = agent().await;
    agent.group(T, "k", json!({})).await;
    let again = json!({"services": [{"apikey": "k", "resource": "/iot/d", "entity_type": "Other"}]});
    for scope in [T, ("other", "/")] {
        let answer = agent.north("POST", "/iot/services", scope, again.clone()).await;
        assert_eq!(answer.error(), (409, "DUPLICATE_GROUP".into()));
        let start = "A device configuration already exists for resource /iot/d and";
        assert!(answer.json()["message"].as_str().unwrap().starts_with(start), "{}", answer.text);
    }
}

#[tokio::test]
async fn bodies_that_are_no_groups_are_refused() {
    let agent = agent().await;
    for (body, name) in [
        (json!({"services": [{"resource": "/iot/d", "entity_type": "x"}]}), "WRONG_SYNTAX"),
        (json!({"services": [{"apikey": "k", "entity_type": "x"}]}), "WRONG_SYNTAX"),
        (json!({"services": [{"apikey": 5, "resource": "/iot/d", "entity_type": "x"}]}), "WRONG_SYNTAX"),
        (
            json!({"services": [{"apikey": "k", "resource": "/iot/d", "entity_type": "x", "lazy": {}}]}),
            "WRONG_SYNTAX",
        ),
        (json!({"services": {}}), "WRONG_SYNTAX"),
        (json!({"services": [], "more": 1}), "WRONG_SYNTAX"),
        (json!({}), "WRONG_SYNTAX"),
        (json!([]), "WRONG_SYNTAX"),
        (json!({"services": [{"apikey": "k", "resource": "/iot/d"}]}), "MISSING_CONFIG_PARAMS"),
    ] {
        let answer = agent.north("POST", "/iot/services", T, body.clone()).await;
        assert_eq!(answer.error(), (400, name.into()), "{body}");
    }
    let headers = [("fiware-service", "t"), ("fiware-servicepath", "/p")];
    let answer =
        agent.send("north", "POST", "/iot/services", &headers, r#"{"services": [{"apikey": "secret""#).await;
    assert_eq!(answer.error(), (400, "SyntaxError".into()));
    assert!(!answer.text.contains("secret"), "{}", answer.text);
    for (service, path) in [("a-b", "/"), ("t", "nopath")] {
        let answer = agent.north("GET", "/iot/services", (service, path), Value::Null).await;
        assert_eq!(answer.error(), (400, "BAD_REQUEST".into()), "{service} {path}");
    }
}

#[tokio::test]
async fn the_star_path_lists_all_groups_of_a_service() {
    let agent = agent().await;
    let all = agent.north("GET", "/iot/services", ("t", "/*"), Value::Null).await;
    assert_eq!((all.status, all.json()), (200, json!({"count": 0, "services": []})));
    for (path, key) in [("/a", "1"), ("/b", "2"), ("/c", "3")] {
        agent.group(("t", path), key, json!({})).await;
    }
    agent.group(("other", "/"), "4", json!({})).await;
    let page = agent.north("GET", "/iot/services?limit=1&offset=1", ("t", "/*"), Value::Null).await.json();
    assert_eq!((&page["count"], page["services"].as_array().map(Vec::len)), (&json!(3), Some(1)));
}

#[tokio::test]
async fn a_change_needs_its_address_and_its_owner() {
    let agent = agent().await;
    agent.group(T, "k", json!({})).await;
    for (method, query, scope, status, name) in [
        ("PUT", "", T, 400, "MISSING_HEADERS"),
        ("DELETE", "?resource=/iot/d", T, 400, "MISSING_HEADERS"),
        ("PUT", "?resource=/iot/d&apikey=none", T, 404, "DEVICE_GROUP_NOT_FOUND"),
        ("PUT", "?resource=/iot/d&apikey=k", ("other", "/p"), 403, "MISMATCHED_SERVICE"),
        ("DELETE", "?resource=/iot/d&apikey=k", ("t", "/q"), 403, "MISMATCHED_SERVICE"),
    ] {
        let answer = agent.north(method, &format!("/iot/services{query}"), scope, json!({})).await;
        assert_eq!(answer.error(), (status, name.into()), "{method} {query}");
    }
    let message =
        agent.north("DELETE", "/iot/services?resource=/iot/d", T, json!({})).await.json()["message"].clone();
    assert_eq!(message, r#"Some headers were missing from the request: ["apikey"]"#);
    let upper = agent.north("PUT", "/iot/services?resource=/iot/d&apikey=k", ("T", "/p"), json!({})).await;
    assert_eq!(upper.status, 204, "the header is lower-cased");
}

#[tokio::test]
async fn deleting_a_group_can_take_its_devices() {
    let agent = agent().await;
    agent.group(T, "k", json!({})).await;
    agent.device(T, json!({"device_id": "d", "apikey": "k"})).await;
    let at = "/iot/services?resource=/iot/d&apikey=k&device=true";
    assert_eq!(agent.north("DELETE", at, T, Value::Null).await.status, 204);
    assert_eq!(
        agent.north("GET", "/iot/devices", T, Value::Null).await.json(),
        json!({"count": 0, "devices": []})
    );
}
