//! iot-agent 2.1, 2.2, 4; mesh 4.5.

use std::{sync::Arc, time::Duration};

use device_agent::{Config, MeasureConfig};
use futures::future::join_all;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::{
    broker::FakeBroker,
    harness::{Agent, config, eventually},
};

const T: (&str, &str) = ("t", "/p");
const TEXT: &[(&str, &str)] = &[("content-type", "text/plain")];

async fn started() -> (FakeBroker, Agent) {
    let broker = FakeBroker::default();
    let agent = Agent::with_broker(&broker).await;
    agent.group(T, "k", json!({})).await;
    (broker, agent)
}

#[tokio::test]
async fn a_measure_is_committed_when_it_is_answered() {
    let (broker, agent) = started().await;
    let answer = agent.measure("k", "d", "t|21.5").await;
    assert_eq!((answer.status, answer.text.as_str()), (200, ""));
    assert_eq!(answer.headers["content-type"], "text/plain");
    assert!(answer.headers["x-processing-time"].to_str().unwrap().parse::<u64>().is_ok());
    let state = broker.state.lock();
    let entity = &state.entities[&("t".into(), "/p".into(), "Room:d".into())];
    let now = json!({"type": "DateTime", "value": "2026-01-02T03:04:05.678Z"});
    let expected = json!({
        "t": {"type": "Text", "value": 21.5, "metadata": {"TimeInstant": now}},
        "TimeInstant": now,
    });
    assert_eq!((entity.entity_type.as_str(), Value::from(entity.attributes.clone())), ("Room", expected));
}

#[tokio::test]
async fn an_unknown_device_appears_by_its_group_with_the_key_it_showed() {
    let (_, agent) = started().await;
    agent.measure("k", "new", "t|1").await;
    let shown = agent.north("GET", "/iot/devices/new", T, Value::Null).await.json();
    assert_eq!((&shown["entity_name"], &shown["apikey"]), (&json!("Room:new"), &json!("k")));
}

#[tokio::test]
async fn a_provisioned_device_takes_the_key_of_its_first_measure() {
    let (_, agent) = started().await;
    agent.device(T, json!({"device_id": "d"})).await;
    assert_eq!(agent.measure("k", "d", "t|1").await.status, 200);
    let list = agent.north("GET", "/iot/devices", T, Value::Null).await.json();
    assert_eq!((&list["count"], &list["devices"][0]["apikey"]), (&json!(1), &json!("k")));
}

#[tokio::test]
async fn get_carries_the_payload_in_the_query() {
    let (broker, agent) = started().await;
    let answer = agent.send("south", "GET", "/iot/d?k=k&i=d&d=a%7C1%7Cb%7Cx+y", &[], "").await;
    assert_eq!((answer.status, answer.text.as_str()), (200, ""));
    assert_eq!(broker.value("t", "/p", "Room:d", "b"), Some(json!("x y")));
}

#[tokio::test]
async fn groups_of_measures_are_one_request_in_order() {
    let (broker, agent) = started().await;
    let before = broker.state.lock().calls.len();
    assert_eq!(agent.measure("k", "d", "t|1#t|2#t|3").await.status, 200);
    assert_eq!(broker.state.lock().calls[before..], [3]);
    assert_eq!(broker.history("t", "/p", "Room:d", "t"), [1, 2, 3].map(Value::from));
}

