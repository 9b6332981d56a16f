//! ngsi-v2.md 8: when a subscription is silent, and what its status says.

use serde_json::{Value, json};
use service_kit::Clock;

use crate::{
    broker::{Broker, request},
    sink::Sink,
};

const SECOND_US: i64 = 1_000_000;

async fn subscribed(broker: &Broker, url: &str, more: Value) -> String {
    let mut body = json!({
        "subject": {"entities": [{"idPattern": ".*"}]},
        "notification": {"http": {"url": url}, "attrsFormat": "simplifiedKeyValues"}
    });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    let reply = broker.send(request("POST /v2/subscriptions").json(&body.to_string())).await;
    assert_eq!(reply.status, 201, "{}", reply.body);
    reply.header("location").unwrap().to_owned()
}

async fn patched(broker: &Broker, path: &str, body: &str) {
    broker.expect(request(&format!("PATCH {path}")).json(body), 204, "").await;
}

/// Creates an entity after some seconds.
async fn given_after(broker: &Broker, seconds: i64, id: &str) {
    broker.clock.set_us(broker.clock.now_us() + seconds * SECOND_US);
    broker.given(&format!(r#"{{"id":"{id}","type":"T","a":{{"value":1}}}}"#)).await;
}

async fn next_id(sink: &mut Sink) -> String {
    let body: Value = serde_json::from_str(&sink.next().await.body).unwrap();
    body["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_comes_too_soon_after_a_notification_is_dropped() {
    let (broker, mut sink) = (Broker::start().await, Sink::start().await);
    let path = subscribed(&broker, &sink.url("/"), json!({"throttling": 10})).await;
    for (seconds, id) in [(1, "E1"), (3, "E2"), (3, "E3"), (5, "E4"), (9, "E5"), (2, "E6")] {
        given_after(&broker, seconds, id).await;
    }
    // Ten seconds count from the last one that was sent.
    for expected in ["E1", "E4", "E6"] {
        assert_eq!(next_id(&mut sink).await, expected);
    }
    let shown = broker.until(&path, |body| body["notification"]["timesSent"] == 3).await;
    assert_eq!(shown["throttling"], 10);
}

#[tokio::test]
async fn an_expired_subscription_is_silent_until_its_end_is_moved() {
    let (broker, mut sink) = (Broker::start().await, Sink::start().await);
    let path = subscribed(&broker, &sink.url("/"), json!({"expires": "2026-01-31T10:01:00Z"})).await;
    given_after(&broker, 1, "E1").await;
    assert_eq!(next_id(&mut sink).await, "E1");
    given_after(&broker, 100, "E2").await;
    let shown = broker.until(&path, |_| true).await;
    assert_eq!(
        (&shown["status"], &shown["expires"]),
        (&json!("expired"), &json!("2026-01-31T10:01:00.000Z"))
    );
    patched(&broker, &path, r#"{"expires":""}"#).await;
    let shown = broker.until(&path, |_| true).await;
    assert_eq!((&shown["status"], shown.get("expires")), (&json!("active"), None));
    given_after(&broker, 1, "E3").await;
    assert_eq!(next_id(&mut sink).await, "E3", "nothing of what changed meanwhile");
}

#[tokio::test]
async fn an_end_in_the_past_is_accepted() {
    let broker = Broker::start().await;
    let path = subscribed(&broker, "http://127.0.0.1:1/", json!({"expires": "2020-01-01T00:00:00Z"})).await;
    assert_eq!(broker.until(&path, |_| true).await["status"], "expired");
}

#[tokio::test]
async fn an_inactive_subscription_is_silent() {
    let (broker, mut sink) = (Broker::start().await, Sink::start().await);
    let path = subscribed(&broker, &sink.url("/"), json!({"status": "inactive"})).await;
    given_after(&broker, 1, "E1").await;
    patched(&broker, &path, r#"{"status":"active"}"#).await;
    given_after(&broker, 1, "E2").await;
    assert_eq!(next_id(&mut sink).await, "E2");
    patched(&broker, &path, r#"{"status":"inactive"}"#).await;
    given_after(&broker, 1, "E3").await;
    patched(&broker, &path, r#"{"status":"oneshot"}"#).await;
    given_after(&broker, 1, "E4").await;
    assert_eq!(next_id(&mut sink).await, "E4");
    broker.until(&path, |body| body["status"] == "inactive").await;
}

#[tokio::test]
async fn too_many_failures_in_a_row_make_a_subscription_inactive() {
    let broker = Broker::with(|config| config.notification.longest_pause_ms = 50).await;
    let dead = Sink::start().await.url("/");
    let notification = json!({"http": {"url": dead}, "maxFailsLimit": 2});
    let path = subscribed(&broker, &dead, json!({"notification": notification})).await;
    given_after(&broker, 1, "E1").await;
    given_after(&broker, 1, "E2").await;
    // Two have failed, and are tried again: that makes no third one.
    let wait = format!("{path}?options=deliveryHealth");
    broker.until(&wait, |body| body["deliveryHealth"]["attempts"].as_i64() > Some(4)).await;
    let shown = broker.until(&path, |body| body["notification"]["failsCounter"] == 2).await;
    assert_eq!(shown["status"], "active", "the limit is reached, not exceeded");
    given_after(&broker, 1, "E3").await;
    let shown = broker.until(&path, |body| body["status"] == "inactive").await;
    assert_eq!(shown["notification"]["failsCounter"], 3);
    assert_eq!(shown["notification"]["maxFailsLimit"], 2);
    let health = broker.until(&format!("{path}?options=deliveryHealth"), |_| true).await;
    assert_eq!(health["deliveryHealth"]["pending"], 0, "what waited is cancelled");
    // A new receiver and a new start.
    let mut sink = Sink::start().await;
    let notification = json!({"notification": {"http": {"url": sink.url("/")}, "attrsFormat": "simplifiedKeyValues"}, "status": "active"});
    patched(&broker, &path, &notification.to_string()).await;
    given_after(&broker, 1, "E4").await;
    assert_eq!(next_id(&mut sink).await, "E4");
    let shown = broker.until(&path, |body| body["notification"]["lastSuccessCode"] == 200).await;
    assert!(shown["notification"].get("failsCounter").is_none());
}
