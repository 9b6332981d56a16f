use std::{collections::BTreeMap, convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use ::store::StoreConfig;
use bus::{Bus, MEASURES, OutboxDb};
use proto::v1::device_agent_server::DeviceAgentServer;
use service_kit::{
    Clock, Readiness, Running, Tasks,
    grpc::{self, GrpcListener, Neighbour},
    http::{self, HttpListener},
    metrics::Metrics as MetricsRegistry,
};
use soft_state::SoftState;
use tokio::net::TcpListener;

use crate::{
    Config,
    agent::Agent,
    api::{self, ApiState, grpc::DeviceAgentApi},
    delivery::{Broker, Delivery, Diversion, Drain},
    metrics::Metrics,
    registry::Registry,
    store::{PostgresStore, SqliteStore, Store},
};

const SERVICE: &str = "device-agent";
/// How often the store and the length of the bus are looked at.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// What the agent gets from its process.
pub struct Deps {
    pub bus: Arc<dyn Bus>,
    pub soft_state: Arc<dyn SoftState>,
    pub clock: Arc<dyn Clock>,
    /// The context broker.
    pub broker: Neighbour,
    pub readiness: Readiness,
    pub metrics: MetricsRegistry,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("configuration: {0}")]
    Config(String),
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Store(#[from] ::store::StoreError),
    #[error(transparent)]
    Bus(#[from] bus::BusError),
}

struct Listeners {
    north: TcpListener,
    south: TcpListener,
    grpc: TcpListener,
}

impl Listeners {
    async fn bind(config: &Config) -> Result<Self, StartError> {
        let bind = async |port: u16| {
            let address = SocketAddr::new(config.host, port);
            TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, source })
        };
        Ok(Self {
            north: bind(config.north_port).await?,
            south: bind(config.south_port).await?,
            grpc: bind(config.grpc_port).await?,
        })
    }

    fn addresses(&self) -> BTreeMap<&'static str, SocketAddr> {
        let listeners = [("north", &self.north), ("south", &self.south), ("grpc", &self.grpc)];
        listeners
            .into_iter()
            .filter_map(|(name, listener)| Some((name, listener.local_addr().ok()?)))
            .collect()
    }
}

/// Starts the agent. Listeners `north`, `south` and `grpc` are bound before anything else is done.
pub async fn start(config: Config, deps: Deps) -> Result<Running, StartError> {
    config.validate().map_err(StartError::Config)?;
    let listeners = Listeners::bind(&config).await?;
    let addresses = listeners.addresses();
    let tasks = Tasks::new();
    let metrics = Metrics::default();
    deps.metrics.register(SERVICE, |registry| metrics.register(registry));

    let store = open_store(&config, &deps, &tasks).await?;
    let broker = Arc::new(Broker::new(
        deps.broker.clone(),
        Duration::from_millis(config.broker.deadline_ms),
        metrics.clone(),
    ));
    let diversion =
        Arc::new(Diversion::load(store.clone(), config.broker.max_diverted, metrics.clone()).await?);
    let drain = Drain::new(broker.clone(), diversion.clone(), store.clone(), metrics.clone());
    let agent = Arc::new(Agent {
        registry: Registry::new(store.clone(), &config.cache, metrics.clone()),
        delivery: Delivery::start(&tasks, &config.broker, &broker, &diversion, &metrics),
        soft_state: deps.soft_state.clone(),
        clock: deps.clock.clone(),
        metrics,
        config,
    });

    let (bus, stop) = (deps.bus.clone(), tasks.stop_token());
    tasks.spawn(
        "device-agent drain",
        async move { bus.consume(MEASURES, SERVICE, Arc::new(drain), stop).await },
    );
    check_once(&store, &deps.bus, &deps.readiness, &diversion).await;
    watch(&tasks, store, &deps, diversion);
    let [north, south] = serve(&tasks, listeners, agent, &deps, addresses["north"].port());
    Ok(Running::new(SERVICE, addresses, tasks).with_router("north", north).with_router("south", south))
}

async fn open_store(config: &Config, deps: &Deps, tasks: &Tasks) -> Result<Arc<dyn Store>, StartError> {
    match &config.store {
        StoreConfig::Sqlite => {
            let pools = SqliteStore::open(&config.data_dir).await?;
            let outbox = OutboxDb::Sqlite(pools.clone());
            let waker = deps.bus.attach(MEASURES, outbox, tasks.stop_token()).await?;
            Ok(Arc::new(SqliteStore::new(pools, waker)))
        }
        StoreConfig::Postgres(postgres) => {
            let pool = PostgresStore::open(postgres, crate::store::POSTGRES_SCHEMA).await?;
            let outbox = OutboxDb::Postgres(pool.clone());
            let waker = deps.bus.attach(MEASURES, outbox, tasks.stop_token()).await?;
            Ok(Arc::new(PostgresStore::new(pool, waker)))
        }
    }
}

/// Opens all listeners; returns the guarded north and south APIs.
fn serve(
    tasks: &Tasks,
    listeners: Listeners,
    agent: Arc<Agent>,
    deps: &Deps,
    north_port: u16,
) -> [axum::Router; 2] {
    let state = ApiState::new(agent.clone(), deps.readiness.clone(), north_port);
    let listener = |name| HttpListener {
        service: SERVICE,
        name,
        limits: agent.config.http.clone(),
        refuse: api::refuse(),
        metrics: deps.metrics.clone(),
    };
    let north = http::serve_shared(tasks, listeners.north, api::north(state.clone()), listener("north"));
    let south = http::serve_shared(tasks, listeners.south, api::south(state), listener("south"));
    let grpc_api = DeviceAgentServer::new(DeviceAgentApi(agent.clone()));
    let grpc_listener = GrpcListener { service: SERVICE, descriptors: proto::DESCRIPTORS };
    grpc::serve(tasks, listeners.grpc, grpc_api, grpc_listener);
    [north, south]
}

/// Looks at store and bus every second until the stop.
fn watch(tasks: &Tasks, store: Arc<dyn Store>, deps: &Deps, diversion: Arc<Diversion>) {
    let stop = tasks.stop_token();
    let (bus, readiness) = (deps.bus.clone(), deps.readiness.clone());
    tasks.spawn("device-agent watch", async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok::<(), Infallible>(()),
                () = tokio::time::sleep(CHECK_EVERY) => check_once(&store, &bus, &readiness, &diversion).await,
            }
        }
    });
}

async fn check_once(
    store: &Arc<dyn Store>,
    bus: &Arc<dyn Bus>,
    readiness: &Readiness,
    diversion: &Diversion,
) {
    // A broker that is away is no reason to be taken out of service: measures are kept on the bus. (The bus itself is
    // looked at by whoever made it.)
    let checked = store.check().await.map_err(|error| error.to_string());
    readiness.set("device-agent.store", checked);
    match bus.lag(MEASURES, SERVICE).await {
        Ok(pending) => diversion.set_pending(pending),
        Err(error) => tracing::debug!(%error, "length of the bus not known"),
    }
}
