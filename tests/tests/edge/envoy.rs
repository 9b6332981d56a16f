//! The table over HTTP: on the embedded gateway, and on a real Envoy beside it that Istio's own code configured from the
//! unchanged `istio/`, with our ext_authz server behind.
//!
//! Envoy listens where `istio/` says, on port 80 of every address: the test runs itself again in a network namespace of
//! its own, where that harms nobody and every port is free.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{Child, Command},
    time::Duration,
};

use gateway::{Config, Deps, Upstreams, upstream};
use service_kit::{Readiness, Running, metrics::Metrics};

use super::{
    repository,
    table::{PathRow, Settings, Table},
    tokens::Keys,
    tool,
    wire::{Answer, DESTINATIONS, echo, get},
};

const XDS_PORT: u16 = 15010;
const ENVOY_ADMIN_PORT: u16 = 15000;
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
        return inside_the_namespace();
    }
    let (Some(_), Some(_)) = (tool("envoy"), tool("xds-mini")) else { return };
    let this = std::env::current_exe().unwrap();
    let name = "envoy::envoy_configured_by_istio_decides_as_the_embedded_gateway";
    let output = Command::new("unshare")
        .args(["--map-root-user", "--net", "sh", "-ec", "ip link set lo up; exec \"$@\"", "sh"])
        .arg(this)
        .args(["--exact", name, "--nocapture", "--test-threads", "1"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{out}\n{err}");
}

fn inside_the_namespace() {
    // Envoy ends with the thread that started it, and this one lives as long as the test.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (table, keys) = (Table::load(), Keys::load());
        for (name, port) in DESTINATIONS {
            let socket = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.unwrap();
            tokio::task::spawn(async move { axum::serve(socket, echo(name)).await });
        }
        let mesh = IstioMesh::start().await;
        for settings in Settings::ALL {
            let dir = tempfile::tempdir().unwrap();
            let (running, _) = start_gateway(settings, &keys, dir.path(), (8000, 9191)).await;
            let entries = [
                Entry { name: "gateway", address: running.addresses()["http"] },
                Entry { name: "envoy", address: (Ipv4Addr::LOCALHOST, 80).into() },
            ];
            let good = table.decisions[0].headers(&keys);
            authorizer_reached(&entries, &good, &mesh).await;
            check_decisions(&table, &keys, settings, &entries).await;
            if settings == Settings::Default {
                check_paths(&table, &keys, &entries).await;
                super::random::check_paths(&entries[0].address, &entries[1].address, &good).await;
            }
            running.stop(Duration::from_secs(1)).await;
        }
        authorizer_away((Ipv4Addr::LOCALHOST, 80).into(), &table.decisions[0].headers(&keys)).await;
        mesh.check_unrefused();
    });
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

/// Istio's configuration server and an Envoy that gets everything from it.
struct IstioMesh {
    dir: tempfile::TempDir,
    processes: Vec<Child>,
}

impl IstioMesh {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fixture = dir.path().join("fixture");
        fs::create_dir(&fixture).unwrap();
        fs::write(fixture.join("destinations.yaml"), DESTINATION_ENTRIES).unwrap();
        let production = fs::read_to_string(repository().join("istio/mesh/mesh-config.yaml")).unwrap();
        // A stock Envoy without Istio's agent has no certificates to wait for.
        let mesh_config = dir.path().join("mesh-config.yaml");
        fs::write(&mesh_config, format!("{production}enableAutoMtls: false\nenableTracing: false\n"))
            .unwrap();
        fs::write(dir.path().join("envoy.yaml"), BOOTSTRAP).unwrap();

