//! Assembles the service: listeners first, then the stores, the notifier, and the APIs over one core.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use bus::{Bus, CONTEXT_CHANGES};
use service_kit::{
    Clock, Readiness, Running, Tasks,
    grpc::GrpcListener,
    http::{HttpListener, refuse_ngsi},
    metrics::Metrics,
};
use soft_state::SoftState;
use tokio::{net::TcpListener, sync::Semaphore};

use crate::{
    Config, Core, NotificationMode, StartError,
    administration::Administration,
    api,
    core::Changes,
    forwarding::Forwarding,
    metrics::BrokerMetrics,
    notification::{
        self, DeliveryOptions, FlowControl, NOTIFIER_GROUP, OwnHistory, SenderOptions, TlsOptions, Trust,
    },
    quota::Quotas,
    registration::Registrations,
    stores,
    subscription::Registry,
    tokens::Tokens,
    upkeep::Upkeep,
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
    let (grpc, grpc_address) = bind(&config, config.grpc_port).await?;
    let tasks = Tasks::new();
    let core = assemble(&config, &deps, &tasks).await?;
    let listener = HttpListener {
        service: SERVICE,
        name: "http",
        limits: config.http.clone(),
        refuse: refuse_ngsi(),
        metrics: deps.metrics.clone(),
    };
    let router =
        service_kit::http::serve_handler(&tasks, http, api::handler(core.clone(), &config), listener);
    let listener = GrpcListener { service: SERVICE, descriptors: proto::DESCRIPTORS };
    service_kit::grpc::serve(&tasks, grpc, api::grpc_service(core.clone()), listener);
    deps.readiness.set("context-broker.store", Ok(()));
    let addresses = BTreeMap::from([("http", http_address), ("grpc", grpc_address)]);
    Ok(Started { running: Running::new(SERVICE, addresses, tasks).with_router("http", router), core })
}

/// Everything but the listeners.
pub(crate) async fn assemble(config: &Config, deps: &Deps, tasks: &Tasks) -> Result<Core, StartError> {
    let flow = &config.notification.flow_control;
    if !flow.is_empty() && FlowControl::parse(flow).is_none() {
        let wanted = "context-broker.notification.flow_control is not of the form gauge:stepDelay:maxInterval (0 to 1, ms, ms)";
        return Err(StartError::Config(wanted.to_owned()));
    }
    let quotas = Quotas::new(&config.quotas, deps.soft_state.clone()).map_err(StartError::Config)?;
    let metrics = BrokerMetrics::register(&deps.metrics);
    let stores = stores::open(config, deps, &metrics, tasks).await?;
    let registry = Arc::new(Registry::new(
        stores.context.clone(),
        stores.deliveries,
        deps.clock.clone(),
        metrics.clone(),
    ));
    let options = DeliveryOptions {
        durable: config.notification.mode == NotificationMode::Durable,
        transient_concurrency: config.notification.transient_concurrency.max(1),
        concurrency: config.notification.concurrency.max(1),
        longest_pause: Duration::from_millis(config.notification.longest_pause_ms),
        max_age: Duration::from_secs(config.notification.max_age_s),
        default_timeout: Duration::from_millis(config.notification.timeout_ms),
    };
    let own_history = OwnHistory::new(&config.history);
    let lifetime = Duration::from_secs(config.notification.token_lifetime_s);
    let tokens = Tokens::new(config.notification.token_key.expose(), deps.soft_state.clone(), lifetime);
    let tokens = Arc::new(tokens.map_err(|error| StartError::Config(error.to_string()))?);
    let administration = Arc::new(Administration::new(&config.administration, deps.clock.now_us()));
    let trust = Arc::new(trust(config));
    let notifier = Arc::new(notification::start(
        registry.clone(),
        own_history,
        config.notification.custom,
        options,
        senders(config, trust.clone(), administration.clone()),
        tokens.clone(),
        tasks,
    ));
    let (bus, stop) = (deps.bus.clone(), tasks.stop_token());
    tasks.spawn("context-broker.notifier", async move {
        bus.consume(CONTEXT_CHANGES, NOTIFIER_GROUP, notifier, stop).await
    });
    Upkeep::start(config, deps, stores.system.clone(), registry.clone(), tasks);
    let registrations = Arc::new(Registrations::open(stores.registrations, deps.clock.clone()).await?);
    tasks.spawn("context-broker.registrations", registrations.clone().upkeep(tasks.stop_token()));
    let forwarding = Arc::new(Forwarding::new(
        &config.forwarding,
        registrations.clone(),
        metrics.clone(),
        administration.clone(),
        trust,
    ));
    Ok(Core {
        store: stores.context,
        subscriptions: registry,
        clock: deps.clock.clone(),
        metrics,
        tokens,
        query_ms: config.query.max_ms,
        administration,
        system: stores.system,
        registrations,
        forwarding,
        quotas: Arc::new(quotas),
        changes: Changes {
            bus: deps.bus.clone(),
            stop: tasks.stop_token(),
            watches: Arc::new(Semaphore::new(api::MAX_WATCHES)),
        },
    })
}

fn trust(config: &Config) -> Trust {
    let ca_file = config.notification.ca_file.as_path();
    Trust::new(TlsOptions {
        insecure: config.notification.insecure_tls,
        ca_file: (!ca_file.as_os_str().is_empty()).then(|| ca_file.to_owned()),
    })
}

fn senders(config: &Config, trust: Arc<Trust>, administration: Arc<Administration>) -> SenderOptions {
    let notification = &config.notification;
    SenderOptions {
        max_message_bytes: notification.max_message_bytes,
        trust,
        administration,
        mqtt_timeout: Duration::from_millis(notification.mqtt_timeout_ms),
        mqtt_max_idle: Duration::from_secs(notification.mqtt_max_idle_s),
        kafka_timeout: Duration::from_millis(notification.kafka_timeout_ms),
        kafka_max_idle: Duration::from_secs(notification.kafka_max_idle_s),
    }
}

async fn bind(config: &Config, port: u16) -> Result<(TcpListener, SocketAddr), StartError> {
    let address = SocketAddr::new(config.host, port);
    let failed = |source| StartError::Listen { address, source };
    let socket = TcpListener::bind(address).await.map_err(failed)?;
    let bound = socket.local_addr().map_err(failed)?;
    Ok((socket, bound))
}
