//! The table on the two policy engines: the real OPA and the embedded one.

use std::{collections::HashMap, process::Command};

use gateway::{
    GatewayMetrics,
    policy::{CheckInput, Decision, Policy, PolicySettings},
};
use serde_json::{Map, Value, json};
use service_kit::metrics::Metrics;

use super::{
    repository,
    table::{Settings, Table, joined},
    tokens::Keys,
    tool,
};

/// What an engine says, in a form that can be compared and read.
pub(crate) type Answer = Value;

/// One request as `attributes.request.http.headers`.
pub(crate) type Headers = Map<String, Value>;

/// Asks one OPA process about all of them.
pub(crate) fn opa(settings: Settings, jwks: &Value, requests: &[Headers]) -> Option<Vec<Answer>> {
    let opa = tool("opa")?;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data.json");
    std::fs::write(&data, json!({"fiware": {"config": settings.config(jwks)}}).to_string()).unwrap();
    let inputs: Vec<Value> = requests
        .iter()
        .map(|headers| json!({"attributes": {"request": {"http": {"headers": headers}}}}))
        .collect();
    let input = dir.path().join("input.json");
    std::fs::write(&input, Value::from(inputs).to_string()).unwrap();
    let output = Command::new(opa)
        .args(["eval", "--format", "raw", "--data"])
        .arg(repository().join("opa/fiware/service.rego"))
        .arg("--data")
        .arg(&data)
        .arg("--input")
        .arg(&input)
        .arg("[answer | some request in input; answer := data.fiware.service.allow with input as request]")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answers: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answers.len(), requests.len(), "OPA left a request without an answer");
    Some(answers.into_iter().map(with_defaults).collect())
}

/// Fills in what OPA's Envoy plugin does when a member is missing.
fn with_defaults(mut answer: Value) -> Answer {
    let members = answer.as_object_mut().unwrap();
    members.entry("headers").or_insert_with(|| json!({}));
    members.entry("body").or_insert_with(|| "".into());
    let status = if members["allowed"] == true { 200 } else { 403 };
    members.entry("http_status").or_insert_with(|| status.into());
    answer
}

/// The embedded engine with the repository's policy.
pub(crate) struct Embedded(Policy);

impl Embedded {
    pub(crate) fn new(settings: Settings, jwks: &Value) -> Self {
        let text = std::fs::read_to_string(repository().join("opa/fiware/service.rego")).unwrap();
        let settings = PolicySettings {
            issuer: settings.issuer(),
            audiences: settings.audiences(),
            strict_compat: settings.strict_compat(),
            token_cache_entries: 1_000,
        };
        let metrics = GatewayMetrics::register(&Metrics::new());
        Self(Policy::new("service.rego", &text, settings, jwks, metrics).unwrap())
    }

    pub(crate) fn ask(&self, headers: &Headers) -> Answer {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let headers: HashMap<String, String> =
            headers.iter().map(|(name, value)| (name.clone(), text(value))).collect();
        let path = "/orion/v2/entities";
        let input = CheckInput { method: "GET", path, host: "mesh", protocol: "HTTP/1.1", headers: &headers };
        let Decision { allowed, status, headers, body } = self.0.decide(&input).unwrap();
        let headers: Map<String, Value> =
            headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().into())).collect();
        json!({
            "allowed": allowed,
            "http_status": status.as_u16(),
            "headers": headers,
            "body": String::from_utf8(body.to_vec()).unwrap(),
        })
    }
}

#[test]
fn the_embedded_engine_decides_as_the_table_says() {
    let (table, keys) = (Table::load(), Keys::load());
    for settings in Settings::ALL {
        let engine = Embedded::new(settings, &keys.jwks());
        for row in table.of(settings) {
            let headers = joined(&row.headers(&keys));
            // Twice: the second time the token is known.
            for _ in 0..2 {
                let answer = engine.ask(&headers);
                assert_eq!(answer["http_status"], row.status, "{}: {answer}", row.name);
                assert_eq!(answer["allowed"], row.status == 200, "{}", row.name);
            }
        }
    }
}

#[test]
fn opa_decides_as_the_table_says_and_exactly_as_the_embedded_engine() {
    let (table, keys) = (Table::load(), Keys::load());
    for settings in Settings::ALL {
        let engine = Embedded::new(settings, &keys.jwks());
        let rows: Vec<_> = table.of(settings).map(|row| (row, joined(&row.headers(&keys)))).collect();
        let requests: Vec<Headers> = rows.iter().map(|(_, headers)| headers.clone()).collect();
        let Some(answers) = opa(settings, &keys.jwks(), &requests) else { return };
        for ((row, headers), answer) in rows.iter().zip(answers) {
            assert_eq!(answer["http_status"], row.status, "{}: {answer}", row.name);
            assert_eq!(answer, engine.ask(headers), "{}", row.name);
        }
    }
}

#[test]
fn a_key_set_without_keys_trusts_nobody_in_both_engines() {
    let (table, keys) = (Table::load(), Keys::load());
    let none = json!({"keys": []});
    let engine = Embedded::new(Settings::Default, &none);
    let requests: Vec<Headers> = table.of(Settings::Default).map(|row| joined(&row.headers(&keys))).collect();
    assert!(requests.iter().all(|headers| engine.ask(headers)["allowed"] == false));
    let Some(answers) = opa(Settings::Default, &none, &requests) else { return };
    assert!(answers.iter().all(|answer| answer["allowed"] == false));
}
