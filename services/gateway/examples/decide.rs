//! How long one decision takes: `cargo run --release -p gateway --example decide [policy.rego]`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use gateway::{
    GatewayMetrics,
    issuer::DevelopmentIssuer,
    policy::{CheckInput, Policy, PolicySettings},
};
use scope::Tenant;
use service_kit::{SystemClock, metrics::Metrics};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 20_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let issuer = DevelopmentIssuer::open(dir.path(), Arc::new(SystemClock))?;
    let text = match std::env::args().nth(1) {
        Some(file) => std::fs::read_to_string(file)?,
        None => include_str!("../../../opa/fiware/service.rego").to_owned(),
    };
    let settings = PolicySettings { token_cache_entries: 10_000, ..PolicySettings::default() };
    let policy = Policy::new(
        "service.rego",
        &text,
        settings,
        issuer.jwks(),
        GatewayMetrics::register(&Metrics::new()),
    )?;
    let token = issuer.mint(&Tenant::canonical("manufracture")?, Duration::from_secs(3600))?;
    for (name, tenant, token) in [
        ("allowed, token known", "manufracture", token.as_str()),
        ("other tenant, token known", "smithereens", token.as_str()),
        ("forged token", "manufracture", "eyJhbGciOiJFUzI1NiJ9.e30.AAAA"),
    ] {
        let (head, ()) = http::Request::patch("/orion/v2/entities/urn:ngsi:bot:1/attrs")
            .header("host", "gateway:8000")
            .header("user-agent", "curl/8.5.0")
            .header("accept", "*/*")
            .header("content-type", "application/json")
            .header("content-length", "57")
            .header("fiware-service", tenant)
            .header("fiware-servicepath", "/floor1")
            .header("authorization", format!("Bearer {token}"))
            .body(())?
            .into_parts();
        let mut times: Vec<Duration> = Vec::with_capacity(ROUNDS);
        let mut status = http::StatusCode::OK;
        for _ in 0..ROUNDS {
            let started = Instant::now();
            status = policy.decide(&CheckInput::from_request(&head, head.uri.path()))?.status;
            times.push(started.elapsed());
        }
        times.sort_unstable();
        println!("{name}: {status}, p50 {:?}, p99 {:?}", times[ROUNDS / 2], times[ROUNDS * 99 / 100]);
    }
    Ok(())
}
