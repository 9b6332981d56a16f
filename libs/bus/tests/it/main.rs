//! The bus against real logs.

#![allow(clippy::unwrap_used, reason = "tests")]

mod embedded;
mod fixture;
mod kafka;
mod mock;
mod suite;
