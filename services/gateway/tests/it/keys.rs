use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Json, Router, routing::get as route};
use gateway::DevelopmentIssuer;
use parking_lot::Mutex;
use scope::Tenant;
use serde_json::{Value, json};
use service_kit::SystemClock;

use crate::{
    client::get,
    mesh::{Mesh, echoes, eventually},
};

/// An issuer somewhere else: its key set can be changed, and it counts how often it was asked.
struct Issuer {
    url: String,
    keys: Arc<Mutex<Value>>,
    asked: Arc<AtomicUsize>,
}

impl Issuer {
    async fn start(keys: Value) -> Self {
        let (keys, asked) = (Arc::new(Mutex::new(keys)), Arc::new(AtomicUsize::new(0)));
        let (served, counter) = (keys.clone(), asked.clone());
        let router = Router::new().route(
            "/certs",
            route(async move || {
                counter.fetch_add(1, Ordering::SeqCst);
                Json(served.lock().clone())
            }),
        );
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/certs", socket.local_addr().unwrap());
        tokio::task::spawn(async move { axum::serve(socket, router).await });
        Self { url, keys, asked }
    }
}

fn new_key() -> (tempfile::TempDir, DevelopmentIssuer) {
    let dir = tempfile::tempdir().unwrap();
    let issuer = DevelopmentIssuer::open(dir.path(), Arc::new(SystemClock)).unwrap();
    (dir, issuer)
}

fn bearer(issuer: &DevelopmentIssuer) -> String {
    let token = issuer.mint(&Tenant::canonical("acme").unwrap(), Duration::from_secs(60)).unwrap();
    format!("Bearer {token}")
}

async fn status(mesh: &Mesh, authorization: &str) -> u16 {
    let headers = [("authorization", authorization), ("fiware-service", "acme")];
    get(mesh.http(), "/orion/v2/entities", &headers).await.status
}

#[tokio::test]
async fn a_new_key_is_fetched_when_a_token_names_it() {
    let ((_a, first), (_b, second)) = (new_key(), new_key());
    let remote = Issuer::start(first.jwks().clone()).await;
    let configured = remote.url.clone();
    let mesh = Mesh::with(
        move |config, _| {
            config.jwks_url = configured;
            config.key_refresh_min_seconds = 0;
        },
        echoes(),
    )
    .await;
    eventually(async || mesh.readiness.is_ready()).await;
    assert_eq!(status(&mesh, &bearer(&first)).await, 200);
    assert_eq!(status(&mesh, &bearer(&second)).await, 401);
    *remote.keys.lock() = second.jwks().clone();
    assert_eq!(status(&mesh, &bearer(&second)).await, 200);
    // The first key was taken away, and with it what was remembered of its tokens.
    assert_eq!(status(&mesh, &bearer(&first)).await, 401);
}

#[tokio::test]
async fn unknown_keys_do_not_make_the_gateway_ask_more_often_than_it_may() {
    let ((_a, first), (_b, unknown)) = (new_key(), new_key());
    let remote = Issuer::start(first.jwks().clone()).await;
    let configured = remote.url.clone();
    let mesh = Mesh::with(|config, _| config.jwks_url = configured, echoes()).await;
    eventually(async || mesh.readiness.is_ready()).await;
    for _ in 0..5 {
        assert_eq!(status(&mesh, &bearer(&unknown)).await, 401);
    }
    assert_eq!(remote.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn while_the_issuer_is_away_the_gateway_is_not_ready_and_then_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("jwks.json");
    let (_a, issuer) = new_key();
    let configured = file.display().to_string();
    let mesh = Mesh::with(
        move |config, _| {
            config.jwks_file = configured;
            config.key_refresh_seconds = 1;
        },
        echoes(),
    )
    .await;
    eventually(async || !mesh.readiness.snapshot().is_empty()).await;
    assert!(!mesh.readiness.is_ready());
    std::fs::write(&file, issuer.jwks().to_string()).unwrap();
    eventually(async || mesh.readiness.is_ready()).await;
    assert_eq!(status(&mesh, &bearer(&issuer)).await, 200);
}

#[tokio::test]
async fn the_published_demo_key_is_refused_also_when_configured() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("jwks.json");
    let (_a, issuer) = new_key();
    let repository = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let policy = std::fs::read_to_string(repository.join("opa/fiware/service.rego")).unwrap();
    let modulus = policy.split('"').find(|text| text.starts_with("qM88")).unwrap();
    let demo = json!({"kty": "RSA", "alg": "RS256", "n": modulus, "e": "AQAB"});
    let both = json!({"keys": [demo, issuer.jwks()["keys"][0]]});
    std::fs::write(&file, both.to_string()).unwrap();
    let configured = file.display().to_string();
    let mesh = Mesh::with(move |config, _| config.jwks_file = configured, echoes()).await;
    eventually(async || mesh.readiness.is_ready()).await;
    assert_eq!(status(&mesh, &bearer(&issuer)).await, 200);
    // A token of the brief's scripts, signed by that key: genuine, and valid until 2286.
    assert_eq!(status(&mesh, "Bearer e30.e30.AAAA").await, 401);
}
