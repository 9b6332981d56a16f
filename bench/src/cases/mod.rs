//! One file per group of figures. A case prepares a fresh mesh, measures it, and measures the floor of the same requests.

mod authorization;
mod broker;
mod fan_out;
mod history;
mod measure;
mod rest;
mod scaling;
mod seed;
mod sink;

use std::{
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Result;
pub use authorization::Authorization;
pub use fan_out::FanOut;
pub use measure::Journey;
pub use rest::Rest;
pub use scaling::{Point, Scaling};

use crate::{
    floor::{Canned, Floor},
    load::{Capacity, Effort, Requests, Target, call, capacity},
    mesh::Mesh,
    process::Server,
};

/// How large the measured worlds are.
#[derive(Clone, Debug)]
pub struct Sizes {
    pub entities: u64,
    pub listed: u64,
    pub points: u64,
    pub devices: u64,
    pub entity_steps: Vec<u64>,
    pub subscription_steps: Vec<u64>,
}

/// What all cases share.
#[derive(Clone, Debug)]
pub struct Bench {
    /// The mesh's program.
    pub program: PathBuf,
    /// This program: floors are started from it.
    pub own_program: PathBuf,
    /// Where data folders are made: must be on a real disk.
    pub folder: PathBuf,
    pub effort: Effort,
    pub sizes: Sizes,
}

/// One kind of request, measured on the mesh and on the bare handler.
#[derive(Clone, Debug)]
pub struct Row {
    pub key: &'static str,
    pub title: String,
    /// Things per request where a request carries several: points, entities.
    pub per_request: u64,
    pub mesh: Capacity,
    pub floor: Capacity,
}

impl Row {
    /// The mesh's maximum as a share of the bare handler's.
    pub fn share(&self) -> f64 {
        self.mesh.maximum / self.floor.maximum
    }
}

/// Everything that was measured.
#[derive(Default)]
pub struct Results {
    pub rest: Option<Rest>,
    pub rows: Vec<Row>,
    pub journeys: Vec<Journey>,
    pub fan_out: Option<FanOut>,
    pub authorization: Option<Authorization>,
    pub scaling: Vec<Scaling>,
}

/// The groups of figures, in the order of the report.
pub const GROUPS: [&str; 8] =
    ["rest", "broker", "list", "measure", "fan-out", "history", "gateway", "scaling"];

impl Bench {
    /// Measures one group and adds what it finds.
    pub fn measure(&self, group: &str, results: &mut Results) -> Result<()> {
        match group {
            "rest" => results.rest = Some(rest::rest(self)?),
            "broker" => results.rows.extend(broker::one_entity(self)?),
            "list" => results.rows.push(broker::list(self)?),
            "measure" => {
                let (row, journeys) = measure::end_to_end(self)?;
                results.rows.push(row);
                results.journeys = journeys;
            }
            "fan-out" => results.fan_out = Some(fan_out::to_ten(self)?),
            "history" => results.rows.extend(history::history(self)?),
            "gateway" => {
                let (row, authorization) = authorization::gateway(self)?;
                results.rows.push(row);
                results.authorization = Some(authorization);
            }
            "scaling" => results.scaling = vec![scaling::entities(self)?, scaling::subscriptions(self)?],
            other => anyhow::bail!("no group {other:?}; there are {}", GROUPS.join(", ")),
        }
        Ok(())
    }

    fn mesh(&self) -> Result<Mesh> {
        Mesh::start(&self.program, &self.folder)
    }

    fn target(&self, address: SocketAddr) -> Target {
        Target { address, connections: self.effort.connections }
    }

    fn capacity(&self, address: SocketAddr, requests: &Requests, server: &Server) -> Result<Capacity> {
        capacity(self.target(address), requests, &self.effort, server)
    }

    /// Measures requests to the mesh at `address`, then the bare handler with the same requests and the mesh's answer.
    fn compare(
        &self,
        (key, title): (&'static str, impl Into<String>),
        mesh: &Mesh,
        address: SocketAddr,
        requests: &Requests,
    ) -> Result<Row> {
        let (status, content_type, body) = call(address, |out| requests(0, out))?;
        anyhow::ensure!(status < 300, "{key}: {status} {}", String::from_utf8_lossy(&body));
        let of_mesh = self.capacity(address, requests, &mesh.server)?;
        let floor = Floor::start(&self.own_program, &Canned { status, content_type, body })?;
        let of_floor = self.capacity(floor.address, requests, &floor.server)?;
        Ok(Row { key, title: title.into(), per_request: 1, mesh: of_mesh, floor: of_floor })
    }
}

/// Asks again and again until `is_there`, at most for 30 s; returns how long it took since `since`.
fn until(since: Instant, mut is_there: impl FnMut() -> Result<bool>) -> Result<Duration> {
    while !is_there()? {
        anyhow::ensure!(since.elapsed() < Duration::from_secs(30), "not there after 30 s");
    }
    Ok(since.elapsed())
}
