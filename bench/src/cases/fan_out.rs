use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;
use hdrhistogram::Histogram;
use serde_json::json;

use super::{Bench, broker, seed, sink::Sink};
use crate::{
    floor::{Canned, Floor},
    load::{Load, Requests, drive, histogram, request},
    machine,
};

/// Subscriptions that match each change.
const RECEIVERS: u64 = 10;
/// Few entities, so that each has a queue.
const ENTITIES: u64 = 1000;
const PATIENCE: Duration = Duration::from_secs(120);

/// One change, ten notifications.
#[derive(Clone)]
pub struct FanOut {
    /// Notifications delivered per second while changes come faster than they can be told.
    pub notifications_per_second: f64,
    /// Notifications per second that the bare receiver takes, sent by the load generator.
    pub floor_per_second: f64,
    /// From the scheduled time of a change to the arrival of its tenth notification, at 70 % of the maximum; nanoseconds.
    pub latency: Histogram<u64>,
    /// Server CPU per notification, with its share of the change.
    pub cpu: Duration,
    pub resident: u64,
    pub load_average: f64,
}

pub(super) fn to_ten(bench: &Bench) -> Result<FanOut> {
    let mesh = broker::with_rooms(bench, ENTITIES)?;
    let sink = Sink::start()?;
    for n in 0..RECEIVERS {
        let subscription = json!({
            "subject": { "entities": [{ "idPattern": ".*", "type": "Room" }], "condition": { "attrs": ["temperature"] } },
            "notification": { "http": { "url": format!("http://{}/receiver/{n}", sink.address) }, "attrs": ["temperature"] },
        });
        mesh.post(mesh.broker(), "/v2/subscriptions", &subscription)?;
    }
    // A subscription tells once of what is there.
    let changes = if bench.effort.steady < Duration::from_secs(2) { 100 } else { 2000 };
    let target = bench.target(mesh.broker());
    let patches = seed::patches(ENTITIES);
    settle(&sink)?;

    let started = Instant::now();
    drive(target, &patches, Load::All { total: changes })?.all_well("changes")?;
    sink.wait_for(changes * RECEIVERS, PATIENCE)?;
    let notifications_per_second = (changes * RECEIVERS) as f64 / started.elapsed().as_secs_f64();
    sink.forget();

    let rate = notifications_per_second / RECEIVERS as f64 * 0.7;
    let (scheduled, noted) = noting(&patches, changes);
    let before = mesh.server.cpu()?;
    let load = Load::Open { rate, duration: bench.effort.steady };
    let outcome = drive(target, &noted, load)?.all_well("changes at 70 %")?;
    sink.wait_for(outcome.done * RECEIVERS, PATIENCE)?;
    let cpu = mesh.server.cpu()?.saturating_sub(before).div_f64((outcome.done * RECEIVERS) as f64);

    let mut latency = histogram();
    for (value, sent) in scheduled.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        if let Some(arrived) = sink.complete(*value, RECEIVERS) {
            latency.saturating_record(u64::try_from(arrived.duration_since(*sent).as_nanos())?.max(1));
        }
    }
    anyhow::ensure!(
        latency.len() == outcome.done,
        "{} of {} changes told ten times",
        latency.len(),
        outcome.done
    );
    let (resident, load_average) = (mesh.server.resident()?, machine::load_average());
    drop(mesh);
    let floor_per_second = bare_receiver(bench, &sink)?;
    Ok(FanOut { notifications_per_second, floor_per_second, latency, cpu, resident, load_average })
}

/// Waits for the first notifications of the new subscriptions, if there are any, then forgets them.
fn settle(sink: &Sink) -> Result<()> {
    if sink.wait_for(RECEIVERS * ENTITIES, Duration::from_secs(5)).is_err() {
        // Initial notifications may come in one message per subscription, or not at all.
        std::thread::sleep(Duration::from_millis(200));
    }
    sink.forget();
    Ok(())
}

type Sent = Arc<Mutex<Vec<(u64, Instant)>>>;

/// The same requests with values above all sent before; notes when each was handed to its connection.
fn noting(requests: &Requests, after: u64) -> (Sent, Requests) {
    let (sent, requests) = (Sent::default(), requests.clone());
    let noted = sent.clone();
    let noting: Requests = Arc::new(move |n, out| {
        let value = after + n;
        noted.lock().unwrap_or_else(PoisonError::into_inner).push((value, Instant::now()));
        requests(value, out);
    });
    (sent, noting)
}

/// What the receiver side could take at most: the same notification, sent by the load generator to a bare handler.
fn bare_receiver(bench: &Bench, sink: &Sink) -> Result<f64> {
    let sample = sink.sample();
    let floor = Floor::start(&bench.own_program, &Canned { status: 204, ..Canned::default() })?;
    let requests: Requests = Arc::new(move |_, out| {
        request(out, "POST", "/receiver", "content-type: application/json\r\n", &sample)
    });
    let target = bench.target(floor.address);
    Ok(drive(target, &requests, Load::Closed { duration: bench.effort.step })?
        .all_well("bare receiver")?
        .rate())
}
