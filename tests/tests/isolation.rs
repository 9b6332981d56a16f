//! Receivers that hang or are away: the others get everything, in order, as if they were alone; what is lost is counted.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};
use thingmesh_tests::{
    client::{Caller, Client},
    mesh::{Mesh, Options},
    receiver::{Receiver, Temper},
    until::until,
};
use tokio::net::{TcpListener, TcpSocket};

const ENTITIES: usize = 10;
/// Of 50 endpoints five hear of each entity: three that are well, one that hangs, one that is away.
const GOOD: usize = 30;
const UPDATES: i64 = 60;
/// Notifications that are kept for one endpoint.
const KEPT: i64 = 20;
/// A try at one that hangs takes the usual five seconds: whoever waited for all of them would not be through by then.
const SOON: Duration = Duration::from_secs(60);

/// Takes connections and never answers.
async fn hangs() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            held.push(socket);
        }
    });
    address
}

/// A port that nobody else gets and that refuses connections, until it listens.
fn away() -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    socket
}

async fn subscribe(broker: &Client, caller: &Caller, entity: usize, url: &str) -> String {
    let body = json!({
        "subject": { "entities": [{ "id": format!("e{entity}"), "type": "Meter" }] },
        "notification": { "http": { "url": url }, "attrsFormat": "keyValues" },
    });
    let made = broker.post("/v2/subscriptions", caller, &body).await.expect(201);
    made.header("location").unwrap().rsplit('/').next().unwrap().to_owned()
}

fn values(receiver: &Receiver) -> Vec<i64> {
    let value =
        |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap()["data"][0]["n"].as_i64().unwrap();
    receiver.arrivals().iter().map(|arrival| value(&arrival.body)).collect()
}

async fn metric(mesh: &Mesh, name: &str) -> i64 {
    let text = Client::new(mesh.admin()).get("/metrics", &Caller::nobody()).await.expect(200).text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse::<f64>().unwrap() as i64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_that_hang_or_are_away_harm_no_other_and_what_is_dropped_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::default()
        .set(&format!("context-broker.notification.max_per_endpoint={KEPT}"))
        .set("context-broker.notification.longest_pause_ms=500");
    let Some(mesh) = Mesh::start(dir.path(), options).await else { return };
    let (broker, caller) = (Client::new(mesh.broker()), Caller::of("alpha").at("/"));
    for entity in 0..ENTITIES {
        let entity =
            json!({ "id": format!("e{entity}"), "type": "Meter", "n": { "type": "Number", "value": 0 } });
        broker.post("/v2/entities", &caller, &entity).await.expect(201);
    }
    let (mut good, mut bad, mut refusing) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..GOOD {
        let receiver = Receiver::start(Temper::Steady).await;
        subscribe(&broker, &caller, n % ENTITIES, &receiver.url()).await;
        good.push(receiver);
    }
    for entity in 0..ENTITIES {
        bad.push(subscribe(&broker, &caller, entity, &format!("http://{}/", hangs().await)).await);
        let socket = away();
        let address = socket.local_addr().unwrap();
        bad.push(subscribe(&broker, &caller, entity, &format!("http://{address}/")).await);
        refusing.push(socket);
    }

    for value in 1..=UPDATES {
        for entity in 0..ENTITIES {
            let path = format!("/v2/entities/e{entity}/attrs?type=Meter");
            let body = json!({ "n": { "type": "Number", "value": value } });
            broker.patch(&path, &caller, &body).await.expect(204);
        }
    }

    let all: Vec<i64> = (1..=UPDATES).collect();
    for receiver in &good {
        until("a good endpoint has all", SOON, || async {
            let values = values(receiver);
            if values.len() >= all.len() { Ok(()) } else { Err(format!("{} of {}", values.len(), all.len())) }
        })
        .await;
        assert_eq!(values(receiver), all, "each once, in order");
    }

    for id in &bad {
        let path = format!("/v2/subscriptions/{id}?options=deliveryHealth");
        until("what is beyond the bound is dropped", SOON, || async {
            let shown = broker.get(&path, &caller).await.expect(200).json();
            let health = &shown["deliveryHealth"];
            let (pending, dropped) = (&health["pending"], &health["dropped"]);
            let is_told = health["state"] != "ok" && health["lastFailureReason"].is_string();
            if pending == KEPT && dropped == UPDATES - KEPT && is_told {
                Ok(())
            } else {
                Err(shown.to_string())
            }
        })
        .await;
    }
    let (lost, kept) = ((UPDATES - KEPT) * bad.len() as i64, KEPT * bad.len() as i64);
    assert_eq!(metric(&mesh, "thingmesh_context_broker_notifications_dropped_total").await, lost);
    until("the gauge follows", SOON, || async {
        let pending = metric(&mesh, "thingmesh_context_broker_pending_deliveries").await;
        if pending == kept { Ok(()) } else { Err(format!("{pending} of {kept}")) }
    })
    .await;

    let newest: Vec<i64> = (UPDATES - KEPT + 1..=UPDATES).collect();
    for socket in refusing {
        let receiver = Receiver::on(socket.listen(64).unwrap(), Temper::Steady);
        until("an endpoint that is back gets what was kept", SOON, || async {
            let values = values(&receiver);
            if values.len() >= newest.len() { Ok(()) } else { Err(format!("{values:?}")) }
        })
        .await;
        assert_eq!(values(&receiver), newest, "in order");
    }
}
