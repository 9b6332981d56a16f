//! How the mesh, and the context broker alone, start and rest.

use std::{process::Command, time::Duration};

use anyhow::{Context, Result};

use super::Bench;
use crate::{
    mesh::{free_ports, local, wait_until_ready},
    process::Server,
};

/// How a fresh mesh starts and rests.
#[derive(Clone, Copy, Debug)]
pub struct Rest {
    pub start_time: Duration,
    /// From the start of a context broker of its own, without configuration, to its first "ready".
    pub broker_start_time: Duration,
    /// Bytes of the whole mesh, after a while without requests.
    pub resident: u64,
}

/// Each of the start times is that of a second start: the first one reads the program from the disk.
pub(super) fn rest(bench: &Bench) -> Result<Rest> {
    drop(bench.mesh()?);
    let mesh = bench.mesh()?;
    let start_time = mesh.start_time;
    std::thread::sleep(bench.effort.steady);
    let resident = mesh.server.resident()?;
    drop(mesh);
    start_broker(bench)?;
    Ok(Rest { start_time, broker_start_time: start_broker(bench)?, resident })
}

/// `context-broker --port P --data-dir D` with a new folder. Its two other ports are moved from their defaults, which this
/// machine may need for something else; nothing else is set.
fn start_broker(bench: &Bench) -> Result<Duration> {
    let program = bench.program.with_file_name("context-broker");
    let data = tempfile::Builder::new().prefix("bench-broker-").tempdir_in(&bench.folder)?;
    let [http, grpc, admin] = free_ports()?;
    let mut command = Command::new(&program);
    command.args(["--port", &http.to_string(), "--data-dir"]).arg(data.path());
    command.args([
        "--set",
        &format!("context-broker.grpc_port={grpc}"),
        "--set",
        &format!("admin.port={admin}"),
    ]);
    let log = data.path().join("bench.log");
    let mut server = Server::spawn(&mut command, &log)?;
    wait_until_ready(&mut server, local(admin), &log).with_context(|| program.display().to_string())
}
