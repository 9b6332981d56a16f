//! The history of all entities: QuantumLeap's HTTP API, a consumer of the mesh's events, and a store of its own.
//!
//! ```text
//! POST /v2/notify ─┐                                  ┌─ embedded: SQLite file, log + heads + chunks
//! topic history ───┼─► rows ─► HistoryStore::append ──┤
//! gRPC Append ─────┘                                  └─ PostgreSQL: one indexed table
//! GET /v2/… , gRPC QueryEntity ─► HistoryStore::query ─► rows or aggregates, by type and entity
//! ```
//!
//! Invariants
//! - What was answered with success, or whose stream position is stored, is durable and readable at once.
//! - A change from the event stream becomes one row, however often it is delivered; a notification is never taken for a
//!   repetition (decision 14).
//! - No call of the store is without a tenant.

pub mod api;
pub mod cell;
pub mod config;
mod consumer;
pub mod ingest;
pub mod metrics;
pub mod query;
mod retention;
pub mod row;
pub mod store;
pub mod time;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use ::bus::Bus;
use ::store::{StoreConfig, StoreError};
use service_kit::{
    Clock, Readiness, Running, Tasks, grpc,
    http::{HttpListener, serve_shared},
};
use tokio::net::TcpListener;

pub use config::Config;

use crate::{
    api::{ApiState, grpc_service},
    consumer::{HistoryConsumer, SERVICE},
    metrics::Metrics,
    retention::Sweeper,
    store::{HistoryStore, embedded::EmbeddedStore, postgres::PostgresStore},
};

/// What the service stands on.
#[derive(Clone)]
pub struct Deps {
    pub bus: Arc<dyn Bus>,
    pub clock: Arc<dyn Clock>,
    pub readiness: Readiness,
    pub metrics: service_kit::metrics::Metrics,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {address}")]
    Bind { address: SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
}

const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Binds `http` and `grpc`, opens the store and begins to consume.
pub async fn start(config: Config, deps: Deps) -> Result<Running, StartError> {
    let http = bind(SocketAddr::new(config.host, config.port)).await?;
    let rpc = bind(SocketAddr::new(config.host, config.grpc_port)).await?;
    let addresses = BTreeMap::from([("http", local(&http)?), ("grpc", local(&rpc)?)]);
    let (tasks, config) = (Tasks::new(), Arc::new(config));
    let metrics = Arc::new(Metrics::registered(&deps.metrics));
    let store = open(&config, &metrics, &tasks).await?;
    let clock = deps.clock.clone();
    let state = ApiState { store: store.clone(), clock, metrics: metrics.clone(), config: config.clone() };

    consume(&tasks, &deps, &store, &metrics);
    watch(&tasks, &deps.readiness, &store);
    let sweeper =
        Sweeper { store: store.clone(), clock: deps.clock.clone(), metrics, config: config.clone() };
    tasks.spawn("time-series retention", sweeper.run(tasks.stop_token()));
    let listener = HttpListener {
        service: SERVICE,
        name: "http",
        limits: config.http.clone(),
        refuse: api::refuse(),
        metrics: deps.metrics,
    };
    let router = serve_shared(&tasks, http, api::router(state.clone()), listener);
    let listener = grpc::GrpcListener { service: SERVICE, descriptors: proto::DESCRIPTORS };
    grpc::serve(&tasks, rpc, grpc_service(state), listener);
    Ok(Running::new(SERVICE, addresses, tasks).with_router("http", router))
}

async fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Bind { address, source })
}

fn local(listener: &TcpListener) -> Result<SocketAddr, StartError> {
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    listener.local_addr().map_err(|source| StartError::Bind { address: any, source })
}

/// Opens the store that the configuration names.
pub async fn open(
    config: &Config,
    metrics: &Arc<Metrics>,
    tasks: &Tasks,
) -> Result<Arc<dyn HistoryStore>, StoreError> {
    match &config.store {
        StoreConfig::Sqlite => {
            let made = std::fs::create_dir_all(&config.data_dir);
            made.map_err(|error| StoreError::Unavailable(format!("{}: {error}", config.data_dir.display())))?;
            let file = StoreConfig::sqlite_file(&config.data_dir, SERVICE);
            Ok(EmbeddedStore::open(&file, config.sealing, metrics.clone(), tasks).await?)
        }
        StoreConfig::Postgres(server) => {
            Ok(PostgresStore::open(server, &config.postgres_schema, metrics.clone(), tasks).await?)
        }
    }
}

fn consume(tasks: &Tasks, deps: &Deps, store: &Arc<dyn HistoryStore>, metrics: &Arc<Metrics>) {
    let consumer = Arc::new(HistoryConsumer { store: store.clone(), metrics: metrics.clone() });
    let (bus, stop) = (deps.bus.clone(), tasks.stop_token());
    tasks.spawn("history consumer", async move { bus.consume(bus::HISTORY, SERVICE, consumer, stop).await });
}

/// Keeps readiness true to what the store says.
fn watch(tasks: &Tasks, readiness: &Readiness, store: &Arc<dyn HistoryStore>) {
    let (readiness, store, stop) = (readiness.clone(), store.clone(), tasks.stop_token());
    tasks.spawn("time-series readiness", async move {
        let mut ticker = tokio::time::interval(CHECK_INTERVAL);
        loop {
            tokio::select! {
                _ = ticker.tick() => {}
                () = stop.cancelled() => return Ok::<(), std::convert::Infallible>(()),
            }
            readiness.set("time-series.store", store.check().await.map_err(|error| error.to_string()));
        }
    });
}
