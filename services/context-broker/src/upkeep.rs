//! Work that nobody asks for: expired entities, bounds of what waits, gauges, readiness.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bus::{Bus, CONTEXT_CHANGES};
use parking_lot::Mutex;
use service_kit::{Clock, Readiness, Tasks};
use store::StoreError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Deps,
    metrics::BrokerMetrics,
    notification::{Bounds, NOTIFIER_GROUP},
    store::SystemStore,
    subscription::Registry,
};

const EVERY: Duration = Duration::from_secs(1);
/// Rounds between two looks at the backlogs of subscriptions.
const BACKLOGS_EVERY: u64 = 5;
/// Subscriptions whose backlog is told.
const BACKLOGS_TOLD: u32 = 100;
/// After what waits was counted it is not counted again for so many times as long as that took: the more waits, the more seldom.
const COUNTING_REST: u32 = 50;
/// Sweeps of expired entities in one round, at most.
const SWEEPS: usize = 20;

pub(crate) struct Upkeep {
    system: Arc<dyn SystemStore>,
    registry: Arc<Registry>,
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    readiness: Readiness,
    metrics: BrokerMetrics,
    max_age_us: i64,
    max_per_endpoint: i64,
    rounds: AtomicU64,
    /// When what waits is counted again.
    count_after: Mutex<Instant>,
}

impl Upkeep {
    pub(crate) fn start(
        config: &Config,
        deps: &Deps,
        system: Arc<dyn SystemStore>,
        registry: Arc<Registry>,
        tasks: &Tasks,
    ) {
        let upkeep = Self {
            system,
            bus: deps.bus.clone(),
            clock: deps.clock.clone(),
            readiness: deps.readiness.clone(),
            metrics: registry.metrics.clone(),
            registry,
            max_age_us: i64::try_from(config.notification.max_age_s)
                .unwrap_or(i64::MAX)
                .saturating_mul(1_000_000),
            max_per_endpoint: i64::from(config.notification.max_per_endpoint),
            rounds: AtomicU64::new(0),
            count_after: Mutex::new(Instant::now()),
        };
        tasks.spawn("context-broker.upkeep", upkeep.run(tasks.stop_token()));
    }

    async fn run(self, stop: CancellationToken) -> Result<(), StoreError> {
        let mut ticker = tokio::time::interval(EVERY);
        ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticker.tick() => {}
                () = stop.cancelled() => return Ok(()),
            }
            let round = self.round().await;
            if let Err(error) = &round {
                tracing::debug!(%error, "upkeep failed, it is tried again");
            }
            self.readiness.set("context-broker.store", round.map_err(|error| error.to_string()));
        }
    }

    /// Which subscriptions keep most waiting; not in every round, because it counts all that waits.
    async fn tell_backlogs(&self, waiting: u64) -> Result<(), StoreError> {
        let round = self.rounds.fetch_add(1, Ordering::Relaxed);
        if round.is_multiple_of(BACKLOGS_EVERY) {
            let longest = match waiting {
                0 => Vec::new(),
                _ => self.registry.deliveries.longest(BACKLOGS_TOLD).await?,
            };
            self.metrics.longest_backlogs(longest);
        }
        Ok(())
    }

    /// Tells how much waits, and drops what is beyond the bounds.
    async fn look_at_backlogs(&self, now_us: i64) -> Result<(), StoreError> {
        let waiting = self.registry.deliveries.pending(u64::MAX).await?;
        self.metrics.pending(waiting);
        self.tell_backlogs(waiting).await?;
        if waiting > 0 {
            let bounds = Bounds {
                not_before_us: now_us.saturating_sub(self.max_age_us),
                max_per_endpoint: self.max_per_endpoint,
            };
            let dropped = self.registry.deliveries.enforce(bounds).await?;
            if dropped > 0 {
                tracing::warn!(dropped, "notifications dropped: too old or too many for one endpoint");
                self.metrics.dropped(dropped);
            }
        }
        Ok(())
    }

    async fn round(&self) -> Result<(), StoreError> {
        self.registry.store.check().await?;
        self.registry.deliveries.check().await?;
        let now_us = self.clock.now_us();
        for _ in 0..SWEEPS {
            match self.system.sweep_expired(now_us).await? {
                0 => break,
                swept => self.metrics.expired(swept),
            }
        }
        self.registry.follow(self.system.subscription_epochs().await?).await?;
        let started = Instant::now();
        if started >= *self.count_after.lock() {
            self.look_at_backlogs(now_us).await?;
            *self.count_after.lock() = Instant::now() + started.elapsed() * COUNTING_REST;
        }
        if let Some(gauges) = self.system.gauges() {
            self.metrics.store(gauges);
        }
        match self.bus.lag(CONTEXT_CHANGES, NOTIFIER_GROUP).await {
            Ok(lag) => self.metrics.notifier_lag(lag),
            Err(error) => tracing::debug!(%error, "lag of the notifier not known"),
        }
        Ok(())
    }
}
