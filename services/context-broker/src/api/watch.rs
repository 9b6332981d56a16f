//! gRPC `Watch`: a tenant's committed changes as they come, straight from the log, resumable where the reader left off.
//!
//! ```text
//! context.changes ─► Watcher (a reader of the moment: the log waits for nobody's watch) ─► channel ─► stream
//! ```
//!
//! A token holds, per partition, the offset after the last change that its event brought. Whoever hands it back gets
//! every change after it, once or more; `OUT_OF_RANGE` when the log no longer has them all.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bus::{Batch, CONTEXT_CHANGES, ConsumeError, Consumed, Consumer, header};
use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::Either, stream, stream::BoxStream};
use ngsi::query::Pattern;
use parking_lot::Mutex;
use prost::Message;
use proto::v1;
use scope::{QueryScope, ServicePath};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::Core;

/// Events that wait for a slow reader; then its part of the log waits, and nobody else's.
const WAITING: usize = 256;
/// After so long without a match an event with a token alone tells how far the watch is.
const QUIET: Duration = Duration::from_secs(5);
const MAX_PARTITIONS: usize = 1024;
/// Watches at once in one process.
pub(crate) const MAX_WATCHES: usize = 1000;

type Event = Result<v1::WatchEvent, Status>;
/// Partition to next offset.
type Positions = BTreeMap<i32, i64>;

struct Watcher {
    scope: QueryScope,
    ids: Vec<String>,
    types: Vec<String>,
    id_pattern: Option<Pattern>,
    /// Where the token says that this watch begins.
    resumed: Positions,
    /// Without a token: changes committed before this instant are none of its business.
    from_us: i64,
    state: Mutex<State>,
    events: mpsc::Sender<Event>,
    stop: CancellationToken,
}

struct State {
    positions: Positions,
    told: Instant,
}

/// The events of `request` until the reader goes away or the broker stops.
pub(super) fn watch(
    core: &Core,
    scope: QueryScope,
    request: v1::WatchRequest,
) -> Result<BoxStream<'static, Event>, Status> {
    let resumed = read_token(&request.resume_token)?;
    let permit = core.changes.watches.clone().try_acquire_owned();
    let permit = permit.map_err(|_| Status::resource_exhausted("too many watches"))?;
    let id_pattern = match request.id_pattern.as_str() {
        "" => None,
        pattern => {
            let pattern = Pattern::parse(pattern);
            Some(pattern.map_err(|_| Status::invalid_argument("Invalid regex for entity idPattern"))?)
        }
    };
    let (sender, receiver) = mpsc::channel(WAITING);
    let stop = core.changes.stop.child_token();
    let watcher = Watcher {
        scope,
        ids: request.entity_ids,
        types: request.entity_types,
        id_pattern,
        from_us: if resumed.is_empty() { core.now_us() } else { i64::MIN },
        state: Mutex::new(State { positions: resumed.clone(), told: Instant::now() }),
        resumed,
        events: sender,
        stop: stop.clone(),
    };
    let bus = core.changes.bus.clone();
    let group = format!("{}watch-{:016x}", bus::OF_THE_MOMENT, rand::random::<u64>());
    // Both live in the stream: when the reader goes away the reading ends with it.
    let held = (stop.clone().drop_guard(), permit);
    let reading = async move {
        let _until_the_stream_ends = held;
        bus.consume(CONTEXT_CHANGES, &group, Arc::new(watcher), stop).await
    };
    let reading = reading.into_stream().map(Either::Right);
    let events = ReceiverStream::new(receiver).map(Either::Left);
    let both = stream::select(events, reading).filter_map(|item| async move {
        match item {
            Either::Left(event) => Some(event),
            Either::Right(Ok(())) => None,
            Either::Right(Err(error)) => Some(Err(Status::unavailable(error.to_string()))),
        }
    });
    Ok(both.boxed())
}

