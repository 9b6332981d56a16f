//! Assembles the service: listeners first, then the store, the notifier, and the APIs over one core.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use bus::Bus;
use service_kit::{
    Clock, Readiness, Running, Tasks,
    http::{HttpListener, refuse_ngsi},
    metrics::Metrics,
};
use soft_state::SoftState;
use store::{StoreConfig, group_commit::GroupCommitOptions};
use tokio::net::TcpListener;

use crate::{
    Config, Core, StartError, api,
    metrics::BrokerMetrics,
    store::{
        ContextStore,
        sqlite::{Opened, SqliteOptions, SqliteStore},
    },
};

const SERVICE: &str = "context-broker";

/// What the broker is given.
#[derive(Clone)]
pub struct Deps {
    pub bus: Arc<dyn Bus>,
    pub soft_state: Arc<dyn SoftState>,
    pub clock: Arc<dyn Clock>,
    pub readiness: Readiness,
    pub metrics: Metrics,
}

/// A started broker.
pub struct Started {
    pub running: Running,
    /// For neighbours in the same process.
    pub core: Core,
}

/// Starts the broker; listeners `http` and `grpc`.
pub async fn start(config: Config, deps: Deps) -> Result<Started, StartError> {
    let (http, http_address) = bind(&config, config.port).await?;
    let tasks = Tasks::new();
    let metrics = BrokerMetrics::register(&deps.metrics);
    let opened = open_store(&config, &deps, &metrics, &tasks).await?;
    let waker = deps.bus.attach(bus::CONTEXT_CHANGES, opened.outbox, tasks.stop_token()).await?;
    opened.wake.set(waker).ok();
    let store: Arc<dyn ContextStore> = Arc::new(opened.store);
    let core = Core { store, clock: deps.clock.clone(), metrics };
    let listener = HttpListener {
        service: SERVICE,
        name: "http",
        limits: config.http.clone(),
        refuse: refuse_ngsi(),
        metrics: deps.metrics.clone(),
    };
    service_kit::http::serve(&tasks, http, api::router(core.clone(), &config), listener);
    deps.readiness.set("context-broker.store", Ok(()));
    let addresses = BTreeMap::from([("http", http_address)]);
    Ok(Started { running: Running::new(SERVICE, addresses, tasks), core })
}

async fn bind(config: &Config, port: u16) -> Result<(TcpListener, SocketAddr), StartError> {
    let address = SocketAddr::new(config.host, port);
    let failed = |source| StartError::Listen { address, source };
    let socket = TcpListener::bind(address).await.map_err(failed)?;
    let bound = socket.local_addr().map_err(failed)?;
    Ok((socket, bound))
}

async fn open_store(
    config: &Config,
    deps: &Deps,
    metrics: &BrokerMetrics,
    tasks: &Tasks,
) -> Result<Opened<SqliteStore>, StartError> {
    let observed = metrics.clone();
    let group_commit = GroupCommitOptions {
        max_batch: config.commit.max_batch,
        queue: config.commit.queue,
        observer: Some(Arc::new(move |report| observed.batch(report.requests, report.took, report.queued))),
    };
    match &config.store {
        StoreConfig::Sqlite => {
            let file = StoreConfig::sqlite_file(&config.data_dir, "context-broker");
            let options = SqliteOptions {
                cache_bytes: config.cache_bytes,
                max_entity_bytes: config.max_entity_bytes,
                group_commit,
            };
            Ok(SqliteStore::open(&file, options, deps.clock.clone(), tasks).await?)
        }
        StoreConfig::Postgres(_) => Err(StartError::Config("PostgreSQL is not in this build".to_owned())),
    }
}
