//! What every service is built with: error codes, configuration, listeners with limits, telemetry, health, shutdown.
//!
//! ```text
//! main.rs:  load config ─► telemetry ─► deps ─► start(config, deps) ─► Running ─► signal ─► stop(grace)
//! ```

pub mod admin;
pub mod clock;
mod code;
pub mod config;
pub mod context;
pub mod grpc;
mod health;
pub mod http;
pub mod metrics;
mod running;
pub mod telemetry;

pub use clock::{Clock, ManualClock, SystemClock};
pub use code::Code;
pub use context::{RequestContext, TraceContext};
pub use health::Readiness;
pub use running::{Running, Tasks};
