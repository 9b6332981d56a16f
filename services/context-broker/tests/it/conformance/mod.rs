//! The contract as data: every row of `tests/conformance/*.yaml` is sent to a running broker, on each store.

mod no_bus;
mod run;
mod sheet;
mod told;

use std::{collections::BTreeMap, io::Write, sync::Arc};

use context_broker::Config;
use store::{PostgresConfig, StoreConfig, testing};

use crate::broker::Broker;
pub(crate) use no_bus::NoBus;
use sheet::Sheet;

/// The sheets by name.
fn sheets() -> BTreeMap<String, Sheet> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance");
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let sheet = yaml_serde::from_str(&text).unwrap_or_else(|error| panic!("{name}.yaml: {error}"));
        (name, sheet)
    };
    std::fs::read_dir(folder).unwrap().map(read).collect()
}

async fn every_row(broker: Broker, notifies: bool, store: &str) {
    let mut score = run::Score::default();
    for (name, sheet) in sheets() {
        run::sheet(&broker, notifies, &name, &sheet, &mut score).await;
    }
    // Not through the macros: the score is shown also when the test passes.
    let (held, pending) = (score.held, score.pending);
    let mut out = std::io::stdout().lock();
    writeln!(out, "conformance: {held} of {} rows hold, {pending} are pending ({store})", score.rows)
        .unwrap();
    drop(out);
    let failed = score.failed.len();
    assert!(score.failed.is_empty(), "{failed} rows failed on {store}:\n{}", score.failed.join("\n"));
}

#[tokio::test]
async fn every_row_of_the_contract_holds_on_sqlite() {
    every_row(Broker::start().await, true, "SQLite").await;
}

#[tokio::test]
async fn every_row_of_the_contract_holds_on_postgresql() {
    let Some(url) = testing::server("TEST_POSTGRES_URL") else { return };
    let server = PostgresConfig { max_connections: 4, ..PostgresConfig::new(&url) };
    let config = Config {
        store: StoreConfig::Postgres(server),
        postgres_schema: testing::fresh_schema("conformance"),
        ..Config::default()
    };
    every_row(Broker::start_with(config, Arc::new(NoBus::new())).await, false, "PostgreSQL").await;
}
