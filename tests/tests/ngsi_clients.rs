//! Clients that others wrote, unmodified, against `thingmesh up`: each does a session of its own with its own assertions
//! (tests/ngsi-clients/).
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use thingmesh_tests::{
    mesh::{Mesh, Options},
    process::Process,
};

const LIMIT: Duration = Duration::from_secs(120);

/// Runs one session and expects that it ends well. `library` in the tools' folder is where `variable` sends the
/// interpreter for its packages.
async fn session(interpreter: &str, script: &'static str, library: &str, variable: &str) {
    let Some(tools) = store::testing::server("TEST_TOOLS_DIR") else { return };
    let dir = tempfile::tempdir().unwrap();
    let Some(mesh) = Mesh::start(dir.path(), Options::default()).await else { return };
    let packages = PathBuf::from(tools).join(library);
    assert!(packages.is_dir(), "{} is missing: tests/tools/mesh-tools fetch", packages.display());
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", interpreter]);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("ngsi-clients").join(script));
    command.arg(mesh.broker()).env(variable, packages).env("PYTHONDONTWRITEBYTECODE", "1");
    let ended = tokio::task::spawn_blocking(move || {
        let mut client = Process::from_command(script.to_owned(), command, &[]);
        let (status, _) = client.wait(LIMIT);
        (status, client.output(), client.log())
    });
    let (status, output, log) = ended.await.unwrap();
    assert!(status.success(), "{script} ended with {status}\n{output}{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filip_creates_lists_queries_subscribes_and_registers() {
    session("python3", "filip_session.py", "ngsi-python", "PYTHONPATH").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ngsijs_creates_lists_queries_subscribes_and_registers() {
    session("node", "ngsijs_session.js", "ngsi-node", "NODE_PATH").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_made_with_iotagent_node_lib_measures_is_asked_and_commanded() {
    session("node", "iot_agent_session.js", "ngsi-node", "NODE_PATH").await;
}
