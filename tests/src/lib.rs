//! Tests of the whole mesh: black boxes, real servers, faults. What they share is here.
//!
//! ```text
//! ports ─► process (a spawned program, its log, its end) ─► mesh (`thingmesh up`) | cluster (split binaries)
//! client (HTTP, one tenant's headers) ─► load (devices, writers) ─► oracle (sent, acknowledged, what must be seen)
//! notified (subscriptions and changes) ─► receiver (trying notification targets): what is due, in order, and repetitions
//! sink (a notification target)   otlp (a trace receiver)   scenario (basic-sense, step by step)
//! ```
//!
//! No test looks inside: only ports, files, signals and logs.

pub mod binaries;
pub mod client;
pub mod cluster;
pub mod load;
pub mod mesh;
pub mod notified;
pub mod oracle;
pub mod otlp;
pub mod ports;
pub mod process;
pub mod raw;
pub mod receiver;
pub mod scenario;
pub mod servers;
pub mod sink;
pub mod until;