fn read_token(token: &[u8]) -> Result<Positions, Status> {
    let wrong = || Status::invalid_argument("the resume token is none of this broker's");
    if token.is_empty() {
        return Ok(Positions::new());
    }
    let text = std::str::from_utf8(token).map_err(|_| wrong())?;
    let rest = text.strip_prefix("1:").ok_or_else(wrong)?;
    let mut positions = Positions::new();
    for part in rest.split(',') {
        let (partition, next) = part.split_once('=').ok_or_else(wrong)?;
        let partition: u16 = partition.parse().map_err(|_| wrong())?;
        let next: i64 = next.parse().map_err(|_| wrong())?;
        if next < 0 || positions.len() >= MAX_PARTITIONS {
            return Err(wrong());
        }
        positions.insert(i32::from(partition), next);
    }
    Ok(positions)
}

fn write_token(positions: &Positions) -> Bytes {
    let parts: Vec<String> =
        positions.iter().map(|(partition, next)| format!("{partition}={next}")).collect();
    format!("1:{}", parts.join(",")).into()
}

impl Watcher {
    fn matches(&self, change: &v1::ContextChange) -> bool {
        change.commit_time_us >= self.from_us
            && (self.ids.is_empty() || self.ids.contains(&change.entity_id))
            && (self.types.is_empty() || self.types.contains(&change.entity_type))
            && self.id_pattern.as_ref().is_none_or(|pattern| pattern.is_match(&change.entity_id))
            && ServicePath::parse(&change.service_path)
                .is_ok_and(|path| self.scope.patterns.iter().any(|pattern| pattern.matches(&path)))
    }

    /// Ends the watch: the reader is gone, or was told why.
    fn end(&self) -> ConsumeError {
        self.stop.cancel();
        ConsumeError("the watch has ended".to_owned())
    }

    async fn tell(&self, event: Event) -> Result<(), ConsumeError> {
        let last = event.is_err();
        self.events.send(event).await.map_err(|_| self.end())?;
        if last { Err(self.end()) } else { Ok(()) }
    }

    /// Whether records between the token and the first that is left were deleted.
    fn has_gap(&self, batch: &Batch) -> bool {
        let resumed = self.resumed.get(&batch.partition).filter(|next| batch.expected == Some(**next));
        match (resumed, batch.records.first()) {
            (Some(next), Some(first)) => first.offset != *next,
            _ => false,
        }
    }
}

#[async_trait]
impl Consumer for Watcher {
    async fn position(&self, _: &str, partition: i32) -> Result<Option<i64>, ConsumeError> {
        Ok(self.state.lock().positions.get(&partition).copied())
    }

    async fn consume(&self, batch: &Batch) -> Result<Consumed, ConsumeError> {
        if self.state.lock().positions.get(&batch.partition).copied() != batch.expected {
            return Ok(Consumed::Moved);
        }
        if self.has_gap(batch) {
            let gone = Status::out_of_range("changes after the resume token are no longer in the log");
            self.tell(Err(gone)).await?;
        }
        for record in &batch.records {
            if record.header(header::TENANT) != Some(self.scope.tenant.as_str()) {
                continue;
            }
            let Ok(change) = v1::ContextChange::decode(record.payload.clone()) else {
                tracing::error!(offset = record.offset, "change not readable");
                continue;
            };
            if self.matches(&change) {
                let token = self.moved(batch.partition, record.offset + 1);
                self.tell(Ok(v1::WatchEvent { change: Some(change), resume_token: token })).await?;
                self.state.lock().told = Instant::now();
            }
        }
        let token = self.moved(batch.partition, batch.next);
        let quiet = self.state.lock().told.elapsed() >= QUIET;
        if quiet {
            self.tell(Ok(v1::WatchEvent { change: None, resume_token: token })).await?;
            self.state.lock().told = Instant::now();
        }
        Ok(Consumed::Stored)
    }
}

impl Watcher {
    fn moved(&self, partition: i32, next: i64) -> Bytes {
        let mut state = self.state.lock();
        state.positions.insert(partition, next);
        write_token(&state.positions)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn tokens_are_read_back(positions in proptest::collection::btree_map(0..500_i32, 0..i64::MAX, 1..20)) {
            prop_assert_eq!(read_token(&write_token(&positions)).unwrap(), positions);
        }

        #[test]
        fn any_token_is_read_or_refused(token in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(positions) = read_token(&token) {
                prop_assert!(positions.values().all(|next| *next >= 0));
            }
        }
    }
}
