//! From committed changes to their receivers.
//!
//! ```text
//! context.changes ─► Notifier: match ─► one transaction: deliveries, counts, history records, position
//!                                           │
//!                                           ├─► topic history
//!                                           └─► Dispatcher ─► one Endpoint each ─► Sender (HTTP, MQTT, Kafka) ─► recorded
//! ```
//!
//! Invariants
//! - A change is told at least once to every subscription that it triggers, and goes into the history once.
//! - Notifications of one subscription about one entity are sent in order, one after the other.
//! - In transient mode a notification is tried once, from memory, as the original does; counters are the same.
//! - An endpoint that is slow or away delays no other; what waits is durable and bounded by age and number.

mod client;
mod completion;
mod delivery;
mod endpoint;
mod flow;
mod history;
mod immediate;
mod kafka;
mod matching;
mod notifier;
mod own_history;
mod pending;
mod pool;
mod progress;
mod reveal;
mod sender;
mod store;
mod target;
mod tls;

use std::{sync::Arc, time::Duration};

use ::store::{GroupCommit, StoreError, group_commit::GroupCommitOptions};
use service_kit::Tasks;
use tokio::sync::Semaphore;

pub use delivery::DeliveryOptions;
pub(crate) use flow::{Flow, FlowControl};
pub(crate) use notifier::Notifier;
pub(crate) use own_history::OwnHistory;
pub use pending::SubscriptionKey;
pub(crate) use pool::{Pool, Unsent};
pub(crate) use sender::SenderOptions;
pub use store::{
    Backlog, Bounds, DeliveryState, NotificationStore, PostgresNotificationStore, SqliteNotificationStore,
};
pub(crate) use tls::{TlsOptions, Trust};

use crate::{subscription::Registry, tokens::Tokens};

/// Consumer group of topic `context.changes`.
pub const NOTIFIER_GROUP: &str = "notifier";

/// Between two commits of what came of deliveries, at least. No delivery waits for them; what a crash finds unrecorded is sent
/// again.
const RECORDED_APART: Duration = Duration::from_millis(10);

/// Starts the delivery tasks; answers the consumer of the changes.
pub(crate) fn start(
    registry: Arc<Registry>,
    own_history: OwnHistory,
    custom: bool,
    options: DeliveryOptions,
    senders: SenderOptions,
    tokens: Arc<Tokens>,
    tasks: &Tasks,
) -> Notifier {
    let recorder = completion::Recorder { store: registry.deliveries.clone() };
    // What is tried once counts as on its way until it is recorded.
    let apart = if options.durable { RECORDED_APART } else { Duration::ZERO };
    let group = GroupCommitOptions { apart, ..GroupCommitOptions::default() };
    let turns = Semaphore::new(group.queue);
    let (recorder, work) = GroupCommit::new(Arc::new(recorder), group);
    let stop = tasks.stop_token();
    tasks.spawn("context-broker.delivery-record", async move {
        work.run(stop).await;
        Ok::<_, StoreError>(())
    });
    let delivery = delivery::Delivery {
        store: registry.deliveries.clone(),
        options,
        registry: registry.clone(),
        recorder,
        turns,
        sender: sender::Sender::new(senders),
        tokens: tokens.clone(),
        clock: registry.clock.clone(),
        metrics: registry.metrics.clone(),
    };
    let delivery = Arc::new(delivery);
    let ways = notifier::Ways {
        durable: options.durable,
        caller: delivery::Dispatcher::spawn(delivery.clone(), tasks),
        immediate: immediate::Immediate::spawn(delivery, tasks),
        tokens,
    };
    Notifier::new(registry, matching::Matcher { own_history, custom }, ways)
}
