//! The device agent: Ultralight 2.0 over HTTP in, entities out. Drop-in for the config API and the HTTP side of the
//! FIWARE IoT Agent for Ultralight (contract: iot-agent).
//!
//! ```text
//! north :4041  groups, devices ──► provision ──► store ─┐ (and the device's entity, decision 16)
//! south :7896  /iot/d?k&i ──► intake ──► registry (memory, store behind)
//!                               ├─► ultralight ─► measure (mapping) ─► delivery ─► context broker, gRPC
//!                               └─► broker away: bus topic `measures` ─► drain ─► context broker, in order
//! ```
//!
//! Stored and shown, but not acted on yet: commands, lazy attributes (measures for them are written), expressions
//! (`expression`, `entityNameExp`, `explicitAttrs` as text), `endpoint`, `cbHost`, `trust`, `ngsiVersion`, `payloadType`,
//! `storeLastMeasure`, MQTT and AMQP, the JSON protocol.
//!
//! Invariants
//! - A device is answered 200 when its measures are committed in the broker, or durable on the bus.
//! - Measures of a device are applied in the order in which they were answered, each once.
//! - An API key belongs to one tenant; with another tenant's header it opens nothing. Keys are never logged.

mod agent;
mod api;
mod config;
mod delivery;
mod device;
mod error;
mod intake;
mod measure;
mod metrics;
mod originals;
mod provision;
mod registry;
mod start;
mod store;
pub mod ultralight;

pub use api::grpc::DeviceAgentApi;
pub use config::{BrokerConfig, CacheConfig, Config, MeasureConfig};
pub use originals::apply_originals;
pub use start::{Deps, StartError, start};
