//! The bus against real logs.

#![allow(clippy::unwrap_used, reason = "tests")]

extern crate thingmesh_bus as bus;

mod embedded;
mod fixture;
