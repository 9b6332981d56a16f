//! Old rows go: once an hour, by the rules of the configuration.

use std::{sync::Arc, time::Duration};

use scope::Tenant;
use service_kit::Clock;
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Config, Retention},
    metrics::Metrics,
    store::{HistoryStore, StoreError},
};

const INTERVAL: Duration = Duration::from_secs(3600);
const DAY_US: i64 = 86_400_000_000;

pub(crate) struct Sweeper {
    pub(crate) store: Arc<dyn HistoryStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) config: Arc<Config>,
}

impl Sweeper {
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), std::convert::Infallible> {
        let mut ticker = tokio::time::interval(INTERVAL);
        loop {
            tokio::select! {
                _ = ticker.tick() => {}
                () = stop.cancelled() => return Ok(()),
            }
            match self.sweep().await {
                Ok(0) => {}
                Ok(rows) => tracing::info!(rows, "old rows deleted"),
                Err(error) => tracing::warn!(%error, "old rows not deleted"),
            }
        }
    }

    /// Applies the rules once; answers how many rows went.
    pub(crate) async fn sweep(&self) -> Result<u64, StoreError> {
        if self.config.retention_days == 0 && self.config.retention.is_empty() {
            return Ok(0);
        }
        let mut removed = 0;
        for tenant in self.store.tenants().await? {
            let rules: Vec<&Retention> =
                self.config.retention.iter().filter(|rule| rule.tenant == tenant.as_str()).collect();
            let named = || rules.iter().filter(|rule| !rule.entity_type.is_empty());
            for rule in named() {
                removed += self.expire(&tenant, Some(&rule.entity_type), &[], rule.days).await?;
            }
            let rest = rules.iter().find(|rule| rule.entity_type.is_empty());
            let days = rest.map_or(self.config.retention_days, |rule| rule.days);
            let keep: Vec<String> = named().map(|rule| rule.entity_type.clone()).collect();
            removed += self.expire(&tenant, None, &keep, days).await?;
        }
        self.metrics.rows_expired.inc_by(removed);
        Ok(removed)
    }

    async fn expire(
        &self,
        tenant: &Tenant,
        only: Option<&str>,
        keep: &[String],
        days: u32,
    ) -> Result<u64, StoreError> {
        if days == 0 {
            return Ok(0);
        }
        let before_us = self.clock.now_us() - i64::from(days) * DAY_US;
        self.store.expire(tenant, only, keep, before_us).await
    }
}
