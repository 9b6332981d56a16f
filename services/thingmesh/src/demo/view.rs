//! The live terminal view: redrawn in place on a terminal, one line every five seconds elsewhere.

use std::{
    fmt::Write as _,
    io::{IsTerminal, Write as _},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    board::{Board, Snapshot, TenantCounts, Totals},
    client::{Caller, Http},
    factory::{FACTORIES, Factory},
};

/// The view fits a terminal of 80 columns and 24 rows; the cursor stands in the last row.
const COLUMNS: usize = 79;
const ROWS: usize = 23;
/// Entities shown of a factory, and failed checks: as many as fit.
const ENTITIES: usize = 2;
const FAULTS: usize = 2;

/// Asks the mesh once a second what it holds, and shows it.
pub(crate) struct View {
    http: Http,
    callers: Vec<(&'static str, Caller)>,
    board: Arc<Board>,
}

impl View {
    /// Takes down what an earlier run on the same data left.
    pub(crate) async fn open(http: Http, callers: Vec<(&'static str, Caller)>, board: Arc<Board>) -> Self {
        let view = Self { http, callers, board };
        view.look_at_all().await;
        for (tenant, _) in &view.callers {
            view.board.watch(tenant, |counts| counts.before = counts.now);
        }
        view
    }

    /// Shows until `stop`.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        let terminal = std::io::stdout().is_terminal();
        let mut ticker = tokio::time::interval(Duration::from_secs(1));
        let (mut round, mut drawn): (u64, usize) = (0, 0);
        loop {
            tokio::select! {
                _ = ticker.tick() => {}
                () = stop.cancelled() => return,
            }
            self.look_at_all().await;
            let snapshot = self.board.snapshot();
            if terminal {
                let rows = page(&snapshot);
                // Over the page before, so that what was printed above it stays.
                let up = if drawn == 0 { String::new() } else { format!("\x1b[{drawn}A\x1b[J") };
                drawn = rows.len();
                println!("{up}{}", rows.join("\n"));
            } else if round.is_multiple_of(5) {
                println!("{}", line(&snapshot));
            }
            // A closed terminal is no reason to stop the mesh.
            std::io::stdout().flush().ok();
            round += 1;
        }
    }

