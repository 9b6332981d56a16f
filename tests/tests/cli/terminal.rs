//! What a person at a terminal sees of `thingmesh up`, beside what a supervisor reads.

use std::process::Command;

use thingmesh_tests::{
    mesh::{Mesh, Options},
    process::Process,
    until::until,
};

use super::SHORT;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_reads_text_and_the_summary_below_it() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mesh) = Mesh::prepare(dir.path(), Options::default()) else { return };
    // `script` runs a command on a terminal of its own.
    let arguments: Vec<String> = mesh.arguments("up").iter().map(|one| format!("'{one}'")).collect();
    let line = format!("exec '{}' {}", mesh.program().display(), arguments.join(" "));
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "script", "--quiet", "--return", "--command", &line, "/dev/null"]);
    let mut process = Process::from_command("thingmesh".to_owned(), command, &[]);
    let screen = || process.output().replace('\r', "");
    until("the summary is shown", SHORT, || async {
        let seen = screen();
        if seen.contains("a token   thingmesh token") { Ok(()) } else { Err(seen) }
    })
    .await;
    let seen = screen();
    assert!(!seen.contains("{\""), "no JSON for eyes: {seen}");
    let (log, summary) = seen.split_once("thingmesh is up; Ctrl-C stops it").expect("a headline");
    assert!(log.contains("INFO") && log.contains("mesh is up"), "the log comes before it: {seen}");
    assert!(summary.contains("a token") && !summary.contains("listening"), "the summary ends it: {seen}");
    process.signal("TERM");
    process.wait(SHORT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_supervisor_reads_json_lines_and_no_summary() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut mesh) = Mesh::start(dir.path(), Options::default()).await else { return };
    until("the start is logged", SHORT, || async {
        let log = mesh.log();
        if log.contains("mesh is up") { Ok(()) } else { Err(log) }
    })
    .await;
    for line in mesh.log().lines() {
        let parsed: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        assert!(parsed["level"].is_string(), "{line}");
    }
    assert_eq!(mesh.process().output(), "");
}
