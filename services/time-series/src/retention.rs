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

#[cfg(test)]
mod tests {
    use scope::{QueryScope, Scope, ServicePath};
    use service_kit::{ManualClock, Tasks};

    use super::*;
    use crate::{
        query::{Selection, Window},
        row::{NewAttribute, Row},
        store::embedded::Options,
    };

    fn reading(tenant: &str, entity_type: &str, day: i64) -> Row {
        let attribute = NewAttribute { name: "n".into(), declared: String::new(), value: 1.into() };
        Row {
            scope: Scope::new(Tenant::from_header(Some(tenant)).unwrap(), ServicePath::root()),
            entity_id: "e".into(),
            entity_type: entity_type.into(),
            time_us: day * DAY_US,
            version: None,
            attributes: vec![attribute],
        }
    }

    fn rule(tenant: &str, entity_type: &str, days: u32) -> Retention {
        Retention { tenant: tenant.into(), entity_type: entity_type.into(), days }
    }

    #[tokio::test]
    async fn each_type_keeps_what_its_rule_says() {
        let dir = tempfile::tempdir().unwrap();
        let config = Arc::new(Config {
            data_dir: dir.path().to_owned(),
            // Every row becomes a chunk of its own: retention goes by chunks.
            sealing: Options { chunk_rows: 1, ..Options::default() },
            retention_days: 30,
            retention: vec![rule("a", "kept", 0), rule("a", "", 20), rule("a", "Short", 5)],
            ..Config::default()
        });
        let metrics = Arc::new(Metrics::unregistered());
        let store = crate::open(&config, &metrics, &Tasks::new()).await.unwrap();
        for (tenant, name) in [("a", "Kept"), ("a", "Short"), ("a", "Other"), ("b", "Other")] {
            let days = [1, 75, 85, 99];
            for day in days {
                store.append(vec![reading(tenant, name, day)], None).await.unwrap();
            }
        }
        let clock = Arc::new(ManualClock::at_us(100 * DAY_US));
        let sweeper = Sweeper { store: store.clone(), clock, metrics, config };
        // Short keeps day 99 of 4; Other of a: 85, 99; of b: 75, 85, 99.
        assert_eq!(sweeper.sweep().await.unwrap(), 3 + 2 + 1);
        assert_eq!(sweeper.sweep().await.unwrap(), 0);
        let all = Selection::all(QueryScope::whole_tenant(Tenant::from_header(Some("a")).unwrap()));
        let page = Window { limit: 10, offset: 0, last_n: None };
        assert_eq!(store.entities(&all, page).await.unwrap().len(), 3);
    }
}
