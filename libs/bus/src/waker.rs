use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    Outgoing,
    tail::{Seen, Tail},
};

/// Tells the readers of an outbox that something was committed. Cheap to clone and to call; a call is never lost.
#[derive(Clone, Debug)]
pub struct Waker {
    commits: Arc<watch::Sender<u64>>,
    tail: Arc<Mutex<Tail>>,
}

impl Waker {
    pub(crate) fn new() -> Self {
        Self { commits: Arc::new(watch::Sender::new(0)), tail: Arc::default() }
    }

    /// Call it after a commit that appended records.
    pub fn wake(&self) {
        self.tail.lock().clear();
        self.count();
    }

    /// The same, with all records that the transaction appended; the last one has the offset `last`. Readers in this
    /// process then take them from memory. Only for a SQLite outbox, and only by the one task that appends to it: the
    /// transactions must come in their order, and all of them.
    pub fn wake_with(&self, last: i64, time_us: i64, records: Vec<Outgoing>) {
        self.tail.lock().push(last, time_us, records);
        self.count();
    }

    fn count(&self) {
        self.commits.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.commits.subscribe()
    }

    pub(crate) fn read(&self, from: i64, max_records: usize, max_bytes: usize) -> Seen {
        self.tail.lock().read(from, max_records, max_bytes)
    }
}
