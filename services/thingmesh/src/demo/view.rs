//! The live terminal view: redrawn in place on a terminal, one line every five seconds elsewhere.

use std::{
    fmt::Write as _,
    io::{IsTerminal, Write as _},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    board::{Board, Snapshot},
    client::{Caller, Http},
    factory::FACTORIES,
};

/// Asks the mesh once a second what it holds and shows it, until `stop`.
pub(crate) async fn run(
    http: Http,
    callers: Vec<(&'static str, Caller)>,
    board: Arc<Board>,
    stop: CancellationToken,
    where_to_look: Vec<String>,
) {
    let terminal = std::io::stdout().is_terminal();
    let mut ticker = tokio::time::interval(Duration::from_secs(1));
    let mut round: u64 = 0;
    loop {
        tokio::select! {
            _ = ticker.tick() => {}
            () = stop.cancelled() => return,
        }
        for (tenant, caller) in &callers {
            look(&http, tenant, caller, &board).await;
        }
        let snapshot = board.snapshot();
        if terminal {
            print!("\x1b[H\x1b[J{}\n{}\n", page(&snapshot), where_to_look.join("\n"));
        } else if round.is_multiple_of(5) {
            println!("{}", line(&snapshot));
        }
        // A closed terminal is no reason to stop the mesh.
        std::io::stdout().flush().ok();
        round += 1;
    }
}

/// Reads what one tenant sees: its entities, its points, its notification counters.
async fn look(http: &Http, tenant: &'static str, caller: &Caller, board: &Board) {
    let entities = http.get(caller, "/orion/v2/entities?options=keyValues&limit=100").await;
    let subscriptions = http.get(caller, "/orion/v2/subscriptions?limit=1000").await;
    let mut values = Vec::new();
    let mut points = 0;
    for entity in entities.iter().flat_map(|answer| answer.body.as_array().into_iter().flatten()) {
        let id = entity["id"].as_str().unwrap_or_default();
        for attribute in ["foo", "bar"] {
            let shown = match &entity[attribute] {
                Value::Null => "-".to_owned(),
                value => value.to_string(),
            };
            values.push((id.to_owned(), attribute.to_owned(), shown));
        }
        let path = format!("/quantumleap/v2/entities/{id}/attrs/TimeInstant/value?aggrMethod=count");
        if let Ok(answer) = http.get(caller, &path).await {
            points +=
                answer.body["values"].as_array().into_iter().flatten().filter_map(Value::as_u64).sum::<u64>();
        }
    }
    let notifications = subscriptions
        .iter()
        .flat_map(|answer| answer.body.as_array().into_iter().flatten())
        .filter_map(|subscription| subscription["notification"]["timesSent"].as_u64())
        .sum();
    board.watch(tenant, |counts| {
        counts.values = values;
        counts.points = points;
        counts.notifications = notifications;
    });
}

fn page(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let mut row = |line: String| writeln!(text, "{line}").unwrap_or_default();
    row(format!("\x1b[1mthingmesh\x1b[0m  two factories, one mesh, {:.0} s", snapshot.elapsed_s));
    for factory in &FACTORIES {
        let Some(counts) = snapshot.tenants.get(factory.tenant) else { continue };
        row(String::new());
        row(format!("\x1b[1m{}\x1b[0m  service path {}", factory.tenant, factory.path));
        for (entity, attribute, value) in &counts.values {
            row(format!("  {entity:<16} {attribute:<4} {value:>6}"));
        }
        let rate = counts.measures as f64 / snapshot.elapsed_s.max(1.0);
        row(format!(
            "  measures {} ({rate:.1}/s)   points stored {}   notifications {}   errors {}",
            counts.measures, counts.points, counts.notifications, counts.failed
        ));
        row(format!(
            "  tries at the other tenant: {} refused, {} let through",
            counts.refused, counts.leaked
        ));
    }
    row(String::new());
    row(format!(
        "checks passed {}, failed {}      Ctrl-C stops",
        snapshot.checks_passed,
        snapshot.faults.len()
    ));
    text
}

fn line(snapshot: &Snapshot) -> String {
    let mut text = format!("{:>4.0} s", snapshot.elapsed_s);
    for (tenant, counts) in &snapshot.tenants {
        let (measures, points, refused) = (counts.measures, counts.points, counts.refused);
        write!(
            text,
            "   {tenant}: {measures} measures, {points} points, {refused} tries refused, {} errors",
            counts.failed
        )
        .unwrap_or_default();
    }
    text
}
