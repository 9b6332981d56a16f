//! The programs as a person or a supervisor meets them: commands, signals, and what they say when something is wrong.

#![allow(clippy::unwrap_used, reason = "tests")]

mod configuration;
mod doctor;
mod start_errors;
mod terminal;

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::json;
use thingmesh_tests::{
    binaries,
    client::{Caller, Client},
    mesh::{Mesh, Options},
    process::{Finished, Process, run},
    until::{until, until_blocking},
};

const SHORT: Duration = Duration::from_secs(20);

fn thingmesh(program: &Path, arguments: &[&str]) -> Finished {
    run(program, arguments, &[], SHORT)
}

#[test]
fn version_and_help_say_what_this_is() {
    let Some(program) = binaries::program("thingmesh") else { return };
    let version = thingmesh(&program, &["version"]);
    assert!(version.status.success());
    assert!(version.stdout.contains(env!("CARGO_PKG_VERSION")), "{}", version.stdout);

    let help = thingmesh(&program, &["--help"]);
    assert!(help.status.success());
    for word in ["up", "demo", "token", "doctor", "config", "completions", "copy", "Fiware-Service"] {
        assert!(help.stdout.contains(word), "no {word} in:\n{}", help.stdout);
    }
    let help = thingmesh(&program, &["up", "--help"]);
    for word in ["8000", "1026", "8668", "4041", "7896", "9191", "9600", "--data-dir", "--port-offset"] {
        assert!(help.stdout.contains(word), "no {word} in:\n{}", help.stdout);
    }
}

#[test]
fn each_program_prints_help_and_its_configuration() {
    for name in ["context-broker", "device-agent", "time-series"] {
        let Some(program) = binaries::program(name) else { return };
        let help = thingmesh(&program, &["--help"]);
        assert!(help.status.success() && help.stdout.contains("--port"), "{name}: {help:?}");
        let dump = thingmesh(&program, &["--dump-config"]);
        assert!(dump.status.success(), "{name}: {dump:?}");
        assert!(dump.stdout.contains(&format!("[{name}]")), "{name}: {}", dump.stdout);
        let secret = "backends.postgres=postgres://u:hunter2@127.0.0.1/d";
        let dump = thingmesh(&program, &["--dump-config", "--set", secret]);
        assert!(dump.status.success() && !dump.stdout.contains("hunter2"), "{name}: {dump:?}");
    }
}

#[test]
fn an_unknown_command_or_setting_is_refused_with_its_name() {
    let Some(program) = binaries::program("thingmesh") else { return };
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().display().to_string();
    assert!(!thingmesh(&program, &["serve"]).status.success());
    let refused = thingmesh(&program, &["up", "--data-dir", &data_dir, "--set", "context-broker.prot=1"]);
    assert!(!refused.status.success());
    assert!(refused.stderr.contains("context-broker.prot"), "{}", refused.stderr);
}

#[test]
fn a_variable_that_sets_nothing_is_named() {
    let Some(program) = binaries::program("thingmesh") else { return };
    let environment =
        [("THINGMESH_FOO".to_owned(), "1".to_owned()), ("THINGMESH_CACHE".to_owned(), "/tmp".to_owned())];
    for name in ["thingmesh", "context-broker"] {
        let Some(program) = binaries::program(name) else { return };
        let command = if name == "thingmesh" { "config" } else { "--dump-config" };
        let shown = run(&program, &[command], &environment, SHORT);
        assert!(shown.status.success() && shown.stderr.contains("THINGMESH_FOO"), "{name}: {shown:?}");
        assert!(!shown.stderr.contains("THINGMESH_CACHE"), "{name}: {}", shown.stderr);
    }
    assert_eq!(thingmesh(&program, &["config"]).stderr, "");
}

#[test]
fn a_misspelt_log_level_ends_the_start_with_its_setting() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mesh) = Mesh::prepare(dir.path(), Options::default().set("telemetry.log_level=loud")) else {
        return;
    };
    let arguments = mesh.arguments("up");
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let refused = thingmesh(mesh.program(), &arguments);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(refused.stderr.contains("telemetry.log_level \"loud\""), "{}", refused.stderr);
}

