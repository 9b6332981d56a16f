//! Clients that are slow, that leave in the middle, and thousands that say nothing.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use serde_json::json;
use thingmesh_tests::{
    client::{Caller, Client},
    mesh::Options,
    raw::{self, Raw},
    until::until,
};

use crate::place::{MEGABYTE, MEMORY_BOUND, Place, shortened};

fn impatient() -> Options {
    let tables = ["gateway.limits", "context-broker.http", "device-agent.http", "time-series.http"];
    tables.iter().fold(Options::default(), |options, table| {
        options
            .set(&format!("{table}.head_timeout_ms=1500"))
            .set(&format!("{table}.body_idle_timeout_ms=1500"))
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_ends_its_head_or_its_body_is_shown_out() {
    let Some(place) = Place::open(impatient()).await else { return };
    let mut clients = tokio::task::JoinSet::new();
    for door in place.doors() {
        for _ in 0..20 {
            let (port, name) = (door.port, door.name);
            let head = door.head("POST", "Content-Length: 1000\r\n");
            clients.spawn(async move {
                let mut connection = Raw::connect(port).await;
                // A head, byte by byte, that never ends: each byte comes in time, the whole never.
                let started = Instant::now();
                while connection.send(&head.as_bytes()[..1]).await
                    && started.elapsed() < Duration::from_secs(15)
                {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                assert!(started.elapsed() < Duration::from_secs(15), "{name} still listens to a slow head");
            });
            let head = door.head("POST", "Content-Length: 1000\r\n");
            clients.spawn(async move {
                let mut connection = Raw::connect(port).await;
                assert!(connection.send(format!("{head}{{").as_bytes()).await);
                let answer = connection.read_to_end().await;
                assert!(matches!(raw::status(&answer), 408 | 400 | 504), "{name}: {}", shortened(&answer));
            });
        }
    }
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    place.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_closed_its_half_or_left_in_the_middle_costs_nothing() {
    let Some(place) = Place::open(Options::default()).await else { return };
    for door in place.doors() {
        let mut connection = Raw::connect(door.port).await;
        assert!(connection.send(door.head("POST", "Content-Length: 2\r\n").as_bytes()).await);
        assert!(connection.send(b"{}").await);
        connection.half_close().await;
        // Who closes his half is taken for gone: the work is given up, unless it was done already.
        let answer = connection.read_to_end().await;
        assert!(answer.is_empty() || raw::status(&answer) < 500, "{}: {}", door.name, shortened(&answer));
    }
    // Cut off in the middle of the body: nothing is stored.
    for door in place.doors() {
        let mut connection = Raw::connect(door.port).await;
        assert!(connection.send(door.head("POST", "Content-Length: 1000\r\n").as_bytes()).await);
        assert!(connection.send(br#"{"id":"half","type":"T"}"#).await);
        drop(connection);
    }
    let entities =
        Client::new(place.mesh.broker()).get("/v2/entities", &Caller::of("bad")).await.expect(200).json();
    assert_eq!(entities, json!([]));
    place.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_idle_connections_cost_little_and_end_with_their_clients() {
    let wanted = 5_000;
    let count = raise_descriptor_limit(wanted + 500).saturating_sub(500).min(wanted);
    if count < wanted {
        store::testing::skip(&format!("needs {wanted} descriptors, may open {count}"));
        return;
    }
    let Some(mut place) = Place::open(Options::default()).await else { return };
    let port = place.mesh.ports().of(8000);
    let mut idle = Vec::new();
    for number in 0..count {
        let mut connection = Raw::connect(port).await;
        // Every second one has begun to speak.
        if number % 2 == 0 {
            assert!(connection.send(b"GET /orion/version HTTP/1.1\r\nHost: ").await);
        }
        idle.push(connection);
    }
    let admin = Client::new(place.mesh.admin());
    let open = || async {
        let metrics = admin.get("/metrics", &Caller::nobody()).await.expect(200).text();
        let line = metrics.lines().find(|line| {
            !line.starts_with('#') && line.contains("connections{") && line.contains("\"gateway\"")
        });
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).unwrap_or(-1.0)
    };
    until("all are open", Duration::from_secs(20), || async {
        let open = open().await;
        if open >= f64::from(count) { Ok(()) } else { Err(open.to_string()) }
    })
    .await;
    let used = place.mesh.process().resident_bytes().saturating_sub(place.memory_before);
    println!("{count} idle connections: {} kB each", used / 1024 / u64::from(count));
    assert!(used < MEMORY_BOUND, "{} MB", used / MEGABYTE);
    drop(idle);
    until("all are closed", Duration::from_secs(20), || async {
        let open = open().await;
        if open < 50.0 { Ok(()) } else { Err(open.to_string()) }
    })
    .await;
    place.close().await;
}

/// Lets this process open so many descriptors, if it may; gives how many it may open now.
fn raise_descriptor_limit(wanted: u32) -> u32 {
    let pid = std::process::id().to_string();
    // The kernel's call would need unsafe code; the command does the same for a given process.
    let raised = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={wanted}:")]).status();
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let soft: u32 = line.split_whitespace().nth(3).unwrap().parse().unwrap_or(u32::MAX);
    if !raised.is_ok_and(|status| status.success()) {
        println!("prlimit is not to be had: {soft} descriptors");
    }
    soft
}
