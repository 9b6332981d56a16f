//! How fast the embedded history is: a million points of one series, and a thousand series side by side.
//!
//! `cargo run --release -p time-series --example history_speed`

use std::{sync::Arc, time::Instant};

use scope::{QueryScope, Scope, ServicePath, Tenant};
use service_kit::Tasks;
use time_series::{
    Config,
    metrics::Metrics,
    query::{Aggregation, Attributes, Method, Query, Selection, Window},
    row::{NewAttribute, Row},
    store::HistoryStore,
    time::Period,
};

const POINTS: i64 = 1_000_000;
const BATCH: i64 = 1_000;
const START_US: i64 = 1_893_456_000_000_000;

fn reading(entity: i64, n: i64) -> Row {
    // A walk of two decimals, once a second with up to 39 ms of jitter.
    let value = f64::from(i32::try_from((n * 7919 + entity) % 50 + 2000).unwrap_or_default()) / 100.0;
    let attribute =
        NewAttribute { name: "temperature".into(), declared: "Number".into(), value: value.into() };
    Row {
        scope: Scope::new(Tenant::default(), ServicePath::root()),
        entity_id: format!("sensor:{entity}"),
        entity_type: "Sensor".into(),
        time_us: START_US + n * 1_000_000 + (n * 31 % 40) * 1_000,
        version: None,
        attributes: vec![attribute],
    }
}

fn query(entity: i64, window: Window, aggregation: Option<Aggregation>) -> Query {
    let selection = Selection {
        types: Some(vec!["Sensor".into()]),
        ids: Some(vec![format!("sensor:{entity}")]),
        ..Selection::all(QueryScope::whole_tenant(Tenant::default()))
    };
    Query { selection, attributes: Attributes::AllOf(vec!["temperature".into()]), window, aggregation }
}

/// Median and worst of 50 runs, in milliseconds.
async fn time_of(store: &dyn HistoryStore, name: &str, query: &Query) -> anyhow::Result<()> {
    let mut took = Vec::new();
    let mut rows = 0;
    for _ in 0..50 {
        let started = Instant::now();
        let found = store.query(query).await?;
        took.push(started.elapsed().as_secs_f64() * 1e3);
        rows = found.iter().flat_map(|rows| &rows.entities).map(|entity| entity.times.len()).sum();
    }
    took.sort_by(f64::total_cmp);
    println!("{name}: median {:.2} ms, worst {:.2} ms, {rows} rows", took[25], took[49]);
    Ok(())
}

async fn load(
    store: &dyn HistoryStore,
    name: &str,
    rows: impl Iterator<Item = Vec<Row>>,
) -> anyhow::Result<()> {
    let (mut points, mut writing) = (0, 0.0);
    for batch in rows {
        points += batch.len();
        let started = Instant::now();
        store.append(batch, None).await?;
        writing += started.elapsed().as_secs_f64();
    }
    println!("{name}: {:.0} points/s, one batch of {BATCH} in flight", points as f64 / writing);
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let config = Config { data_dir: dir.path().to_owned(), ..Config::default() };
    let metrics = Arc::new(Metrics::unregistered());
    let store = time_series::open(&config, &metrics, &Tasks::new()).await?;
    let one = (0..POINTS / BATCH).map(|batch| (0..BATCH).map(|n| reading(0, batch * BATCH + n)).collect());
    load(&*store, "one series", one).await?;
    let many = (0..500).map(|second| (1..=BATCH).map(|entity| reading(entity, second)).collect());
    load(&*store, "a thousand series", many).await?;

    let newest = Window { limit: 10_000, offset: 0, last_n: Some(100) };
    time_of(&*store, "lastN=100 of a million", &query(0, newest, None)).await?;
    time_of(&*store, "lastN=100 of an open head", &query(500, newest, None)).await?;
    let all = Window { limit: 10_000, offset: 0, last_n: None };
    for (name, period) in [("hourly", Some(Period::Hour)), ("daily", Some(Period::Day)), ("total", None)] {
        let aggregation = Aggregation { method: Method::Avg, period };
        time_of(&*store, &format!("{name} average of a million"), &query(0, all, Some(aggregation))).await?;
    }
    time_of(&*store, "oldest 10,000 rows", &query(0, all, None)).await?;

    let bytes = std::fs::metadata(dir.path().join("time-series.db"))?.len();
    store.close().await;
    println!("file: {:.1} bytes a point", bytes as f64 / (POINTS + 500 * BATCH) as f64);
    let started = Instant::now();
    let store = time_series::open(&config, &metrics, &Tasks::new()).await?;
    println!(
        "restart with the log of {} points: {:.0} ms",
        500 * BATCH,
        started.elapsed().as_secs_f64() * 1e3
    );
    store.close().await;
    Ok(())
}
