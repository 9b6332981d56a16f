//! ngsi-v2.md 8: subscriptions and what their receivers get.

use serde_json::{Value, json};

use crate::{
    broker::{Broker, Request, request},
    sink::Sink,
};

const UNKNOWN: &str = "The requested subscription has not been found. Check id";

fn door(url: &str) -> Value {
    json!({
        "description": "doors",
        "subject": {"entities": [{"idPattern": ".*", "type": "Door"}], "condition": {"attrs": ["open"]}},
        "notification": {"http": {"url": url}, "attrs": ["open"], "attrsFormat": "keyValues"}
    })
}

fn create(body: &Value) -> Request {
    request("POST /v2/subscriptions").json(&body.to_string())
}

/// The path of a new subscription.
async fn created(broker: &Broker, body: &Value) -> String {
    let reply = broker.expect(create(body), 201, "").await;
    let location = reply.header("location").unwrap().to_owned();
    let id = location.strip_prefix("/v2/subscriptions/").unwrap();
    assert!(id.len() == 24 && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)), "{id}");
    location
}

async fn shown(broker: &Broker, path: &str) -> Value {
    let reply = broker.send(request(&format!("GET {path}"))).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    serde_json::from_str(&reply.body).unwrap()
}

#[tokio::test]
async fn a_subscription_is_created_shown_changed_and_deleted() {
    let broker = Broker::start().await;
    let path = created(&broker, &door("http://sink.example:8080/in")).await;
    let body = shown(&broker, &path).await;
    assert_eq!(
        body,
        json!({
            "id": path.rsplit('/').next(), "description": "doors", "status": "active",
            "subject": {"entities": [{"idPattern": ".*", "type": "Door"}],
                "condition": {"attrs": ["open"], "notifyOnMetadataChange": true}},
            "notification": {"attrs": ["open"], "attrsFormat": "keyValues", "onlyChangedAttrs": false, "covered": false,
                "http": {"url": "http://sink.example:8080/in"}}
        })
    );
    let patch = |body: &Value| request(&format!("PATCH {path}")).json(&body.to_string());
    broker.expect(patch(&json!({"status": "inactive", "expires": "2040-01-01"})), 204, "").await;
    let changed = shown(&broker, &path).await;
    assert_eq!(
        (&changed["status"], &changed["expires"]),
        (&json!("inactive"), &json!("2040-01-01T00:00:00.000Z"))
    );
    // filip sends back all that GET gave.
    broker.expect(patch(&changed), 204, "").await;
    assert_eq!(shown(&broker, &path).await, changed);
    broker.expect(request(&format!("DELETE {path}")), 204, "").await;
    for method in ["GET", "DELETE"] {
        broker.refuses(request(&format!("{method} {path}")), 404, "NotFound", UNKNOWN).await;
    }
    broker.refuses(patch(&json!({"status": "active"})), 404, "NotFound", UNKNOWN).await;
}

