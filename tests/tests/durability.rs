//! kill -9 of the whole mesh in one process, again and again under load: nothing acknowledged is missing, nothing doubled.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use thingmesh_tests::{
    client::{Caller, Client},
    load::{Entrances, Load, TENANTS, counter_series, current},
    mesh::{Mesh, Options},
    scenario::{SCENARIO_TENANTS, basic_sense},
    until::until,
};

const KILLS: usize = 6;

/// A seed that is printed, so that a failure can be run again with `TEST_SEED`.
#[allow(clippy::disallowed_methods, reason = "the seed of an earlier run comes through the environment")]
fn seeded() -> StdRng {
    let given = std::env::var("TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = given.unwrap_or_else(rand::random);
    println!("TEST_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

fn direct(mesh: &Mesh) -> Entrances {
    let at = |url: String| vec![Client::new(url)];
    Entrances {
        broker: at(mesh.broker()),
        north: at(mesh.north()),
        south: at(mesh.south()),
        series: at(mesh.series()),
        tokens: BTreeMap::new(),
    }
}

fn through_the_gateway(mesh: &Mesh, tenants: &[&str]) -> Entrances {
    let tokens = tenants.iter().map(|tenant| ((*tenant).to_owned(), mesh.token(tenant))).collect();
    Entrances::gateway(&mesh.gateway(), tokens)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scenario_passes_through_the_gateway() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mesh) = Mesh::start(dir.path(), Options::default()).await else { return };
    basic_sense(&through_the_gateway(&mesh, &SCENARIO_TENANTS), 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_or_doubled_when_the_mesh_is_killed_again_and_again() {
    let mut random = seeded();
    let dir = tempfile::tempdir().unwrap();
    let Some(mut mesh) = Mesh::start(dir.path(), Options::default()).await else { return };
    let load = Load::start(through_the_gateway(&mesh, &TENANTS)).await;
    for kill in 1..=KILLS {
        let before = load.ledger.acknowledged();
        // A kill is only worth something under load: some writes must have come through since the last one.
        until("writes come through", Duration::from_secs(20), || async {
            let now = load.ledger.acknowledged();
            if now >= before + 50 { Ok(()) } else { Err(format!("{} of 50", now - before)) }
        })
        .await;
        let moment = Duration::from_millis(random.random_range(0..1_500));
        tokio::time::sleep(moment).await;
        println!("kill {kill} after {moment:?}: {}", load.ledger.summary());
        mesh.kill9();
        mesh.restart().await;
    }
    let faults = load.judge(Duration::from_secs(20)).await;
    assert!(faults.is_empty(), "{faults:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_in_the_middle_of_the_start_does_no_harm() {
    let mut random = seeded();
    let dir = tempfile::tempdir().unwrap();
    let Some(mut mesh) = Mesh::start(dir.path(), Options::default()).await else { return };
    let load = Load::start(direct(&mesh)).await;
    for _ in 0..8 {
        mesh.kill9();
        mesh.launch();
        tokio::time::sleep(Duration::from_millis(random.random_range(0..300))).await;
    }
    mesh.restart().await;
    let before = load.ledger.acknowledged();
    until("writes come through again", Duration::from_secs(20), || async {
        if load.ledger.acknowledged() > before + 20 { Ok(()) } else { Err(load.ledger.summary()) }
    })
    .await;
    let faults = load.judge(Duration::from_secs(20)).await;
    assert!(faults.is_empty(), "{faults:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_kills_every_increment_counts_exactly_once() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mesh) = Mesh::start(dir.path(), Options::default()).await else { return };
    let entrances = direct(&mesh);
    let load = Load::start(entrances.clone()).await;
    until("a thousand writes", Duration::from_secs(30), || async {
        if load.ledger.acknowledged() > 1_000 { Ok(()) } else { Err(load.ledger.summary()) }
    })
    .await;
    let ledger = load.ledger.clone();
    let faults = load.judge(Duration::from_secs(20)).await;
    assert!(faults.is_empty(), "{faults:#?}");
    for (series, sent) in ledger.series() {
        assert_eq!(sent.sent.len(), sent.acknowledged.len(), "{series:?}: nothing was killed");
    }
    for tenant in TENANTS {
        let series = counter_series(tenant);
        let increments = ledger.series()[&series].acknowledged.len() as i64;
        assert_eq!(current(&entrances, &series).await, increments, "{tenant}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_at_the_last_moment_is_there_after_a_stop_that_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut mesh) = Mesh::start(dir.path(), Options::default().set("shutdown.drain_ms=500")).await
    else {
        return;
    };
    let load = Load::start(direct(&mesh)).await;
    for signal in ["INT", "TERM"] {
        let before = load.ledger.acknowledged();
        until("writes come through", Duration::from_secs(20), || async {
            if load.ledger.acknowledged() > before + 50 { Ok(()) } else { Err(load.ledger.summary()) }
        })
        .await;
        mesh.process().signal(signal);
        let (status, _) = mesh.process().wait(Duration::from_secs(20));
        assert!(status.success(), "{signal}: {status}\n{}", mesh.log());
        mesh.restart().await;
    }
    let faults = load.judge(Duration::from_secs(20)).await;
    assert!(faults.is_empty(), "{faults:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long"]
async fn ten_minutes_of_load_with_a_kill_a_minute_lose_nothing_and_memory_stays_flat() {
    let minutes = number_from("TEST_SOAK_MINUTES", 10);
    let dir = tempfile::tempdir().unwrap();
    let Some(mut mesh) = Mesh::start(dir.path(), Options::default()).await else { return };
    let load = Load::start(through_the_gateway(&mesh, &TENANTS)).await;
    for minute in 1..=minutes {
        tokio::time::sleep(Duration::from_secs(60)).await;
        let megabytes = mesh.process().resident_bytes() / 1_000_000;
        println!("minute {minute}: {megabytes} MB, {}", load.ledger.summary());
        assert!(megabytes < 300, "{megabytes} MB after a minute of light load");
        mesh.kill9();
        mesh.restart().await;
    }
    let faults = load.judge(Duration::from_secs(120)).await;
    assert!(faults.is_empty(), "{faults:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long"]
async fn a_million_entities_survive_a_kill_and_are_found_without_reading_them_all() {
    let count = number_from("TEST_ENTITIES", 1_000_000);
    let dir = tempfile::tempdir().unwrap();
    let Some(mut mesh) = Mesh::start(dir.path(), Options::default()).await else { return };
    let (broker, caller) = (Client::new(mesh.broker()), Caller::of("acme"));
    for first in (0..count).step_by(1_000) {
        let entity = |n| json!({ "id": format!("e{n}"), "type": "T", "n": { "type": "Number", "value": n } });
        let entities: Vec<Value> = (first..(first + 1_000).min(count)).map(entity).collect();
        let batch = json!({ "actionType": "append", "entities": entities });
        broker.post("/v2/op/update", &caller, &batch).await.expect(204);
    }
    mesh.kill9();
    mesh.restart().await;
    let listed = broker.get("/v2/entities?limit=1&options=count", &caller).await.expect(200);
    assert_eq!(listed.header("fiware-total-count"), Some(count.to_string().as_str()));
    for n in [0, count / 2, count - 1] {
        let asked = Instant::now();
        let entity = broker.get(&format!("/v2/entities/e{n}"), &caller).await.expect(200).json();
        assert_eq!(entity["n"]["value"], n);
        assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    }
    let megabytes = mesh.process().resident_bytes() / 1_000_000;
    assert!(megabytes < 300, "{megabytes} MB with {count} entities on disk");
}

/// A smaller or larger run than the usual one.
#[allow(clippy::disallowed_methods, reason = "the size of a long run may be set from outside")]
fn number_from(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}
