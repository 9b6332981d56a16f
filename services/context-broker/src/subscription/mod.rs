//! Subscriptions: their ids, how they are stored, and which changes they match.

mod id;
mod index;
mod registry;

use ngsi::subscription::{Counters, DeliveryHealth, Subscription};
use scope::PathPattern;

pub use id::{InvalidSubscriptionId, SubscriptionId};
pub(crate) use index::{Entry, TenantIndex};
pub use registry::Page;
pub(crate) use registry::Registry;

/// A subscription as the store holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSubscription {
    pub id: SubscriptionId,
    /// The places it watches.
    pub path: PathPattern,
    /// As [`Subscription::definition_json`] writes it.
    pub body: String,
    /// It watches changes of this subscription epoch and later ones.
    pub since_epoch: i64,
    /// Grows with every change of the subscription.
    pub revision: i64,
    /// Microseconds since 1970.
    pub created_us: i64,
}

/// A subscription as the API shows it.
#[derive(Clone, Debug)]
pub struct SubscriptionView {
    pub id: SubscriptionId,
    pub path: PathPattern,
    pub subscription: Subscription,
    pub counters: Counters,
    /// There when it was asked for.
    pub health: Option<DeliveryHealth>,
}
