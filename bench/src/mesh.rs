//! The mesh under measurement: `thingmesh up` in a process and a data folder of its own.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    load::{Load, Requests, Target, call, drive, request},
    process::Server,
};

const GATEWAY: u16 = 8000;
const CONTEXT_BROKER: u16 = 1026;
const TIME_SERIES: u16 = 8668;
const AGENT_NORTH: u16 = 4041;
const AGENT_SOUTH: u16 = 7896;
const ADMIN: u16 = 9600;
const ALL_PORTS: [u16; 10] =
    [GATEWAY, CONTEXT_BROKER, 1027, TIME_SERIES, 8669, AGENT_NORTH, AGENT_SOUTH, 4042, 9191, ADMIN];

/// The tenant of all measurements.
pub const TENANT: &str = "bench";
/// Longest time to readiness before it counts as broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running mesh.
pub struct Mesh {
    pub server: Server,
    /// From the start of the process to its first "ready".
    pub start_time: Duration,
    program: PathBuf,
    data: tempfile::TempDir,
    offset: u16,
}

impl Mesh {
    /// Starts `program` with a new data folder under `folder` and waits until it is ready. `config`: what its configuration
    /// file says, as TOML.
    pub fn start(program: &Path, folder: &Path, config: &str) -> Result<Self> {
        let data = tempfile::Builder::new().prefix("bench-mesh-").tempdir_in(folder)?;
        let offset = free_offset()?;
        let mut command = Command::new(program);
        command.arg("up").arg("--data-dir").arg(data.path()).arg("--port-offset").arg(offset.to_string());
        if !config.is_empty() {
            let file = data.path().join("bench.toml");
            std::fs::write(&file, config)?;
            command.arg("--config").arg(file);
        }
        let log = data.path().join("bench.log");
        let mut server = Server::spawn(&mut command, &log)?;
        let start_time = wait_until_ready(&mut server, local(ADMIN + offset), &log)
            .with_context(|| program.display().to_string())?;
        Ok(Self { server, start_time, program: program.to_owned(), data, offset })
    }

    pub fn gateway(&self) -> SocketAddr {
        local(GATEWAY + self.offset)
    }

    pub fn broker(&self) -> SocketAddr {
        local(CONTEXT_BROKER + self.offset)
    }

    pub fn time_series(&self) -> SocketAddr {
        local(TIME_SERIES + self.offset)
    }

    pub fn agent_north(&self) -> SocketAddr {
        local(AGENT_NORTH + self.offset)
    }

    pub fn agent_south(&self) -> SocketAddr {
        local(AGENT_SOUTH + self.offset)
    }

    /// Health and metrics.
    pub fn admin(&self) -> SocketAddr {
        local(ADMIN + self.offset)
    }

    /// Where its state lies.
    pub fn data_dir(&self) -> &Path {
        self.data.path()
    }

    /// A token that the gateway takes for [`TENANT`].
    pub fn token(&self) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.args(["token", "--tenant", TENANT, "--ttl", "24h", "--data-dir"]).arg(self.data.path());
        let output = command.output()?;
        anyhow::ensure!(output.status.success(), "no token: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// One JSON call as [`TENANT`]; an error unless it is answered below 300.
    pub fn post(&self, address: SocketAddr, path: &str, body: &serde_json::Value) -> Result<()> {
        let body = body.to_string();
        let (status, _, answer) =
            call(address, |out| request(out, "POST", path, &json_headers(), body.as_bytes()))?;
        anyhow::ensure!(status < 300, "POST {path}: {status} {}", String::from_utf8_lossy(&answer));
        Ok(())
    }

    /// Sends exactly the requests `0..total` over a few connections; an error unless all are answered well.
    pub fn fill(&self, address: SocketAddr, total: u64, what: &str, requests: &Requests) -> Result<Duration> {
        let target = Target { address, connections: FILLING };
        let outcome = drive(target, requests, Load::All { total })?.all_well(what)?;
        anyhow::ensure!(outcome.done == total, "{what}: {} of {total} sent in time", outcome.done);
        Ok(outcome.elapsed)
    }
}

/// Connections over which a world is made.
pub const FILLING: usize = 8;

/// Header lines of a JSON request of [`TENANT`].
pub fn json_headers() -> String {
    format!("fiware-service: {TENANT}\r\nfiware-servicepath: /\r\ncontent-type: application/json\r\n")
}

/// Header lines of a request of [`TENANT`] without a body.
pub fn tenant_headers() -> String {
    format!("fiware-service: {TENANT}\r\nfiware-servicepath: /\r\n")
}

/// Waits for the first "ready" of a server that was just started; returns how long it took since its start.
pub(crate) fn wait_until_ready(server: &mut Server, admin: SocketAddr, log: &Path) -> Result<Duration> {
    while !is_ready(admin) {
        let so_far = server.age();
        if server.has_ended() || so_far > PATIENCE {
            let said = std::fs::read_to_string(log).unwrap_or_default();
            bail!("not ready after {so_far:?}; it said:\n{said}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(server.age())
}

pub(crate) fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn is_ready(admin: SocketAddr) -> bool {
    call(admin, |out| request(out, "GET", "/readyz", "", &[])).is_ok_and(|(status, _, _)| status == 200)
}

/// Ports on loopback that are free now.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N]> {
    // All are held until the last one is known, so that no two are the same.
    let mut held = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind(local(0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// An offset with which all ports of the mesh are free now, and below those that the kernel gives to clients.
fn free_offset() -> Result<u16> {
    (0..50)
        .map(|_| rand::random_range(10_000..23_000u16))
        .find(|offset| {
            let bound: Vec<_> =
                ALL_PORTS.iter().map_while(|port| TcpListener::bind(local(port + offset)).ok()).collect();
            bound.len() == ALL_PORTS.len()
        })
        .context("no free ports on loopback")
}