#[tokio::test]
async fn more_groups_than_the_broker_remembers_go_in_several_calls() {
    let (broker, agent) = started().await;
    let payload: Vec<String> = (0..100).map(|n| format!("t|{n}")).collect();
    assert_eq!(agent.measure("k", "d", &payload.join("#")).await.status, 200);
    assert_eq!(broker.state.lock().calls, [32, 32, 32, 4]);
    assert_eq!(broker.history("t", "/p", "Room:d", "t"), (0..100).map(Value::from).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_time_of_the_query_counts_for_all_groups() {
    let (broker, agent) = started().await;
    let path = "/iot/d?k=k&i=d&t=2020-01-01T00:00:00Z";
    assert_eq!(agent.send("south", "POST", path, TEXT, "2016-06-13T00:35:30Z|a|1#a|2").await.status, 200);
    let times = broker.history("t", "/p", "Room:d", "TimeInstant");
    assert_eq!(times, [json!("2020-01-01T00:00:00Z"), json!("2020-01-01T00:00:00Z")]);
}

#[tokio::test]
async fn errors_have_the_codes_of_the_contract() {
    let (broker, agent) = started().await;
    agent.group(("t", "/closed"), "closed", json!({"autoprovision": false})).await;
    let calls = broker.state.lock().calls.len();
    for (method, path, body, status, name) in [
        ("POST", "/iot/d", "a|1", 400, "MANDATORY_PARAMS_NOT_FOUND"),
        ("GET", "/iot/d?k=k&i=d", "", 400, "MANDATORY_PARAMS_NOT_FOUND"),
        ("POST", "/iot/d?k=bad&i=d", "a|1", 404, "DEVICE_GROUP_NOT_FOUND"),
        ("POST", "/iot/other?k=k&i=d", "a|1", 404, "DEVICE_GROUP_NOT_FOUND"),
        ("POST", "/iot/d?k=closed&i=d", "a|1", 404, "DEVICE_NOT_FOUND"),
        ("POST", "/iot/d?k=k&i=d", "a", 400, "PARSE_ERROR"),
        ("POST", "/iot/d?k=k&i=d", "a||b|1", 400, "PARSE_ERROR"),
        ("GET", "/iot/d?k=k&i=d&d=a", "", 400, "PARSE_ERROR"),
        ("POST", "/iot/d?k=k&i=d&t=soon", "a|1", 400, "BAD_TIMESTAMP"),
        ("POST", "/iot/d?k=k&i=d", "TimeInstant|soon|a|1", 400, "BAD_TIMESTAMP"),
        ("POST", "/iot/d?k=k&i=d", "d@ping|pong", 400, "COMMAND_NOT_FOUND"),
    ] {
        let answer = agent.send("south", method, path, TEXT, body).await;
        assert_eq!(answer.error(), (status, name.into()), "{method} {path} {body}: {}", answer.text);
        assert!(answer.headers.contains_key("x-processing-time"), "{method} {path}");
    }
    assert_eq!(broker.state.lock().calls.len(), calls, "nothing was sent");
    let missing = agent.send("south", "GET", "/iot/d", &[], "").await.json();
    let expected =
        r#"Some of the mandatory params weren't found in the request: ["API Key","Device Id","Payload"]"#;
    assert_eq!(missing["message"], expected);
    let json_type = [("content-type", "application/json")];
    let answer = agent.send("south", "POST", "/iot/d?k=k&i=d", &json_type, "a|1").await;
    assert_eq!(answer.error(), (400, "UNSUPPORTED_TYPE".into()));
    let answer = agent.send("south", "POST", "/iot/d?k=k&i=d", TEXT, vec![b'a', b'|', 0xff]).await;
    assert_eq!(answer.error(), (400, "PARSE_ERROR".into()));
}

#[tokio::test]
async fn rubbish_of_an_unknown_device_does_not_create_it() {
    let (_, agent) = started().await;
    assert_eq!(agent.measure("k", "new", "a").await.error(), (400, "PARSE_ERROR".into()));
    assert_eq!(agent.north("GET", "/iot/devices", T, Value::Null).await.json()["count"], 0);
}

#[tokio::test]
async fn empty_bodies_and_missing_types_are_fine() {
    let (broker, agent) = started().await;
    let answer = agent.send("south", "POST", "/iot/d?k=k&i=d", &[], "").await;
    assert_eq!((answer.status, answer.text.as_str()), (200, ""));
    assert!(broker.state.lock().entities.is_empty());
    assert_eq!(agent.send("south", "POST", "/iot/d?k=k&i=d", &[], "a|1").await.status, 200);
    assert_eq!(agent.send("south", "GET", "/iot/d?k=k&i=d&getCmd=1", &[], "").await.text, "");
}

#[tokio::test]
async fn large_bodies_and_large_results_are_refused() {
    let broker = FakeBroker::default();
    let measure = MeasureConfig { max_update_bytes: 2_000, ..MeasureConfig::default() };
    let agent = Agent::start(Config { body_limit: 1_000, measure, ..config() }, broker.in_process()).await;
    agent.group(T, "k", json!({})).await;
    let answer = agent.measure("k", "d", &format!("a|{}", "x".repeat(1_000))).await;
    assert_eq!(answer.error(), (413, "PayloadTooLargeError".into()));
    let many: Vec<String> = (0..100).map(|n| format!("a{n}|1")).collect();
    assert_eq!(agent.measure("k", "d", &many.join("|")).await.error(), (413, "PayloadTooLargeError".into()));
    let answer =
        agent.north("POST", "/iot/devices", T, json!({"devices": [{"device_id": "x".repeat(1_000)}]})).await;
    assert_eq!(answer.error(), (413, "PayloadTooLargeError".into()));
}

#[tokio::test]
async fn a_key_is_of_no_use_with_another_tenants_header() {
    let (broker, agent) = started().await;
    for (service, status) in [("t", 200), ("T", 200), ("other", 403), ("a-b", 403)] {
        let headers = [("content-type", "text/plain"), ("fiware-service", service)];
        let answer = agent.send("south", "POST", "/iot/d?k=k&i=d", &headers, "a|1").await;
        assert_eq!(answer.status, status, "{service}");
        if status == 403 {
            let expected = json!({
                "name": "TENANT_MISMATCH",
                "message": "the API key does not belong to the tenant of the request",
            });
            assert_eq!(answer.json(), expected);
        }
    }
    assert_eq!(broker.history("t", "/p", "Room:d", "a").len(), 2);
}

#[tokio::test]
async fn every_registered_resource_is_served() {
    let (broker, agent) = started().await;
    let group = json!({"services": [{"apikey": "k", "resource": "/my/own", "entity_type": "Own"}]});
    assert_eq!(agent.north("POST", "/iot/services", ("t", "/own"), group).await.status, 201);
    let group = json!({"services": [{"apikey": "k2", "resource": "", "entity_type": "Any"}]});
    assert_eq!(agent.north("POST", "/iot/services", ("t", "/any"), group).await.status, 201);
    assert_eq!(agent.send("south", "POST", "/my/own?k=k&i=d", TEXT, "a|1").await.status, 200);
    assert_eq!(broker.value("t", "/own", "Own:d", "a"), Some(json!(1)));
    assert_eq!(agent.measure("k2", "d", "a|2").await.status, 200);
    assert_eq!(broker.value("t", "/any", "Any:d", "a"), Some(json!(2)));
}

#[tokio::test]
async fn a_change_of_a_group_counts_at_once() {
    let (broker, agent) = started().await;
    agent.measure("k", "d", "a|1").await;
    let change = json!({"attributes": [{"object_id": "a", "name": "renamed", "type": "Number"}]});
    let at = "/iot/services?resource=/iot/d&apikey=k";
    assert_eq!(agent.north("PUT", at, T, change).await.status, 204);
    agent.measure("k", "d", "a|2").await;
    assert_eq!(broker.value("t", "/p", "Room:d", "renamed"), Some(json!(2)));
    assert_eq!(agent.north("DELETE", at, T, Value::Null).await.status, 204);
    assert_eq!(agent.measure("k", "d", "a|3").await.status, 404);
}

#[tokio::test]
async fn the_default_key_opens_only_devices_that_nothing_else_guards() {
    let (broker, agent) = started().await;
    agent.device(T, json!({"device_id": "guarded"})).await;
    agent.device(("t", "/free"), json!({"device_id": "free", "entity_name": "Free"})).await;
    agent.device(("t", "/free"), json!({"device_id": "keyed", "apikey": "own"})).await;
    agent.device(("t", "/free"), json!({"device_id": "twice"})).await;
    agent.device(("u", "/free"), json!({"device_id": "twice"})).await;
    for (device, status) in
        [("free", 200), ("guarded", 404), ("keyed", 404), ("twice", 404), ("unknown", 404)]
    {
        assert_eq!(agent.measure("TEF", device, "a|1").await.status, status, "{device}");
    }
    assert_eq!(broker.value("t", "/free", "Free", "a"), Some(json!(1)));
    let headers = [("content-type", "text/plain"), ("fiware-service", "u")];
    assert_eq!(agent.send("south", "POST", "/iot/d?k=TEF&i=free", &headers, "a|1").await.status, 403);
}

#[tokio::test]
async fn what_the_broker_refuses_is_told_to_the_device() {
    let (broker, agent) = started().await;
    for (code, status, name) in [
        (tonic::Code::InvalidArgument, 400, "ENTITY_GENERIC_ERROR"),
        (tonic::Code::NotFound, 404, "DEVICE_NOT_FOUND"),
        (tonic::Code::PermissionDenied, 500, "ACCESS_FORBIDDEN"),
        (tonic::Code::ResourceExhausted, 413, "ENTITY_GENERIC_ERROR"),
        (tonic::Code::Internal, 500, "ENTITY_GENERIC_ERROR"),
    ] {
        broker.state.lock().refuse = Some(("Room:d".into(), code, "Word", "why not"));
        let answer = agent.measure("k", "d", "a|1").await;
        assert_eq!(
            (answer.error(), answer.json()["message"].as_str()),
            ((status, name.into()), Some("why not")),
            "{code}"
        );
    }
    assert_eq!(agent.measure("k", "other", "a|1").await.status, 200);
}

#[tokio::test]
async fn rates_are_limited_per_device_and_per_tenant() {
    let measure = MeasureConfig {
        device_rate: 0.001,
        device_burst: 2.0,
        tenant_rate: 0.001,
        tenant_burst: 3.0,
        ..MeasureConfig::default()
    };
    let agent = Agent::start(Config { measure, ..config() }, FakeBroker::default().in_process()).await;
    agent.group(T, "k", json!({})).await;
    agent.group(("u", "/"), "ku", json!({})).await;
    for (key, device, status) in
        [("k", "a", 200), ("k", "a", 200), ("k", "a", 429), ("k", "b", 429), ("ku", "a", 200)]
    {
        let answer = agent.measure(key, device, "t|1").await;
        assert_eq!(answer.status, status, "{key} {device}");
        if status == 429 {
            assert_eq!(answer.name(), "TOO_MANY_REQUESTS");
            assert!(answer.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
        }
    }
}

#[tokio::test]
async fn trace_and_correlator_go_along_with_a_measure() {
    let (broker, agent) = started().await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let headers = [("traceparent", parent.as_str()), ("fiware-correlator", "c-1")];
    assert_eq!(agent.send("south", "POST", "/iot/d?k=k&i=d", &headers, "a|1").await.status, 200);
    let state = broker.state.lock();
    assert_eq!(state.correlators, ["c-1"]);
    assert!(state.traceparents[0].starts_with(&format!("00-{trace}-")), "{:?}", state.traceparents);
}

#[tokio::test]
async fn measures_that_come_while_a_call_is_under_way_share_the_next_one() {
    let broker = FakeBroker::default();
    let mut config = config();
    config.broker.lanes = 1.try_into().unwrap();
    let agent = Agent::start(config, broker.in_process()).await;
    agent.group(T, "k", json!({})).await;
    let hold = Arc::new(Notify::new());
    broker.state.lock().hold = Some(hold.clone());
    let devices: Vec<String> = (0..100).map(|n| format!("d{n}")).collect();
    let answers = join_all(devices.iter().map(|device| agent.measure("k", device, "a|1")));
    let release = async {
        let all_wait = || agent.metrics.encode().contains("thingmesh_device_agent_queued_requests 100");
        eventually("all wait", all_wait).await;
        hold.notify_one();
    };
    let (answers, ()) = futures::join!(answers, release);
    assert!(answers.iter().all(|answer| answer.status == 200));
    let state = broker.state.lock();
    assert_eq!((state.entities.len(), state.calls.as_slice()), (100, [1, 99].as_slice()));
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let (_, agent) = started().await;
    agent.measure("k", "d", "a|1").await;
    agent.measure("k", "d", "a").await;
    let text = agent.metrics.encode();
    for line in [
        r#"thingmesh_device_agent_measures_total{outcome="committed"} 1"#,
        r#"thingmesh_device_agent_measures_total{outcome="refused"} 1"#,
        "thingmesh_device_agent_devices_created_total 1",
    ] {
        assert!(text.contains(line), "{line} not in {text}");
    }
    assert!(agent.running.stop(Duration::from_secs(5)).await);
}
