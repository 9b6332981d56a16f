//! How notifications are delivered, as a client sees it: transient mode, health.

use context_broker::NotificationMode;
use serde_json::json;
use service_kit::Clock;

use crate::{
    broker::{Broker, request},
    sink::Sink,
};

async fn subscribed(broker: &Broker, url: &str) -> String {
    let body = json!({
        "subject": {"entities": [{"idPattern": ".*"}]},
        "notification": {"http": {"url": url}, "attrsFormat": "keyValues"}
    });
    let reply = broker.send(request("POST /v2/subscriptions").json(&body.to_string())).await;
    reply.header("location").unwrap().to_owned()
}

/// An address where nobody listens.
async fn closed_url() -> String {
    Sink::start().await.url("/")
}

#[tokio::test]
async fn in_transient_mode_a_failed_notification_is_counted_and_forgotten() {
    let broker = Broker::with(|config| config.notification.mode = NotificationMode::Transient).await;
    let mut sink = Sink::start().await;
    let (dead, alive) = (closed_url().await, sink.url("/"));
    let (dead, alive) = (subscribed(&broker, &dead).await, subscribed(&broker, &alive).await);
    broker.given(r#"{"id":"E1","type":"T","a":{"value":1}}"#).await;
    assert!(sink.next().await.body.contains("E1"));
    broker.given(r#"{"id":"E2","type":"T","a":{"value":1}}"#).await;
    assert!(sink.next().await.body.contains("E2"));
    let shown = broker.until(&dead, |body| body["notification"]["timesSent"] == 2).await;
    assert_eq!(shown["notification"]["failsCounter"], 2, "one try each");
    assert_eq!(shown["notification"]["lastFailureReason"], "Could not connect to server");
    assert!(shown["notification"].get("lastSuccess").is_none());
    let quiet = broker.until(&format!("{dead}?options=deliveryHealth"), |_| true).await;
    assert_eq!(quiet["deliveryHealth"]["pending"], 0);
    broker.until(&alive, |body| body["notification"]["timesSent"] == 2).await;
}

#[tokio::test]
async fn a_notification_that_is_too_large_is_dropped_and_says_why() {
    let broker = Broker::with(|config| config.notification.max_message_bytes = 1000).await;
    let mut sink = Sink::start().await;
    let path = subscribed(&broker, &sink.url("/")).await;
    broker.given(&format!(r#"{{"id":"E1","type":"T","a":{{"value":"{}"}}}}"#, "x".repeat(1000))).await;
    let shown = broker.until(&path, |body| body["notification"]["failsCounter"] == 1).await;
    assert_eq!(shown["notification"]["lastFailureReason"], "notification larger than max_message_bytes");
    broker.given(r#"{"id":"E2","type":"T","a":{"value":1}}"#).await;
    assert!(sink.next().await.body.contains("E2"), "the next one is sent");
}

#[tokio::test]
async fn in_transient_mode_any_status_is_a_success() {
    let broker = Broker::with(|config| config.notification.mode = NotificationMode::Transient).await;
    let mut sink = Sink::answering("503 Service Unavailable").await;
    let path = subscribed(&broker, &sink.url("/")).await;
    broker.given(r#"{"id":"E1","type":"T","a":{"value":1}}"#).await;
    sink.next().await;
    let shown = broker.until(&path, |body| body["notification"]["lastSuccessCode"] == 503).await;
    assert!(shown["notification"].get("failsCounter").is_none());
}

#[tokio::test]
async fn the_health_of_deliveries_is_shown_when_it_is_asked_for() {
    let broker = Broker::start().await;
    let path = subscribed(&broker, &closed_url().await).await;
    let plain = broker.until(&path, |_| true).await;
    assert!(plain.get("deliveryHealth").is_none());
    let asked = format!("{path}?options=deliveryHealth");
    let idle = json!({"state": "ok", "pending": 0, "attempts": 0, "dropped": 0});
    assert_eq!(broker.until(&asked, |_| true).await["deliveryHealth"], idle);
    for n in 0..3 {
        broker.given(&format!(r#"{{"id":"E{n}","type":"T","a":{{"value":1}}}}"#)).await;
    }
    let stuck = |shown: &serde_json::Value| {
        shown["deliveryHealth"]["pending"] == 3 && shown["deliveryHealth"]["state"] == "retrying"
    };
    let shown = broker.until(&asked, stuck).await;
    let health = &shown["deliveryHealth"];
    assert_eq!(health["lastFailureReason"], "Could not connect to server");
    assert!(health["attempts"].as_u64().is_some_and(|attempts| attempts > 0));
    assert_eq!(health["oldest"], "2026-01-31T10:00:00.000Z");
    let list = broker.until("/v2/subscriptions?options=deliveryHealth,count", |_| true).await;
    assert_eq!(list[0]["deliveryHealth"]["pending"], 3);
}

#[tokio::test]
async fn the_token_of_a_request_goes_to_its_receivers_and_is_nowhere_in_clear() {
    let broker = Broker::start().await;
    let mut sink = Sink::start().await;
    subscribed(&broker, &sink.url("/plain")).await;
    let custom = json!({
        "subject": {"entities": [{"idPattern": ".*"}]},
        "notification": {"httpCustom": {"url": sink.url("/custom"), "json": {"token": "${authToken}"}}}
    });
    broker.send(request("POST /v2/subscriptions").json(&custom.to_string())).await;
    let dead = subscribed(&broker, &closed_url().await).await;
    let create = request("POST /v2/entities").header("X-Auth-Token", "s3cret-t0ken");
    broker.expect(create.json(r#"{"id":"E1","type":"T","a":{"value":1}}"#), 201, "").await;
    let mut received = [sink.next().await, sink.next().await];
    received.sort_by(|a, b| a.line.cmp(&b.line));
    assert_eq!(received[0].body, r#"{"token":"s3cret-t0ken"}"#);
    for one in &received {
        assert_eq!(one.header("x-auth-token"), Some("s3cret-t0ken"));
    }
    broker.until(&dead, |body| body["notification"]["failsCounter"].is_number()).await;
    let mut files = Vec::new();
    list_files(broker.data_dir(), &mut files);
    assert!(files.iter().any(|file| file.extension().is_some_and(|ending| ending == "journal")));
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        let found = bytes.windows(12).any(|window| window == b"s3cret-t0ken");
        assert!(!found, "the token is in {}", file.display());
    }
    broker.expect(request("PATCH /v2/entities/E1/attrs").json(r#"{"a":{"value":2}}"#), 204, "").await;
    assert_eq!(sink.next().await.header("x-auth-token"), None);
}

fn list_files(dir: &std::path::Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { list_files(&path, files) } else { files.push(path) }
    }
}

#[tokio::test]
async fn a_token_that_is_too_old_is_not_sent() {
    let broker = Broker::with(|config| config.notification.longest_pause_ms = 100).await;
    let mut sink = Sink::answering("503 Service Unavailable").await;
    subscribed(&broker, &sink.url("/")).await;
    let create = request("POST /v2/entities").header("X-Auth-Token", "s3cret-t0ken");
    broker.expect(create.json(r#"{"id":"E1","type":"T","a":{"value":1}}"#), 201, "").await;
    assert_eq!(sink.next().await.header("x-auth-token"), Some("s3cret-t0ken"));
    broker.clock.set_us(broker.clock.now_us() + 301_000_000);
    while sink.next().await.header("x-auth-token").is_some() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_receivers_that_hang_delay_no_other() {
    let broker = Broker::start().await;
    // Accepted by the system, answered by nobody.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    for n in 0..100 {
        subscribed(&broker, &format!("http://{address}/{n}")).await;
    }
    let mut sink = Sink::start().await;
    let quick = subscribed(&broker, &sink.url("/")).await;
    let started = tokio::time::Instant::now();
    for n in 0..30 {
        broker.given(&format!(r#"{{"id":"E{n}","type":"T","a":{{"value":1}}}}"#)).await;
    }
    for _ in 0..30 {
        sink.next().await;
    }
    // A receiver that hangs is given up after five seconds, for the first time.
    assert!(started.elapsed() < std::time::Duration::from_secs(5), "{:?}", started.elapsed());
    broker.until(&quick, |body| body["notification"]["timesSent"] == 30).await;
}
#[tokio::test]
async fn reasons_of_failures_are_those_of_the_original() {
    let broker = Broker::with(|config| config.notification.longest_pause_ms = 50).await;
    // Accepted by the system, answered by nobody.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("http://{}/", listener.local_addr().unwrap());
    for (url, reason) in [
        (silent.as_str(), "Timeout was reached"),
        ("http://no-such-host.invalid/", "Could not resolve hostname"),
    ] {
        let body = json!({
            "subject": {"entities": [{"id": reason.replace(' ', "-")}]},
            "notification": {"http": {"url": url, "timeout": 200}}
        });
        let made = broker.send(request("POST /v2/subscriptions").json(&body.to_string())).await;
        let path = made.header("location").unwrap();
        broker.given(&format!(r#"{{"id":"{}","type":"T"}}"#, reason.replace(' ', "-"))).await;
        let failed = |shown: &serde_json::Value| shown["notification"]["lastFailureReason"].is_string();
        let shown = broker.until(path, failed).await;
        assert_eq!(shown["notification"]["lastFailureReason"], reason, "{shown}");
    }
}
