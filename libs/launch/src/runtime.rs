//! The runtime that every program runs in.

use std::io;

use tokio::runtime::{Builder, Runtime};

/// Tasks that a worker runs between two looks at its sockets. The runtime's own number is four times as large: under load,
/// requests then lie in their sockets while a batch that they could join is planned without them.
const TASKS_PER_LOOK: u32 = 16;

/// A runtime with a worker for each core.
pub fn runtime() -> io::Result<Runtime> {
    Builder::new_multi_thread().enable_all().event_interval(TASKS_PER_LOOK).build()
}
