//! Decision 13: what is sent while the broker is away is kept, in order, and applied once.

use std::time::Duration;

use device_agent::Config;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::{
    broker::{BrokerServer, FakeBroker},
    harness::{Agent, config, eventually},
};

const T: (&str, &str) = ("t", "/");

fn quick() -> Config {
    let mut config = config();
    config.broker.deadline_ms = 300;
    config
}

/// Values 0 to n-1, as they must stand in the broker: complete, in order, none twice.
fn counted(n: u32) -> Vec<Value> {
    (0..n).map(Value::from).collect()
}

fn outcome(agent: &Agent, outcome: &str) -> u64 {
    let start = format!("thingmesh_device_agent_measures_total{{outcome=\"{outcome}\"}} ");
    let text = agent.metrics.encode();
    let count = text.lines().find_map(|line| line.strip_prefix(&start));
    count.map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn measures_sent_while_the_broker_is_dead_are_applied_in_order_when_it_is_back() {
    let mut server = BrokerServer::start().await;
    let agent = Agent::start(quick(), server.neighbour()).await;
    agent.group(T, "k", json!({})).await;
    for n in 0..5 {
        assert_eq!(agent.measure("k", "d", &format!("n|{n}")).await.status, 200);
    }
    server.kill().await;
    for n in 5..60 {
        assert_eq!(agent.measure("k", "d", &format!("n|{n}")).await.status, 200, "{n}");
    }
    assert_eq!(server.broker.history("t", "/", "Room:d", "n"), counted(5));
    server.bring_back().await;
    for n in 60..65 {
        assert_eq!(agent.measure("k", "d", &format!("n|{n}")).await.status, 200);
    }
    eventually("all applied", || server.broker.history("t", "/", "Room:d", "n").len() >= 65).await;
    assert_eq!(server.broker.history("t", "/", "Room:d", "n"), counted(65));
}

#[tokio::test]
async fn under_load_a_killed_broker_loses_nothing_and_doubles_nothing() {
    if store::testing::too_long_for_quick() {
        return;
    }
    const DEVICES: u32 = 20;
    const MEASURES: u32 = 60;
    let mut server = BrokerServer::start().await;
    let agent = Agent::start(quick(), server.neighbour()).await;
    agent.group(T, "k", json!({})).await;
    let load = async {
        join_all((0..DEVICES).map(|device| {
            let agent = &agent;
            async move {
                for n in 0..MEASURES {
                    let answer = agent.measure("k", &format!("d{device}"), &format!("n|{n}")).await;
                    assert_eq!(answer.status, 200, "{}", answer.text);
                }
            }
        }))
        .await;
    };
    let faults = async {
        for round in 1..=2 {
            let broker = server.broker.clone();
            let so_far = (DEVICES * MEASURES / 4) as usize * round;
            eventually("some measures answered", || {
                broker.state.lock().calls.iter().sum::<usize>() >= so_far
            })
            .await;
            // The answers of some calls are lost with the connection: their outcome is not known to the agent.
            broker.state.lock().lose_answers = 2;
            eventually("answers lost", || broker.state.lock().lose_answers == 0).await;
            let diverted = outcome(&agent, "diverted");
            server.kill().await;
            eventually("a measure meets the dead broker", || outcome(&agent, "diverted") > diverted).await;
            server.bring_back().await;
        }
    };
    futures::join!(load, faults);
    let complete = |device: u32| {
        server.broker.history("t", "/", &format!("Room:d{device}"), "n").len() >= MEASURES as usize
    };
    eventually("all applied", || (0..DEVICES).all(complete)).await;
    for device in 0..DEVICES {
        let history = server.broker.history("t", "/", &format!("Room:d{device}"), "n");
        assert_eq!(history, counted(MEASURES), "device {device}");
    }
    assert!(server.broker.state.lock().repeats_dropped > 0, "calls with unknown outcome were repeated");
    assert!(outcome(&agent, "diverted") > 0);
}

#[tokio::test]
async fn a_device_stays_diverted_until_its_queue_is_empty_and_then_goes_direct_again() {
    let mut server = BrokerServer::start().await;
    let agent = Agent::start(quick(), server.neighbour()).await;
    agent.group(T, "k", json!({})).await;
    server.kill().await;
    assert_eq!(agent.measure("k", "d", "n|0").await.status, 200);
    assert_eq!(outcome(&agent, "diverted"), 1);
    server.bring_back().await;
    eventually("drained", || server.broker.history("t", "/", "Room:d", "n").len() == 1).await;
    let mut n = 1;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while outcome(&agent, "committed") == 0 {
        assert!(tokio::time::Instant::now() < deadline, "never direct again");
        assert_eq!(agent.measure("k", "d", &format!("n|{n}")).await.status, 200);
        n += 1;
    }
    eventually("all applied", || server.broker.history("t", "/", "Room:d", "n").len() >= n as usize).await;
    assert_eq!(server.broker.history("t", "/", "Room:d", "n"), counted(n));
}

#[tokio::test]
async fn diverted_measures_survive_a_restart_and_stay_before_later_ones() {
    let mut server = BrokerServer::start().await;
    let agent = Agent::start(quick(), server.neighbour()).await;
    agent.group(T, "k", json!({})).await;
    server.kill().await;
    for n in 0..3 {
        assert_eq!(agent.measure("k", "d", &format!("n|{n}")).await.status, 200);
    }
    let agent = agent.restart(quick(), server.neighbour()).await;
    for n in 3..6 {
        assert_eq!(agent.measure("k", "d", &format!("n|{n}")).await.status, 200);
    }
    server.bring_back().await;
    eventually("all applied", || server.broker.history("t", "/", "Room:d", "n").len() >= 6).await;
    assert_eq!(server.broker.history("t", "/", "Room:d", "n"), counted(6));
}

#[tokio::test]
async fn a_device_provisioned_while_the_broker_is_away_gets_its_entity_later() {
    let mut server = BrokerServer::start().await;
    let agent = Agent::start(quick(), server.neighbour()).await;
    server.kill().await;
    let attributes =
        json!([{"object_id": "n", "name": "n", "type": "Number"}, {"object_id": "m", "name": "m"}]);
    agent.device(T, json!({"device_id": "d", "entity_name": "E", "attributes": attributes})).await;
    agent.group(T, "k", json!({})).await;
    assert_eq!(agent.measure("k", "d", "n|7").await.status, 200);
    server.bring_back().await;
    eventually("created and measured", || server.broker.value("t", "/", "E", "n") == Some(json!(7))).await;
    assert_eq!(server.broker.value("t", "/", "E", "m"), Some(Value::Null));
}

#[tokio::test]
async fn a_diverted_measure_that_the_broker_refuses_is_skipped_and_blocks_nothing() {
    let mut server = BrokerServer::start().await;
    let agent = Agent::start(quick(), server.neighbour()).await;
    agent.group(T, "k", json!({})).await;
    server.kill().await;
    for device in ["bad", "good"] {
        assert_eq!(agent.measure("k", device, "n|0").await.status, 200);
    }
    server.broker.state.lock().refuse =
        Some(("Room:bad".into(), tonic::Code::InvalidArgument, "BadRequest", "no"));
    server.bring_back().await;
    eventually("the other one applied", || server.broker.value("t", "/", "Room:good", "n") == Some(json!(0)))
        .await;
    let skipped = r#"thingmesh_device_agent_drained_updates_total{outcome="skipped"} 1"#;
    eventually("counted", || agent.metrics.encode().contains(skipped)).await;
    assert_eq!(server.broker.value("t", "/", "Room:bad", "n"), None);
}

#[tokio::test]
async fn when_the_bus_is_full_too_the_device_is_told_to_come_back() {
    let mut server = BrokerServer::start().await;
    let mut config = quick();
    config.broker.max_diverted = 2;
    let agent = Agent::start(config, server.neighbour()).await;
    agent.group(T, "k", json!({})).await;
    server.kill().await;
    for n in 0..2 {
        assert_eq!(agent.measure("k", "d", &format!("n|{n}")).await.status, 200);
    }
    let refused = agent.measure("k", "d", "n|2").await;
    assert_eq!(refused.error(), (503, "SERVICE_UNAVAILABLE".into()));
    assert_eq!(refused.headers["retry-after"], "1");
    server.bring_back().await;
    eventually("applied", || server.broker.history("t", "/", "Room:d", "n").len() == 2).await;
}

#[tokio::test]
async fn an_answer_that_never_comes_does_not_hold_the_device() {
    let broker = FakeBroker::default();
    let agent = Agent::start(quick(), broker.in_process()).await;
    agent.group(T, "k", json!({})).await;
    broker.state.lock().lose_answers = 1;
    let answer = tokio::time::timeout(Duration::from_secs(3), agent.measure("k", "d", "n|0")).await.unwrap();
    assert_eq!(answer.status, 200);
    eventually("sent again", || broker.state.lock().repeats_dropped == 1).await;
    assert_eq!(broker.history("t", "/", "Room:d", "n"), counted(1));
}
