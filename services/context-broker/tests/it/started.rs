//! A broker under test.

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use bus::{Bus, EmbeddedBus};
use context_broker::{
    Config, Core, Deps, HistoryConfig, Started, start,
    subscription::{SubscriptionId, SubscriptionView},
    update::Operation,
};
use ngsi::{
    EntityUpdate, UpdateAction,
    parse::{BodyFormat, attributes},
    subscription::{Subscription, SubscriptionPatch},
};
use scope::{PathPattern, Scope, ServicePath, Tenant};
use serde_json::Value;
use service_kit::{ManualClock, Readiness, RequestContext, metrics::Metrics};
use soft_state::MemorySoftState;

/// Any condition of a test holds within this.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
pub(crate) const START_US: i64 = 1_700_000_000_000_000;

pub(crate) struct Broker {
    pub(crate) core: Core,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) scope: Scope,
    pub(crate) metrics: Metrics,
    started: Started,
    dir: Arc<tempfile::TempDir>,
}

impl Broker {
    pub(crate) async fn start() -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), Arc::new(ManualClock::at_us(START_US))).await
    }

    async fn start_in(dir: Arc<tempfile::TempDir>, clock: Arc<ManualClock>) -> Self {
        let config = Config {
            host: IpAddr::from([127, 0, 0, 1]),
            port: 0,
            grpc_port: 0,
            data_dir: PathBuf::from(dir.path()),
            history: HistoryConfig { enabled: true, hosts: vec!["quantumleap".to_owned()] },
            notification: context_broker::NotificationConfig { longest_pause_ms: 200, ..Default::default() },
            ..Config::default()
        };
        let bus: Arc<dyn Bus> = Arc::new(EmbeddedBus::default());
        let metrics = Metrics::new();
        let deps = Deps {
            bus: bus.clone(),
            soft_state: Arc::new(MemorySoftState::default()),
            clock: clock.clone(),
            readiness: Readiness::new(),
            metrics: metrics.clone(),
        };
        let started = start(config, deps).await.unwrap();
        let scope =
            Scope::new(Tenant::from_header(Some("factory")).unwrap(), ServicePath::parse("/hall").unwrap());
        Self { core: started.core.clone(), bus, clock, scope, metrics, started, dir }
    }

    /// The same state in a new service.
    pub(crate) async fn restart(self) -> Self {
        assert!(self.started.running.stop(DEADLINE).await, "stops in time");
        Self::start_in(self.dir, self.clock).await
    }

    pub(crate) fn grpc_url(&self) -> String {
        format!("http://{}", self.started.running.addresses()["grpc"])
    }

    /// Creates or changes entity `id` of type `T`; values as in an NGSIv2 body.
    pub(crate) async fn write(&self, id: &str, body: Value) -> i64 {
        let attributes = attributes(&serde_json::to_vec(&body).unwrap(), BodyFormat::Normalized).unwrap();
        let update = EntityUpdate { id: id.to_owned(), entity_type: Some("T".to_owned()), attributes };
        let operation = Operation::new(UpdateAction::Append, update);
        let cause = RequestContext::background("test");
        let mut results = self.core.apply(&self.scope, vec![operation], &cause).await;
        results.remove(0).unwrap().version
    }

    pub(crate) async fn subscribe(&self, body: Value) -> SubscriptionId {
        let subscription = Subscription::parse(&serde_json::to_vec(&body).unwrap()).unwrap();
        let path = PathPattern::parse("/#").unwrap();
        self.core.create_subscription(&self.scope.tenant, &path, &subscription).await.unwrap()
    }

    pub(crate) async fn patch(&self, id: &SubscriptionId, body: Value) {
        let patch = SubscriptionPatch::parse(&serde_json::to_vec(&body).unwrap()).unwrap();
        self.core.update_subscription(&self.scope.tenant, id, patch).await.unwrap();
    }

    pub(crate) async fn subscription(&self, id: &SubscriptionId) -> SubscriptionView {
        self.core.get_subscription(&self.scope.tenant, id, true).await.unwrap()
    }

    /// Waits until the subscription is as `wanted`.
    pub(crate) async fn until(
        &self,
        id: &SubscriptionId,
        wanted: impl Fn(&SubscriptionView) -> bool,
    ) -> SubscriptionView {
        let poll = async {
            loop {
                let view = self.subscription(id).await;
                if wanted(&view) {
                    return view;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match tokio::time::timeout(DEADLINE, poll).await {
            Ok(view) => view,
            Err(_) => panic!("not so in time: {:?}", self.subscription(id).await.counters),
        }
    }

    /// Waits until everything committed so far has been matched, and what follows from it is stored.
    pub(crate) async fn until_matched(&self) {
        let poll = async {
            while self.bus.lag(bus::CONTEXT_CHANGES, "notifier").await.unwrap() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, poll).await.expect("the notifier catches up");
    }
}
