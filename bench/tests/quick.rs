//! The whole measurement, short: every case finds what it asks for in a real mesh.

use std::{path::Path, process::Command};

#[test]
fn a_quick_run_measures_every_group() {
    let bench = Path::new(env!("CARGO_BIN_EXE_thingmesh-bench"));
    let mesh = bench.with_file_name("thingmesh");
    // Whatever was built last may lie there: only a run that has built the programs itself may measure them.
    if !store::testing::required() {
        store::testing::skip("needs the built programs, TEST_REQUIRE_SERVERS=1");
        return;
    }
    assert!(mesh.is_file(), "{} is missing: cargo build --workspace --bins", mesh.display());
    let folder = tempfile::tempdir().expect("a folder for the mesh's data");
    let output = Command::new(bench)
        .arg("--quick")
        .arg("--program")
        .arg(&mesh)
        .arg("--folder")
        .arg(folder.path())
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    for found in [
        "PATCH one attribute",
        "GET entity by id",
        "list 100 of",
        "op/update of 100 entities",
        "subscriptions on its type",
        "GET entity, forwarded",
        "PATCH, forwarded",
        "list of one id",
        "q, no index",
        "near 500 m",
        "orderBy temperature",
        "memory of the mesh with 2,000 entities",
        "measure over HTTP",
        "point queryable",
        "notifications/s",
        "the others hang or are away",
        "history insert",
        "lastN=100",
        "hourly average",
        "GET entity through the gateway",
        "subscriptions that don't match",
        "from start to ready, the whole mesh",
        "from start to ready, context-broker alone",
    ] {
        assert!(said.contains(found), "no line about {found:?} in\n{said}");
    }
}

#[test]
fn a_group_that_does_not_exist_is_refused_before_anything_is_measured() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_thingmesh-bench")).args(["--only", "broker,query"]).output();
    let output = output.expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("invalid value 'query'"), "{said}");
}
