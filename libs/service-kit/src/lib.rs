//! What every service is built with: error codes, configuration, listeners with limits, telemetry, health, shutdown.
//!
//! ```text
//! main.rs:  load config ─► telemetry ─► deps ─► start(config, deps) ─► Running ─► signal ─► stop(grace)
//! ```

pub mod clock;
mod code;
pub mod grpc;
mod health;
mod running;

pub use clock::{Clock, ManualClock, SystemClock};
pub use code::Code;
pub use health::Readiness;
pub use running::{Running, Tasks};
