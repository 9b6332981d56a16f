//! One table of decisions, four engines: the real OPA, the embedded engine, a real Envoy that Istio's code configured from
//! the unchanged `istio/`, and the embedded gateway. They must agree, on the table and on random tokens.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall fail")]

mod engines;
mod envoy;
mod istio_mesh;
mod kubernetes;
mod random;
mod table;
mod tokens;
mod wire;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// Within this time the slowest of the real components is ready, also on a busy machine.
const SOON: Duration = Duration::from_secs(120);

/// The root of the repository.
fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A tool of `tests/tools/mesh-tools`; `None` when the test is to be skipped.
fn tool(name: &str) -> Option<PathBuf> {
    let folder = PathBuf::from(store::testing::server("TEST_TOOLS_DIR")?);
    let path = folder.join(name);
    assert!(path.exists(), "{} is missing; run: tests/tools/mesh-tools fetch", path.display());
    Some(path)
}
