//! The gateway as its clients see it: started on free ports, in front of services that answer what they were asked.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall fail")]

mod client;
mod edge;
mod ext_authz;
mod keys;
mod limits;
mod mesh;
