//! Subscriptions: their ids, how they are stored, and which changes they match.

mod group;
mod id;
mod index;
mod registry;
mod thresholds;

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

/// What of a tenant's subscriptions is known: the rest is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Revisions up to this one.
    pub revision: i64,
    /// Deletions up to this epoch. None: no subscription is known that could have been deleted.
    pub deletions: Option<i64>,
}

/// Some of the subscriptions that changed since, by revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionChanges {
    /// The tenant's epoch when they were read.
    pub epoch: i64,
    pub changed: Vec<StoredSubscription>,
    /// None: deletions of so long ago are forgotten, all has to be read anew.
    pub deleted: Option<Vec<SubscriptionId>>,
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
