//! A notification on its way: what is stored until its receiver has it.

use std::borrow::Cow;

use bytes::Bytes;
use scope::Tenant;
use serde::{Deserialize, Serialize};

use crate::{subscription::SubscriptionId, tokens::SealedToken};

/// Which subscription, across all tenants.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionKey {
    pub tenant: Tenant,
    pub id: SubscriptionId,
}

/// A message as it will be sent, whenever that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDelivery {
    pub target: Target,
    /// Notifications with one lane are sent one after the other: subscription and entity.
    pub lane: String,
    pub body: Bytes,
    /// When the change was committed, microseconds since 1970.
    pub commit_time_us: i64,
}

/// Where a notification goes and with what headers. Holds no password (the subscription has it) and never an
/// `X-Auth-Token` in clear (decision 7).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Empty where HTTP does not carry it.
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub timeout_ms: u64,
    /// None: HTTP carries it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Message>,
    /// Stands for its reference in the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<SealedToken>,
}

/// What another transport than HTTP needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    Mqtt { topic: String, qos: u8, retain: bool, user: String },
    Kafka { topic: String, key: Option<String>, user: String },
}

impl Target {
    /// What shares a queue: scheme, authority and path; the login on an MQTT server; the topic on a Kafka cluster. A slow
    /// one delays no other.
    pub fn endpoint(&self) -> Cow<'_, str> {
        match &self.message {
            None => Cow::Borrowed(self.url.split(['?', '#']).next().unwrap_or_default()),
            Some(Message::Mqtt { user, .. }) => Cow::Owned(format!("{}#{user}", self.url)),
            Some(Message::Kafka { topic, user, .. }) => Cow::Owned(format!("{}/{topic}#{user}", self.url)),
        }
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
    /// The receiver has it; the status where it has one.
    Delivered { code: Option<u16> },
    /// It comes again later, or never in transient mode.
    Failed { reason: String },
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
