//! One device is stored once (iot-agent 1.3, identity).

use serde_json::{Value, json};

use crate::{broker::FakeBroker, harness::Agent};

const T: (&str, &str) = ("t", "/p");

async fn provision(agent: &Agent, device: &Value) -> (u16, String) {
    let body = json!({ "devices": [device] });
    let answer = agent.north("POST", "/iot/devices", T, body).await;
    (answer.status, answer.json()["name"].as_str().unwrap_or_default().to_owned())
}

fn duplicate() -> (u16, String) {
    (409, "DUPLICATE_DEVICE_ID".into())
}

async fn listed(agent: &Agent) -> Vec<(Value, Value)> {
    let list = agent.north("GET", "/iot/devices", T, Value::Null).await.json();
    let devices = list["devices"].as_array().unwrap();
    assert_eq!(list["count"], devices.len());
    devices.iter().map(|device| (device["device_id"].clone(), device["apikey"].clone())).collect()
}

#[tokio::test]
async fn a_device_that_took_the_key_of_its_first_measure_is_not_provisioned_again() {
    let agent = Agent::with_broker(&FakeBroker::default()).await;
    agent.group(T, "k", json!({})).await;
    let device = json!({"device_id": "dup1"});
    assert_eq!(provision(&agent, &device).await, (201, String::new()));
    assert_eq!(provision(&agent, &device).await, duplicate());
    assert_eq!(agent.measure("k", "dup1", "a|1").await.status, 200);
    assert_eq!(provision(&agent, &device).await, duplicate());
    assert_eq!(provision(&agent, &json!({"device_id": "dup1", "apikey": "k"})).await, duplicate());
    assert_eq!(listed(&agent).await, [(json!("dup1"), json!("k"))]);
}

#[tokio::test]
async fn a_device_that_was_provisioned_by_its_first_measure_is_not_provisioned_again_without_a_key() {
    let agent = Agent::with_broker(&FakeBroker::default()).await;
    agent.group(T, "k", json!({})).await;
    assert_eq!(agent.measure("k", "auto", "a|1").await.status, 200);
    assert_eq!(provision(&agent, &json!({"device_id": "auto"})).await, duplicate());
    assert_eq!(listed(&agent).await, [(json!("auto"), json!("k"))]);
}

#[tokio::test]
async fn a_device_without_key_stands_for_any_key() {
    let agent = Agent::with_broker(&FakeBroker::default()).await;
    agent.group(T, "k", json!({})).await;
    agent.device(T, json!({"device_id": "d"})).await;
    assert_eq!(provision(&agent, &json!({"device_id": "d", "apikey": "k"})).await, duplicate());
    assert_eq!(listed(&agent).await, [(json!("d"), Value::Null)]);
}

#[tokio::test]
async fn devices_of_one_request_are_told_apart_in_the_same_way() {
    let agent = Agent::with_broker(&FakeBroker::default()).await;
    let body =
        json!({"devices": [{"device_id": "d"}, {"device_id": "d", "apikey": "k"}, {"device_id": "d"}]});
    let answer = agent.north("POST", "/iot/devices", T, body).await;
    assert_eq!(answer.error(), duplicate());
    assert_eq!(listed(&agent).await.len(), 1);
}

#[tokio::test]
async fn devices_of_one_id_with_keys_of_their_own_are_different_devices() {
    let agent = Agent::with_broker(&FakeBroker::default()).await;
    for key in ["j", "k"] {
        agent.device(T, json!({"device_id": "d", "apikey": key})).await;
    }
    assert_eq!(listed(&agent).await, [(json!("d"), json!("j")), (json!("d"), json!("k"))]);
}
