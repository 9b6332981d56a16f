//! One file per group of figures. A case prepares a fresh mesh, measures it, and measures the floor of the same requests.

mod authorization;
mod broker;
mod fan_out;
mod faults;
mod forwarding;
mod history;
mod measure;
mod million;
mod rest;
mod scaling;
mod seed;
mod servers;
mod sink;

use std::{
    cell::OnceCell,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Result;
pub use authorization::Authorization;
pub use fan_out::FanOut;
pub use faults::{Faults, Phase};
pub use measure::Journey;
pub use million::Million;
pub use rest::Rest;
pub use scaling::{Point, Scaling};
pub use servers::Servers;

use million::World;

use crate::{
    floor::{Canned, CommitRates, Floor},
    load::{Capacity, Effort, Requests, Target, call, capacity},
    mesh::Mesh,
    process::Server,
};

/// How large the measured worlds are.
#[derive(Clone, Debug)]
pub struct Sizes {
    pub entities: u64,
    /// Of the world in which queries are measured.
    pub million: u64,
    pub listed: u64,
    pub points: u64,
    pub devices: u64,
    pub entity_steps: Vec<u64>,
    pub subscription_steps: Vec<u64>,
}

/// What is measured, with what, and where.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The mesh's program.
    pub program: PathBuf,
    /// This program: floors are started from it.
    pub own_program: PathBuf,
    /// Where data folders are made: must be on a real disk.
    pub folder: PathBuf,
}

/// What all cases share.
pub struct Bench {
    /// The mesh's program.
    pub program: PathBuf,
    /// This program: floors are started from it.
    pub own_program: PathBuf,
    /// Where data folders are made: must be on a real disk.
    pub folder: PathBuf,
    pub effort: Effort,
    pub sizes: Sizes,
    /// PostgreSQL and Kafka, where there are any.
    pub servers: Option<Servers>,
    world: OnceCell<World>,
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
    pub faults: Option<Faults>,
    pub authorization: Option<Authorization>,
    pub scaling: Vec<Scaling>,
    /// Queries in a large world.
    pub million: Option<Million>,
    /// What PostgreSQL commits with nothing of ours on top.
    pub postgres: Option<CommitRates>,
}

/// The groups of figures, in the order of the report.
pub const GROUPS: [&str; 17] = [
    "rest",
    "broker",
    "batch",
    "subscribed",
    "list",
    "measure",
    "fan-out",
    "faults",
    "history",
    "gateway",
    "forwarding",
    "postgres",
    "scaling",
    "point",
    "filter",
    "near",
    "pages",
];

impl Bench {
    /// Measures one group and adds what it finds.
    pub fn measure(&self, group: &str, results: &mut Results) -> Result<()> {
        match group {
            "rest" => results.rest = Some(rest::rest(self)?),
            "broker" => results.rows.extend(broker::one_entity(self)?),
            "batch" => results.rows.push(broker::batch(self)?),
            "subscribed" => results.rows.push(scaling::beside_subscriptions(self)?),
            "list" => results.rows.push(broker::list(self)?),
            "measure" => {
                let (row, journeys) = measure::end_to_end(self)?;
                results.rows.push(row);
                results.journeys = journeys;
            }
            "fan-out" => results.fan_out = Some(fan_out::to_ten(self)?),
            "faults" => results.faults = Some(faults::faults(self)?),
            "history" => results.rows.extend(history::history(self)?),
            "gateway" => {
                let (row, authorization) = authorization::gateway(self)?;
                results.rows.push(row);
                results.authorization = Some(authorization);
            }
            "forwarding" => results.rows.extend(forwarding::forwarding(self)?),
            "postgres" => servers::postgres(self, results)?,
            "point" | "filter" | "near" | "pages" => million::part(self, group, &mut results.million)?,
            "scaling" => results.scaling = vec![scaling::entities(self)?, scaling::subscriptions(self)?],
            other => anyhow::bail!("no group {other:?}; there are {}", GROUPS.join(", ")),
        }
        Ok(())
    }

    /// Programs and folder from the caller; nothing is started yet.
    pub fn new(programs: Programs, effort: Effort, sizes: Sizes, servers: Option<Servers>) -> Self {
        let Programs { program, own_program, folder } = programs;
        Self { program, own_program, folder, effort, sizes, servers, world: OnceCell::new() }
    }

    fn mesh(&self) -> Result<Mesh> {
        self.mesh_with("")
    }

    fn mesh_with(&self, config: &str) -> Result<Mesh> {
        Mesh::start(&self.program, &self.folder, config)
    }

    fn target(&self, address: SocketAddr) -> Target {
        Target { address, connections: self.effort.connections }
    }

    /// Measures requests to the mesh at `address`, then the bare handler with the same requests and the mesh's answer.
    fn compare(
        &self,
        (key, title): (&'static str, impl Into<String>),
        mesh: &Mesh,
        address: SocketAddr,
        requests: &Requests,
    ) -> Result<Row> {
        self.compare_with(&self.effort, (key, title), mesh, address, requests)
    }

    /// The same with an effort of its own.
    fn compare_with(
        &self,
        effort: &Effort,
        (key, title): (&'static str, impl Into<String>),
        mesh: &Mesh,
        address: SocketAddr,
        requests: &Requests,
    ) -> Result<Row> {
        let measured = |address, server: &Server| {
            capacity(Target { address, connections: effort.connections }, requests, effort, server)
        };
        let (status, content_type, body) = call(address, |out| requests(0, out))?;
        anyhow::ensure!(status < 300, "{key}: {status} {}", String::from_utf8_lossy(&body));
        let of_mesh = measured(address, &mesh.server)?;
        let floor = Floor::start(&self.own_program, &Canned { status, content_type, body })?;
        let of_floor = measured(floor.address, &floor.server)?;
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
