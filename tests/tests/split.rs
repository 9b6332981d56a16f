//! Split mode over real Kafka, PostgreSQL and Redis: the scenario, the kills, the restarts of servers, readiness, traces.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use rand::seq::SliceRandom;
use serde_json::json;
use thingmesh_tests::{
    client::{Caller, Client},
    cluster::{Cluster, Kind},
    load::{Load, TENANTS, counter_series, current},
    mesh::readiness_becomes,
    otlp::Receiver,
    scenario::basic_sense,
    until::until,
};

const SETTLE: Duration = Duration::from_secs(60);

async fn comes_through(load: &Load, more: usize) {
    let before = load.ledger.acknowledged();
    until("writes come through", Duration::from_secs(60), || async {
        let now = load.ledger.acknowledged();
        if now >= before + more {
            Ok(())
        } else {
            Err(format!("{} of {more}; {}", now - before, load.ledger.summary()))
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scenario_and_exact_increments_through_both_replicas() {
    let Some(cluster) = Cluster::start(&[]).await else { return };
    let entrances = cluster.entrances();
    basic_sense(&entrances, 10).await;

    let load = Load::start(entrances.clone()).await;
    comes_through(&load, 500).await;
    let ledger = load.ledger.clone();
    let faults = load.judge(SETTLE).await;
    assert!(faults.is_empty(), "{faults:#?}\n{}", cluster.logs());
    for tenant in TENANTS {
        let series = counter_series(tenant);
        let sent = &ledger.series()[&series];
        assert_eq!(sent.sent.len(), sent.acknowledged.len(), "nothing was killed");
        assert_eq!(current(&entrances, &series).await, sent.acknowledged.len() as i64, "{tenant}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_or_doubled_when_each_process_is_killed_in_turn() {
    let Some(mut cluster) = Cluster::start(&[]).await else { return };
    let load = Load::start(cluster.entrances()).await;
    let mut order: Vec<usize> = (0..cluster.members.len()).collect();
    order.shuffle(&mut rand::rng());
    println!("order of kills: {order:?}");
    for index in order {
        comes_through(&load, 100).await;
        cluster.members[index].kill9();
        // The other replica carries on alone for a while.
        comes_through(&load, 30).await;
        cluster.members[index].launch();
        cluster.members[index].wait_until_ready().await;
    }
    comes_through(&load, 100).await;
    let faults = load.judge(SETTLE).await;
    assert!(faults.is_empty(), "{faults:#?}\n{}", cluster.logs());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_or_doubled_when_kafka_and_postgresql_are_restarted() {
    let Some(mut cluster) = Cluster::start(&[]).await else { return };
    let load = Load::start(cluster.entrances()).await;
    comes_through(&load, 100).await;
    cluster.kafka.kill9();
    cluster.kafka.restart();
    comes_through(&load, 100).await;
    cluster.postgres.kill9();
    cluster.postgres.restart();
    comes_through(&load, 100).await;
    for member in &mut cluster.members {
        assert!(member.lives(), "{:?} outlives its servers:\n{}", member.kind, member.log());
    }
    let faults = load.judge(SETTLE).await;
    assert!(faults.is_empty(), "{faults:#?}\n{}", cluster.logs());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn measures_are_kept_while_both_brokers_are_away_and_history_catches_up_after_its_own_absence() {
    let Some(mut cluster) = Cluster::start(&[]).await else { return };
    let load = Load::start(cluster.entrances()).await;
    comes_through(&load, 100).await;
    let brokers: Vec<usize> =
        (0..cluster.members.len()).filter(|&i| cluster.members[i].kind == Kind::Broker).collect();
    for &broker in &brokers {
        cluster.members[broker].kill9();
    }
    // Only devices can be answered now: their measures go to the bus.
    comes_through(&load, 30).await;
    for &broker in &brokers {
        cluster.members[broker].launch();
        cluster.members[broker].wait_until_ready().await;
    }
    let histories: Vec<usize> =
        (0..cluster.members.len()).filter(|&i| cluster.members[i].kind == Kind::Series).collect();
    for &history in &histories {
        cluster.members[history].kill9();
    }
    comes_through(&load, 200).await;
    for &history in &histories {
        cluster.members[history].launch();
        cluster.members[history].wait_until_ready().await;
    }
    let faults = load.judge(SETTLE).await;
    assert!(faults.is_empty(), "{faults:#?}\n{}", cluster.logs());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_goes_when_a_server_is_away_and_returns_by_itself() {
    let Some(mut cluster) = Cluster::start(&[]).await else { return };
    let admins: Vec<String> = cluster.members.iter().map(|member| member.admin()).collect();
    for name in ["postgres", "kafka", "redis"] {
        let server = match name {
            "postgres" => &mut cluster.postgres,
            "kafka" => &mut cluster.kafka,
            _ => &mut cluster.redis,
        };
        server.stop();
        for (admin, member) in admins.iter().zip(&cluster.members) {
            println!("{name} is away: {:?}", member.kind);
            let text = readiness_becomes(admin, 503, Duration::from_secs(30)).await;
            assert!(text.contains("away"), "{text}");
        }
        server.restart();
        for admin in &admins {
            readiness_becomes(admin, 200, Duration::from_secs(30)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_reading_is_one_trace_also_over_kafka() {
    let receiver = Receiver::start().await;
    let endpoint = format!("telemetry.otlp_endpoint={}", receiver.endpoint());
    let Some(cluster) = Cluster::start(&[endpoint]).await else { return };
    let entrances = cluster.entrances();
    let caller = Caller::of("acme").at("/");
    let group = json!({ "services": [{ "apikey": "k", "entity_type": "Pump", "resource": "/iot/d" }] });
    entrances.north().post("/iot/services", &caller, &group).await.expect(201);
    let subscription = json!({
        "subject": { "entities": [{ "idPattern": ".*" }] },
        "notification": { "http": { "url": "http://quantumleap:8668/v2/notify" } },
    });
    entrances.broker().post("/v2/subscriptions", &Caller::of("acme"), &subscription).await.expect(201);
    let trace_id = "4bf92f3577b34da6a3ce929d0e0e4736";
    let traced = Caller::of("acme").with("traceparent", &format!("00-{trace_id}-00f067aa0ba902b7-01"));
    let south: &Client = entrances.south();
    south.post_text("/iot/d?k=k&i=dev", &traced, "p|1").await.expect(200);
    until("agent, broker and history in one trace", Duration::from_secs(30), || async {
        let services = receiver.services(trace_id);
        let all = ["device-agent", "context-broker", "time-series"]
            .iter()
            .all(|service| services.contains(*service));
        if all { Ok(()) } else { Err(format!("{services:?}")) }
    })
    .await;
    let spans = receiver.trace(trace_id);
    assert!(spans.len() >= 4, "{spans:#?}");
}
