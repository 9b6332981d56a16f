//! Real Kafka, PostgreSQL and Redis that belong to one test: started, killed, restarted and ended by it.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use tempfile::TempDir;

/// One server. It ends when this is dropped, and when this process ends, however it ends.
pub struct Server {
    name: &'static str,
    watcher: Child,
    orders: Option<ChildStdin>,
    reports: BufReader<ChildStdout>,
    url: String,
    _dir: TempDir,
}

impl Server {
    /// Starts `kafka`, `postgres` or `redis` on a free port and waits until it answers.
    ///
    /// `None`, after saying why, where real servers are not wanted: without `TEST_TOOLS_DIR`, unless
    /// `TEST_REQUIRE_SERVERS=1`.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(name: &'static str) -> Option<Self> {
        if !store::testing::required() {
            store::testing::server("TEST_TOOLS_DIR")?;
        }
        let dir = tempfile::tempdir().expect("a scratch directory");
        let mut watcher = Command::new(tool())
            .args(["run", name, "--dir"])
            .arg(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", tool().display()));
        let orders = watcher.stdin.take();
        let reports = BufReader::new(watcher.stdout.take().expect("stdout is piped"));
        let mut server = Self { name, watcher, orders, reports, url: String::new(), _dir: dir };
        let report = server.report();
        // The first of them is where it listens.
        let first = report.strip_prefix("ready ").and_then(|exports| exports.split(' ').next());
        let url = first.and_then(|export| export.split_once('='));
        server.url = url.unwrap_or_else(|| panic!("{name}: {report:?}")).1.to_owned();
        Some(server)
    }

    /// What a client needs: a URL, or Kafka's `host:port`. It stays the same over restarts.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// SIGKILL to the server and all its processes.
    pub fn kill9(&mut self) {
        self.order("kill9", "killed");
    }

    /// Ends it as an administrator would.
    pub fn stop(&mut self) {
        self.order("stop", "stopped");
    }

    /// Starts it again after [`Self::kill9`] or [`Self::stop`]; waits until it answers.
    pub fn restart(&mut self) {
        self.order("start", "ready");
    }

    fn order(&mut self, order: &str, wanted: &str) {
        let orders = self.orders.as_mut().expect("open until drop");
        writeln!(orders, "{order}").unwrap_or_else(|error| panic!("{} {order}: {error}", self.name));
        let report = self.report();
        assert!(report.starts_with(wanted), "{} {order}: {report:?}", self.name);
    }

    fn report(&mut self) -> String {
        let mut line = String::new();
        self.reports.read_line(&mut line).expect("the watcher speaks UTF-8");
        line.trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // End of input tells the watcher to end its server.
        drop(self.orders.take());
        if let Err(error) = self.watcher.wait() {
            eprintln!("{}: {error}", self.name);
        }
    }
}

fn tool() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/servers")
}
