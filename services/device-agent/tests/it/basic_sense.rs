//! The agent's part of scenario `basic-sense` (mesh 11): the very payloads, the observations of its steps.

use serde_json::{Value, json};

use crate::{broker::FakeBroker, harness::Agent};

const FLOOR: (&str, &str) = ("manufracture", "/floor1");
const ROOT: (&str, &str) = ("smithereens", "/");

fn group(key: &str) -> Value {
    json!({"services": [
        {"apikey": key, "cbroker": "http://orion:1026", "entity_type": "Bot", "resource": "/iot/d"},
    ]})
}

fn device(id: &str, entity: &str, names: (&str, &str)) -> Value {
    json!({
        "device_id": id,
        "entity_name": entity,
        "entity_type": "Bot",
        "timezone": "Europe/Zurich",
        "attributes": [
            {"object_id": names.0, "name": "foo", "type": "Integer"},
            {"object_id": names.1, "name": "bar", "type": "Integer"},
        ],
        "static_attributes": [{"name": "category", "type": "Text", "value": "sensor"}],
    })
}

async fn provision(agent: &Agent) {
    for (scope, key, devices) in [
        (
            FLOOR,
            "3z4w",
            vec![
                device("foodev", "urn:ngsi:bot:1", ("f", "b")),
                device("bardev", "urn:ngsi:bot:2", ("f", "b")),
            ],
        ),
        (ROOT, "5d4z", vec![device("foobie", "urn:ngsi:bot:2", ("f1", "b1"))]),
    ] {
        let answer = agent.north("POST", "/iot/services", scope, group(key)).await;
        assert_eq!((answer.status, answer.text.as_str()), (201, "{}"));
        assert_eq!(agent.north("GET", "/iot/services", scope, Value::Null).await.json()["count"], 1);
        let count = devices.len();
        let answer = agent.north("POST", "/iot/devices", scope, json!({ "devices": devices })).await;
        assert_eq!((answer.status, answer.text.as_str()), (201, "{}"));
        assert_eq!(agent.north("GET", "/iot/devices", scope, Value::Null).await.json()["count"], count);
    }
}

#[tokio::test]
async fn entities_exist_right_after_provisioning_with_null_attributes() {
    let broker = FakeBroker::default();
    let agent = Agent::with_broker(&broker).await;
    provision(&agent).await;
    let state = broker.state.lock();
    assert_eq!(state.entities.len(), 3);
    for entity in state.entities.values() {
        let expected = json!({
            "foo": {"type": "Integer", "value": null},
            "bar": {"type": "Integer", "value": null},
            "category": {"type": "Text", "value": "sensor"},
        });
        assert_eq!((entity.entity_type.as_str(), Value::from(entity.attributes.clone())), ("Bot", expected));
    }
}

#[tokio::test]
async fn a_second_run_of_the_scripts_answers_409_and_goes_on() {
    let agent = Agent::with_broker(&FakeBroker::default()).await;
    provision(&agent).await;
    assert_eq!(agent.north("POST", "/iot/services", FLOOR, group("3z4w")).await.status, 409);
    let again = json!({"devices": [device("foodev", "urn:ngsi:bot:1", ("f", "b"))]});
    assert_eq!(agent.north("POST", "/iot/devices", FLOOR, again.clone()).await.status, 409);
    assert_eq!(agent.measure("3z4w", "foodev", "f|1").await.status, 200);
    // And once more, when the device has the key that it measured with.
    assert_eq!(agent.north("POST", "/iot/devices", FLOOR, again).await.status, 409);
    assert_eq!(agent.north("GET", "/iot/devices", FLOOR, Value::Null).await.json()["count"], 2);
}

#[tokio::test]
async fn measures_arrive_as_numbers_with_their_time_in_each_tenants_own_entity() {
    let broker = FakeBroker::default();
    let agent = Agent::with_broker(&broker).await;
    provision(&agent).await;
    for (key, id, text) in
        [("3z4w", "bardev", "b|3"), ("3z4w", "foodev", "f|4"), ("5d4z", "foobie", "b1|5|f1|6")]
    {
        assert_eq!(agent.measure(key, id, text).await.status, 200);
    }
    for (tenant, path, id, attribute, value) in [
        ("manufracture", "/floor1", "urn:ngsi:bot:2", "bar", json!(3)),
        ("manufracture", "/floor1", "urn:ngsi:bot:2", "foo", json!(null)),
        ("manufracture", "/floor1", "urn:ngsi:bot:1", "foo", json!(4)),
        ("smithereens", "/", "urn:ngsi:bot:2", "bar", json!(5)),
        ("smithereens", "/", "urn:ngsi:bot:2", "foo", json!(6)),
        ("smithereens", "/", "urn:ngsi:bot:2", "TimeInstant", json!("2026-01-02T04:04:05.678+01:00")),
    ] {
        assert_eq!(broker.value(tenant, path, id, attribute), Some(value), "{tenant} {id} {attribute}");
    }
}

#[tokio::test]
async fn one_tenants_key_is_refused_under_the_others_name() {
    let agent = Agent::with_broker(&FakeBroker::default()).await;
    provision(&agent).await;
    let headers = [("content-type", "text/plain"), ("fiware-service", "smithereens")];
    assert_eq!(agent.send("south", "POST", "/iot/d?k=3z4w&i=foodev", &headers, "f|1").await.status, 403);
}
