//! The whole measurement, short: every case finds what it asks for in a real mesh.

use std::{path::Path, process::Command};

#[test]
fn a_quick_run_measures_every_group() {
    let bench = Path::new(env!("CARGO_BIN_EXE_thingmesh-bench"));
    let mesh = bench.with_file_name("thingmesh");
    if !mesh.is_file() {
        assert!(std::env::var_os("TEST_REQUIRE_SERVERS").is_none(), "{} is not built", mesh.display());
        println!("skipped: needs {} (cargo build --workspace)", mesh.display());
        return;
    }
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
        "measure over HTTP",
        "point queryable",
        "notifications/s",
        "history insert",
        "lastN=100",
        "hourly average",
        "GET entity through the gateway",
        "subscriptions that don't match",
        "from start to ready",
    ] {
        assert!(said.contains(found), "no line about {found:?} in\n{said}");
    }
}