    async fn look_at_all(&self) {
        for (tenant, caller) in &self.callers {
            // What cannot be seen now is seen a second later.
            let Ok((values, now)) = look(&self.http, caller).await else { continue };
            self.board.watch(tenant, |counts| (counts.values, counts.now) = (values, now));
        }
    }
}

/// Reads what one tenant sees: its entities, its points, its notification counters.
async fn look(http: &Http, caller: &Caller) -> Result<(Vec<(String, String)>, Totals)> {
    let entities = http.get(caller, "/orion/v2/entities?options=keyValues&limit=100").await?;
    let subscriptions = http.get(caller, "/orion/v2/subscriptions?limit=1000").await?;
    let (mut values, mut totals) = (Vec::new(), Totals::default());
    for entity in entities.body.as_array().context("no entities")? {
        let id = entity["id"].as_str().unwrap_or_default();
        let held: Vec<String> =
            ["foo", "bar"].map(|name| format!("{name} {:>4}", shown(&entity[name]))).into();
        values.push((id.to_owned(), held.join("   ")));
        let path = format!("/quantumleap/v2/entities/{id}/attrs/TimeInstant/value?aggrMethod=count");
        let answer = http.get(caller, &path).await?;
        totals.points +=
            answer.body["values"].as_array().into_iter().flatten().filter_map(Value::as_u64).sum::<u64>();
    }
    totals.notifications = subscriptions
        .body
        .as_array()
        .context("no subscriptions")?
        .iter()
        .filter_map(|subscription| subscription["notification"]["timesSent"].as_u64())
        .sum();
    Ok((values, totals))
}

fn shown(value: &Value) -> String {
    if value.is_null() { "-".to_owned() } else { value.to_string() }
}

/// The rows of the view, none wider than [`COLUMNS`], at most [`ROWS`].
fn page(snapshot: &Snapshot) -> Vec<String> {
    let mut rows =
        vec![heading("thingmesh", &format!("two factories, one mesh, {:.0} s", snapshot.elapsed_s))];
    for factory in &FACTORIES {
        let Some(counts) = snapshot.tenants.get(factory.tenant) else { continue };
        rows.push(String::new());
        rows.extend(factory_rows(factory, counts, snapshot.elapsed_s));
    }
    rows.push(String::new());
    let (passed, faults) = (snapshot.checks_passed, &snapshot.faults);
    rows.push(format!("checks passed {passed}, failed {}      Ctrl-C stops", faults.len()));
    for check in faults.iter().take(FAULTS) {
        let fault = check.fault.as_deref().unwrap_or_default();
        rows.push(fitting(&format!("  FAIL  {}: {fault}", check.name)));
    }
    if faults.len() > FAULTS {
        rows.push(format!("  … and {} more; all are named at the end", faults.len() - FAULTS));
    }
    debug_assert!(rows.len() <= ROWS, "the view is higher than a terminal");
    rows
}

fn factory_rows(factory: &Factory, counts: &TenantCounts, elapsed_s: f64) -> Vec<String> {
    let mut rows = vec![heading(factory.tenant, &format!("service path {}", factory.path))];
    for (entity, held) in counts.values.iter().take(ENTITIES) {
        rows.push(fitting(&format!("  {entity:<16} {held}")));
    }
    if counts.values.len() > ENTITIES {
        rows.push(format!("  … and {} more", counts.values.len() - ENTITIES));
    }
    let (new, all) = (counts.now.since(counts.before), counts.now);
    let rate = counts.measures as f64 / elapsed_s.max(1.0);
    rows.push(fitting(&format!(
        "  this run: measures {} ({rate:.1}/s), errors {}, points {}, notifications {}",
        counts.measures, counts.failed, new.points, new.notifications
    )));
    rows.push(fitting(&format!("  all runs: points {}, notifications {}", all.points, all.notifications)));
    rows.push(fitting(&format!(
        "  tries at the other tenant: {} refused, {} let through",
        counts.refused, counts.leaked
    )));
    rows
}

fn heading(name: &str, rest: &str) -> String {
    format!("\x1b[1m{name}\x1b[0m  {rest}")
}

/// Cut at the edge: a row that wraps would be two.
fn fitting(row: &str) -> String {
    let row = row.replace(char::is_control, " ");
    if row.chars().count() <= COLUMNS {
        return row;
    }
    row.chars().take(COLUMNS - 1).chain(['…']).collect()
}

fn line(snapshot: &Snapshot) -> String {
    let mut text = format!("{:>4.0} s", snapshot.elapsed_s);
    for (tenant, counts) in &snapshot.tenants {
        let (measures, refused) = (counts.measures, counts.refused);
        let points = counts.now.since(counts.before).points;
        write!(
            text,
            "   {tenant}: {measures} measures, {points} points, {refused} tries refused, {} errors",
            counts.failed
        )
        .unwrap_or_default();
    }
    for check in &snapshot.faults {
        write!(text, "   FAIL {}", check.name).unwrap_or_default();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{super::scenario::Check, *};

    /// As much of everything as can be.
    fn full() -> Snapshot {
        let totals = Totals { points: u64::MAX, notifications: u64::MAX };
        let entity = ("urn:ngsi:".repeat(20), "foo\t\"\u{1b}[2J\"".repeat(20));
        let counts = TenantCounts {
            measures: u64::MAX,
            failed: u64::MAX,
            refused: u64::MAX,
            leaked: u64::MAX,
            values: vec![entity; 100],
            before: Totals { points: 3, notifications: 2 },
            now: totals,
        };
        let fault = Check { name: "a check ".repeat(20), fault: Some("seen\nand seen ".repeat(20)) };
        Snapshot {
            tenants: FACTORIES.iter().map(|factory| (factory.tenant, counts.clone())).collect(),
            checks_passed: usize::MAX,
            faults: vec![fault; 50],
            elapsed_s: 1e9,
        }
    }

    #[test]
    fn the_view_fits_a_terminal_of_80_columns_and_24_rows_whatever_there_is_to_show() {
        let rows = page(&full());
        assert!(rows.len() <= ROWS, "{} rows: {rows:#?}", rows.len());
        for row in rows {
            let seen = row.replace("\x1b[1m", "").replace("\x1b[0m", "");
            assert!(seen.chars().count() <= COLUMNS, "{} columns: {seen}", seen.chars().count());
            assert!(!seen.contains(char::is_control), "{seen:?}");
        }
    }

    #[test]
    fn failed_checks_are_named_in_the_view_and_in_the_line() {
        let snapshot = full();
        let shown = page(&snapshot).iter().filter(|row| row.contains("FAIL  a check")).count();
        assert_eq!(shown, FAULTS);
        assert!(line(&snapshot).contains("FAIL a check"));
    }

    #[test]
    fn what_an_earlier_run_left_is_not_counted_as_of_this_one() {
        let before = Totals { points: 40, notifications: 30 };
        let now = Totals { points: 45, notifications: 31 };
        let counts = TenantCounts { before, now, ..TenantCounts::default() };
        let rows = factory_rows(&FACTORIES[0], &counts, 1.0).join("\n");
        assert!(rows.contains("this run: measures 0 (0.0/s), errors 0, points 5, notifications 1"), "{rows}");
        assert!(rows.contains("all runs: points 45, notifications 31"), "{rows}");
    }
}
