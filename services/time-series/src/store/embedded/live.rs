//! What readers and the writer share.

use std::{path::PathBuf, sync::Arc};

use parking_lot::RwLock;
use store::{SqlitePools, StoreError};

use super::{catalog::Catalog, codec::Damaged};
use crate::metrics::Metrics;

/// The catalogue with the heads, and the epoch of the chunks that they go with: each change of chunks raises it, in
/// the file and here, so that a reader can tell whether the heads it took and the chunks it sees belong together.
#[derive(Default)]
pub(crate) struct Live {
    pub(crate) catalog: Catalog,
    pub(crate) epoch: i64,
    pub(crate) head_bytes: usize,
}

pub(crate) struct Shared {
    pub(crate) live: RwLock<Live>,
    pub(crate) pools: SqlitePools,
    pub(crate) file: PathBuf,
    pub(crate) metrics: Arc<Metrics>,
}

impl Shared {
    /// Bytes of the file that make no sense.
    pub(crate) fn damaged(&self, what: &str) -> StoreError {
        StoreError::Corrupt {
            file: self.file.display().to_string(),
            reason: format!("{what} does not decode"),
        }
    }

    pub(crate) fn check<T>(&self, what: &str, decoded: Result<T, Damaged>) -> Result<T, StoreError> {
        decoded.map_err(|Damaged| self.damaged(what))
    }
}
