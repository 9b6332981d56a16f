use std::sync::Arc;

use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    receiver::Receiver,
    started::{Broker, START_US},
};

fn subscription(url: &str) -> Value {
    json!({
        "subject": {"entities": [{"idPattern": ".*", "type": "T"}]},
        "notification": {"http": {"url": url}, "attrsFormat": "keyValues"},
    })
}

/// The value of `n` in a keyValues notification.
fn n(body: &Value) -> i64 {
    body["data"][0]["n"].as_i64().unwrap_or_else(|| panic!("no n in {body}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_told_with_the_headers_of_the_contract() {
    let (broker, receiver) = (Broker::start().await, Receiver::start().await);
    let id = broker.subscribe(subscription(&receiver.url)).await;
    broker.write("e", json!({"n": {"value": 1}})).await;
    let told = receiver.next().await;
    assert_eq!(told.body, json!({"subscriptionId": id.as_str(), "data": [{"id": "e", "type": "T", "n": 1}]}));
    let header = |name: &str| told.headers[name].to_str().unwrap().to_owned();
    assert_eq!(header("fiware-service"), "factory");
    assert_eq!(header("fiware-servicepath"), "/hall");
    assert_eq!(header("ngsiv2-attrsformat"), "keyValues");
    assert_eq!(header("content-type"), "application/json; charset=utf-8");
    assert!(header("user-agent").starts_with("orion/"));
    assert!(header("fiware-correlator").ends_with("; cbnotif=1"));
    assert!(told.headers.contains_key("traceparent") && told.headers.contains_key("x-b3-traceid"));
    assert!(!told.headers.contains_key("x-auth-token"));
    let view = broker.until(&id, |view| view.counters.last_success_code.is_some()).await;
    assert_eq!((view.counters.times_sent, view.counters.last_success_code), (1, Some(204)));
    assert_eq!(view.counters.last_notification_us, Some(START_US));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_does_not_answer_delays_no_other() {
    let (broker, silent, quick) = (Broker::start().await, Receiver::silent().await, Receiver::start().await);
    broker.subscribe(subscription(&silent.url)).await;
    let other = broker.subscribe(subscription(&quick.url)).await;
    for value in 0..100 {
        broker.write("e", json!({"n": {"value": value}})).await;
    }
    for value in 0..100 {
        assert_eq!(n(&quick.next().await.body), value, "in order");
    }
    broker.until(&other, |view| view.counters.times_sent == 100).await;
    assert_eq!(n(&silent.next().await.body), 0);
    assert!(silent.is_empty().await, "one request per entity at a time");
    silent.open();
    for value in 1..100 {
        assert_eq!(n(&silent.next().await.body), value);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_receiver_is_tried_again_and_the_order_holds() {
    let (broker, receiver) = (Broker::start().await, Receiver::start().await);
    receiver.answer_with(503);
    let id = broker.subscribe(subscription(&receiver.url)).await;
    for value in 0..3 {
        broker.write("e", json!({"n": {"value": value}})).await;
    }
    assert_eq!(n(&receiver.next().await.body), 0);
    assert_eq!(n(&receiver.next().await.body), 0, "tried again before the next one");
    let failing = broker.until(&id, |view| view.counters.fails > 0).await;
    assert_eq!(failing.counters.last_failure_reason.as_deref(), Some("HTTP status 503"));
    receiver.answer_with(200);
    let mut seen = Vec::new();
    while seen.last() != Some(&2) {
        seen.push(n(&receiver.next().await.body));
    }
    assert!(seen.is_sorted(), "{seen:?}");
    let view = broker.until(&id, |view| view.counters.times_sent == 3 && view.counters.fails == 0).await;
    assert_eq!(view.counters.last_success_code, Some(200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_other_status_counts_as_delivered() {
    let (broker, receiver) = (Broker::start().await, Receiver::start().await);
    receiver.answer_with(404);
    let id = broker.subscribe(subscription(&receiver.url)).await;
    broker.write("e", json!({"n": {"value": 1}})).await;
    let view = broker.until(&id, |view| view.counters.last_success_code.is_some()).await;
    assert_eq!((view.counters.last_success_code, view.counters.fails), (Some(404), 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_survives_a_restart() {
    let broker = Broker::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let id = broker.subscribe(subscription(&format!("http://{address}/in"))).await;
    for value in 0..5 {
        broker.write("e", json!({"n": {"value": value}})).await;
    }
    let view = broker.until(&id, |view| view.counters.fails > 0).await;
    assert_eq!(view.counters.last_failure_reason.as_deref(), Some("Could not connect to server"));
    let broker = broker.restart().await;
    let receiver = Receiver::on(TcpListener::bind(address).await.unwrap(), 1000);
    for value in 0..5 {
        assert_eq!(n(&receiver.next().await.body), value);
    }
    broker.until(&id, |view| view.counters.times_sent == 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_or_changed_subscription_is_told_nothing_that_waits() {
    let (broker, silent) = (Broker::start().await, Receiver::silent().await);
    let deleted = broker.subscribe(subscription(&silent.url)).await;
    let changed = broker.subscribe(subscription(&silent.url.replace("/in", "/other"))).await;
    for value in 0..3 {
        broker.write("e", json!({"n": {"value": value}})).await;
    }
    assert_eq!([n(&silent.next().await.body), n(&silent.next().await.body)], [0, 0]);
    broker.until_matched().await;
    broker.core.delete_subscription(&broker.scope.tenant, &deleted).await.unwrap();
    broker.patch(&changed, json!({"description": "changed"})).await;
    silent.open();
    broker.write("e", json!({"n": {"value": 9}})).await;
    let told = silent.next().await;
    assert_eq!((n(&told.body), told.body["subscriptionId"].as_str()), (9, Some(changed.as_str())));
    assert!(silent.is_empty().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oneshot_tells_once_and_a_patch_arms_it_again() {
    let (broker, receiver) = (Broker::start().await, Receiver::start().await);
    let mut body = subscription(&receiver.url);
    body["status"] = json!("oneshot");
    let id = broker.subscribe(body).await;
    for value in 0..5 {
        broker.write("e", json!({"n": {"value": value}})).await;
    }
    assert_eq!(n(&receiver.next().await.body), 0);
    let view = broker.until(&id, |view| view.counters.times_sent == 1).await;
    assert!(view.counters.closed);
    broker.until_matched().await;
    assert!(receiver.is_empty().await);
    broker.patch(&id, json!({"status": "oneshot"})).await;
    broker.write("e", json!({"n": {"value": 7}})).await;
    assert_eq!(n(&receiver.next().await.body), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throttling_goes_by_commit_time() {
    let (broker, receiver) = (Broker::start().await, Receiver::start().await);
    let mut body = subscription(&receiver.url);
    body["throttling"] = json!(10);
    broker.subscribe(body).await;
    for (at_s, value) in [(0, 0), (9, 1), (10, 2), (15, 3), (20, 4)] {
        broker.clock.set_us(START_US + at_s * 1_000_000);
        broker.write("e", json!({"n": {"value": value}})).await;
    }
    for expected in [0, 2, 4] {
        assert_eq!(n(&receiver.next().await.body), expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_failures_make_a_subscription_inactive() {
    let broker = Broker::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/in", listener.local_addr().unwrap());
    drop(listener);
    let mut body = subscription(&url);
    body["notification"]["maxFailsLimit"] = json!(2);
    let id = broker.subscribe(body).await;
    for n in 1..=3 {
        broker.write("e", json!({"n": {"value": n}})).await;
    }
    // The first fails again and again, the others wait for it.
    let view = broker.until(&id, |view| view.counters.closed).await;
    assert_eq!((view.counters.fails, view.counters.times_sent), (3, 1));
    broker.write("e", json!({"n": {"value": 4}})).await;
    broker.until_matched().await;
    let after = broker.subscription(&id).await;
    assert_eq!(after.counters, view.counters, "nothing is sent any more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_is_told_only_of_its_own_tenant_path_and_time() {
    let (mut broker, receiver) = (Broker::start().await, Receiver::start().await);
    broker.write("before", json!({"n": {"value": 0}})).await;
    broker.subscribe(subscription(&receiver.url)).await;
    let own = broker.scope.clone();
    broker.scope.tenant = scope::Tenant::from_header(Some("other")).unwrap();
    broker.write("e", json!({"n": {"value": 1}})).await;
    broker.scope = own;
    broker.write("e", json!({"n": {"value": 2}})).await;
    assert_eq!(n(&receiver.next().await.body), 2);
    broker.until_matched().await;
    assert!(receiver.is_empty().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn link_local_targets_are_refused_and_said_so() {
    let broker = Broker::start().await;
    let id = broker.subscribe(subscription("http://169.254.169.254/latest")).await;
    broker.write("e", json!({"n": {"value": 1}})).await;
    let view = broker.until(&id, |view| view.counters.last_failure_reason.is_some()).await;
    assert_eq!(view.counters.last_failure_reason.as_deref(), Some("Link-local address refused"));
    let metrics = broker.metrics.encode();
    assert!(metrics.contains("thingmesh_context_broker_notifications_dropped_total 1"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_subscriptions_made_at_once_all_see_the_next_change() {
    let (broker, receiver) = (Arc::new(Broker::start().await), Receiver::start().await);
    let made = (0..50).map(|_| broker.subscribe(subscription(&receiver.url)));
    futures::future::join_all(made).await;
    broker.write("e", json!({"n": {"value": 1}})).await;
    for _ in 0..50 {
        assert_eq!(n(&receiver.next().await.body), 1);
    }
}
