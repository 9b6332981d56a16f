//! The table over HTTP: on the embedded gateway, and on a real Envoy beside it that Istio's own code configured from the
//! unchanged `istio/`, with our ext_authz server behind.
//!
//! Envoy listens where `istio/` says, on port 80 of every address: the test runs itself again in a network namespace of
//! its own, where that harms nobody and every port is free.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
    time::Duration,
};

use gateway::{Config, Deps, Upstreams, upstream};
use service_kit::{Readiness, Running, metrics::Metrics};

use super::{
    istio_mesh::{ControlPlane, IstioMesh},
    kubernetes, repository,
    table::{PathRow, Settings, Table},
    tokens::Keys,
    tool,
    wire::{Answer, DESTINATIONS, echo, get},
};

/// Where `istio/` has Envoy listen, in the namespace.
const ENVOY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 80);
/// Set in the run inside the namespace.
const INSIDE: &str = "TEST_EDGE_INSIDE_NAMESPACE";

/// An entry to the mesh, by what stands there.
struct Entry {
    name: &'static str,
    address: SocketAddr,
}

async fn start_gateway(
    settings: Settings,
    keys: &Keys,
    dir: &Path,
    ports: (u16, u16),
) -> (Running, Readiness) {
    let jwks = dir.join("jwks.json");
    fs::write(&jwks, keys.jwks().to_string()).unwrap();
    let config = Config {
        port: ports.0,
        authz_port: ports.1,
        jwks_file: jwks.display().to_string(),
        issuer: settings.issuer(),
        audiences: settings.audiences(),
        strict_compat: settings.strict_compat(),
        ..Config::default()
    };
    let upstreams: Upstreams =
        DESTINATIONS.iter().map(|(name, _)| ((*name).to_owned(), upstream::local(echo(name)))).collect();
    let readiness = Readiness::new();
    let deps =
        Deps { upstreams, development_issuer: None, readiness: readiness.clone(), metrics: Metrics::new() };
    let running = gateway::start(config, deps).await.unwrap();
    eventually("the gateway has keys", async || readiness.is_ready()).await;
    (running, readiness)
}

async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "not within thirty seconds: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Runs every row of these settings against the entries.
async fn check_decisions(table: &Table, keys: &Keys, settings: Settings, entries: &[Entry]) {
    for row in table.of(settings) {
        let headers = row.headers(keys);
        let mut answers = Vec::new();
        for entry in entries {
            let answer = get(entry.address, "/orion/v2/entities", &headers).await;
            assert_eq!(answer.status, row.status_on_the_wire(), "{} at {}: {answer:?}", row.name, entry.name);
            answers.push(essence(&answer));
        }
        answers.dedup();
        assert_eq!(answers.len(), 1, "{}: {answers:#?}", row.name);
    }
}

async fn check_paths(table: &Table, keys: &Keys, entries: &[Entry]) {
    let good = table.decisions[0].headers(keys);
    for row in &table.paths {
        for (headers, status) in [(&[][..], row.without), (&good[..], row.with)] {
            let mut answers = Vec::new();
            for entry in entries {
                let answer = get(entry.address, &row.path, headers).await;
                assert_eq!(answer.status, status, "{} at {}: {answer:?}", row.path, entry.name);
                check_target(row, entry, &answer);
                answers.push(essence(&answer));
            }
            answers.dedup();
            assert_eq!(answers.len(), 1, "{}: {answers:#?}", row.path);
        }
    }
}

fn check_target(row: &PathRow, entry: &Entry, answer: &Answer) {
    if let Some(seen) = answer.seen() {
        let expected = (row.service.as_deref(), row.behind.as_deref());
        let found = (seen["service"].as_str(), seen["path"].as_str());
        assert_eq!(found, expected, "{} at {}", row.path, entry.name);
    }
}

/// What client and service must see alike behind every entry.
fn essence(answer: &Answer) -> Vec<String> {
    let mut essence = vec![answer.status.to_string()];
    match answer.seen() {
        Some(seen) => {
            essence.extend([seen["service"].to_string(), seen["path"].to_string()]);
            for name in ["x-auth-tenant", "fiware-service", "authorization", "x-envoy-original-path", "host"]
            {
                essence.push(format!("{name}: {}", seen["headers"][name]));
            }
        }
        // The words of a malformed path are each proxy's own.
        None if answer.status == 400 => {}
        None => {
            essence.push(answer.body.clone());
            for name in ["content-type", "www-authenticate"] {
                essence.push(format!("{name}: {:?}", answer.header(name)));
            }
        }
    }
    essence
}

#[tokio::test]
async fn the_embedded_gateway_decides_as_the_table_says() {
    let (table, keys) = (Table::load(), Keys::load());
    for settings in Settings::ALL {
        let dir = tempfile::tempdir().unwrap();
        let (running, _) = start_gateway(settings, &keys, dir.path(), (0, 0)).await;
        let entries = [Entry { name: "gateway", address: running.addresses()["http"] }];
        check_decisions(&table, &keys, settings, &entries).await;
        if settings == Settings::Default {
            check_paths(&table, &keys, &entries).await;
        }
        running.stop(Duration::from_secs(1)).await;
    }
}

