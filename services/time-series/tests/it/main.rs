//! The service in one process: its store on both engines, its HTTP API against the contract, its event consumer.

mod api;
mod contract;
mod errors;
mod history;
mod model;
mod stores;
