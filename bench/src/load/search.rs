use std::time::Duration;

use anyhow::Result;

use super::{Load, Outcome, Requests, Target, drive};
use crate::{machine, process::Server};

/// How much is spent on one figure.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    pub connections: usize,
    pub warm_up: Duration,
    /// Each step of the search for the maximum.
    pub step: Duration,
    /// The run at [`Effort::share`] of the maximum.
    pub steady: Duration,
    /// Share of the maximum at which latency and CPU are taken, 0 to 1.
    pub share: f64,
    /// Highest p99 that a maximum may have.
    pub p99_limit: Duration,
}

/// What a server can take.
#[derive(Clone, Debug)]
pub struct Capacity {
    /// Highest rate of an open loop that kept the limit; requests per second. The rate of the closed loop where none did.
    pub maximum: f64,
    /// Whether the p99 stayed under the limit at that rate.
    pub kept_limit: bool,
    /// The run at [`Effort::share`] of the maximum.
    pub steady: Outcome,
    /// The server's CPU per request in that run.
    pub cpu: Duration,
    /// The server's memory after it, bytes.
    pub resident: u64,
    /// Load average of the machine after it: shows whether others worked beside.
    pub load_average: f64,
}

/// Steps down from what the closed loop reached; each is a twentieth lower than the one before.
const STEP_DOWN: f64 = 0.95;
const MOST_STEPS: u32 = 24;

/// Finds the highest constant rate whose p99 stays under the limit, then measures at a share of it.
pub fn capacity(target: Target, requests: &Requests, effort: &Effort, server: &Server) -> Result<Capacity> {
    let closed = |duration| drive(target, requests, Load::Closed { duration });
    closed(effort.warm_up)?.all_well("warm-up")?;
    let reached = closed(effort.step)?.all_well("closed loop")?.rate();
    let (mut maximum, mut kept_limit) = (reached, false);
    eprintln!("  closed loop: {reached:.0}/s");
    for _ in 0..MOST_STEPS {
        let outcome = drive(target, requests, Load::Open { rate: maximum, duration: effort.step })?;
        kept_limit = outcome.failed == 0 && outcome.p99() <= effort.p99_limit;
        eprintln!("  {maximum:.0}/s: p99 {:.1?}", outcome.p99());
        if kept_limit {
            break;
        }
        maximum *= STEP_DOWN;
    }
    if !kept_limit {
        maximum = reached;
    }
    let load = Load::Open { rate: maximum * effort.share, duration: effort.steady };
    let before = server.cpu()?;
    let steady = drive(target, requests, load)?.all_well("steady load")?;
    let cpu = server.cpu()?.saturating_sub(before).div_f64(steady.done.max(1) as f64);
    let (resident, load_average) = (server.resident()?, machine::load_average());
    Ok(Capacity { maximum, kept_limit, steady, cpu, resident, load_average })
}