#[test]
fn envoy_configured_by_istio_decides_as_the_embedded_gateway() {
    if std::env::var_os(INSIDE).is_some() {
        return inside_the_namespace(ControlPlane::XdsMini);
    }
    let (Some(_), Some(_)) = (tool("envoy"), tool("xds-mini")) else { return };
    run_in_a_namespace("envoy::envoy_configured_by_istio_decides_as_the_embedded_gateway");
}

/// The whole of Istio's control plane, with what `istio/` holds in a real Kubernetes API server.
#[test]
#[ignore = "long"]
fn envoy_configured_by_istiod_decides_as_the_embedded_gateway_and_follows_changes() {
    if std::env::var_os(INSIDE).is_some() {
        return inside_the_namespace(ControlPlane::Istiod);
    }
    for name in ["envoy", "etcd", "kube-apiserver", "istiod", "istio-crds.yaml"] {
        let Some(_) = tool(name) else { return };
    }
    run_in_a_namespace(
        "envoy::envoy_configured_by_istiod_decides_as_the_embedded_gateway_and_follows_changes",
    );
}

/// Runs a test of this program again, in a network namespace of its own.
fn run_in_a_namespace(test: &str) {
    let output = Command::new("unshare")
        .args(["--map-root-user", "--net", "sh", "-ec", "ip link set lo up; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--include-ignored", "--nocapture", "--test-threads", "1"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{out}\n{err}");
}

fn inside_the_namespace(control_plane: ControlPlane) {
    // Envoy ends with the thread that started it, and this one lives as long as the test.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (table, keys) = (Table::load(), Keys::load());
        for (name, port) in DESTINATIONS {
            let socket = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.unwrap();
            tokio::task::spawn(async move { axum::serve(socket, echo(name)).await });
        }
        let mesh = IstioMesh::start(control_plane).await;
        for settings in Settings::ALL {
            let dir = tempfile::tempdir().unwrap();
            let (running, _) = start_gateway(settings, &keys, dir.path(), (8000, 9191)).await;
            let entries = [
                Entry { name: "gateway", address: running.addresses()["http"] },
                Entry { name: "envoy", address: ENVOY },
            ];
            let good = table.decisions[0].headers(&keys);
            authorizer_reached(&entries, &good, &mesh).await;
            check_decisions(&table, &keys, settings, &entries).await;
            if settings == Settings::Default {
                check_paths(&table, &keys, &entries).await;
                super::random::check_paths(&entries[0].address, &entries[1].address, &good).await;
                if control_plane == ControlPlane::Istiod {
                    changes_are_checked_and_become_live(&good).await;
                }
            }
            running.stop(Duration::from_secs(1)).await;
        }
        authorizer_away(ENVOY, &table.decisions[0].headers(&keys)).await;
        mesh.check_unrefused();
    });
}

/// A misspelt field never gets into the API server; a changed route is Envoy's soon, and changed back again.
async fn changes_are_checked_and_become_live(good: &[(String, String)]) {
    let routes = fs::read_to_string(repository().join("istio/virtual-service.yaml")).unwrap();
    let (status, said) = kubernetes::apply(&routes.replace("prefix: /orion/", "prefixx: /orion/"));
    assert!(status >= 400 && said.contains("prefixx"), "{status} {said}");
    let status = async |path| get(ENVOY, path, good).await.status;
    assert_eq!((status("/orion/v2/entities").await, status("/renamed/v2/entities").await), (200, 404));
    let renamed = routes.replace("/orion", "/renamed");
    for (routes, wanted) in [(&renamed, (404, 200)), (&routes, (200, 404))] {
        let (applied, said) = kubernetes::apply(routes);
        assert_eq!(applied, 200, "{said}");
        eventually("the change is live", async || {
            (status("/orion/v2/entities").await, status("/renamed/v2/entities").await) == wanted
        })
        .await;
    }
}

/// Waits until Envoy has connected to the authorizer of these settings: both answer alike then.
async fn authorizer_reached(entries: &[Entry], good: &[(String, String)], mesh: &IstioMesh) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let ours = get(entries[0].address, "/orion/v2/entities", good).await;
        let theirs = get(entries[1].address, "/orion/v2/entities", good).await;
        if ours.status == theirs.status {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{ours:?}\n{theirs:?}\n{}", mesh.logs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Without an authorizer Envoy refuses what is guarded and serves what is open.
async fn authorizer_away(envoy: SocketAddr, good: &[(String, String)]) {
    let guarded = get(envoy, "/orion/v2/entities", good).await;
    assert_eq!((guarded.status, guarded.body.as_str()), (403, ""));
    assert_eq!(get(envoy, "/orion/version", &[]).await.status, 200);
}
