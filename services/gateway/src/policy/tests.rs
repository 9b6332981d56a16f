use std::{collections::HashMap, sync::Arc, time::Duration};

use prometheus_client::metrics::counter::Counter;
use scope::Tenant;
use service_kit::{SystemClock, metrics::Metrics};

use super::*;
use crate::DevelopmentIssuer;

const REPOSITORYS: &str = include_str!("../../../../opa/fiware/service.rego");

struct Judge {
    policy: Policy,
    remembered: Counter,
    issuer: DevelopmentIssuer,
    _dir: tempfile::TempDir,
}

impl Judge {
    fn with(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let issuer = DevelopmentIssuer::open(dir.path(), Arc::new(SystemClock)).unwrap();
        let metrics = GatewayMetrics::register(&Metrics::new());
        let settings = PolicySettings { token_cache_entries: 100, ..PolicySettings::default() };
        let remembered = metrics.decisions_remembered.clone();
        let policy = Policy::new("test.rego", text, settings, issuer.jwks(), metrics).unwrap();
        Self { policy, remembered, issuer, _dir: dir }
    }

    fn token(&self, seconds: u64) -> String {
        let tenant = Tenant::canonical("acme").unwrap();
        format!("Bearer {}", self.issuer.mint(&tenant, Duration::from_secs(seconds)).unwrap())
    }

    fn status(&self, path: &str, headers: &[(&str, &str)]) -> u16 {
        let headers: HashMap<String, String> =
            headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let input = CheckInput { method: "GET", path, host: "mesh", protocol: "HTTP/1.1", headers: &headers };
        self.policy.decide(&input).unwrap().status.as_u16()
    }
}

#[test]
fn the_same_request_is_judged_once_and_another_tenants_by_itself() {
    let judge = Judge::with(REPOSITORYS);
    let token = judge.token(60);
    let own = [("authorization", &*token), ("fiware-service", "acme")];
    let other = [("authorization", &*token), ("fiware-service", "smithereens")];
    for (path, expected) in [("/a", 0), ("/b", 1), ("/c", 2)] {
        assert_eq!(judge.status(path, &own), 200);
        assert_eq!(judge.remembered.get(), expected);
    }
    for _ in 0..2 {
        assert_eq!(judge.status("/a", &other), 403);
        assert_eq!(judge.status("/a", &own[..1]), 403);
        assert_eq!(judge.status("/a", &own[1..]), 401);
    }
    assert_eq!(judge.remembered.get(), 2, "a refusal is not remembered");
}

#[test]
fn a_remembered_decision_ends_with_its_token() {
    let judge = Judge::with(REPOSITORYS);
    let token = judge.token(2);
    let headers = [("authorization", &*token), ("fiware-service", "acme")];
    let ends = std::time::UNIX_EPOCH.elapsed().unwrap() + Duration::from_secs(2);
    assert_eq!(judge.status("/", &headers), 200);
    loop {
        let asked = std::time::UNIX_EPOCH.elapsed().unwrap();
        match judge.status("/", &headers) {
            200 => assert!(asked < ends, "allowed after the end of its token"),
            status => break assert_eq!(status, 401),
        }
        std::thread::yield_now();
    }
    assert!(judge.remembered.get() > 0);
}

#[test]
fn new_keys_forget_what_was_allowed() {
    let (judge, other) = (Judge::with(REPOSITORYS), Judge::with(REPOSITORYS));
    let token = judge.token(60);
    let headers = [("authorization", &*token), ("fiware-service", "acme")];
    assert_eq!(judge.status("/", &headers), 200);
    judge.policy.set_keys(other.issuer.jwks()).unwrap();
    assert_eq!(judge.status("/", &headers), 401);
}

#[test]
fn a_policy_sees_only_what_it_says_it_reads() {
    let rule =
        "package fiware.service\nallow := {\"allowed\": input.attributes.request.http.path == \"/open\"}\n";
    let unsaid = Judge::with(rule);
    assert_eq!(unsaid.status("/open", &[]), 200);
    assert_eq!(unsaid.status("/shut", &[]), 403);
    let narrow = "package fiware.service\nreads := {\"authorization\"}\nholds_until := 1e11\ndefault allow := {\"allowed\": false}\nallow := {\"allowed\": true} if input.attributes.request.http.path == \"/open\"\n";
    assert_eq!(Judge::with(narrow).status("/open", &[]), 403);
}

#[test]
fn a_name_that_no_header_has_is_refused_at_start() {
    let metrics = GatewayMetrics::register(&Metrics::new());
    let text = "package fiware.service\nreads := {\"Authorization\"}\nallow := {\"allowed\": false}\n";
    let keys = serde_json::json!({"keys": []});
    let error = Policy::new("test.rego", text, PolicySettings::default(), &keys, metrics).err().unwrap();
    assert!(error.to_string().contains("lower case"), "{error}");
}
