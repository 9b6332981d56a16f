//! Opening stores for tests.

use std::{path::Path, sync::Arc};

use service_kit::Tasks;
use time_series::{
    Config,
    metrics::Metrics,
    store::{HistoryStore, embedded::Options},
};

/// A store in a folder, which seals early so that every path is taken.
pub(crate) async fn embedded(dir: &Path, sealing: Options) -> Arc<dyn HistoryStore> {
    let config = Config { data_dir: dir.to_owned(), sealing, ..Config::default() };
    time_series::open(&config, &Arc::new(Metrics::unregistered()), &Tasks::new()).await.unwrap()
}

pub(crate) fn early() -> Options {
    Options { head_bytes: 2_000, log_bytes: 1_000, chunk_rows: 4 }
}
