//! Opens the stores that the configuration names, and tells the bus where their outboxes are.

use std::sync::Arc;

use bus::{CONTEXT_CHANGES, HISTORY};
use service_kit::Tasks;
use store::{StoreConfig, group_commit::GroupCommitOptions};

use crate::{
    Config, Deps, StartError,
    metrics::BrokerMetrics,
    notification::{NotificationStore, PostgresNotificationStore, SqliteNotificationStore},
    registration::store::{PostgresRegistrationStore, RegistrationStore, SqliteRegistrationStore},
    store::{
        ContextStore, SystemStore,
        postgres::{PostgresOptions, PostgresStore},
        sqlite::{SqliteOptions, SqliteStore},
    },
};

/// The broker's state.
pub(crate) struct Stores {
    pub(crate) context: Arc<dyn ContextStore>,
    pub(crate) system: Arc<dyn SystemStore>,
    pub(crate) deliveries: Arc<dyn NotificationStore>,
    pub(crate) registrations: Arc<dyn RegistrationStore>,
}

/// Requests that make it worth to begin a batch while another waits for the disk: smaller ones cost more than they gain.
const OVERLAP: usize = 16;

pub(crate) async fn open(
    config: &Config,
    deps: &Deps,
    metrics: &BrokerMetrics,
    tasks: &Tasks,
) -> Result<Stores, StartError> {
    for index in &config.attribute_indexes {
        index.check().map_err(StartError::Config)?;
    }
    let observed = metrics.clone();
    let group_commit = GroupCommitOptions {
        max_batch: config.commit.max_batch,
        queue: config.commit.queue,
        observer: Some(Arc::new(move |report| observed.batch(report.requests, report.took, report.queued))),
        ..GroupCommitOptions::default()
    };
    match &config.store {
        StoreConfig::Sqlite => {
            let group_commit = GroupCommitOptions { overlap: Some(OVERLAP), ..group_commit };
            sqlite(config, deps, group_commit, tasks).await
        }
        StoreConfig::Postgres(server) => {
            let options = PostgresOptions {
                config: server.clone(),
                schema: config.postgres_schema.clone(),
                max_entity_bytes: config.max_entity_bytes,
                shards: config.commit.shards,
                indexes: config.attribute_indexes.clone(),
                group_commit,
            };
            postgres(options, deps, tasks).await
        }
    }
}

async fn sqlite(
    config: &Config,
    deps: &Deps,
    group_commit: GroupCommitOptions,
    tasks: &Tasks,
) -> Result<Stores, StartError> {
    let file = |name| StoreConfig::sqlite_file(&config.data_dir, name);
    let options = SqliteOptions {
        cache_bytes: config.cache_bytes,
        max_entity_bytes: config.max_entity_bytes,
        indexes: config.attribute_indexes.clone(),
        group_commit,
        reads_journal: deps.bus.reads_journals(),
    };
    let opened = SqliteStore::open(&file("context-broker"), options, deps.clock.clone(), tasks).await?;
    let waker = deps.bus.attach(CONTEXT_CHANGES, opened.outbox, tasks.stop_token()).await?;
    opened.wake.set(waker).ok();
    let notifier = SqliteNotificationStore::open(&file("notifier")).await?;
    notifier.wake_history(deps.bus.attach(HISTORY, notifier.outbox(), tasks.stop_token()).await?);
    let registrations = Arc::new(SqliteRegistrationStore::open(&file("registrations")).await?);
    let store = Arc::new(opened.store);
    Ok(Stores { context: store.clone(), system: store, deliveries: Arc::new(notifier), registrations })
}

async fn postgres(options: PostgresOptions, deps: &Deps, tasks: &Tasks) -> Result<Stores, StartError> {
    let (server, schema) = (options.config.clone(), options.schema.clone());
    let opened = PostgresStore::open(options, deps.clock.clone(), tasks).await?;
    let waker = deps.bus.attach(CONTEXT_CHANGES, opened.outbox, tasks.stop_token()).await?;
    opened.wake.set(waker).ok();
    let notifier = PostgresNotificationStore::open(&server, &schema).await?;
    notifier.wake_history(deps.bus.attach(HISTORY, notifier.outbox(), tasks.stop_token()).await?);
    let registrations = Arc::new(PostgresRegistrationStore::open(&server, &schema).await?);
    let store = Arc::new(opened.store);
    Ok(Stores { context: store.clone(), system: store, deliveries: Arc::new(notifier), registrations })
}
