//! A real Envoy that Istio's own code configures from the unchanged `istio/`: by its generator alone, or by istiod.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Child, Command},
    time::Duration,
};

use super::{kubernetes, repository, tool, wire::get};

pub(crate) const XDS_PORT: u16 = 15010;
const ENVOY_ADMIN_PORT: u16 = 15000;
/// A stock Envoy does not have these two filters of Istio's.
pub(crate) const FOR_A_STOCK_ENVOY: [(&str, &str); 2] =
    [("PILOT_ENABLE_ALPN_FILTER", "false"), ("PILOT_ENABLE_METADATA_EXCHANGE", "false")];

/// What generates Envoy's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ControlPlane {
    /// Istio's generator alone, from the files.
    XdsMini,
    /// istiod, from a Kubernetes API server that the files were applied to.
    Istiod,
}

/// Istio's configuration server and an Envoy that gets everything from it.
pub(crate) struct IstioMesh {
    dir: tempfile::TempDir,
    processes: Vec<(&'static str, Child)>,
}

impl IstioMesh {
    pub(crate) async fn start(control_plane: ControlPlane) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let production = fs::read_to_string(repository().join("istio/mesh/mesh-config.yaml")).unwrap();
        // A stock Envoy without Istio's agent has no certificates to wait for.
        let mesh_config = format!("{production}enableAutoMtls: false\nenableTracing: false\n");
        fs::write(dir.path().join("mesh-config.yaml"), mesh_config).unwrap();
        fs::write(dir.path().join("envoy.yaml"), BOOTSTRAP).unwrap();

        let mut mesh = Self { dir, processes: Vec::new() };
        match control_plane {
            ControlPlane::XdsMini => mesh.xds_mini(),
            ControlPlane::Istiod => kubernetes::start_with_istiod(&mut mesh).await,
        }
        let mut envoy = Command::new(tool("envoy").unwrap());
        envoy.arg("-c").arg(mesh.path("envoy.yaml")).args(["--concurrency", "1", "--log-level", "warn"]);
        mesh.spawn("envoy", &mut envoy);
        mesh.listening().await;
        mesh
    }

    fn xds_mini(&mut self) {
        let fixture = self.path("fixture");
        fs::create_dir(&fixture).unwrap();
        fs::write(fixture.join("destinations.yaml"), DESTINATION_ENTRIES).unwrap();
        let mut xds = Command::new(tool("xds-mini").unwrap());
        xds.arg("--mesh")
            .arg(self.path("mesh-config.yaml"))
            .arg("--xds")
            .arg(format!("127.0.0.1:{XDS_PORT}"));
        xds.arg(repository().join("istio")).arg(&fixture).envs(FOR_A_STOCK_ENVOY);
        self.spawn("xds-mini", &mut xds);
    }

    /// A file of this mesh.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts a process that ends with this mesh; its output is kept under `name`.
    pub(crate) fn spawn(&mut self, name: &'static str, command: &mut Command) {
        let log = fs::File::create(self.path(&format!("{name}.log"))).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.processes.push((name, command.spawn().unwrap()));
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
            // Envoy shows a listener before it listens.
            let answer = match tokio::net::TcpStream::connect(open).await {
                Ok(_) => Some(get(open, "/orion/version", &[]).await),
                Err(_) => None,
            };
            if answer.as_ref().is_some_and(|answer| answer.status == 200) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{answer:?}\n{}", self.logs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A configuration that Envoy refused would leave an older one in force.
    pub(crate) fn check_unrefused(&self) {
        for (name, refused) in [("envoy", "rejected"), ("xds-mini", "ACK ERROR"), ("istiod", "ACK ERROR")] {
            assert!(!self.log(name).contains(refused), "{}", self.logs());
        }
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.path(&format!("{name}.log"))).unwrap_or_default()
    }

    /// The end of what each process has said.
    pub(crate) fn logs(&self) -> String {
        let end = |name: &str| {
            let log = self.log(name);
            let lines: Vec<&str> = log.lines().collect();
            lines[lines.len().saturating_sub(40)..].join("\n")
        };
        self.processes.iter().map(|(name, _)| format!("{name}:\n{}\n", end(name))).collect()
    }
}

impl Drop for IstioMesh {
    fn drop(&mut self) {
        for (_, process) in self.processes.iter_mut().rev() {
            if process.kill().is_ok() {
                process.wait().ok();
            }
        }
    }
}

/// Where the services of `istio/` are in this test.
pub(crate) const DESTINATION_ENTRIES: &str = "
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
