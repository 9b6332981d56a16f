//! iot-agent 1.3 and 1.4, decision 16.

use serde_json::{Value, json};

use crate::{
    broker::FakeBroker,
    harness::{Agent, config},
};

const T: (&str, &str) = ("t", "/p");

#[tokio::test]
async fn a_device_gets_its_defaults_and_is_shown() {
    let agent = Agent::with_broker(&FakeBroker::default()).await;
    agent.group(T, "k", json!({"defaultEntityNameConjunction": "-"})).await;
    agent.device(T, json!({"device_id": "d1", "timezone": "Europe/Zurich"})).await;
    agent.device(T, json!({"device_id": "d2", "entity_name": "E", "entity_type": "X", "apikey": "k"})).await;
    let list = agent.north("GET", "/iot/devices", T, Value::Null).await.json();
    let expected = json!({"count": 2, "devices": [
        {
            "device_id": "d1", "service": "t", "service_path": "/p", "timezone": "Europe/Zurich",
            "entity_name": "Room-d1", "entity_type": "Room", "transport": "HTTP", "polling": true,
        },
        {
            "device_id": "d2", "apikey": "k", "service": "t", "service_path": "/p",
            "entity_name": "E", "entity_type": "X", "transport": "HTTP", "polling": true,
        },
    ]});
    assert_eq!(list, expected);
    let one = agent.north("GET", "/iot/devices/d2", T, Value::Null).await;
    assert_eq!((one.status, one.json()), (200, expected["devices"][1].clone()));
    let page = agent.north("GET", "/iot/devices?limit=1&offset=1", T, Value::Null).await.json();
    assert_eq!((&page["count"], &page["devices"][0]["device_id"]), (&json!(2), &json!("d2")));
}

#[tokio::test]
async fn without_a_group_a_device_is_a_thing() {
    let agent = Agent::with_broker(&FakeBroker::default()).await;
    agent.device(T, json!({"device_id": "d"})).await;
    let shown = agent.north("GET", "/iot/devices/d", T, Value::Null).await.json();
    assert_eq!((&shown["entity_name"], &shown["entity_type"]), (&json!("Thing:d"), &json!("Thing")));
}

#[tokio::test]
async fn errors_have_the_codes_of_the_contract() {
    let agent = Agent::with_broker(&FakeBroker::default()).await;
    agent.device(T, json!({"device_id": "d"})).await;
    for (method, path, body, status, name) in [
        ("POST", "/iot/devices", json!({"devices": [{"device_id": "d"}]}), 409, "DUPLICATE_DEVICE_ID"),
        ("POST", "/iot/devices", json!({"devices": [{"apikey": "k"}]}), 400, "MISSING_ATTRIBUTES"),
        ("POST", "/iot/devices", json!({"devices": {}}), 400, "WRONG_SYNTAX"),
        (
            "POST",
            "/iot/devices",
            json!({"devices": [{"device_id": "e", "attributes": [{"nome": "x"}]}]}),
            400,
            "WRONG_SYNTAX",
        ),
        (
            "POST",
            "/iot/devices",
            json!({"devices": [{"device_id": "e", "attributes": [{"name": "a<b"}]}]}),
            400,
            "WRONG_SYNTAX",
        ),
        ("GET", "/iot/devices/none", Value::Null, 404, "DEVICE_NOT_FOUND"),
        ("GET", "/iot/devices/d?apikey=other", Value::Null, 404, "DEVICE_NOT_FOUND"),
        ("PUT", "/iot/devices/d", json!({"device_id": "x"}), 400, "BAD_REQUEST"),
        ("PUT", "/iot/devices/d", json!({"attributes": 1}), 400, "WRONG_SYNTAX"),
        ("PUT", "/iot/devices/none", json!({}), 404, "DEVICE_NOT_FOUND"),
        ("DELETE", "/iot/devices/none", Value::Null, 404, "DEVICE_NOT_FOUND"),
        ("POST", "/iot/op/delete", json!({"devices": [{"deviceId": "none"}]}), 404, "DEVICE_NOT_FOUND"),
        ("POST", "/iot/op/delete", json!({}), 400, "WRONG_SYNTAX"),
    ] {
        let answer = agent.north(method, path, T, body.clone()).await;
        assert_eq!(answer.error(), (status, name.into()), "{method} {path} {body}: {}", answer.text);
    }
}

#[tokio::test]
async fn valid_devices_of_a_request_are_stored_although_one_fails() {
    let agent = Agent::with_broker(&FakeBroker::default()).await;
    agent.device(T, json!({"device_id": "b"})).await;
    let body = json!({"devices": [{"device_id": "a"}, {"device_id": "b"}, {"device_id": "c"}]});
    assert_eq!(
        agent.north("POST", "/iot/devices", T, body).await.error(),
        (409, "DUPLICATE_DEVICE_ID".into())
    );
    assert_eq!(agent.north("GET", "/iot/devices", T, Value::Null).await.json()["count"], 3);
}

#[tokio::test]
async fn provisioning_creates_the_entity_and_overwrites_nothing() {
    let broker = FakeBroker::default();
    let agent = Agent::with_broker(&broker).await;
    agent
        .group(T, "k", json!({"static_attributes": [{"name": "owner", "type": "Text", "value": "me"}]}))
        .await;
    let device = json!({
        "device_id": "d", "entity_name": "E", "apikey": "k",
        "attributes": [{"object_id": "f", "name": "foo", "type": "Integer"}],
        "static_attributes": [{"name": "category", "type": "Text", "value": "sensor"}],
    });
    agent.device(T, device.clone()).await;
    let attributes = || {
        let state = broker.state.lock();
        Value::from(state.entities[&("t".into(), "/p".into(), "E".into())].attributes.clone())
    };
    let expected = json!({
        "foo": {"type": "Integer", "value": null},
        "category": {"type": "Text", "value": "sensor"},
        "owner": {"type": "Text", "value": "me"},
    });
    assert_eq!(attributes(), expected);
    agent.measure("k", "d", "f|7").await;
    assert_eq!(agent.north("DELETE", "/iot/devices/d", T, Value::Null).await.status, 204);
    agent.device(T, device).await;
    assert_eq!(attributes()["foo"]["value"], 7);
}

