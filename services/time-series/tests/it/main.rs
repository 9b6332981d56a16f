//! The service in one process: its store on both engines, its HTTP API against the contract, its event consumer.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

mod api;
mod burst;
mod contract;
mod errors;
mod history;
mod model;
mod replicas;
mod service;
mod stores;
