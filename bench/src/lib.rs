//! Measures the mesh: a load generator, the floors beside it, one case per figure, and the report.
//!
//! ```text
//! thingmesh-bench ──spawns──► thingmesh up            (server under test, own process)
//!       │         ──spawns──► thingmesh-bench floor   (bare axum handler, same requests, same answers)
//!       └─ load: one thread, raw HTTP/1.1, keep-alive, arrivals on a fixed schedule
//! ```
//!
//! Invariants
//! - A latency runs from when a request *should* have been sent, so a stalled server can't hide what it delayed
//!   (coordinated omission); what was never answered counts with the time it waited in vain.
//! - A figure of the mesh and its floor come from the same generator, the same requests and the same run.
//! - CPU and memory are the server process's own, as the kernel counts them.

pub mod cases;
pub mod floor;
pub mod load;
pub mod machine;
pub mod mesh;
pub mod process;
pub mod report;
