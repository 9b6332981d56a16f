//! Positions that need not be stored at once.
//!
//! A batch that triggers nothing has no effects, so its position may be stored with a later one: after a crash the same
//! changes are looked at again and trigger nothing again. That saves a commit per batch where nobody listens. It does not
//! wait for long, also not when nothing more comes: a subscription that is changed much later must not meet them again.

use std::{collections::HashMap, time::Duration};

use bus::Batch;
use tokio::time::Instant;

/// Longest time that a position waits while batches come.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is stored and how far the consumer really is.
#[derive(Clone, Copy, Debug)]
struct Ahead {
    stored: Option<i64>,
    next: i64,
    since: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Progress {
    /// By topic and partition.
    ahead: HashMap<(String, i32), Ahead>,
    /// Whether the bus says when nothing comes; otherwise the last position would wait for ever.
    rests: bool,
}

impl Progress {
    /// The position that is stored while the consumer is where `batch` begins.
    pub(super) fn stored(&self, batch: &Batch) -> Option<i64> {
        self.ahead(batch).map_or(batch.expected, |ahead| ahead.stored)
    }

    /// A batch without effects: true when its position need not be stored yet.
    pub(super) fn may_wait(&mut self, batch: &Batch) -> bool {
        let before = self.ahead(batch);
        if !self.rests || before.is_some_and(|ahead| ahead.since.elapsed() >= PATIENCE) {
            return false;
        }
        let (stored, since) =
            before.map_or_else(|| (batch.expected, Instant::now()), |ahead| (ahead.stored, ahead.since));
        self.ahead.insert((batch.topic.clone(), batch.partition), Ahead { stored, next: batch.next, since });
        true
    }

    /// Nothing comes: the stored and the true position, if they differ.
    pub(super) fn rest(&mut self, topic: &str, partition: i32) -> Option<(Option<i64>, i64)> {
        self.rests = true;
        self.ahead.get(&(topic.to_owned(), partition)).map(|ahead| (ahead.stored, ahead.next))
    }

    /// The stored position is what the reader expects again, or is about to be loaded.
    pub(super) fn settled(&mut self, topic: &str, partition: i32) {
        self.ahead.remove(&(topic.to_owned(), partition));
    }

    fn ahead(&self, batch: &Batch) -> Option<Ahead> {
        let known = self.ahead.get(&(batch.topic.clone(), batch.partition)).copied();
        known.filter(|ahead| batch.expected == Some(ahead.next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(expected: Option<i64>, next: i64) -> Batch {
        Batch { topic: "t".to_owned(), partition: 0, expected, next, records: Vec::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn positions_wait_for_a_while_and_remember_what_is_stored() {
        let mut progress = Progress::default();
        assert!(!progress.may_wait(&batch(Some(3), 5)));
        assert_eq!(progress.rest("t", 0), None);
        assert!(progress.may_wait(&batch(Some(3), 5)));
        assert!(progress.may_wait(&batch(Some(5), 9)));
        assert_eq!(progress.stored(&batch(Some(9), 11)), Some(3));
        assert_eq!(progress.rest("t", 0), Some((Some(3), 9)));
        tokio::time::advance(PATIENCE).await;
        assert!(!progress.may_wait(&batch(Some(9), 11)));
        progress.settled("t", 0);
        assert_eq!(progress.rest("t", 0), None);
        assert_eq!(progress.stored(&batch(Some(11), 12)), Some(11));
        assert!(progress.may_wait(&batch(Some(11), 12)));
    }

    #[tokio::test]
    async fn a_reader_that_begins_anew_is_believed() {
        let mut progress = Progress::default();
        progress.rest("t", 0);
        assert!(progress.may_wait(&batch(None, 5)));
        assert_eq!(progress.stored(&batch(Some(5), 6)), None);
        assert_eq!(progress.stored(&batch(Some(3), 6)), Some(3));
    }
}
