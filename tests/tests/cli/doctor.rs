//! `thingmesh doctor`: what it says of a place where a mesh could run, or runs.

use std::{fs, net::TcpListener};

use thingmesh_tests::{
    mesh::{Mesh, Options},
    process::Finished,
};

use super::thingmesh;

#[test]
fn doctor_finds_nothing_wrong_with_a_good_place() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mesh) = Mesh::prepare(dir.path(), Options::default()) else { return };
    let finished = doctor(&mesh, &[]);
    assert!(finished.status.success(), "{}{}", finished.stdout, finished.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_says_first_that_a_mesh_runs_and_finds_nothing_wrong_with_its_ports() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut mesh) = Mesh::start(dir.path(), Options::default()).await else { return };
    let owner = format!("process {}", mesh.process().id());
    let finished = doctor(&mesh, &[]);
    let first = finished.stdout.lines().next().unwrap_or_default();
    assert!(first.starts_with("note") && first.contains(&owner), "{}", finished.stdout);
    assert!(finished.status.success() && !finished.stdout.contains("WRONG"), "{}", finished.stdout);
}

fn doctor(mesh: &Mesh, more: &[&str]) -> Finished {
    let arguments = mesh.arguments("doctor");
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    arguments.extend(more);
    thingmesh(mesh.program(), &arguments)
}

#[test]
fn doctor_names_a_taken_port_an_unusable_folder_and_an_unreachable_server() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mesh) = Mesh::prepare(dir.path(), Options::default()) else { return };

    let port = mesh.ports().of(1026);
    let taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let finished = doctor(&mesh, &[]);
    let text = format!("{}{}", finished.stdout, finished.stderr);
    assert_eq!(finished.status.code(), Some(1), "{text}");
    assert!(
        text.contains(&port.to_string()) && text.contains("port"),
        "names the port and what to do: {text}"
    );
    drop(taken);

    // A file where the folder should be: not usable for anybody, root included.
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let Some(mesh) = Mesh::prepare(&file.join("data"), Options::default()) else { return };
    let finished = doctor(&mesh, &[]);
    let text = format!("{}{}", finished.stdout, finished.stderr);
    assert_eq!(finished.status.code(), Some(1), "{text}");
    assert!(text.contains(&file.display().to_string()) && text.contains("--data-dir"), "{text}");

    let Some(mesh) = Mesh::prepare(&dir.path().join("good"), Options::default()) else { return };
    for (setting, name) in [
        ("backends.postgres=postgres://u:hunter2@127.0.0.1:9/d", "postgres"),
        ("backends.kafka=127.0.0.1:9", "kafka"),
        ("backends.redis=redis://127.0.0.1:9", "redis"),
    ] {
        let finished = doctor(&mesh, &["--set", setting]);
        let text = format!("{}{}", finished.stdout, finished.stderr);
        assert_eq!(finished.status.code(), Some(1), "{name}: {text}");
        assert!(text.to_lowercase().contains(name), "{name}: {text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn doctor_names_a_bad_configuration_file() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mesh) = Mesh::prepare(&dir.path().join("data"), Options::default()) else { return };
    let file = dir.path().join("mesh.toml");
    for (wrong, wanted) in [
        ("[context-broker]\nprot = 1\n", "prot"),
        ("[context-broker\n", "mesh.toml"),
        ("[context-broker]\nport = \"x\"\n", "mesh.toml: setting `context-broker.port`"),
    ] {
        fs::write(&file, wrong).unwrap();
        let finished = doctor(&mesh, &["--config", &file.display().to_string()]);
        let text = format!("{}{}", finished.stdout, finished.stderr);
        assert_eq!(finished.status.code(), Some(1), "{wrong:?}: {text}");
        assert!(text.contains(wanted), "{wrong:?}: {text}");
    }
}
