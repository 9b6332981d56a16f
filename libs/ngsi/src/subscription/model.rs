use super::{macros::JexlCondition, target::Target};
use crate::{
    Error,
    geo::GeoQuery,
    query::{Expression, Pattern},
};

/// A subscription without its counters.
#[derive(Clone, Debug, PartialEq)]
pub struct Subscription {
    pub description: Option<String>,
    pub subject: Subject,
    pub notification: NotificationSpec,
    /// Microseconds since 1970. None: never.
    pub expires_us: Option<i64>,
    /// As it was set; what is shown may be `expired`.
    pub status: Status,
    /// Notifications within this time after one are dropped. Never 0.
    pub throttling_s: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Status {
    #[default]
    Active,
    Inactive,
    /// One notification, then inactive.
    Oneshot,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    pub entities: Vec<SubjectEntity>,
    pub condition: Condition,
}

/// Either `id` or `id_pattern` is there. Patterns are kept apart: most have none, and there are very many of these.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubjectEntity {
    pub id: Option<String>,
    pub id_pattern: Option<Box<Pattern>>,
    pub entity_type: Option<String>,
    pub type_pattern: Option<Box<Pattern>>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// Attributes that trigger. Empty: any.
    pub attrs: Vec<String>,
    pub q: Option<Expression>,
    pub mq: Option<Expression>,
    // Few have these two: they are kept apart.
    pub geo: Option<Box<GeoCondition>>,
    pub jexl: Option<Box<JexlCondition>>,
    /// None: create and change.
    pub alteration_types: Option<Vec<crate::Alteration>>,
    pub notify_on_metadata_change: bool,
}

/// Where the entity must be, beside the fields as they were sent.
#[derive(Clone, Debug, PartialEq)]
pub struct GeoCondition {
    pub georel: String,
    pub geometry: String,
    pub coords: String,
    pub query: GeoQuery,
}

impl Default for Condition {
    fn default() -> Self {
        Self {
            attrs: Vec::new(),
            q: None,
            mq: None,
            geo: None,
            jexl: None,
            alteration_types: None,
            notify_on_metadata_change: true,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct NotificationSpec {
    pub target: Target,
    /// Attributes that are sent. Empty: all.
    pub attrs: Vec<String>,
    /// Attributes that are not sent; never together with `attrs`.
    pub except_attrs: Vec<String>,
    pub metadata: Vec<String>,
    pub attrs_format: AttrsFormat,
    pub only_changed_attrs: bool,
    /// All of `attrs` are sent, missing ones as null.
    pub covered: bool,
    /// More consecutive failures than this make the subscription inactive.
    pub max_fails_limit: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttrsFormat {
    #[default]
    Normalized,
    KeyValues,
    Values,
    SimplifiedNormalized,
    SimplifiedKeyValues,
}

impl AttrsFormat {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normalized => "normalized",
            Self::KeyValues => "keyValues",
            Self::Values => "values",
            Self::SimplifiedNormalized => "simplifiedNormalized",
            Self::SimplifiedKeyValues => "simplifiedKeyValues",
        }
    }
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::Oneshot => "oneshot",
        }
    }
}

/// The fields that a PATCH names. `subject` and `notification` are replaced as a whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SubscriptionPatch {
    pub description: Option<Option<String>>,
    pub subject: Option<Subject>,
    pub notification: Option<NotificationSpec>,
    /// `Some(None)`: an empty string, never expires.
    pub expires_us: Option<Option<i64>>,
    pub status: Option<Status>,
    pub throttling_s: Option<u64>,
}

impl Subscription {
    /// Reads the body of a POST, or what [`Subscription::definition_json`] wrote.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        super::parse::subscription(body)
    }

    /// Changes what the patch names.
    pub fn merge(&mut self, patch: SubscriptionPatch) {
        let SubscriptionPatch { description, subject, notification, expires_us, status, throttling_s } =
            patch;
        if let Some(description) = description {
            self.description = description;
        }
        if let Some(subject) = subject {
            self.subject = subject;
        }
        if let Some(mut notification) = notification {
            notification.target.keep_hidden_secret(&self.notification.target);
            self.notification = notification;
        }
        if let Some(expires_us) = expires_us {
            self.expires_us = expires_us;
        }
        if let Some(status) = status {
            self.status = status;
        }
        if let Some(throttling_s) = throttling_s {
            self.throttling_s = (throttling_s > 0).then_some(throttling_s);
        }
    }

    pub fn is_expired(&self, now_us: i64) -> bool {
        self.expires_us.is_some_and(|end| end <= now_us)
    }

    /// Whether it may notify now, as far as its definition says.
    pub fn is_active(&self, now_us: i64) -> bool {
        self.status != Status::Inactive && !self.is_expired(now_us)
    }
}

impl SubscriptionPatch {
    /// Reads the body of a PATCH.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        super::parse::patch(body)
    }
}
