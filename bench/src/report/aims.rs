//! What the figures should be, and whether they are.

use std::time::Duration;

use super::{
    Report,
    format::{count, mebibytes, nanos, time},
};
use crate::cases::{Million, Point, Row, Scaling};

/// An aim and what was found.
pub(super) struct Aim {
    pub(super) what: String,
    pub(super) wanted: String,
    pub(super) found: String,
    pub(super) met: bool,
}

/// Between the smallest and the largest world a figure may grow this much and still count as flat.
const FLAT: f64 = 1.5;
/// Bad endpoints may cost a fifth more.
const MOST_FOR_BAD: f64 = 1.2;
const MOST_ADDED: Duration = Duration::from_micros(50);
const LONGEST_P99: Duration = Duration::from_millis(25);
const LONGEST_START: Duration = Duration::from_secs(1);
const LONGEST_BROKER_START: Duration = Duration::from_millis(300);
const MOST_RESIDENT: u64 = 100 * 1_048_576;
const MOST_RESIDENT_LARGE: u64 = 300 * 1_048_576;
const LONGEST_POINT: Duration = Duration::from_millis(5);
const LONGEST_NEAR: Duration = Duration::from_millis(10);
const LEAST_ENTITY_UPDATES: f64 = 25_000.0;

/// All aims for which something was measured.
pub(super) fn aims(report: &Report) -> Vec<Aim> {
    let results = &report.results;
    let mut aims = Vec::new();
    for row in &results.rows {
        match row.key {
            "patch" => aims.extend([share(row, 0.25), share(row, 0.35)]),
            "batch" => aims.push(entity_updates(row)),
            "get" => aims.push(share(row, 0.5)),
            _ => {}
        }
    }
    if let Some(faults) = &results.faults {
        let growth = faults.growth();
        aims.push(Aim {
            what: format!(
                "CPU per update when of {} endpoints {} hang and {} are away, to that when none does",
                faults.endpoints, faults.bad, faults.bad
            ),
            wanted: format!("≤ × {MOST_FOR_BAD}"),
            found: format!("× {growth:.2}"),
            met: growth <= MOST_FOR_BAD,
        });
    }
    if let Some(authorization) = &results.authorization {
        let added = authorization.added();
        aims.push(Aim {
            what: "the gateway adds to the median of a guarded request".to_owned(),
            wanted: format!("≤ {}", time(MOST_ADDED)),
            found: format!(
                "{} (routing {}, authorization {})",
                time(added),
                time(authorization.routing()),
                time(authorization.deciding())
            ),
            met: added <= MOST_ADDED,
        });
    }
    aims.extend(worst_p99(&results.rows));
    if let Some(rest) = results.rest {
        aims.push(Aim {
            what: "memory of the whole mesh at rest".to_owned(),
            wanted: format!("≤ {}", mebibytes(MOST_RESIDENT)),
            found: mebibytes(rest.resident),
            met: rest.resident <= MOST_RESIDENT,
        });
        aims.push(Aim {
            what: "from start to ready, the whole mesh".to_owned(),
            wanted: format!("≤ {}", time(LONGEST_START)),
            found: time(rest.start_time),
            met: rest.start_time <= LONGEST_START,
        });
        aims.push(Aim {
            what: "from start to ready, context-broker alone without configuration".to_owned(),
            wanted: format!("≤ {}", time(LONGEST_BROKER_START)),
            found: time(rest.broker_start_time),
            met: rest.broker_start_time <= LONGEST_BROKER_START,
        });
    }
    aims.extend(results.scaling.iter().flat_map(flat));
    aims.extend(results.million.iter().flat_map(large_world));
    aims
}

fn entity_updates(row: &Row) -> Aim {
    let found = row.mesh.maximum * row.per_request as f64;
    Aim {
        what: format!("{}: entity updates/s", row.title),
        wanted: format!("≥ {}", count(LEAST_ENTITY_UPDATES)),
        found: count(found),
        met: found >= LEAST_ENTITY_UPDATES,
    }
}

/// Points, places and memory among many entities.
fn large_world(million: &Million) -> Vec<Aim> {
    let entities = count(million.entities as f64);
    let limit = |row: &Row| match row.key {
        "point" | "point-type" | "point-list" => Some(LONGEST_POINT),
        "near" | "near-count" | "near-wide" => Some(LONGEST_NEAR),
        _ => None,
    };
    let timed = million.rows.iter().filter_map(|row| {
        let (limit, p99) = (limit(row)?, row.mesh.steady.p99());
        Some(Aim {
            what: format!("{} among {entities} entities: p99 at half load", row.title),
            wanted: format!("≤ {}", time(limit)),
            found: time(p99),
            met: p99 <= limit,
        })
    });
    let memory = Aim {
        what: format!("memory of the mesh with {entities} entities"),
        wanted: format!("≤ {}", mebibytes(MOST_RESIDENT_LARGE)),
        found: mebibytes(million.resident),
        met: million.resident <= MOST_RESIDENT_LARGE,
    };
    timed.chain([memory]).collect()
}

fn share(row: &Row, least: f64) -> Aim {
    let share = row.share();
    Aim {
        what: format!("{}: share of the bare handler's requests/s", row.title),
        wanted: format!("≥ {least}"),
        found: format!("{share:.2}"),
        met: share >= least,
    }
}

fn worst_p99(rows: &[Row]) -> Option<Aim> {
    let worst = rows.iter().max_by_key(|row| row.mesh.steady.p99())?;
    let p99 = worst.mesh.steady.p99();
    Some(Aim {
        what: "longest p99 of the table above, at 70 % of the maximum".to_owned(),
        wanted: format!("≤ {}", time(LONGEST_P99)),
        found: format!("{} ({})", nanos(p99.as_nanos() as u64), worst.title),
        met: p99 <= LONGEST_P99,
    })
}

fn flat(scaling: &Scaling) -> Vec<Aim> {
    scaling
        .series
        .iter()
        .filter_map(|(kind, points)| {
            let (first, last) = (points.first()?, points.last()?);
            let growth = growth(first, last);
            Some(Aim {
                what: format!("{kind}, from {} to {} {}: CPU per request", first.size, last.size, scaling.of),
                wanted: format!("flat (≤ × {FLAT})"),
                found: format!("× {growth:.2} ({} → {})", time(first.cpu), time(last.cpu)),
                met: growth <= FLAT,
            })
        })
        .collect()
}

fn growth(first: &Point, last: &Point) -> f64 {
    last.cpu.as_secs_f64() / first.cpu.as_secs_f64().max(1e-9)
}
