use std::{path::Path, time::Duration};

use gateway::{Config, Deps, Upstreams, upstream};
use service_kit::{Readiness, metrics::Metrics};

use crate::{
    client::{get, raw, send},
    mesh::{Mesh, echoes},
};

fn small_bodies(config: &mut Config, _: &Path) {
    config.max_body_bytes = 8;
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_however_it_is_sent() {
    let mesh = Mesh::with(small_bodies, echoes()).await;
    let declared = send(mesh.http(), "POST", "/orion/version", &[], "123456789").await;
    assert_eq!(declared.status, 413);
    assert_eq!(declared.json()["error"], "RequestEntityTooLarge");
    let chunked =
        b"POST /orion/version HTTP/1.1\r\nhost: m\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n\
        5\r\n12345\r\n5\r\n67890\r\n0\r\n\r\n";
    assert_eq!(raw(mesh.http(), chunked).await.status, 413);
    assert_eq!(send(mesh.http(), "POST", "/orion/version", &[], "12345678").await.status, 200);
}

#[tokio::test]
async fn a_service_that_is_away_gives_503_and_one_that_hangs_504() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut upstreams = echoes();
    upstreams.insert("orion:1026".into(), upstream::remote(&format!("http://{unused}")).unwrap());
    let hanging = axum::Router::new().fallback(std::future::pending::<()>);
    upstreams.insert("quantumleap:8668".into(), upstream::local(hanging));
    let mesh = Mesh::with(quick_timeouts, upstreams).await;
    let away = get(mesh.http(), "/orion/version", &[]).await;
    assert_eq!((away.status, away.json()["error"].as_str()), (503, Some("ServiceUnavailable")));
    let hanging = get(mesh.http(), "/quantumleap/version", &[]).await;
    assert_eq!((hanging.status, hanging.json()["error"].as_str()), (504, Some("RequestTimeout")));
}

/// The edge definition of the repository with timeouts of 0.2 s, in the data folder.
fn quick_timeouts(config: &mut Config, data: &Path) {
    changed_edge(config, data, |text| text.replace("timeout: 30s", "timeout: 0.2s"));
}

fn changed_edge(config: &mut Config, data: &Path, change: impl Fn(&str) -> String) {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for folder in ["istio", "istio/mesh", "opa/fiware"] {
        std::fs::create_dir_all(data.join(folder)).unwrap();
        for entry in std::fs::read_dir(repository.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let text = std::fs::read_to_string(&path).unwrap();
                std::fs::write(data.join(folder).join(path.file_name().unwrap()), change(&text)).unwrap();
            }
        }
    }
    config.definition_dir = data.display().to_string();
}

#[tokio::test]
async fn a_service_in_another_process_is_reached_over_http() {
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let served = tokio::task::spawn(async move { axum::serve(socket, crate::mesh::echo("far")).await });
    let upstream = format!("orion:1026=http://{address}");
    let mesh = Mesh::with(|config, _| config.upstreams = vec![upstream], echoes()).await;
    let answer = send(mesh.http(), "POST", "/orion/version?a=b", &[], "body").await.json();
    assert_eq!(answer["service"], "far");
    assert_eq!((answer["path"].as_str(), answer["body"].as_str()), (Some("/version?a=b"), Some("body")));
    assert_eq!(answer["headers"]["host"], "mesh");
    served.abort();
}

#[tokio::test]
async fn what_the_gateway_cannot_honour_is_named_at_start() {
    let missing = Upstreams::new();
    let error = refused(|_, _| {}, missing).await;
    assert_eq!(error, "gateway: route orion goes to orion:1026, which is not known here");
    for (from, to, expected) in [
        ("prefix: /orion/", "regex: /orion/", "unknown field `regex`"),
        ("attempts: 0", "attempts: 2", "route orion: retries must be {attempts: 0}"),
        ("action: CUSTOM", "action: ALLOW", "only action CUSTOM is supported"),
        ("- thingmesh-gateway", "- other-gateway", "there is no Gateway other-gateway"),
        ("name: opa\n  rules", "name: other\n  rules", "no extension provider other"),
        ("DECODE_AND_MERGE_SLASHES", "NONE", "pathNormalization must be DECODE_AND_MERGE_SLASHES"),
        ("kind: PeerAuthentication", "kind: EnvoyFilter", "EnvoyFilter default: this kind is not supported"),
        ("protocol: HTTP", "protocol: HTTPS", "protocol HTTPS is not supported"),
        ("rewrite:", "mirror:", "unknown field `mirror`"),
        ("allow := {", "allow := ", "service.rego"),
    ] {
        let change = |config: &mut Config, data: &Path| {
            changed_edge(config, data, |text| text.replace(from, to));
        };
        let error = refused(change, echoes()).await;
        assert!(error.contains(expected), "{from} → {to}: {error}");
    }
}

async fn refused(change: impl FnOnce(&mut Config, &Path), upstreams: Upstreams) -> String {
    let data = tempfile::tempdir().unwrap();
    let issuer =
        gateway::DevelopmentIssuer::open(data.path(), std::sync::Arc::new(service_kit::SystemClock)).unwrap();
    let mut config = Config { port: 0, authz_port: 0, ..Config::default() };
    change(&mut config, data.path());
    let deps = Deps {
        upstreams,
        development_issuer: Some(issuer),
        readiness: Readiness::new(),
        metrics: Metrics::new(),
    };
    match gateway::start(config, deps).await {
        Err(error) => error.to_string(),
        Ok(running) => {
            running.stop(Duration::from_secs(1)).await;
            panic!("started")
        }
    }
}
