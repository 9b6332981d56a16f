//! A notification on its way: what is stored until its receiver has it.

use bytes::Bytes;
use scope::Tenant;
use serde::{Deserialize, Serialize};

use crate::subscription::SubscriptionId;

/// Which subscription, across all tenants.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionKey {
    pub tenant: Tenant,
    pub id: SubscriptionId,
}

/// An HTTP request as it will be sent, whenever that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDelivery {
    pub target: Target,
    /// Notifications with one lane are sent one after the other: subscription and entity.
    pub lane: String,
    pub body: Bytes,
    /// When the change was committed, microseconds since 1970.
    pub commit_time_us: i64,
}

/// Where a notification goes and with what headers. Never holds an `X-Auth-Token`: it is not stored (decision 7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub timeout_ms: u64,
}

impl Target {
    /// What shares a queue: scheme, authority and path. A slow one delays no other.
    pub fn endpoint(&self) -> &str {
        self.url.split(['?', '#']).next().unwrap_or_default()
    }
}

/// A stored delivery.
#[derive(Clone, Debug)]
pub struct Pending {
    /// Grows with time within a lane.
    pub seq: i64,
    pub subscription: SubscriptionKey,
    /// The revision of the subscription that asked for it.
    pub revision: i64,
    pub lane: String,
    pub target: Target,
    pub body: Bytes,
    pub commit_time_us: i64,
    /// Tries before this one.
    pub attempts: i64,
}

/// What came of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The receiver answered.
    Delivered { code: u16 },
    /// It comes again later.
    Failed { reason: String, code: Option<u16> },
    /// It does not come again: it can't be sent, or waited for too long.
    Dropped { reason: String },
    /// Its subscription is gone, expired or changed: nobody waits for it.
    Cancelled,
}

/// A try to be recorded.
#[derive(Clone, Debug)]
pub struct Completion {
    pub seq: i64,
    pub subscription: SubscriptionKey,
    pub revision: i64,
    /// The first try of this notification.
    pub first: bool,
    pub fate: Fate,
    /// When it ended, microseconds since 1970.
    pub at_us: i64,
    /// Failures in a row that the subscription tolerates.
    pub max_fails: Option<i64>,
}
