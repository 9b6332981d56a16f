//! Opening stores for tests.

use std::{path::Path, sync::Arc};

use service_kit::Tasks;
use store::{PostgresConfig, StoreConfig};
use tempfile::TempDir;
use time_series::{
    Config,
    metrics::Metrics,
    store::{HistoryStore, embedded::Options},
};

const POSTGRES: &str = "TEST_POSTGRES_URL";

/// Which engine, and where its state lies, so that it can be opened again.
pub(crate) struct Engine {
    config: Config,
    _dir: Option<TempDir>,
}

impl Engine {
    pub(crate) fn embedded(sealing: Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { data_dir: dir.path().to_owned(), sealing, ..Config::default() };
        Self { config, _dir: Some(dir) }
    }

    /// A schema of its own on the test server; `None` when there is none.
    pub(crate) fn postgres() -> Option<Self> {
        let url = store::testing::server(POSTGRES)?;
        let config = PostgresConfig { max_connections: 4, ..PostgresConfig::new(url) };
        let config = Config {
            store: StoreConfig::Postgres(config),
            postgres_schema: store::testing::fresh_schema("series"),
            ..Config::default()
        };
        Some(Self { config, _dir: None })
    }

    pub(crate) async fn open(&self) -> Arc<dyn HistoryStore> {
        time_series::open(&self.config, &Arc::new(Metrics::unregistered()), &Tasks::new()).await.unwrap()
    }
}

pub(crate) fn has_postgres() -> bool {
    store::testing::server(POSTGRES).is_some()
}

/// A store in a folder.
pub(crate) async fn embedded(dir: &Path, sealing: Options) -> Arc<dyn HistoryStore> {
    let config = Config { data_dir: dir.to_owned(), sealing, ..Config::default() };
    time_series::open(&config, &Arc::new(Metrics::unregistered()), &Tasks::new()).await.unwrap()
}

/// Seals so early that every path is taken.
pub(crate) fn early() -> Options {
    Options { head_bytes: 2_000, log_bytes: 1_000, chunk_rows: 4 }
}
