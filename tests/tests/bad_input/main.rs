//! Bad input gets a clear error and costs nothing: on the gateway and on each service's own port, and another tenant notices
//! nothing of it.

#![allow(clippy::unwrap_used, reason = "tests")]

mod bodies;
mod connections;
mod heads;
mod place;
