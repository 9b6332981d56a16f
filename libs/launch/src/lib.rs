//! What every `main` shares: the configuration file, the backends that it names, the admin port, and signals.
//!
//! ```text
//! args + file + THINGMESH_* ─► configuration ─► Foundation { bus, soft state, clock, metrics, readiness, tasks }
//!                                                     │            services: start(config, deps) -> Running
//!                                                     └─► until_signal(running) ─► exit code
//! ```
//!
//! The code below `start` of a service never sees the environment; this crate is where it is read.

mod args;
mod bus_metrics;
mod config;
mod foundation;
mod memory;
mod runtime;
mod service;
mod signals;

pub use args::ServiceArgs;
pub use config::{
    AdminConfig, Backends, ProcessConfig, ShutdownConfig, load_over, shown, unread_environment,
};
pub use foundation::{Foundation, port_is_taken};
pub use memory::spare_memory;
pub use runtime::runtime;
pub use service::Program;
pub use signals::until_signal;
