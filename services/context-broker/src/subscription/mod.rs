//! Subscriptions: their ids, how they are stored, and which changes they match.

mod id;

use scope::PathPattern;

pub use id::{InvalidSubscriptionId, SubscriptionId};

/// A subscription as the store holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSubscription {
    pub id: SubscriptionId,
    /// The places it watches.
    pub path: PathPattern,
    /// JSON, in the words of [`ngsi::subscription`].
    pub body: String,
    /// It watches changes of this subscription epoch and later ones.
    pub since_epoch: i64,
    /// Grows with every change of the subscription.
    pub revision: i64,
    /// Microseconds since 1970.
    pub created_us: i64,
}
