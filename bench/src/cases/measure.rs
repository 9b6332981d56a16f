use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde_json::json;

use super::{Bench, Row, seed, until};
use crate::{
    load::{Exchange, Load, Requests, drive, histogram, request},
    mesh::{Mesh, tenant_headers},
};

const API_KEY: &str = "benchkey";
/// This one's measures are followed; the others make the load.
const PROBE: &str = "probe";
/// Pause between two measures of the probe.
const PROBE_PAUSE: Duration = Duration::from_millis(10);

/// How long a measure takes from its sending to each place, nanoseconds.
#[derive(Clone)]
pub struct Journey {
    pub title: String,
    /// The device has its answer.
    pub acknowledged: Histogram<u64>,
    /// The broker answers with the new value.
    pub readable: Histogram<u64>,
    /// The time series answers with the new point.
    pub queryable: Histogram<u64>,
}

/// Measures over HTTP, and how soon they are seen, at rest and under 70 % of the maximum.
pub(super) fn end_to_end(bench: &Bench) -> Result<(Row, Vec<Journey>)> {
    let mesh = bench.mesh()?;
    provision(&mesh, bench.sizes.devices)?;
    let requests = measures(bench.sizes.devices);
    let quiet = follow(&mesh, "at rest", bench.effort.steady, None)?;
    let row = bench.compare(("measure", "measure over HTTP"), &mesh, mesh.agent_south(), &requests)?;
    drained(&mesh)?;
    let load = Load::Open { rate: row.mesh.maximum * 0.7, duration: bench.effort.steady };
    let title = format!("beside {:.0} measures/s", row.mesh.maximum * 0.7);
    let under_load = follow(&mesh, &title, bench.effort.steady, Some((bench, &requests, load)))?;
    Ok((row, vec![quiet, under_load]))
}

/// A group, its devices, and the subscription of the time series.
fn provision(mesh: &Mesh, devices: u64) -> Result<()> {
    let north = mesh.agent_north();
    let group = json!({ "services": [{
        "apikey": API_KEY, "resource": "/iot/d", "entity_type": "Meter", "cbroker": "http://orion:1026",
    }]});
    mesh.post(north, "/iot/services", &group)?;
    let names: Vec<String> = (0..devices).map(device).chain([PROBE.to_owned()]).collect();
    for names in names.chunks(100) {
        let devices: Vec<_> = names
            .iter()
            .map(|name| {
                json!({ "device_id": name, "entity_name": entity(name), "entity_type": "Meter",
                    "attributes": [{ "object_id": "p", "name": "power", "type": "Number" }] })
            })
            .collect();
        mesh.post(north, "/iot/devices", &json!({ "devices": devices }))?;
    }
    let subscription = json!({
        "subject": { "entities": [{ "idPattern": ".*", "type": "Meter" }] },
        "notification": { "http": { "url": "http://quantumleap:8668/v2/notify" } },
    });
    mesh.post(mesh.broker(), "/v2/subscriptions", &subscription)
}

fn device(n: u64) -> String {
    format!("meter{n:06}")
}

fn entity(device: &str) -> String {
    format!("urn:ngsi-ld:Meter:{device}")
}

fn measure(out: &mut Vec<u8>, device: &str, value: u64) {
    let path = format!("/iot/d?k={API_KEY}&i={device}");
    request(out, "POST", &path, "content-type: text/plain\r\n", format!("p|{value}").as_bytes());
}

fn measures(devices: u64) -> Requests {
    Arc::new(move |n, out| measure(out, &device(seed::spread(n, devices)), n))
}

/// Waits until what was measured before has arrived in the time series.
fn drained(mesh: &Mesh) -> Result<()> {
    let mut probe = Probe::connect(mesh)?;
    probe.follow(0).map(|_| ())
}

/// Follows measure after measure of the probe, for `duration`, beside a load if one is given.
fn follow(
    mesh: &Mesh,
    title: &str,
    duration: Duration,
    beside: Option<(&Bench, &Requests, Load)>,
) -> Result<Journey> {
    let over = Arc::new(AtomicBool::new(false));
    let mut probe = Probe::connect(mesh)?;
    let (title, seen) = (title.to_owned(), over.clone());
    let follower = std::thread::spawn(move || probe.journey(title, &seen));
    match beside {
        Some((bench, requests, load)) => {
            drive(bench.target(mesh.agent_south()), requests, load)?.all_well("load beside the probe")?;
        }
        None => std::thread::sleep(duration),
    }
    over.store(true, Ordering::Relaxed);
    follower.join().map_err(|_| anyhow::anyhow!("the probe panicked"))?
}

struct Probe {
    runtime: tokio::runtime::Runtime,
    agent: Exchange,
    broker: Exchange,
    series: Exchange,
}

impl Probe {
    fn connect(mesh: &Mesh) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let open = |address: SocketAddr| runtime.block_on(Exchange::connect(address));
        let (agent, broker) = (open(mesh.agent_south())?, open(mesh.broker())?);
        let series = open(mesh.time_series())?;
        Ok(Self { runtime, agent, broker, series })
    }

    fn journey(&mut self, title: String, over: &AtomicBool) -> Result<Journey> {
        let mut journey =
            Journey { title, acknowledged: histogram(), readable: histogram(), queryable: histogram() };
        let mut value = rand::random_range(1_000_000_000..2_000_000_000u64);
        while !over.load(Ordering::Relaxed) {
            value += 1;
            let legs = self.follow(value)?;
            for (histogram, leg) in [&mut journey.acknowledged, &mut journey.readable, &mut journey.queryable]
                .into_iter()
                .zip(legs)
            {
                histogram.saturating_record(u64::try_from(leg.as_nanos())?);
            }
            std::thread::sleep(PROBE_PAUSE);
        }
        anyhow::ensure!(!journey.queryable.is_empty(), "the probe saw nothing arrive");
        Ok(journey)
    }

    /// Sends one measure and asks until it is everywhere.
    fn follow(&mut self, value: u64) -> Result<[Duration; 3]> {
        let sent = Instant::now();
        let answer = self.runtime.block_on(self.agent.send(|out| measure(out, PROBE, value)))?;
        anyhow::ensure!(answer.status() == 200, "probe: {}", answer.status());
        let acknowledged = sent.elapsed();
        let entity = format!("/v2/entities/{}/attrs/power/value", entity(PROBE));
        let readable =
            until(sent, || holds(&self.runtime, &mut self.broker, &entity, value)).context("entity")?;
        let point = format!("{entity}?type=Meter&lastN=1");
        let queryable =
            until(sent, || holds(&self.runtime, &mut self.series, &point, value)).context("point")?;
        Ok([acknowledged, readable, queryable])
    }
}

/// Whether the answer's body holds the number.
fn holds(runtime: &tokio::runtime::Runtime, from: &mut Exchange, path: &str, value: u64) -> Result<bool> {
    let answer = runtime.block_on(from.send(|out| request(out, "GET", path, &tenant_headers(), &[])))?;
    let body = answer.body();
    let text = std::str::from_utf8(&body)?;
    let wanted = value.to_string();
    let is_there = text.split(|c: char| !c.is_ascii_digit()).any(|number| number == wanted);
    Ok(answer.status() == 200 && is_there)
}