#[test]
fn a_token_of_a_folder_without_a_mesh_is_refused_and_no_key_is_made() {
    let Some(program) = binaries::program("thingmesh") else { return };
    let dir = tempfile::tempdir().unwrap();
    for data in [dir.path().join("not-there"), dir.path().to_owned()] {
        let shown = data.display().to_string();
        let refused = thingmesh(&program, &["token", "--tenant", "acme", "--data-dir", &shown]);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert_eq!(refused.stdout, "");
        for part in [shown.as_str(), "--data-dir", "thingmesh up"] {
            assert!(refused.stderr.contains(part), "no {part} in {}", refused.stderr);
        }
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was made");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn token_prints_one_token_and_nothing_else() {
    let Some(program) = binaries::program("thingmesh") else { return };
    let dir = tempfile::tempdir().unwrap();
    let Some(_mesh) = Mesh::start(dir.path(), Options::default()).await else { return };
    let data_dir = dir.path().display().to_string();
    let made = thingmesh(&program, &["token", "--tenant", "acme", "--data-dir", &data_dir]);
    assert!(made.status.success(), "{}", made.stderr);
    let lines: Vec<&str> = made.stdout.lines().collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0].split('.').count(), 3, "a signed token has three parts: {lines:?}");
    assert!(lines[0].chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)), "{lines:?}");
    assert_eq!(made.stderr, "", "nothing else");

    for wrong in ["Acme", "a b", "", "../etc"] {
        let refused = thingmesh(&program, &["token", "--tenant", wrong, "--data-dir", &data_dir]);
        assert!(!refused.status.success() && refused.stdout.is_empty(), "{wrong:?}: {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_development_key_is_for_its_owner_only_and_its_public_half_is_at_the_admin_port() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let Some(mesh) = Mesh::start(&data, Options::default()).await else { return };
    let keys = Client::new(mesh.admin()).get("/.well-known/jwks.json", &Caller::nobody()).await;
    let keys = keys.expect(200).json();
    assert_eq!(keys["keys"][0]["kty"], "EC", "{keys}");
    assert_eq!(keys["keys"][0].get("d"), None, "the private half");
    let files: Vec<_> = fs::read_dir(&data).unwrap().map(Result::unwrap).collect();
    let keys: Vec<_> =
        files.iter().filter(|file| file.path().extension().is_some_and(|end| end == "key")).collect();
    assert_eq!(keys.len(), 1, "{files:?}");
    assert_eq!(keys[0].metadata().unwrap().mode() & 0o077, 0, "open to others");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_printed_token_opens_the_gateway_to_its_tenant_until_it_expires() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mesh) = Mesh::start(dir.path(), Options::default()).await else { return };
    let gateway = Client::new(mesh.gateway());
    let token = mesh.token("acme");
    gateway.get("/orion/v2/entities", &Caller::of("acme").with_token(&token)).await.expect(200);
    gateway.get("/orion/v2/entities", &Caller::of("other").with_token(&token)).await.expect(403);
    gateway.get("/orion/v2/entities", &Caller::of("acme")).await.expect(401);

    let data_dir = mesh.data_dir().display().to_string();
    let arguments = ["token", "--tenant", "acme", "--ttl", "1s", "--data-dir", &data_dir];
    let short = run(mesh.program(), &arguments, &[], SHORT).stdout.trim().to_owned();
    until("the short token ends", Duration::from_secs(10), || async {
        let answer = gateway.get("/orion/v2/entities", &Caller::of("acme").with_token(&short)).await;
        if answer.status == 401 { Ok(()) } else { Err(answer.status.to_string()) }
    })
    .await;
    gateway.get("/orion/v2/entities", &Caller::of("acme").with_token(&token)).await.expect(200);
}

