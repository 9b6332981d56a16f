//! The mesh seen from outside: one trace per reading, correlators, metrics, health, and logs that tell no secrets.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use thingmesh_tests::{
    client::{Caller, Client},
    mesh::{Mesh, Options},
    otlp::Receiver,
    until::until,
};

const SERVICES: [&str; 4] = ["context-broker", "device-agent", "gateway", "time-series"];
const API_KEY: &str = "key-that-nobody-may-see";
/// A value that occurs nowhere else.
const PAYLOAD: &str = "73519264";

struct Seen {
    mesh: Mesh,
    receiver: Receiver,
    token: String,
    gateway: Client,
    _dir: TempDir,
}

impl Seen {
    /// A mesh that sends its traces here, with a group, a device and a subscription to the history.
    async fn start() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let receiver = Receiver::start().await;
        let options = Options::default().set(&format!("telemetry.otlp_endpoint={}", receiver.endpoint()));
        let mesh = Mesh::start(dir.path(), options).await?;
        let token = mesh.token("acme");
        let gateway = Client::new(mesh.gateway());
        let seen = Self { mesh, receiver, token, gateway, _dir: dir };
        seen.provision().await;
        Some(seen)
    }

    fn caller(&self) -> Caller {
        Caller::of("acme").with_token(&self.token)
    }

    async fn provision(&self) {
        let caller = self.caller().at("/");
        let group = json!({ "services": [{
            "apikey": API_KEY, "cbroker": "http://orion:1026", "entity_type": "Pump", "resource": "/iot/d",
        }] });
        self.gateway.post("/iota-north/iot/services", &caller, &group).await.expect(201);
        let device = json!({ "devices": [{
            "device_id": "pump", "entity_name": "pump:1", "entity_type": "Pump",
            "attributes": [{ "object_id": "p", "name": "pressure", "type": "Number" }],
        }] });
        self.gateway.post("/iota-north/iot/devices", &caller, &device).await.expect(201);
        let subscription = json!({
            "subject": { "entities": [{ "idPattern": ".*" }] },
            "notification": { "http": { "url": "http://quantumleap:8668/v2/notify" } },
        });
        self.gateway.post("/orion/v2/subscriptions", &self.caller(), &subscription).await.expect(201);
    }

    /// One reading through the gateway.
    async fn read(&self, value: &str, header: (&str, &str)) {
        let caller = self.caller().with(header.0, header.1);
        let path = format!("/iota-south/iot/d?k={API_KEY}&i=pump");
        self.gateway.post_text(&path, &caller, &format!("p|{value}")).await.expect(200);
    }

    async fn expect_one_trace(&self, trace_id: &str, parent: &str) {
        until("all services in the trace", Duration::from_secs(20), || async {
            let services = self.receiver.services(trace_id);
            let all = SERVICES.iter().all(|service| services.contains(*service));
            if all { Ok(()) } else { Err(format!("{services:?}")) }
        })
        .await;
        let spans = self.receiver.trace(trace_id);
        assert!(spans.len() >= 4, "{spans:#?}");
        // A tree: each span hangs on another of the trace, and one on what the client sent.
        for span in &spans {
            let known = spans.iter().any(|other| other.span_id == span.parent);
            let late = span.parent == parent;
            assert!(known || late, "{span:?} hangs in the air; the trace is {spans:#?}");
        }
        let roots: Vec<_> = spans.iter().filter(|span| span.parent == parent).collect();
        assert_eq!(roots.len(), 1, "{roots:#?}");
        assert_eq!(roots[0].service, "gateway");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_reading_is_one_trace_from_the_gateway_to_the_history() {
    let Some(seen) = Seen::start().await else { return };
    let (trace_id, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    seen.read("1", ("traceparent", &format!("00-{trace_id}-{parent}-01"))).await;
    seen.expect_one_trace(trace_id, parent).await;

    let (trace_id, parent) = ("80f198ee56343ba864fe8b2a57d3eff7", "e457b5a2e4d86bd1");
    seen.read("2", ("b3", &format!("{trace_id}-{parent}-1"))).await;
    seen.expect_one_trace(trace_id, parent).await;

    // Not sampled means not sent.
    let quiet = "11111111111111111111111111111111";
    seen.read("3", ("traceparent", &format!("00-{quiet}-{parent}-00"))).await;
    let last = "22222222222222222222222222222222";
    seen.read("4", ("traceparent", &format!("00-{last}-{parent}-01"))).await;
    seen.expect_one_trace(last, parent).await;
    assert!(seen.receiver.trace(quiet).is_empty(), "{:#?}", seen.receiver.trace(quiet));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_correlator_is_kept_or_made_and_always_returned() {
    let Some(seen) = Seen::start().await else { return };
    let mesh = &seen.mesh;
    let caller = seen.caller().at("/");
    for (base, path) in [
        (mesh.gateway(), "/orion/v2/entities"),
        (mesh.broker(), "/v2/entities"),
        (mesh.north(), "/iot/devices"),
        (mesh.south(), "/iot/d?i=pump"),
        (mesh.series(), "/v2/entities"),
    ] {
        let client = Client::new(base);
        let kept = client.get(path, &caller.clone().with("fiware-correlator", "mine-42")).await;
        assert_eq!(kept.header("fiware-correlator"), Some("mine-42"), "{path}");
        let made = client.get(path, &caller).await;
        let first = made.header("fiware-correlator").unwrap_or_else(|| panic!("{path}: none")).to_owned();
        assert_eq!(first.len(), 36, "a UUID: {first}");
        let second = client.get(path, &caller).await;
        assert_ne!(second.header("fiware-correlator"), Some(first.as_str()), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_service_shows_metrics_that_parse() {
    let Some(seen) = Seen::start().await else { return };
    seen.read("1", ("x-nothing", "1")).await;
    let answer = Client::new(seen.mesh.admin()).get("/metrics", &Caller::nobody()).await.expect(200);
    assert!(answer.header("content-type").unwrap_or_default().starts_with("application/openmetrics-text"));
    let text = answer.text();
    let names = parse_metrics(&text);
    for service in ["http", "gateway", "context_broker", "device_agent", "time_series"] {
        let prefix = format!("thingmesh_{service}_");
        assert!(names.iter().any(|name| name.starts_with(&prefix)), "no {prefix}* in {names:#?}");
    }
    for name in &names {
        assert!(name.starts_with("thingmesh_"), "{name}: sidecars own the other names");
    }
    for secret in [API_KEY, seen.token.as_str()] {
        assert!(!text.contains(secret));
    }
}

/// Metric names of OpenMetrics text.
///
/// # Panics
/// When a line is none.
fn parse_metrics(text: &str) -> Vec<String> {
    assert!(text.ends_with("# EOF\n"), "OpenMetrics text ends with # EOF");
    let mut names = Vec::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let word = comment.split(' ').next().unwrap();
            assert!(["HELP", "TYPE", "UNIT", "EOF"].contains(&word), "{line}");
            continue;
        }
        let line = line.split(" # ").next().unwrap();
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
        assert!(value.parse::<f64>().is_ok() || ["+Inf", "NaN"].contains(&value), "{line}");
        let name = series.split('{').next().unwrap();
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{line}");
        assert_eq!(series.contains('{'), series.ends_with('}'), "{line}");
        names.push(name.to_owned());
    }
    assert!(names.len() > 20, "{text}");
    names.dedup();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_and_readiness_say_what_they_are_asked() {
    let Some(seen) = Seen::start().await else { return };
    let admin = Client::new(seen.mesh.admin());
    admin.get("/healthz", &Caller::nobody()).await.expect(200);
    let ready = admin.get("/readyz", &Caller::nobody()).await.expect(200).text();
    for service in ["context-broker", "device-agent", "time-series", "bus"] {
        assert!(ready.contains(service), "{ready}");
    }
    assert!(!ready.contains("away"), "{ready}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_token_key_or_payload_is_logged_or_traced_and_each_line_is_json() {
    let Some(mut seen) = Seen::start().await else { return };
    let trace_id = "33333333333333333333333333333333";
    seen.read(PAYLOAD, ("traceparent", &format!("00-{trace_id}-00f067aa0ba902b7-01"))).await;
    // Errors are logged too: they must not tell more than successes do.
    let south = "/iota-south/iot/d";
    let caller = seen.caller();
    for path in [format!("{south}?k={API_KEY}&i=pump"), format!("{south}?k={API_KEY}-wrong&i=pump")] {
        let answer = seen.gateway.post_text(&path, &caller, &format!("p|{PAYLOAD}|odd")).await;
        assert!((400..500).contains(&answer.status), "{}", answer.text());
    }
    let broken = format!("{}x", seen.token);
    seen.gateway.get("/orion/v2/entities", &Caller::of("acme").with_token(&broken)).await.expect(401);
    let body = json!({ "id": "secret'", "type": "T", "a": { "value": PAYLOAD } });
    seen.gateway.post("/orion/v2/entities", &caller, &body).await.expect(400);
    let unreachable = json!({
        "subject": { "entities": [{ "idPattern": ".*" }] },
        "notification": { "http": { "url": "http://user:pass-in-url@127.0.0.1:9/x" } },
    });
    seen.gateway.post("/orion/v2/subscriptions", &caller, &unreachable).await;
    seen.read(PAYLOAD, ("x-nothing", "1")).await;
    until("the trace", Duration::from_secs(20), || async {
        let services = seen.receiver.services(trace_id);
        if services.len() >= 4 { Ok(()) } else { Err(format!("{services:?}")) }
    })
    .await;
    seen.mesh.process().signal("INT");
    seen.mesh.process().wait(Duration::from_secs(10));
    let log = seen.mesh.log();
    assert!(!log.is_empty());
    for line in log.lines() {
        let object: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        for key in ["timestamp", "level", "target", "message"] {
            assert!(object[key].is_string(), "no {key}: {line}");
        }
    }
    let signature = seen.token.rsplit('.').next().unwrap();
    for secret in [API_KEY, PAYLOAD, signature, "PRIVATE KEY", "pass-in-url"] {
        let line = log.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "the log tells {secret}: {line:?}");
        assert!(!seen.receiver.everything().contains(secret), "a trace tells {secret}");
    }
}
