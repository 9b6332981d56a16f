//! The agent as its clients see it: started in process on free ports, with a real store and bus, and a broker that
//! remembers what it was told.

#![allow(unreachable_pub, clippy::unwrap_used, reason = "a test binary")]

mod basic_sense;
mod broker;
mod devices;
mod diversion;
mod entities;
mod expressions;
mod groups;
mod grpc;
mod harness;
mod identity;
mod info;
mod measures;
mod replicas;
