use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;

use super::{Bench, Row, broker, seed};
use crate::{
    load::{Load, Requests, Target, drive, histogram},
    mesh::tenant_headers,
};

/// Few requests at a time: what is asked is latency, not queueing.
const RATE: f64 = 500.0;
const CONNECTIONS: usize = 8;
/// The four ways take turns, so that a busy moment of the machine hits all.
const ROUNDS: u32 = 5;

/// What the guarded way adds at a low rate.
#[derive(Clone)]
pub struct Authorization {
    /// GET entity at the broker's own port; nanoseconds, like the others.
    pub direct: Histogram<u64>,
    /// The same through the gateway, with a token.
    pub guarded: Histogram<u64>,
    /// GET version at the broker's own port.
    pub open_direct: Histogram<u64>,
    /// The same through the gateway, on an open path: routed, but not authorized.
    pub open_routed: Histogram<u64>,
}

impl Authorization {
    /// What the whole gateway adds to the median of a guarded request.
    pub fn added(&self) -> Duration {
        difference(&self.guarded, &self.direct)
    }

    /// What routing alone adds.
    pub fn routing(&self) -> Duration {
        difference(&self.open_routed, &self.open_direct)
    }

    /// What token and policy add.
    pub fn deciding(&self) -> Duration {
        self.added().saturating_sub(self.routing())
    }
}

fn difference(longer: &Histogram<u64>, shorter: &Histogram<u64>) -> Duration {
    Duration::from_nanos(longer.value_at_quantile(0.5).saturating_sub(shorter.value_at_quantile(0.5)))
}

/// The gateway's capacity, and what it adds.
pub(super) fn gateway(bench: &Bench) -> Result<(Row, Authorization)> {
    let count = bench.sizes.entities;
    let mesh = broker::with_rooms(bench, count)?;
    let token = format!("authorization: Bearer {}\r\n{}", mesh.token()?, tenant_headers());
    let direct = seed::gets(count, "", tenant_headers());
    let guarded = seed::gets(count, "/orion", token);
    let ways: [(_, Requests); 4] = [
        (mesh.broker(), direct),
        (mesh.gateway(), guarded.clone()),
        (mesh.broker(), seed::get("/version")),
        (mesh.gateway(), seed::get("/orion/version")),
    ];
    let mut seen = [histogram(), histogram(), histogram(), histogram()];
    for round in 0..=ROUNDS {
        for ((address, requests), all) in ways.iter().zip(&mut seen) {
            let target = Target { address: *address, connections: CONNECTIONS };
            let load = Load::Open { rate: RATE, duration: bench.effort.step.div_f64(2.0) };
            let outcome = drive(target, requests, load)?.all_well("gateway and direct")?;
            // The first round only warms up.
            if round > 0 {
                all.add(&outcome.latency)?;
            }
        }
    }
    let row =
        bench.compare(("gateway", "GET entity through the gateway"), &mesh, mesh.gateway(), &guarded)?;
    let [direct, guarded, open_direct, open_routed] = seen;
    Ok((row, Authorization { direct, guarded, open_direct, open_routed }))
}
