use std::{fmt, sync::Arc};

use crate::subscription::{InvalidSubscriptionId, SubscriptionId};

/// 24 lower-case hexadecimal digits, made as those of subscriptions. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegistrationId(Arc<str>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRegistrationId {
    #[error("Invalid registration ID: bad length - 24 chars expected")]
    Length,
    #[error("Invalid registration ID: invalid char in ID string")]
    Character,
}

impl RegistrationId {
    pub fn generate(now_us: i64) -> Self {
        Self(SubscriptionId::generate(now_us).as_str().into())
    }

    /// Reads an id; upper-case digits are folded.
    pub fn parse(text: &str) -> Result<Self, InvalidRegistrationId> {
        match SubscriptionId::parse(text) {
            Ok(id) => Ok(Self(id.as_str().into())),
            Err(InvalidSubscriptionId::Length) => Err(InvalidRegistrationId::Length),
            Err(InvalidSubscriptionId::Character) => Err(InvalidRegistrationId::Character),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RegistrationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RegistrationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<InvalidRegistrationId> for ngsi::Error {
    fn from(error: InvalidRegistrationId) -> Self {
        Self::bad_request(error.to_string())
    }
}
