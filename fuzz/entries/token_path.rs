//! From an Authorization header, a tenant and a path to a decision: no text may pass that the issuer did not sign.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use gateway::{
    DevelopmentIssuer, GatewayMetrics,
    normalize::normalize,
    policy::{CheckInput, Policy, PolicySettings},
};
use service_kit::{SystemClock, metrics::Metrics};

static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a folder for the key");
    let issuer = DevelopmentIssuer::open(dir.path(), Arc::new(SystemClock)).expect("a new key");
    let text = include_str!("../../opa/fiware/service.rego");
    let settings = PolicySettings { token_cache_entries: 100, ..PolicySettings::default() };
    let metrics = GatewayMetrics::register(&Metrics::new());
    Policy::new("service.rego", text, settings, issuer.jwks(), metrics).expect("the repository's policy")
});

/// Three lines: the Authorization header, the tenant, the path.
pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.splitn(3, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let (authorization, tenant, path) = (line(), line(), line());
    let Ok(path) = normalize(path) else { return };
    let headers = [("authorization", authorization), ("fiware-service", tenant)];
    let headers = HashMap::from(headers.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let input =
        CheckInput { method: "GET", path: &path, host: "mesh", protocol: "HTTP/1.1", headers: &headers };
    let decision = POLICY.decide(&input);
    assert!(!decision.expect("a decision").allowed);
}
