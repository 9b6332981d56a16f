//! The gateway as its clients see it: started on free ports, in front of services that answer what they were asked.

mod client;
mod edge;
mod ext_authz;
mod keys;
mod limits;
mod mesh;