        let mut mesh = Self { dir, processes: Vec::new() };
        let mut xds = Command::new(tool("xds-mini").unwrap());
        xds.arg("--mesh").arg(&mesh_config).arg("--xds").arg(format!("127.0.0.1:{XDS_PORT}"));
        xds.arg(repository().join("istio")).arg(&fixture);
        // A stock Envoy does not have these two filters of Istio's.
        xds.env("PILOT_ENABLE_ALPN_FILTER", "false").env("PILOT_ENABLE_METADATA_EXCHANGE", "false");
        mesh.spawn("xds-mini", &mut xds);
        let mut envoy = Command::new(tool("envoy").unwrap());
        envoy.arg("-c").arg(mesh.dir.path().join("envoy.yaml"));
        envoy.args(["--concurrency", "1", "--log-level", "warn"]);
        mesh.spawn("envoy", &mut envoy);
        mesh.listening().await;
        mesh
    }

    fn spawn(&mut self, name: &str, command: &mut Command) {
        let log = fs::File::create(self.dir.path().join(format!("{name}.log"))).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.processes.push(command.spawn().unwrap());
    }

    /// Waits until Envoy has the listener that Istio sent, and that answers.
    async fn listening(&self) {
        let admin: SocketAddr = (Ipv4Addr::LOCALHOST, ENVOY_ADMIN_PORT).into();
        let has_listener = async || match tokio::net::TcpStream::connect(admin).await {
            Ok(_) => get(admin, "/listeners", &[]).await.body.contains(":80"),
            Err(_) => false,
        };
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while !has_listener().await {
            assert!(tokio::time::Instant::now() < deadline, "Envoy has no listener\n{}", self.logs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let open: SocketAddr = (Ipv4Addr::LOCALHOST, 80).into();
        loop {
            let answer = get(open, "/orion/version", &[]).await;
            if answer.status == 200 {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{answer:?}\n{}", self.logs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A configuration that Envoy refused would leave an older one in force.
    fn check_unrefused(&self) {
        let logs = self.logs();
        assert!(!logs.contains("rejected") && !logs.contains("ACK ERROR"), "{logs}");
    }

    fn logs(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.dir.path().join(name)).unwrap_or_default();
        format!("xds-mini:\n{}\nenvoy:\n{}", read("xds-mini.log"), read("envoy.log"))
    }
}

impl Drop for IstioMesh {
    fn drop(&mut self) {
        for process in &mut self.processes {
            if process.kill().is_ok() {
                process.wait().ok();
            }
        }
    }
}

/// Where the services of `istio/` are in this test.
const DESTINATION_ENTRIES: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: orion, namespace: default}
spec:
  hosts: [orion.default.svc.cluster.local]
  resolution: STATIC
  location: MESH_EXTERNAL
  ports: [{number: 1026, name: http, protocol: HTTP}]
  endpoints: [{address: 127.0.0.1}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: quantumleap, namespace: default}
spec:
  hosts: [quantumleap.default.svc.cluster.local]
  resolution: STATIC
  location: MESH_EXTERNAL
  ports: [{number: 8668, name: http, protocol: HTTP}]
  endpoints: [{address: 127.0.0.1}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ulagent, namespace: default}
spec:
  hosts: [ulagent.default.svc.cluster.local]
  resolution: STATIC
  location: MESH_EXTERNAL
  ports: [{number: 4041, name: http-north, protocol: HTTP}, {number: 7896, name: http-south, protocol: HTTP}]
  endpoints: [{address: 127.0.0.1}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: opa, namespace: default}
spec:
  hosts: [opa.default.svc.cluster.local]
  resolution: STATIC
  location: MESH_EXTERNAL
  ports: [{number: 9191, name: grpc, protocol: GRPC}]
  endpoints: [{address: 127.0.0.1}]
";

/// An ingress gateway that knows nothing but where its configuration comes from.
const BOOTSTRAP: &str = "
node:
  id: router~127.0.0.1~gateway-1.istio-system~istio-system.svc.cluster.local
  cluster: istio-ingressgateway.istio-system
  metadata:
    NAMESPACE: istio-system
    CLUSTER_ID: Kubernetes
    ISTIO_VERSION: 1.31.0
    LABELS: {istio: ingressgateway}
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 15000}}}
dynamic_resources:
  ads_config:
    api_type: GRPC
    transport_api_version: V3
    set_node_on_first_message_only: true
    grpc_services: [{envoy_grpc: {cluster_name: xds}}]
  cds_config: {ads: {}, resource_api_version: V3, initial_fetch_timeout: 0s}
  lds_config: {ads: {}, resource_api_version: V3, initial_fetch_timeout: 0s}
static_resources:
  clusters:
  - name: xds
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    load_assignment:
      cluster_name: xds
      endpoints:
      - lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 15010}}}}]
";
