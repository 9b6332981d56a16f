//! A real Kubernetes API server that `istio/` is applied to, and istiod that reads it from there.

use std::{fs, process::Command};

use thingmesh_tests::until::until;
use yaml_serde::Value;

use super::{
    SOON,
    istio_mesh::{DESTINATION_ENTRIES, FOR_A_STOCK_ENVOY, IstioMesh, XDS_PORT},
    repository, tool,
};

const SERVER: &str = "https://127.0.0.1:6443";
const ETCD: &str = "http://127.0.0.1:2379";
const ISTIOD: &str = "127.0.0.1:8080";
/// Of an administrator. The server is reached only from the namespace of the test.
const TOKEN: &str = "administrator";

const KUBECONFIG: &str = "
apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: 'https://127.0.0.1:6443', insecure-skip-tls-verify: true}}]
users: [{name: test, user: {token: administrator}}]
contexts: [{name: test, context: {cluster: test, user: test}}]
current-context: test
";

/// Starts etcd, the API server and istiod, and applies Istio's own definitions, `istio/`, and where its services are.
pub(crate) async fn start_with_istiod(mesh: &mut IstioMesh) {
    start_etcd(mesh).await;
    start_api_server(mesh).await;
    let definitions = fs::read_to_string(tool("istio-crds.yaml").unwrap()).unwrap();
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: istio-system}";
    let mut texts = vec![namespace.to_owned(), definitions];
    for file in fs::read_dir(repository().join("istio")).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            texts.push(fs::read_to_string(path).unwrap());
        }
    }
    texts.push(DESTINATION_ENTRIES.to_owned());
    for document in texts.iter().flat_map(|text| text.split("\n---\n")) {
        if document.contains("apiVersion:") {
            // A definition is served a moment after it was taken, as are the server's own namespaces after its start.
            until("applied", SOON, || async {
                let (status, said) = apply(document);
                if matches!(status, 200 | 201) { Ok(()) } else { Err(format!("{status} {said}\n{document}")) }
            })
            .await;
        }
    }
    start_istiod(mesh).await;
}

async fn start_etcd(mesh: &mut IstioMesh) {
    let mut etcd = Command::new(tool("etcd").unwrap());
    etcd.arg("--data-dir").arg(mesh.path("etcd"));
    etcd.args(["--listen-client-urls", ETCD, "--advertise-client-urls", ETCD]);
    etcd.args(["--listen-peer-urls", "http://127.0.0.1:2380", "--log-level", "warn", "--unsafe-no-fsync"]);
    mesh.spawn("etcd", &mut etcd);
    answers(mesh, "etcd", &format!("{ETCD}/health")).await;
}

async fn start_api_server(mesh: &mut IstioMesh) {
    let tokens = mesh.path("tokens.csv");
    fs::write(&tokens, format!("{TOKEN},admin,admin,\"system:masters\"\n")).unwrap();
    let key = repository().join("tests/data/keys/trusted.pem");
    let mut server = Command::new(tool("kube-apiserver").unwrap());
    server.args(["--etcd-servers", ETCD, "--bind-address", "127.0.0.1", "--secure-port", "6443"]);
    server.args(["--advertise-address", "127.0.0.1", "--endpoint-reconciler-type", "none"]);
    server.args(["--service-cluster-ip-range", "10.96.0.0/16", "--authorization-mode", "RBAC"]);
    server.args(["--service-account-issuer", "https://kubernetes.default.svc"]);
    server.arg("--service-account-key-file").arg(&key).arg("--service-account-signing-key-file").arg(&key);
    server.arg("--token-auth-file").arg(&tokens).arg("--cert-dir").arg(mesh.path("certificates"));
    mesh.spawn("kube-apiserver", &mut server);
    answers(mesh, "kube-apiserver", &format!("{SERVER}/readyz")).await;
}

async fn start_istiod(mesh: &mut IstioMesh) {
    let kubeconfig = mesh.path("kubeconfig");
    fs::write(&kubeconfig, KUBECONFIG).unwrap();
    let mut istiod = Command::new(tool("istiod").unwrap());
    istiod.arg("discovery").arg("--kubeconfig").arg(&kubeconfig);
    istiod.arg("--meshConfig").arg(mesh.path("mesh-config.yaml")).args(["--networksConfig", "/nonexistent"]);
    istiod.args(["--grpcAddr", &format!("127.0.0.1:{XDS_PORT}"), "--httpAddr", ISTIOD]);
    istiod.args(["--httpsAddr", "", "--secureGRPCAddr", "", "--monitoringAddr", "127.0.0.1:15014"]);
    istiod.args(["--ctrlz_address", "127.0.0.1"]).envs(FOR_A_STOCK_ENVOY);
    istiod.envs([("POD_NAMESPACE", "istio-system"), ("POD_NAME", "istiod-0")]);
    istiod.envs([("ENABLE_CA_SERVER", "false"), ("XDS_AUTH", "false")]);
    mesh.spawn("istiod", &mut istiod);
    answers(mesh, "istiod", &format!("http://{ISTIOD}/ready")).await;
}

async fn answers(mesh: &IstioMesh, name: &str, url: &str) {
    until(&format!("{name} is ready"), SOON, || async {
        let (status, said) = curl(&[url]);
        if status == 200 { Ok(()) } else { Err(format!("{status} {said}\n{}", mesh.logs())) }
    })
    .await;
}

/// Applies one resource as `kubectl apply --server-side` does; unknown fields are errors. Status and body of the answer.
pub(crate) fn apply(document: &str) -> (u16, String) {
    let value: Value = yaml_serde::from_str(document).unwrap();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let kind = text(&value["kind"]).unwrap().to_lowercase();
    let plural = match kind.strip_suffix('y') {
        Some(stem) if !kind.ends_with("ay") => format!("{stem}ies"),
        _ => format!("{kind}s"),
    };
    let version = text(&value["apiVersion"]).unwrap();
    let group = if version.contains('/') { "apis" } else { "api" };
    let namespace = text(&value["metadata"]["namespace"]).map(|name| format!("namespaces/{name}/"));
    let (namespace, name) = (namespace.unwrap_or_default(), text(&value["metadata"]["name"]).unwrap());
    let query = "fieldManager=test&fieldValidation=Strict&force=true";
    let url = format!("{SERVER}/{group}/{version}/{namespace}{plural}/{name}?{query}");
    let body = tempfile::NamedTempFile::new().unwrap();
    fs::write(body.path(), document).unwrap();
    let data = format!("@{}", body.path().display());
    curl(&[
        "--request",
        "PATCH",
        "--header",
        "content-type: application/apply-patch+yaml",
        "--data-binary",
        &data,
        &url,
    ])
}

/// Status (0 when nobody answers) and body.
fn curl(arguments: &[&str]) -> (u16, String) {
    let authorization = format!("authorization: Bearer {TOKEN}");
    let output = Command::new("curl")
        .args(["--silent", "--insecure", "--header", &authorization, "--write-out", "\n%{http_code}"])
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned())
}