#[tokio::test]
async fn bad_ids_paths_and_bodies_are_named() {
    let broker = Broker::start().await;
    let bad_id = "Invalid subscription ID: bad length - 24 chars expected";
    for bad in [
        request("GET /v2/subscriptions/abc"),
        request("DELETE /v2/subscriptions/abc"),
        request("PATCH /v2/subscriptions/abc").json("{\"status\":\"active\"}"),
    ] {
        broker.refuses(bad, 400, "BadRequest", bad_id).await;
    }
    let two_paths = create(&door("http://h/")).header("Fiware-ServicePath", "/a,/b");
    broker.refuses(two_paths, 400, "BadRequest", "max one service-path allowed for subscriptions").await;
    for (body, description) in [
        ("{}", "empty payload"),
        (r#"{"notification":{"http":{"url":"http://h/"}}}"#, "no subject for subscription specified"),
    ] {
        broker.refuses(request("POST /v2/subscriptions").json(body), 400, "BadRequest", description).await;
    }
    let wrong_method =
        broker.send(request("PUT /v2/subscriptions/0123456789abcdef01234567").json("{}")).await;
    assert_eq!((wrong_method.status, wrong_method.header("allow")), (405, Some("GET, DELETE, PATCH")));
}

#[tokio::test]
async fn lists_are_of_one_tenant_and_path_with_a_total() {
    let broker = Broker::start().await;
    for path in ["/a", "/a", "/b"] {
        let reply = broker.send(create(&door("http://h/")).header("Fiware-ServicePath", path)).await;
        assert_eq!(reply.status, 201);
    }
    for (path, limit, count, total) in
        [("/a", 20, 2, "2"), ("/a", 1, 1, "2"), ("/b", 20, 1, "1"), ("/a/#", 20, 0, "0")]
    {
        let list = request(&format!("GET /v2/subscriptions/?options=count&limit={limit}"))
            .header("Fiware-ServicePath", path);
        let reply = broker.send(list).await;
        let found: Vec<Value> = serde_json::from_str(&reply.body).unwrap();
        assert_eq!((found.len(), reply.header("fiware-total-count")), (count, Some(total)), "{path}");
    }
    broker.expect(request("GET /v2/subscriptions").header("Fiware-Service", "other"), 200, "[]").await;
}

#[tokio::test]
async fn a_change_is_notified_with_headers_body_and_counters() {
    let broker = Broker::start().await;
    let mut sink = Sink::start().await;
    let path = created(&broker, &door(&sink.url("/in"))).await;
    broker.given(r#"{"id":"D1","type":"Door","open":{"value":true},"other":{"value":1}}"#).await;
    let received = sink.next().await;
    let id = path.rsplit('/').next().unwrap();
    assert_eq!(received.line, "POST /in HTTP/1.1");
    assert_eq!(
        received.body,
        format!(r#"{{"subscriptionId":"{id}","data":[{{"id":"D1","type":"Door","open":true}}]}}"#)
    );
    for (name, value) in [
        ("ngsiv2-attrsformat", "keyValues"),
        ("fiware-servicepath", "/"),
        ("content-type", "application/json; charset=utf-8"),
        ("accept", "application/json"),
    ] {
        assert_eq!(received.header(name), Some(value), "{name}");
    }
    assert!(received.header("fiware-correlator").unwrap().ends_with("; cbnotif=1"));
    assert_eq!(received.header("fiware-service"), None);
    let shown = broker.until(&path, |body| body["notification"]["lastSuccessCode"] == 200).await;
    assert_eq!(shown["notification"]["timesSent"], 1);
}

#[tokio::test]
async fn only_what_the_condition_names_is_notified_and_in_order() {
    let broker = Broker::start().await;
    let mut sink = Sink::start().await;
    created(&broker, &door(&sink.url("/"))).await;
    broker.given(r#"{"id":"D1","type":"Door","open":{"value":0},"other":{"value":1}}"#).await;
    broker.given(r#"{"id":"W1","type":"Window","open":{"value":0}}"#).await;
    let patch = |body: &str| request("PATCH /v2/entities/D1/attrs?options=keyValues").json(body);
    broker.expect(patch(r#"{"other":2}"#), 204, "").await;
    broker.expect(patch(r#"{"open":0}"#), 204, "").await;
    for value in 1..=3 {
        broker.expect(patch(&format!(r#"{{"open":{value}}}"#)), 204, "").await;
    }
    for value in 0..=3 {
        let body: Value = serde_json::from_str(&sink.next().await.body).unwrap();
        assert_eq!(body["data"][0], json!({"id": "D1", "type": "Door", "open": value}));
    }
}

#[tokio::test]
async fn a_custom_notification_is_sent_as_its_template_says() {
    let broker = Broker::start().await;
    let mut sink = Sink::start().await;
    let mut body = door("");
    body["notification"] = json!({"httpCustom": {
        "url": sink.url("/${id}"), "method": "PUT", "qs": {"v": "${open}"}, "headers": {"X-Door": "${id}"},
        "json": {"state": "${open}"}
    }});
    created(&broker, &body).await;
    let create = request("POST /v2/entities")
        .header("Fiware-Service", "acme")
        .json(r#"{"id":"D9","type":"Door","open":{"value":true}}"#);
    broker.expect(create, 201, "").await;
    broker.given(r#"{"id":"D1","type":"Door","open":{"value":true}}"#).await;
    let received = sink.next().await;
    assert_eq!(received.line, "PUT /D1?v=true HTTP/1.1", "another tenant's change is not notified");
    assert_eq!((received.body.as_str(), received.header("x-door")), (r#"{"state":true}"#, Some("D1")));
    assert_eq!(received.header("ngsiv2-attrsformat"), Some("custom"));
}

#[tokio::test]
async fn a_oneshot_notifies_once_and_is_inactive_then() {
    let broker = Broker::start().await;
    let mut sink = Sink::start().await;
    let mut body = door(&sink.url("/"));
    body["status"] = json!("oneshot");
    let path = created(&broker, &body).await;
    broker.given(r#"{"id":"D1","type":"Door","open":{"value":1}}"#).await;
    sink.next().await;
    broker.until(&path, |body| body["status"] == "inactive").await;
    broker.given(r#"{"id":"D2","type":"Door","open":{"value":1}}"#).await;
    broker.expect(request(&format!("PATCH {path}")).json(r#"{"status":"oneshot"}"#), 204, "").await;
    broker.given(r#"{"id":"D3","type":"Door","open":{"value":1}}"#).await;
    assert!(sink.next().await.body.contains("D3"), "what changed while it was inactive is not notified");
}

#[tokio::test]
async fn a_closed_receiver_is_a_failure_that_shows() {
    let broker = Broker::start().await;
    let sink = Sink::start().await;
    let url = sink.url("/");
    drop(sink);
    let path = created(&broker, &door(&url)).await;
    broker.given(r#"{"id":"D1","type":"Door","open":{"value":1}}"#).await;
    let shown = broker.until(&path, |body| body["notification"]["lastFailure"].is_string()).await;
    assert_eq!(shown["notification"]["lastFailureReason"], "Could not connect to server");
    assert!(shown["notification"]["failsCounter"].as_u64().is_some_and(|fails| fails > 0));
}

#[tokio::test]
async fn the_notifications_of_one_request_are_numbered_through() {
    let broker = Broker::start().await;
    let mut sink = Sink::start().await;
    for path in ["/one", "/two"] {
        created(&broker, &door(&sink.url(path))).await;
    }
    let batch = r#"{"actionType":"append","entities":[{"id":"D1","type":"Door","open":1},{"id":"D2","type":"Door","open":2}]}"#;
    let sent = request("POST /v2/op/update?options=keyValues").header("Fiware-Correlator", "abc").json(batch);
    broker.expect(sent, 204, "").await;
    let mut correlators = Vec::new();
    for _ in 0..4 {
        correlators.push(sink.next().await.header("fiware-correlator").unwrap().to_owned());
    }
    correlators.sort_unstable();
    assert_eq!(correlators, ["abc; cbnotif=1", "abc; cbnotif=2", "abc; cbnotif=3", "abc; cbnotif=4"]);
}
