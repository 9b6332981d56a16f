//! Updates with `options=flowControl`: answered when what is due to receivers has drained.

use std::pin::pin;

use context_broker::Config;
use serde_json::json;

use crate::{
    broker::{Broker, Reply, request},
    receiver::Receiver,
    started::DEADLINE,
};

/// Nothing but what is tested ends a pause before the test gives up.
fn patient(config: &mut Config, control: &str) {
    config.notification.flow_control = control.to_owned();
    config.notification.timeout_ms = 600_000;
    config.http.request_timeout_ms = 700_000;
}

/// A broker with this `flow_control`, a receiver that answers nothing yet, and a subscription.
async fn with_flow(control: &str) -> (Broker, Receiver) {
    let broker = Broker::with(|config| patient(config, control)).await;
    let receiver = subscribed(&broker).await;
    (broker, receiver)
}

async fn subscribed(broker: &Broker) -> Receiver {
    let receiver = Receiver::silent().await;
    broker.given(r#"{"id":"E1","type":"T","a":{"value":0}}"#).await;
    let body = json!({
        "subject": {"entities": [{"idPattern": ".*"}]}, "notification": {"http": {"url": receiver.url}}
    });
    broker.send(request("POST /v2/subscriptions").json(&body.to_string())).await;
    receiver
}

async fn update(broker: &Broker, options: &str) -> Reply {
    let path = format!("PATCH /v2/entities/E1/attrs?options={options}");
    let answered = broker.send(request(&path).json(r#"{"a":{"value":1}}"#));
    tokio::time::timeout(DEADLINE, answered).await.expect("an answer in time")
}

#[tokio::test]
async fn an_update_waits_until_its_notifications_are_delivered_and_holds_up_nobody_else() {
    let (broker, receiver) = with_flow("1:5:600000").await;
    let mut controlled = pin!(update(&broker, "flowControl,forcedUpdate"));
    tokio::select! {
        _ = &mut controlled => panic!("answered before its notification was delivered"),
        _ = receiver.next() => {}
    }
    tokio::select! {
        biased;
        _ = &mut controlled => panic!("answered before its notification was delivered"),
        free = update(&broker, "forcedUpdate") => assert_eq!(free.status, 204),
    }
    receiver.open();
    assert_eq!(controlled.await.status, 204);
}

#[tokio::test]
async fn an_update_waits_no_longer_than_the_longest_pause() {
    let (broker, receiver) = with_flow("1:5:50").await;
    assert_eq!(update(&broker, "flowControl").await.status, 204);
    receiver.next().await;
    let refused = update(&broker, "flowControl,nonsense").await;
    assert_eq!(refused.status, 400);
}

#[tokio::test]
async fn where_no_place_is_left_to_wait_an_update_is_answered_at_once() {
    let broker = Broker::with(|config| {
        patient(config, "1:5:600000");
        config.http.max_in_flight = 1;
    })
    .await;
    let receiver = subscribed(&broker).await;
    assert_eq!(update(&broker, "flowControl").await.status, 204);
    // It has taken the notification, and answered nothing.
    receiver.next().await;
}

#[tokio::test]
async fn an_update_waits_for_nothing_while_the_queue_has_room_or_without_the_setting() {
    for control in ["0:5:600000", ""] {
        let (broker, receiver) = with_flow(control).await;
        for _ in 0..3 {
            assert_eq!(update(&broker, "flowControl,forcedUpdate").await.status, 204);
        }
        // It has taken the first, and answered nothing.
        receiver.next().await;
    }
}
