//! The guards of an HTTP listener, over real sockets.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use axum::{Router, routing::get};
use service_kit::{
    Tasks,
    http::{HttpLimits, HttpListener, refuse_ngsi, serve},
    metrics::Metrics,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

struct Fixture {
    tasks: Tasks,
    metrics: Metrics,
    address: std::net::SocketAddr,
}

async fn start(router: Router, limits: HttpLimits) -> Fixture {
    let (tasks, metrics) = (Tasks::new(), Metrics::new());
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let listener = HttpListener {
        service: "test",
        name: "http",
        limits,
        refuse: refuse_ngsi(),
        metrics: metrics.clone(),
    };
    serve(&tasks, socket, router, listener);
    Fixture { tasks, metrics, address }
}

async fn exchange(address: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn get_closing(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
}

#[tokio::test]
async fn a_panicking_handler_answers_500_and_is_counted_and_the_server_goes_on() {
    async fn broken() -> &'static str {
        panic!("on purpose")
    }
    let router = Router::new().route("/broken", get(broken)).route("/fine", get(|| async { "fine" }));
    let fixture = start(router, HttpLimits::default()).await;
    let answer = exchange(fixture.address, &get_closing("/broken")).await;
    assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
    assert!(!answer.contains("on purpose"), "{answer}");
    assert!(exchange(fixture.address, &get_closing("/fine")).await.ends_with("fine"));
    let metrics = fixture.metrics.encode();
    assert!(
        metrics.contains(r#"thingmesh_http_request_panics_total{service="test",listener="http"} 1"#),
        "{metrics}"
    );
}

#[tokio::test]
async fn the_correlator_of_the_client_comes_back() {
    let fixture = start(Router::new().route("/", get(|| async { "" })), HttpLimits::default()).await;
    let request = "GET / HTTP/1.1\r\nhost: x\r\nFiware-Correlator: abc\r\nconnection: close\r\n\r\n";
    assert!(exchange(fixture.address, request).await.contains("fiware-correlator: abc"));
}

#[tokio::test]
async fn a_request_head_that_never_ends_is_cut_off() {
    let limits = HttpLimits { head_timeout_ms: 100, ..HttpLimits::default() };
    let fixture = start(Router::new(), limits).await;
    let answer = tokio::time::timeout(
        Duration::from_secs(5),
        exchange(fixture.address, "GET / HTTP/1.1\r\nhost: x\r\nx-slow: "),
    );
    let answer = answer.await.expect("connection is closed by the server");
    assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
}

#[tokio::test]
async fn requests_over_the_limit_are_refused_and_the_place_is_given_back() {
    let gate = std::sync::Arc::new(tokio::sync::Notify::new());
    let entered = std::sync::Arc::new(tokio::sync::Notify::new());
    let handler = {
        let (gate, entered) = (gate.clone(), entered.clone());
        move || async move {
            entered.notify_one();
            gate.notified().await;
            "done"
        }
    };
    let router = Router::new().route("/wait", get(handler)).route("/fine", get(|| async { "fine" }));
    let fixture = start(router, HttpLimits { max_in_flight: 1, ..HttpLimits::default() }).await;
    let address = fixture.address;
    let first = tokio::spawn(async move { exchange(address, &get_closing("/wait")).await });
    entered.notified().await;
    let refused = exchange(address, &get_closing("/fine")).await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(refused.contains("retry-after"), "{refused}");
    gate.notify_one();
    assert!(first.await.unwrap().ends_with("done"));
    assert!(exchange(address, &get_closing("/fine")).await.ends_with("fine"));
}

#[tokio::test]
async fn stop_lets_a_request_in_flight_end_and_refuses_new_connections() {
    let gate = std::sync::Arc::new(tokio::sync::Notify::new());
    let entered = std::sync::Arc::new(tokio::sync::Notify::new());
    let handler = {
        let (gate, entered) = (gate.clone(), entered.clone());
        move || async move {
            entered.notify_one();
            gate.notified().await;
            "done"
        }
    };
    let fixture = start(Router::new().route("/wait", get(handler)), HttpLimits::default()).await;
    let address = fixture.address;
    let first = tokio::spawn(async move { exchange(address, &get_closing("/wait")).await });
    entered.notified().await;
    let tasks = fixture.tasks.clone();
    let stopping = tokio::spawn(async move { tasks.stop(Duration::from_secs(10)).await });
    fixture.tasks.stop_token().cancelled().await;
    gate.notify_one();
    assert!(first.await.unwrap().ends_with("done"));
    assert!(stopping.await.unwrap(), "ended within the grace");
    assert!(TcpStream::connect(address).await.is_err());
}