#[test]
fn config_shows_what_is_in_force_and_hides_secrets() {
    let Some(program) = binaries::program("thingmesh") else { return };
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().display().to_string();
    let shown = thingmesh(
        &program,
        &[
            "config",
            "--data-dir",
            &data_dir,
            "--set",
            "backends.postgres=postgres://u:hunter2@127.0.0.1/d",
            "--set",
            "backends.redis=redis://:hunter3@127.0.0.1:1",
            "--set",
            "context-broker.max_body_bytes=77777",
        ],
    );
    assert!(shown.status.success(), "{}", shown.stderr);
    let all = format!("{}{}", shown.stdout, shown.stderr);
    assert!(shown.stdout.contains("77777"), "{all}");
    assert!(!all.contains("hunter"), "{all}");
    // What it prints is itself a configuration file, but for the hidden secrets.
    let file = dir.path().join("mesh.toml");
    let plain = thingmesh(&program, &["config", "--data-dir", &data_dir]);
    fs::write(&file, &plain.stdout).unwrap();
    let again =
        thingmesh(&program, &["config", "--data-dir", &data_dir, "--config", &file.display().to_string()]);
    assert_eq!(again.stdout, plain.stdout, "{}", again.stderr);
    // A hidden secret is not taken for a secret.
    fs::write(&file, &shown.stdout).unwrap();
    let file = file.display().to_string();
    let refused = thingmesh(&program, &["config", "--data-dir", &data_dir, "--config", &file]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(
        refused.stderr.contains(&file) && refused.stderr.contains("THINGMESH_BACKENDS__"),
        "{}",
        refused.stderr
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_of_text_has_no_colours_outside_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::default().set("telemetry.log_format=text");
    let Some(mesh) = Mesh::start(dir.path(), options).await else { return };
    until("the start is logged", SHORT, || async {
        let log = mesh.log();
        if log.contains("mesh is up") { Ok(()) } else { Err(log) }
    })
    .await;
    assert!(!mesh.log().contains('\u{1b}'), "{}", mesh.log());
}

#[test]
fn completions_are_a_script() {
    let Some(program) = binaries::program("thingmesh") else { return };
    let script = thingmesh(&program, &["completions", "bash"]);
    assert!(script.status.success() && script.stdout.contains("complete -F"), "{script:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigint_ends_the_mesh_within_two_seconds_also_under_open_connections() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut mesh) = Mesh::start(dir.path(), Options::default()).await else { return };
    let idle: Vec<_> = std::iter::repeat_with(|| {
        std::net::TcpStream::connect(("127.0.0.1", mesh.ports().of(1026))).unwrap()
    })
    .take(20)
    .collect();
    mesh.process().signal("INT");
    let (status, took) = mesh.process().wait(SHORT);
    assert!(status.success(), "{status}\n{}", mesh.log());
    assert!(took < Duration::from_secs(2), "{took:?}");
    drop(idle);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_sigint_ends_the_mesh_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut mesh) = Mesh::start(dir.path(), Options::default()).await else { return };
    // A drain of a minute is under way.
    mesh.process().signal("TERM");
    mesh.readiness_becomes(503, SHORT).await;
    mesh.process().signal("INT");
    let (_, took) = mesh.process().wait(SHORT);
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_drains_not_ready_but_still_serving() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut mesh) = Mesh::start(dir.path(), Options::default().set("shutdown.drain_ms=2000")).await
    else {
        return;
    };
    let broker = Client::new(mesh.broker());
    let asked = Instant::now();
    mesh.process().signal("TERM");
    let text = mesh.readiness_becomes(503, Duration::from_secs(1)).await;
    assert!(text.contains("draining"), "{text}");
    let entity = json!({ "id": "late", "type": "T" });
    broker.post("/v2/entities", &Caller::of("acme"), &entity).await.expect(201);
    let (status, _) = mesh.process().wait(SHORT);
    assert!(status.success(), "{status}");
    assert!(asked.elapsed() >= Duration::from_secs(2), "drained for {:?}", asked.elapsed());
    mesh.restart().await;
    broker.get("/v2/entities/late", &Caller::of("acme")).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_on_the_same_folder_is_refused_with_the_owner() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut mesh) = Mesh::start(dir.path(), Options::default()).await else { return };
    let Some(other) = Mesh::prepare(dir.path(), Options::default()) else { return };
    let arguments = other.arguments("up");
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let refused = thingmesh(other.program(), &arguments);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(refused.stderr.contains(&dir.path().display().to_string()), "{}", refused.stderr);
    assert!(refused.stderr.contains(&mesh.process().id().to_string()), "{}", refused.stderr);
    Client::new(mesh.broker()).get("/version", &Caller::nobody()).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_port_ends_the_start_with_its_number() {
    for (default_port, setting) in [
        (1026, "context-broker.port"),
        (4041, "device-agent.north_port"),
        (7896, "device-agent.south_port"),
        (8000, "gateway.port"),
        (8668, "time-series.port"),
        (9191, "gateway.authz_port"),
        (9600, "admin.port"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let Some(mesh) = Mesh::prepare(dir.path(), Options::default()) else { return };
        let port = mesh.ports().of(default_port);
        let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let arguments = mesh.arguments("up");
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let refused = thingmesh(mesh.program(), &arguments);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        for part in [port.to_string().as_str(), setting, "--port-offset", "thingmesh doctor"] {
            assert!(refused.stderr.contains(part), "{default_port}: no {part} in {}", refused.stderr);
        }
        assert_eq!(refused.stderr.matches("os error").count(), 1, "said once: {}", refused.stderr);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_corrupt_file_is_named_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut mesh) = Mesh::start(dir.path(), Options::default()).await else { return };
    mesh.process().signal("INT");
    mesh.process().wait(SHORT);
    for name in ["context-broker.db", "notifier.db", "device-agent.db", "time-series.db"] {
        let copy = tempfile::tempdir().unwrap();
        for file in fs::read_dir(dir.path()).unwrap().map(Result::unwrap) {
            // What the log beside a file holds is as good as the file itself: here the file is all there is.
            if file.file_name().to_string_lossy().ends_with(".db") {
                fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
            }
        }
        let file = copy.path().join(name);
        assert!(file.is_file(), "{name} is where it is documented");
        fs::write(&file, b"this is not a database, however long one looks at it".repeat(100)).unwrap();
        let Some(other) = Mesh::prepare(copy.path(), Options::default()) else { return };
        let arguments = other.arguments("up");
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let refused = thingmesh(other.program(), &arguments);
        assert_eq!(refused.status.code(), Some(1), "{name}: {refused:?}");
        assert!(refused.stderr.contains(name), "{name} is named: {}", refused.stderr);
        assert!(fs::read(&file).unwrap().starts_with(b"this is not"), "{name} is left as it is");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_journal_is_named_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut mesh) = Mesh::start(dir.path(), Options::default()).await else { return };
    let (broker, caller) = (Client::new(mesh.broker()), Caller::of("acme"));
    for n in 0..3 {
        let entity = json!({ "id": format!("e{n}"), "type": "T" });
        broker.post("/v2/entities", &caller, &entity).await.expect(201);
    }
    mesh.process().signal("KILL");
    mesh.process().wait(SHORT);
    let files = fs::read_dir(dir.path().join("context-broker.journal")).unwrap();
    let files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    let [file] = &files[..] else { panic!("one file: {files:?}") };
    let mut bytes = fs::read(file).unwrap();
    bytes[60] ^= 1;
    fs::write(file, &bytes).unwrap();
    let arguments = mesh.arguments("up");
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let refused = thingmesh(mesh.program(), &arguments);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let name = file.file_name().unwrap().to_string_lossy();
    assert!(refused.stderr.contains(&*name) && refused.stderr.contains("damaged"), "{}", refused.stderr);
    assert!(fs::read(file).unwrap() == bytes, "it is left as it is");
}

/// In a network namespace of its own, where all default ports are free whatever this machine needs them for.
#[test]
fn each_service_runs_alone_with_a_port_and_a_folder_and_nothing_else() {
    for (name, path) in
        [("context-broker", "/version"), ("time-series", "/version"), ("device-agent", "/iot/about")]
    {
        let Some(program) = binaries::program(name) else { return };
        let allowed = Command::new("unshare").args(["-rn", "true"]).status();
        if !allowed.is_ok_and(|status| status.success()) {
            store::testing::skip("needs the right to make a network namespace");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("unshare");
        let script = "ip link set lo up && exec \"$@\"";
        command.args(["-rn", "setpriv", "--pdeathsig", "KILL", "sh", "-c", script, "sh"]).arg(program);
        command.args(["--port", "7777", "--data-dir"]).arg(dir.path());
        let mut process = Process::from_command(name.to_owned(), command, &[]);
        let pid = process.id().to_string();
        for url in ["http://127.0.0.1:9600/readyz", &format!("http://127.0.0.1:7777{path}")] {
            until_blocking(&format!("{name}: {url} answers 200"), SHORT, || {
                if let Some(status) = process.ended() {
                    panic!("{name} ended with {status}:\n{}", process.log());
                }
                let status = status_inside(&pid, url);
                if status == "200" { Ok(()) } else { Err(format!("{status}\n{}", process.log())) }
            });
        }
        assert!(!has_huge_pages(process.id()), "{name}");
    }
}

/// Whether the system may give the process huge pages, by its `/proc/<pid>/status`; one that knows none says nothing, or 0.
fn has_huge_pages(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("THP_enabled:")).is_some_and(|line| line.trim() != "0")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_mesh_takes_no_huge_pages() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut mesh) = Mesh::start(dir.path(), Options::default()).await else { return };
    if !has_huge_pages(std::process::id()) {
        println!("the system has none to give");
    }
    assert!(!has_huge_pages(mesh.process().id()));
}

/// The status that a GET gets in the network namespace of a process; 000 when nobody listens.
fn status_inside(pid: &str, url: &str) -> String {
    let mut command = Command::new("nsenter");
    command.args(["--target", pid, "--user", "--net", "--preserve-credentials"]);
    command.args(["curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", url]);
    let output = command.output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Fills a small file system of its own (a mount namespace, so nobody else sees it).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long"]
async fn a_full_disk_is_a_clear_error_and_nothing_acknowledged_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mesh) = Mesh::prepare(dir.path(), Options::default()) else { return };
    let allowed = Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success());
    if !allowed {
        store::testing::skip("needs the right to make a mount namespace");
        return;
    }
    let script = "mount -t tmpfs -o size=12m tmpfs \"$0\" && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "setpriv", "--pdeathsig", "KILL", "sh", "-c", script]);
    command.arg(dir.path()).arg(mesh.program()).args(mesh.arguments("up"));
    let mut process = Process::from_command("thingmesh".to_owned(), command, &[]);
    mesh.readiness_becomes(200, SHORT).await;
    // The namespace as its process sees it; the ballast makes room later.
    let ballast = Path::new("/proc").join(process.id().to_string()).join("root");
    let ballast = ballast.join(dir.path().strip_prefix("/").unwrap()).join("ballast");
    fs::write(&ballast, vec![1; 3 << 20]).unwrap();

    let (broker, caller) = (Client::new(mesh.broker()), Caller::of("acme"));
    let text = "x".repeat(20_000);
    let mut stored = Vec::new();
    let refused = loop {
        let id = format!("big:{}", stored.len());
        let entity = json!({ "id": id, "type": "Big", "text": { "type": "Text", "value": text } });
        let answer = broker.post("/v2/entities", &caller, &entity).await;
        if answer.status != 201 {
            break answer;
        }
        stored.push(id);
        assert!(stored.len() < 5_000, "the disk is never full");
    };
    // The client is told to come again, the operator why.
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.text().contains("ServiceUnavailable"), "{}", refused.text());
    assert!(process.log().contains("no space left"), "{}", process.log());
    for id in &stored {
        broker.get(&format!("/v2/entities/{id}?attrs=none"), &caller).await.expect(200);
    }
    fs::remove_file(&ballast).unwrap();
    until("room again, writes again", SHORT, || async {
        let answer = broker.post("/v2/entities", &caller, &json!({ "id": "after", "type": "Small" })).await;
        if answer.status == 201 { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    process.signal("INT");
    process.wait(SHORT);
}
