//! Records tries in groups: endpoints finish all at once, a commit is one.

use std::{collections::HashSet, sync::Arc};

use async_trait::async_trait;
use store::{GroupCommitError, StoreError, group_commit::BatchExecutor};

use super::{pending::Completion, store::NotificationStore};

pub(super) struct Recorder {
    pub(super) store: Arc<dyn NotificationStore>,
}

#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum RecordError {
    #[error(transparent)]
    Group(#[from] GroupCommitError),
    #[error("{0}")]
    Store(Arc<StoreError>),
}

#[async_trait]
impl BatchExecutor for Recorder {
    type Request = Completion;
    /// Whether the subscription became inactive.
    type Response = bool;
    type Error = RecordError;

    async fn execute(&self, batch: Vec<Completion>) -> Vec<Result<bool, RecordError>> {
        let keys: Vec<_> = batch.iter().map(|one| (one.subscription.clone(), one.revision)).collect();
        match self.store.complete(batch).await {
            Ok(closed) => {
                let closed: HashSet<_> = closed.into_iter().collect();
                keys.iter().map(|key| Ok(closed.contains(key))).collect()
            }
            Err(error) => {
                let error = RecordError::Store(Arc::new(error));
                keys.iter().map(|_| Err(error.clone())).collect()
            }
        }
    }
}
