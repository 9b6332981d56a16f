//! The context broker: entities, their changes as events, subscriptions, and their notifications.
//!
//! ```text
//! REST, gRPC ─ api/ ─► Core ─► store: group commit (rows + event) ─► context.changes ─► notification: match ─► deliver
//!                                                                                            └─► history
//! ```
//!
//! Invariants
//! - What was answered is durable, with its event, in one transaction ([`store`]).
//! - Every call but system work is within a scope; no entity is reachable without a tenant.
//! - A notification is sent at least once, in order per entity and subscription ([`notification`]).

mod administration;
pub mod api;
mod candidates;
mod config;
pub mod core;
mod error;
mod forwarding;
mod metrics;
pub mod notification;
mod originals;
mod query;
mod quota;
pub mod registration;
mod start;
pub mod store;
mod stores;
pub mod subscription;
mod tokens;
pub mod update;
mod upkeep;

pub use crate::core::Core;
pub use administration::AdministrationConfig;
pub use config::{CommitConfig, Config, HistoryConfig, NotificationConfig, NotificationMode, QueryConfig};
pub use error::{StartError, WriteError, is_retryable};
pub use forwarding::ForwardingConfig;
pub use originals::{Originals, read_originals};
pub use query::{Page, TypeSummary};
pub use quota::{Limits, QuotaConfig, TenantQuota};
pub use start::{Deps, Started, start};

/// The version of Orion whose behaviour this broker has. Clients parse it as three numbers.
pub(crate) const COMPATIBLE_VERSION: &str = "4.7.0";
