//! Entities of devices that say little about themselves (iot-agent 1.3 and 5.2, decision 16).

use serde_json::{Value, json};

use crate::{
    broker::{BrokerServer, FakeBroker},
    harness::{Agent, config, eventually},
};

const T: (&str, &str) = ("t", "/p");

/// Type and attributes of an entity.
fn entity(broker: &FakeBroker, id: &str) -> Option<(String, Value)> {
    let state = broker.state.lock();
    let entity = state.entities.get(&("t".into(), "/p".into(), id.into()))?;
    Some((entity.entity_type.clone(), entity.attributes.clone().into()))
}

#[tokio::test]
async fn a_device_without_attributes_gets_an_entity_without_attributes() {
    let broker = FakeBroker::default();
    let agent = Agent::with_broker(&broker).await;
    agent.device(T, json!({"device_id": "bare1", "entity_name": "Bare:1", "entity_type": "Bare"})).await;
    assert_eq!(entity(&broker, "Bare:1"), Some(("Bare".into(), json!({}))));
    agent.device(T, json!({"device_id": "bare2"})).await;
    assert_eq!(entity(&broker, "Thing:bare2"), Some(("Thing".into(), json!({}))));
}

#[tokio::test]
async fn a_device_without_attributes_that_is_provisioned_while_the_broker_is_away_gets_its_entity_later() {
    let mut server = BrokerServer::start().await;
    let agent = Agent::start(config(), server.neighbour()).await;
    server.kill().await;
    agent.device(T, json!({"device_id": "bare"})).await;
    server.bring_back().await;
    eventually("the entity is there", || entity(&server.broker, "Thing:bare").is_some()).await;
}

#[tokio::test]
async fn commands_of_device_and_group_appear_with_an_unknown_state_that_is_not_overwritten() {
    let broker = FakeBroker::default();
    let agent = Agent::with_broker(&broker).await;
    agent.group(T, "k", json!({"commands": [{"name": "stop", "type": "command"}]})).await;
    let device = json!({"device_id": "d", "commands": [{"name": "ping", "type": "command"}]});
    agent.device(T, device).await;
    let unknown = json!({"type": "commandStatus", "value": "UNKNOWN"});
    let nothing = json!({"type": "commandResult", "value": " "});
    let expected = json!({
        "ping_status": unknown, "ping_info": nothing,
        "stop_status": unknown, "stop_info": nothing,
    });
    assert_eq!(entity(&broker, "Room:d"), Some(("Room".into(), expected)));

    agent.measure("k", "d", "ping_status|OK").await;
    let added = json!({"commands": [{"name": "ping", "type": "command"}, {"name": "go", "type": "command"}]});
    assert_eq!(agent.north("PUT", "/iot/devices/d", T, added).await.status, 204);
    assert_eq!(broker.value("t", "/p", "Room:d", "ping_status"), Some(json!("OK")));
    assert_eq!(broker.value("t", "/p", "Room:d", "go_status"), Some(json!("UNKNOWN")));
}
