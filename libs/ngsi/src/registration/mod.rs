//! Registrations of context providers (ngsi-v2.md 9): what they say, how GET shows them, and the requests and answers
//! that go between a broker and a provider ([`forward`]).
//!
//! ```text
//! body ─ parse ─► Registration ─ definition_json ─► store ─ parse ─► Registration ─ write_registration ─► GET
//! ```

pub mod forward;
mod parse;
mod show;

pub use show::{ForwardingCounters, write_registration};

use serde_json::Value;

use crate::Error;

/// What a provider has, and where it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Registration {
    pub description: Option<String>,
    pub data: DataProvided,
    pub provider: Provider,
    /// Microseconds since 1970.
    pub expires_us: Option<i64>,
    /// Stored and shown; every registration that has not expired is active.
    pub status: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DataProvided {
    pub entities: Vec<RegisteredEntity>,
    /// Empty: all.
    pub attrs: Vec<String>,
    /// Stored and shown, never evaluated.
    pub expression: Option<Value>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredEntity {
    /// None: every id (`idPattern` `.*`).
    pub id: Option<String>,
    /// None: every type.
    pub entity_type: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// Base: paths of operations are added.
    pub url: String,
    pub mode: ForwardingMode,
    /// NGSIv1 bodies and paths.
    pub legacy: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardingMode {
    None,
    Query,
    Update,
    #[default]
    All,
}

impl ForwardingMode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Query => "query",
            Self::Update => "update",
            Self::All => "all",
        }
    }

    pub fn queries(self) -> bool {
        matches!(self, Self::Query | Self::All)
    }

    pub fn updates(self) -> bool {
        matches!(self, Self::Update | Self::All)
    }
}

/// The fields that a PATCH names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RegistrationPatch {
    /// `Some(None)`: taken away.
    pub description: Option<Option<String>>,
    pub data: Option<DataProvided>,
    pub provider: Option<Provider>,
    /// `Some(None)`: never.
    pub expires_us: Option<Option<i64>>,
    pub status: Option<String>,
}

impl Registration {
    /// Reads the body of a POST, or what [`Registration::definition_json`] wrote.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        parse::registration(body)
    }

    pub fn merge(&mut self, patch: RegistrationPatch) {
        if let Some(description) = patch.description {
            self.description = description;
        }
        if let Some(data) = patch.data {
            self.data = data;
        }
        if let Some(provider) = patch.provider {
            self.provider = provider;
        }
        if let Some(expires_us) = patch.expires_us {
            self.expires_us = expires_us;
        }
        if let Some(status) = patch.status {
            self.status = status;
        }
    }

    pub fn is_expired(&self, now_us: i64) -> bool {
        self.expires_us.is_some_and(|end| end <= now_us)
    }
}

impl RegistrationPatch {
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        parse::patch(body)
    }
}
