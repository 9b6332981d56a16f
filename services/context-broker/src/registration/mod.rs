//! Registrations of context providers: stored per tenant, followed in memory, found by what a request asks for.

mod id;
mod index;
mod registry;
pub(crate) mod store;

use ngsi::registration::{ForwardingCounters, Registration};
use scope::ServicePath;

pub use id::{InvalidRegistrationId, RegistrationId};
pub(crate) use index::{Entry, Provided};
pub(crate) use registry::Registrations;

/// A registration as the store holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRegistration {
    pub id: RegistrationId,
    /// Where the entities are that its provider has.
    pub path: ServicePath,
    /// As [`Registration::definition_json`] writes it.
    pub body: String,
    /// Grows with every change of the registration.
    pub revision: i64,
    pub counters: ForwardingCounters,
}

/// A registration as the API shows it.
#[derive(Clone, Debug)]
pub struct RegistrationView {
    pub id: RegistrationId,
    pub registration: Registration,
    pub counters: ForwardingCounters,
}
