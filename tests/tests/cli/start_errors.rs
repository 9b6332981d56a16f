//! A program that cannot start says why, and what to do, in words: no trace of calls, no structure of the code.

use std::{fs, net::TcpListener, path::Path};

use thingmesh_tests::{
    binaries,
    process::{Finished, run},
};

use super::SHORT;

const PROGRAMS: [&str; 3] = ["context-broker", "device-agent", "time-series"];

fn start(program: &Path, data_dir: &Path, set: &[&str]) -> Finished {
    let data_dir = data_dir.display().to_string();
    let mut arguments = vec!["--port", "0", "--data-dir", &data_dir];
    for setting in ["admin.port=0"].iter().chain(set) {
        arguments.extend(["--set", setting]);
    }
    // A developer's environment must not turn words into traces.
    run(program, &arguments, &[("RUST_BACKTRACE".to_owned(), "1".to_owned())], SHORT)
}

/// The words of `name`, after its log.
fn told<'a>(name: &str, ended: &'a Finished) -> &'a str {
    assert_eq!(ended.status.code(), Some(1), "{name}: {ended:?}");
    let at = ended.stderr.find(&format!("{name}: "));
    let words =
        at.and_then(|at| ended.stderr.get(at..)).unwrap_or_else(|| panic!("{name}: {}", ended.stderr));
    for internal in ["backtrace", "Error:", "Error {", "Caused by", ".rs:"] {
        assert!(!words.contains(internal), "{name}: {internal} in {words}");
    }
    assert!(words.lines().count() <= 2, "what is wrong, and what to do: {words}");
    words
}

#[test]
fn a_folder_that_cannot_be_made_is_named_with_the_flag() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a-file");
    fs::write(&file, "").unwrap();
    for name in PROGRAMS {
        let Some(program) = binaries::program(name) else { return };
        let ended = start(&program, &file.join("data"), &[]);
        let words = told(name, &ended);
        assert!(words.contains("a-file/data") && words.contains("--data-dir"), "{words}");
    }
}

#[test]
fn an_unknown_setting_is_named() {
    for name in PROGRAMS {
        let Some(program) = binaries::program(name) else { return };
        let dir = tempfile::tempdir().unwrap();
        let ended = start(&program, dir.path(), &[&format!("{name}.prot=1")]);
        let words = told(name, &ended);
        assert!(words.contains(&format!("`{name}.prot`")) && words.contains("config"), "{words}");
    }
}

#[test]
fn a_taken_port_is_named_with_a_way_out() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for name in PROGRAMS {
        let Some(program) = binaries::program(name) else { return };
        let dir = tempfile::tempdir().unwrap();
        let ended = start(&program, dir.path(), &[&format!("{name}.grpc_port={port}")]);
        let words = told(name, &ended);
        assert!(words.contains(&port.to_string()) && words.contains("another port"), "{words}");
    }
}

#[test]
fn a_database_that_is_away_is_named_with_a_way_out() {
    let port = {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let postgres = format!("backends.postgres=postgres://ann:hunter2@127.0.0.1:{port}/mesh");
    for name in PROGRAMS {
        let Some(program) = binaries::program(name) else { return };
        let dir = tempfile::tempdir().unwrap();
        let ended = start(&program, dir.path(), &[&postgres, "backends.kafka=127.0.0.1:1"]);
        let words = told(name, &ended);
        for part in [format!("127.0.0.1:{port}"), "backends.postgres".to_owned(), "doctor".to_owned()] {
            assert!(words.contains(&part), "{part} in {words}");
        }
        assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
    }
}
