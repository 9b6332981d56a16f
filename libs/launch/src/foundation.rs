use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, anyhow};
use bus::{Bus, EmbeddedBus, EmbeddedOptions, KafkaBus, KafkaConfig};
use service_kit::{
    Clock, Readiness, SystemClock, Tasks,
    admin::{self, Router},
    http::{HttpLimits, HttpListener, refuse_ngsi, serve},
    metrics::Metrics,
};
use soft_state::{MemorySoftState, RedisConfig, RedisSoftState, SoftState};
use store::{DirLock, StoreError};
use tokio::net::TcpListener;

use crate::bus_metrics::BusMetrics;
use crate::config::{AdminConfig, Backends, ProcessConfig};
use crate::signals::Signals;

/// How often the shared backends are asked whether they are there.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// The need that the services themselves are: `/readyz` answers before they do.
const SERVICES: &str = "services";

/// What the services of a process stand on. Cheap to clone, but for the data directory's lock.
pub struct Foundation {
    pub bus: Arc<dyn Bus>,
    pub soft_state: Arc<dyn SoftState>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Metrics,
    pub readiness: Readiness,
    pub tasks: Tasks,
    pub admin_address: SocketAddr,
    pub(crate) signals: Signals,
    _data_dir: DirLock,
}

impl Foundation {
    /// Locks the data directory, binds the admin port and connects the backends. Fails before any work is done.
    pub async fn lay(config: &ProcessConfig, data_dir: &Path) -> Result<Self> {
        Self::lay_with(config, data_dir, || Ok(Router::new())).await
    }

    /// The same with more routes on the admin port. They are made when the data directory is this process's own.
    pub async fn lay_with(
        config: &ProcessConfig,
        data_dir: &Path,
        routes: impl FnOnce() -> Result<Router>,
    ) -> Result<Self> {
        let signals = Signals::catch()?;
        let lock = lock(data_dir)?;
        let routes = routes()?;
        let (tasks, metrics, readiness) = (Tasks::new(), Metrics::new(), Readiness::new());
        readiness.expect(SERVICES);
        let admin_address = serve_admin(&tasks, &config.admin, &metrics, &readiness, routes).await?;
        let bus = open_bus(config)?;
        let soft_state = open_soft_state(&config.backends)?;
        probe(&tasks, &readiness, BusMetrics::register(&metrics), bus.clone(), soft_state.clone());
        Ok(Self {
            bus,
            soft_state,
            clock: Arc::new(SystemClock),
            metrics,
            readiness,
            tasks,
            admin_address,
            signals,
            _data_dir: lock,
        })
    }

    /// Says that all services of the process serve: only now can it become ready.
    pub fn started(&self) {
        self.readiness.set(SERVICES, Ok(()));
    }
}

fn lock(data_dir: &Path) -> Result<DirLock> {
    store::lock_data_dir(data_dir).map_err(|error| match error {
        StoreError::Unavailable(reason) => {
            anyhow!("{reason}; make it writable for this user, or choose another folder with --data-dir")
        }
        other => other.into(),
    })
}

/// Whether a start failed because somebody else listens where it wanted to.
pub fn port_is_taken(error: &anyhow::Error) -> bool {
    let io_errors = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    io_errors.map(std::io::Error::kind).any(|kind| kind == std::io::ErrorKind::AddrInUse)
}

async fn serve_admin(
    tasks: &Tasks,
    config: &AdminConfig,
    metrics: &Metrics,
    readiness: &Readiness,
    routes: Router,
) -> Result<SocketAddr> {
    let address = SocketAddr::new(config.host, config.port);
    let socket = TcpListener::bind(address)
        .await
        .with_context(|| format!("admin port: cannot listen on {address}"))?;
    let bound = socket.local_addr()?;
    let listener = HttpListener {
        service: "admin",
        name: "admin",
        limits: HttpLimits { max_connections: 64, max_in_flight: 16, ..HttpLimits::default() },
        refuse: refuse_ngsi(),
        metrics: metrics.clone(),
    };
    serve(tasks, socket, admin::router(metrics.clone(), readiness.clone()).merge(routes), listener);
    Ok(bound)
}

fn open_bus(config: &ProcessConfig) -> Result<Arc<dyn Bus>> {
    let brokers = &config.backends.kafka;
    if brokers.is_empty() {
        let options = EmbeddedOptions { retention: config.event_log.clone(), ..EmbeddedOptions::default() };
        return Ok(Arc::new(EmbeddedBus::new(options)));
    }
    let kafka = KafkaConfig { brokers: brokers.clone(), ..config.kafka.clone() };
    Ok(Arc::new(KafkaBus::new(kafka).context("backends.kafka")?))
}

fn open_soft_state(backends: &Backends) -> Result<Arc<dyn SoftState>> {
    if backends.redis.is_empty() {
        return Ok(Arc::new(MemorySoftState::default()));
    }
    let redis = RedisConfig::new(backends.redis.expose());
    Ok(Arc::new(RedisSoftState::new(&redis).context("backends.redis")?))
}

/// Keeps readiness and metrics true to what the bus and the soft state say.
fn probe(
    tasks: &Tasks,
    readiness: &Readiness,
    bus_metrics: BusMetrics,
    bus: Arc<dyn Bus>,
    soft_state: Arc<dyn SoftState>,
) {
    let (readiness, stop) = (readiness.clone(), tasks.stop_token());
    tasks.spawn("readiness probe", async move {
        let mut ticker = tokio::time::interval(PROBE_INTERVAL);
        loop {
            tokio::select! {
                _ = ticker.tick() => {}
                () = stop.cancelled() => return Ok::<(), std::convert::Infallible>(()),
            }
            bus_metrics.update(bus.counters());
            readiness.set("bus", bus.check().await.map_err(|error| error.to_string()));
            readiness.set("soft-state", soft_state.check().await.map_err(|error| error.to_string()));
        }
    });
}
