//! `thingmesh demo`: the mesh, two factories on it, and what can be seen of them.

mod board;
pub(crate) mod client;
mod factory;
mod scenario;
mod view;

use std::{process::ExitCode, sync::Arc};

use anyhow::Result;
use service_kit::Clock;
use tokio_util::sync::CancellationToken;

use self::{
    board::Board,
    client::{Caller, Http},
    factory::FACTORIES,
    scenario::{Check, Ledger, Scenario},
};
pub(crate) use scenario::Mint;

/// What the demo needs to know of the mesh it runs on.
pub(crate) struct Stage {
    /// Base URL of the gateway.
    pub(crate) gateway: String,
    /// URL of the admin port.
    pub(crate) admin: String,
    pub(crate) data_dir: String,
    pub(crate) mint: Mint,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Runs both scenarios to their end and prints what was seen; success if all was as it must be.
pub(crate) async fn once(stage: &Stage, seconds: u32) -> Result<ExitCode> {
    let board = Arc::new(Board::new());
    let mut scenario = Scenario::new(Http::new(stage.gateway.clone()), stage.mint.clone(), board.clone());
    println!("thingmesh demo on {} (state in {})", stage.gateway, stage.data_dir);
    scenario.versions().await?;
    scenario.provision().await?;
    scenario.subscribe().await?;
    let from = ngsi_time(stage.clock.now_us());
    println!("sensing for {seconds} s …");
    let ledger = scenario.sense(Some(seconds), std::future::pending()).await?;
    scenario.verify(&ledger, &from).await?;
    Ok(summary(&scenario, &board, &ledger))
}

fn summary(scenario: &Scenario, board: &Board, ledger: &Ledger) -> ExitCode {
    for check in &scenario.checks {
        match &check.fault {
            None => println!("  ok    {}", check.name),
            Some(fault) => println!("  FAIL  {}: {fault}", check.name),
        }
    }
    let snapshot = board.snapshot();
    println!();
    for (tenant, counts) in &snapshot.tenants {
        println!(
            "  {tenant:<14} {} measures acknowledged, {} failed, {} cross-tenant tries refused, {} let through",
            counts.measures, counts.failed, counts.refused, counts.leaked
        );
    }
    let values: usize = ledger.values().map(|sent| sent.values.len()).sum();
    let faults = snapshot.faults.len();
    let counts_fine = snapshot.tenants.values().all(|counts| counts.failed == 0 && counts.leaked == 0);
    println!("  {values} values sent, each looked for in the history");
    println!("\nchecks: {} passed, {faults} failed", snapshot.checks_passed);
    if faults == 0 && counts_fine && values > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Sets the scenario up and senses until `stop`, shown live.
pub(crate) async fn live(stage: &Stage, stop: CancellationToken) -> Result<Shown> {
    let board = Arc::new(Board::new());
    let http = Http::new(stage.gateway.clone());
    let mut scenario = Scenario::new(http.clone(), stage.mint.clone(), board.clone());
    println!("{}", where_to_look(stage)?);
    scenario.versions().await?;
    scenario.provision().await?;
    scenario.subscribe_once().await?;
    let callers: Vec<(&'static str, Caller)> = FACTORIES
        .iter()
        .map(|factory| Ok((factory.tenant, scenario.caller(factory)?)))
        .collect::<Result<_>>()?;
    let view = view::View::open(http, callers, board.clone()).await;
    let sensed = scenario.sense(None, stop.cancelled());
    let ((), ledger) = tokio::join!(view.run(stop.clone()), sensed);
    ledger?;
    Ok(Shown { faults: board.snapshot().faults })
}

/// What the live demo leaves to be said when it has stopped.
pub(crate) struct Shown {
    faults: Vec<Check>,
}

impl Shown {
    /// Names the checks that failed, with all that was seen.
    pub(crate) fn tell(&self) {
        for Check { name, fault } in &self.faults {
            println!("FAIL  {name}: {}", fault.as_deref().unwrap_or_default());
        }
    }
}

/// URLs, and a command with a token in it that can be pasted.
fn where_to_look(stage: &Stage) -> Result<String> {
    let Stage { gateway, admin, data_dir, .. } = stage;
    let factory = &FACTORIES[0];
    let token = (stage.mint)(factory.tenant)?;
    Ok(format!(
        "gateway  {gateway}   health and metrics  {admin}   state  {data_dir}
look yourself, with a token for a day (`thingmesh token --tenant {tenant} --data-dir {data_dir}` makes another):
curl -s -H 'Fiware-Service: {tenant}' -H 'Authorization: Bearer {token}' {gateway}/orion/v2/entities
",
        tenant = factory.tenant,
    ))
}

/// An instant as the time series reads it: `2030-01-01T00:00:00.000Z`.
fn ngsi_time(time_us: i64) -> String {
    match jiff::Timestamp::from_microsecond(time_us) {
        Ok(time) => time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string(),
        Err(_) => "1970-01-01T00:00:00.000Z".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_have_milliseconds_and_a_zone() {
        assert_eq!(ngsi_time(1_893_456_000_123_456), "2030-01-01T00:00:00.123Z");
    }
}
