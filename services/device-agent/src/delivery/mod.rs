//! From the agent to the broker: in batches, in order per device, answered when committed; over the bus when the broker
//! is away (decision 13).
//!
//! ```text
//! submit ─► lane (by device) ─► Update(batch) ─► committed ─► answer
//!                 │ broker away, outcome unknown, or device diverted already
//!                 └─► outbox of topic `measures` + mark of the device, one transaction ─► answer
//! topic `measures` ─► Drain ─► Update(chunk) until the broker is back ─► position + marks removed, one transaction
//! ```
//!
//! Invariants
//! - One lane has one call in flight, and a device has one lane: measures of a device keep their order.
//! - While a mark of a device stands, its measures go to the bus; so nothing overtakes what waits there.
//! - Between two acknowledged calls at most [`MAX_PER_ENTITY`] updates of one entity are under way: as many measure ids
//!   as the broker remembers, so that sending a batch again never applies a measure twice.

mod batch;
mod broker;
mod diversion;
mod drain;
mod lane;

pub(crate) use broker::Broker;
pub(crate) use diversion::Diversion;
pub(crate) use drain::Drain;

use std::{collections::VecDeque, sync::Arc};

use proto::v1::EntityUpdate;
use service_kit::{Code, RequestContext, Tasks};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::Instant,
};

use crate::{config::BrokerConfig, device::DeviceKey, error::Error, metrics::Metrics};

/// Measure ids of an entity that the broker remembers (context.proto: the last 32).
pub(crate) const MAX_PER_ENTITY: usize = 32;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivered {
    /// Readable in the broker.
    Committed,
    /// Durable on the bus; applied in order when the broker is back.
    Diverted,
}

/// Why a request was not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Undelivered {
    /// The broker will never take (a part of) it.
    Refused { code: Code, error: String, description: String },
    /// Neither broker nor bus took it: try again later.
    Unavailable(&'static str),
}

/// One request on its way: all updates that one device asked for at once.
struct Job {
    device: DeviceKey,
    updates: VecDeque<EntityUpdate>,
    arrived_us: i64,
    since: Instant,
    context: Option<RequestContext>,
    refused: Option<Undelivered>,
    answer: oneshot::Sender<Result<Delivered, Undelivered>>,
    _permit: OwnedSemaphorePermit,
}

/// The way to the broker. Cheap to share.
pub(crate) struct Delivery {
    lanes: Vec<mpsc::Sender<Job>>,
    room: Arc<Semaphore>,
    metrics: Metrics,
}

impl Delivery {
    /// Starts the lanes; they end after the stop, when what was queued is answered.
    pub(crate) fn start(
        tasks: &Tasks,
        config: &BrokerConfig,
        broker: &Arc<Broker>,
        diversion: &Arc<Diversion>,
        metrics: &Metrics,
    ) -> Self {
        let lane = |_| {
            let (sender, receiver) = mpsc::channel(config.max_queued.get());
            let limits = batch::Limits { updates: config.max_batch.get(), bytes: config.max_batch_bytes };
            let lane = lane::Lane::new(
                receiver,
                broker.clone(),
                diversion.clone(),
                limits,
                metrics.clone(),
                tasks.stop_token(),
            );
            tasks.spawn("device-agent lane", lane.run());
            sender
        };
        Self {
            lanes: (0..config.lanes.get()).map(lane).collect(),
            room: Arc::new(Semaphore::new(config.max_queued.get())),
            metrics: metrics.clone(),
        }
    }

    /// Delivers updates of one device, in order, and answers when they are committed or durable. An error means that
    /// nothing, or with several updates a part, was applied.
    pub(crate) async fn submit(
        &self,
        device: DeviceKey,
        updates: Vec<EntityUpdate>,
        arrived_us: i64,
    ) -> Result<Delivered, Error> {
        if updates.is_empty() {
            return Ok(Delivered::Committed);
        }
        let Ok(permit) = self.room.clone().try_acquire_owned() else {
            return Err(Error::Unavailable("too many measures are waiting: try again later".into()));
        };
        let (answer, answered) = oneshot::channel();
        let lane = &self.lanes[lane_of(&device, self.lanes.len())];
        let context = RequestContext::current();
        let job = Job {
            device,
            updates: updates.into(),
            arrived_us,
            since: Instant::now(),
            context,
            refused: None,
            answer,
            _permit: permit,
        };
        self.metrics.queued.inc();
        let sent = lane.send(job).await.is_ok();
        let outcome = if sent { answered.await.ok() } else { None };
        self.metrics.queued.dec();
        match outcome {
            Some(Ok(delivered)) => Ok(delivered),
            Some(Err(Undelivered::Refused { code, error, description })) => {
                Err(Error::Broker { code, error, description })
            }
            Some(Err(Undelivered::Unavailable(reason))) => Err(Error::Unavailable(reason.into())),
            None => Err(Error::Unavailable("the agent is stopping: try again later".into())),
        }
    }
}

fn lane_of(device: &DeviceKey, lanes: usize) -> usize {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    device.hash(&mut hasher);
    usize::try_from(hasher.finish() % lanes.max(1) as u64).unwrap_or_default()
}
