//! A program under test: started, watched, signalled, and never left behind.

use std::{
    io::{BufRead, BufReader, Read},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// A running program. Dropping it kills it.
pub struct Process {
    name: String,
    child: Child,
    stdout: Captured,
    stderr: Captured,
    ended: Option<ExitStatus>,
}

/// What a stream has brought so far, line by line.
struct Captured {
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Captured {
    fn read(stream: impl Read + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = lines.clone();
        let reader = std::thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while matches!(stream.read_until(b'\n', &mut line), Ok(read) if read > 0) {
                let text = String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned();
                sink.lock().expect("no reader panics").push(text);
                line.clear();
            }
        });
        Self { lines, reader: Some(reader) }
    }

    fn text(&self) -> String {
        let lines = self.lines.lock().expect("no reader panics");
        lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
    }

    fn finish(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("no reader panics");
        }
    }
}

impl Process {
    /// Starts `program`. It gets a process group of its own, and ends when this process ends, however it ends.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn spawn(program: &Path, arguments: &[String], environment: &[(String, String)]) -> Self {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program).args(arguments);
        Self::from_command(name, command, environment)
    }

    /// Starts a command made by hand, for instance one that sets up namespaces first.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn from_command(name: String, mut command: Command, environment: &[(String, String)]) -> Self {
        command
            .envs(environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name} not started: {error}"));
        let stdout = Captured::read(child.stdout.take().expect("stdout is piped"));
        let stderr = Captured::read(child.stderr.take().expect("stderr is piped"));
        Self { name, child, stdout, stderr, ended: None }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Standard error so far: the log.
    pub fn log(&self) -> String {
        self.stderr.text()
    }

    pub fn output(&self) -> String {
        self.stdout.text()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("a child can be waited for");
        }
        self.ended
    }

    /// Sends a signal by its name, such as `TERM`.
    ///
    /// # Panics
    /// When there is no such process any more.
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([format!("-{signal}"), self.child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "{}: signal {signal} not sent", self.name);
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill9(&mut self) {
        if self.ended().is_none() {
            self.child.kill().expect("a running child can be killed");
            let status = self.child.wait().expect("a child can be waited for");
            assert_eq!(status.signal(), Some(9), "{} ended by itself: {}", self.name, self.log());
            self.ended = Some(status);
        }
        self.finish_reading();
    }

    /// Waits for its end and says how it ended and how long that took.
    ///
    /// # Panics
    /// When it has not ended by then.
    pub fn wait(&mut self, limit: Duration) -> (ExitStatus, Duration) {
        let started = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                let took = started.elapsed();
                self.finish_reading();
                return (status, took);
            }
            assert!(started.elapsed() < limit, "{} still runs after {limit:?}:\n{}", self.name, self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Resident memory in bytes.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let line =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a live process has VmRSS");
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("VmRSS is in kB");
        kilobytes * 1024
    }

    fn finish_reading(&mut self) {
        self.stdout.finish();
        self.stderr.finish();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) && self.child.kill().is_ok() {
            let reaped = self.child.wait();
            debug_assert!(reaped.is_ok(), "a killed child can be waited for");
        }
        if std::thread::panicking() {
            let log = self.stderr.text();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!(
                "--- end of the log of {}\n{}",
                self.name,
                lines[lines.len().saturating_sub(40)..].join("\n")
            );
        }
    }
}

/// Runs a program to its end.
///
/// # Panics
/// When it does not end in time.
pub fn run(
    program: &Path,
    arguments: &[&str],
    environment: &[(String, String)],
    limit: Duration,
) -> Finished {
    let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    let mut process = Process::spawn(program, &arguments, environment);
    let (status, took) = process.wait(limit);
    Finished { status, took, stdout: process.output(), stderr: process.log() }
}

/// What a program that ran to its end left.
#[derive(Debug)]
pub struct Finished {
    pub status: ExitStatus,
    pub took: Duration,
    pub stdout: String,
    pub stderr: String,
}
