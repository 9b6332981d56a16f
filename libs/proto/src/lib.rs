//! Messages and gRPC services generated from `proto/thingmesh/v1`.

/// Package `thingmesh.v1`.
#[allow(clippy::all, clippy::pedantic, clippy::unwrap_used, unreachable_pub, missing_docs)]
pub mod v1 {
    tonic::include_proto!("thingmesh.v1");
}

pub mod wire;

/// The compiled descriptors of all services here, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
