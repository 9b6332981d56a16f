//! The program itself: Orion's flags and variables, and a log whose level is changed while it runs.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Any line that a test waits for comes within this.
const PATIENCE: Duration = Duration::from_secs(60);

struct Program {
    child: Child,
    lines: mpsc::Receiver<String>,
    _dir: tempfile::TempDir,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

fn command(dir: &std::path::Path, flags: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_context-broker"));
    command
        .args(flags)
        .arg("--data-dir")
        .arg(dir)
        .args(["--set", "admin.port=0", "--set", "context-broker.grpc_port=0"])
        .env_clear()
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

impl Program {
    fn start(flags: &[&str], variables: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut child = command(dir.path(), flags, variables).spawn().unwrap();
        let (sender, lines) = mpsc::sync_channel(10_000);
        let log = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in log.lines() {
                if line.is_ok_and(|line| sender.send(line).is_err()) {
                    return;
                }
            }
        });
        Self { child, lines, _dir: dir }
    }

    /// The next line that holds all of `texts`.
    fn line(&self, texts: &[&str]) -> String {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|_| panic!("no line with {texts:?}"));
            if texts.iter().all(|text| line.contains(text)) {
                return line;
            }
        }
    }

    /// The address of its REST API, once it serves.
    fn address(&self) -> String {
        let line = self.line(&["\"serving\"", "http"]);
        let after = line.split("\\\"http\\\": ").nth(1).unwrap_or_else(|| panic!("{line}"));
        after.split([',', '}']).next().unwrap().to_owned()
    }
}

async fn ask(address: &str, head: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{head}\r\nHost: broker\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flags_and_variables_of_orion_take_effect_and_the_level_of_the_log_changes_at_once() {
    let program = Program::start(
        &["-port", "0", "-corsOrigin", "__ALL", "-statCounters", "-dbhost", "mongo:27017"],
        &[("ORION_LOG_LEVEL", "INFO"), ("ORION_DISABLE_METRICS", "TRUE"), ("ORION_SERVICE_HOST", "10.0.0.1")],
    );
    program.line(&["warn", "ORION_SERVICE_HOST is no setting"]);
    program.line(&["warn", "-dbhost means nothing here"]);
    let address = program.address();
    assert!(ask(&address, "GET /statistics HTTP/1.1").await.contains("\"counters\""));
    assert!(ask(&address, "GET /admin/metrics HTTP/1.1").await.contains("metrics desactivated"));
    let listed = ask(&address, "GET /v2/entities HTTP/1.1\r\nOrigin: http://a.example").await;
    assert!(listed.contains("access-control-allow-origin: *"), "{listed}");

    // Only at level DEBUG is a new subscription worth a line.
    let body =
        r#"{"subject":{"entities":[{"id":"E"}]},"notification":{"http":{"url":"http://127.0.0.1:9/"}}}"#;
    let create = format!(
        "POST /v2/subscriptions HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {}",
        body.len()
    );
    let created = |level: &'static str| {
        let (address, create) = (address.clone(), create.clone());
        async move {
            let set = ask(&address, &format!("PUT /admin/log?level={level} HTTP/1.1")).await;
            assert!(set.starts_with("HTTP/1.1 200"), "{set}");
            let mut stream = TcpStream::connect(&address).await.unwrap();
            let request = format!("{create}\r\nHost: broker\r\nConnection: close\r\n\r\n{body}");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            let location = answer.lines().find_map(|line| line.strip_prefix("location: ")).unwrap();
            location.rsplit('/').next().unwrap().to_owned()
        }
    };
    let silent = created("INFO").await;
    let told = created("DEBUG").await;
    let line = program.line(&["debug", "subscription created"]);
    assert!(line.contains(&told) && !line.contains(&silent), "{line}");
    assert!(ask(&address, "GET /admin/log HTTP/1.1").await.contains("\"level\":\"DEBUG\""));
}

#[test]
fn a_flag_that_nobody_knows_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    for (flags, text) in [
        (&["-prot", "1026"][..], "unknown flag -prot"),
        (&["-port", "many"], "-port is not a port number"),
        (&["-https"], "-https is not served"),
    ] {
        let output = command(dir.path(), flags, &[]).output().unwrap();
        assert!(!output.status.success(), "{flags:?}");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains(text), "{flags:?}: {told}");
    }
}

#[test]
fn our_own_settings_win_over_flags_and_flags_over_variables() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = command(
        dir.path(),
        &[
            "-corsMaxAge",
            "5",
            "-maxConnections",
            "7",
            "--set",
            "context-broker.http.max_connections=9",
            "--dump-config",
        ],
        &[("ORION_CORS_MAX_AGE", "3"), ("ORION_LOG_FOR_HUMANS", "true")],
    )
    .spawn()
    .unwrap();
    let mut shown = String::new();
    child.stdout.take().unwrap().read_to_string(&mut shown).unwrap();
    assert!(child.wait().unwrap().success());
    for line in ["cors_max_age_s = 5", "max_connections = 9", "log_format = \"text\"", "multiservice = true"]
    {
        assert!(shown.contains(line), "{line} in {shown}");
    }
}