#[tokio::test]
async fn creation_of_entities_can_be_switched_off_for_all_and_per_group() {
    let broker = FakeBroker::default();
    let agent = Agent::with_broker(&broker).await;
    agent.group(T, "k", json!({"provisionEntity": false})).await;
    agent.device(T, json!({"device_id": "d", "apikey": "k"})).await;
    assert!(broker.state.lock().entities.is_empty());

    let config = device_agent::Config { provision_entities: false, ..config() };
    let agent = agent.restart(config, broker.in_process()).await;
    agent.device(("t", "/other"), json!({"device_id": "d"})).await;
    assert!(broker.state.lock().entities.is_empty());
    agent.group(("t", "/on"), "k2", json!({"provisionEntity": true})).await;
    agent.device(("t", "/on"), json!({"device_id": "d", "apikey": "k2"})).await;
    assert_eq!(broker.state.lock().entities.len(), 1);
}

#[tokio::test]
async fn a_device_whose_entity_the_broker_refuses_is_not_stored() {
    let broker = FakeBroker::default();
    broker.state.lock().refuse =
        Some(("E".into(), tonic::Code::InvalidArgument, "BadRequest", "no such name"));
    let agent = Agent::with_broker(&broker).await;
    let body = json!({"devices": [{"device_id": "d", "entity_name": "E"}]});
    let answer = agent.north("POST", "/iot/devices", T, body).await;
    assert_eq!(answer.error(), (400, "BAD_REQUEST".into()));
    assert!(answer.text.contains("no such name"));
    assert_eq!(agent.north("GET", "/iot/devices", T, Value::Null).await.json()["count"], 0);
}

#[tokio::test]
async fn a_change_replaces_fields_and_counts_from_the_next_measure() {
    let broker = FakeBroker::default();
    let agent = Agent::with_broker(&broker).await;
    agent.group(T, "k", json!({"timestamp": false})).await;
    agent
        .device(
            T,
            json!({"device_id": "d", "entity_name": "E", "attributes": [{"object_id": "a", "name": "one"}]}),
        )
        .await;
    agent.measure("k", "d", "a|1").await;
    let change = json!({"attributes": [{"object_id": "a", "name": "two", "type": "Number"}], "timezone": "Asia/Tokyo"});
    let answer = agent.north("PUT", "/iot/devices/d", T, change).await;
    assert_eq!((answer.status, answer.text.as_str()), (204, ""));
    assert_eq!(broker.value("t", "/p", "E", "two"), Some(Value::Null), "the entity has it at once");
    agent.measure("k", "d", "a|2").await;
    assert_eq!(broker.value("t", "/p", "E", "one"), Some(json!(1)));
    assert_eq!(broker.value("t", "/p", "E", "two"), Some(json!(2)));
    assert_eq!(agent.north("GET", "/iot/devices/d", T, Value::Null).await.json()["timezone"], "Asia/Tokyo");
}

#[tokio::test]
async fn several_devices_are_deleted_at_once() {
    let agent = Agent::with_broker(&FakeBroker::default()).await;
    for id in ["a", "b"] {
        agent.device(T, json!({"device_id": id, "apikey": "k"})).await;
    }
    let body = json!({"devices": [{"deviceId": "a", "apikey": "k"}, {"deviceId": "x"}, {"deviceId": "b", "apikey": "k"}]});
    assert_eq!(agent.north("POST", "/iot/op/delete", T, body).await.status, 404);
    assert_eq!(agent.north("GET", "/iot/devices", T, Value::Null).await.json()["count"], 0);
}

#[tokio::test]
async fn fields_of_features_to_come_are_stored_and_shown() {
    let agent = Agent::with_broker(&FakeBroker::default()).await;
    let device = json!({
        "device_id": "d", "endpoint": "http://device/", "transport": "MQTT", "protocol": "PDI-IoTA-UltraLight",
        "commands": [{"name": "ping", "type": "command", "expression": "a|trim"}],
        "lazy": [{"object_id": "l", "name": "lum", "type": "Number"}],
        "explicitAttrs": "['a']", "internal_attributes": {"x": 1},
        "attributes": [{"object_id": "a", "name": "b", "expression": "a * 2", "metadata": {"m": {"expression": "a"}}}],
    });
    agent.device(T, device.clone()).await;
    let shown = agent.north("GET", "/iot/devices/d", T, Value::Null).await.json();
    for (field, value) in device.as_object().unwrap() {
        assert_eq!(&shown[field], value, "{field}");
    }
}

#[tokio::test]
async fn groups_and_devices_survive_a_restart() {
    let broker = FakeBroker::default();
    let agent = Agent::with_broker(&broker).await;
    agent.group(T, "k", json!({})).await;
    agent.device(T, json!({"device_id": "d"})).await;
    let agent = agent.restart(config(), broker.in_process()).await;
    assert_eq!(agent.north("GET", "/iot/services", T, Value::Null).await.json()["count"], 1);
    assert_eq!(agent.measure("k", "d", "a|1").await.status, 200);
}
