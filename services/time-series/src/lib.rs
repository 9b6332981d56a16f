//! The history of all entities.
#![allow(dead_code)]

pub mod cell;
pub mod ingest;
pub mod metrics;
pub mod query;
pub mod row;
pub mod store;
pub mod time;
