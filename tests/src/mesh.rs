//! The whole mesh in one process: `thingmesh up` on a block of free ports.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    binaries,
    client::{Caller, Client},
    ports::Ports,
    process::{self, Process},
    until::until,
};

const READY_WITHIN: Duration = Duration::from_secs(20);

/// How a mesh is started.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// `--set KEY=VALUE`.
    pub set: Vec<String>,
    pub environment: Vec<(String, String)>,
}

impl Options {
    #[must_use]
    pub fn set(mut self, setting: &str) -> Self {
        self.set.push(setting.to_owned());
        self
    }
}

/// A mesh, its ports, and all that its processes have logged.
pub struct Mesh {
    program: PathBuf,
    data_dir: PathBuf,
    options: Options,
    ports: Ports,
    process: Option<Process>,
    earlier_logs: String,
}

impl Mesh {
    /// Starts it and waits until it is ready; `None` when the program is not there to be tested (said on stdout).
    pub async fn start(data_dir: &Path, options: Options) -> Option<Self> {
        let mut mesh = Self::prepare(data_dir, options)?;
        mesh.launch();
        mesh.wait_until_ready().await;
        Some(mesh)
    }

    /// All but the start.
    pub fn prepare(data_dir: &Path, options: Options) -> Option<Self> {
        let program = binaries::program("thingmesh")?;
        Some(Self {
            program,
            data_dir: data_dir.to_owned(),
            options,
            ports: Ports::lease(),
            process: None,
            earlier_logs: String::new(),
        })
    }

    /// The arguments of `up`, and of the other commands that read the configuration.
    pub fn arguments(&self, command: &str) -> Vec<String> {
        let mut arguments = vec![
            command.to_owned(),
            "--data-dir".to_owned(),
            self.data_dir.display().to_string(),
            "--port-offset".to_owned(),
            self.ports.offset().to_string(),
        ];
        for setting in &self.options.set {
            arguments.extend(["--set".to_owned(), setting.clone()]);
        }
        arguments
    }

    /// Starts the process and does not wait.
    pub fn launch(&mut self) {
        assert!(self.process.is_none(), "one process at a time");
        let process = Process::spawn(&self.program, &self.arguments("up"), &self.options.environment);
        self.process = Some(process);
    }

    /// # Panics
    /// When it ends, or is not ready in time.
    pub async fn wait_until_ready(&mut self) {
        let client = Client::new(self.admin());
        let started = std::time::Instant::now();
        loop {
            if let Some(status) = self.process().ended() {
                panic!("the mesh ended with {status} instead of starting:\n{}", self.log());
            }
            let answer = client.try_send(http::Method::GET, "/readyz", &Caller::nobody(), None).await;
            match answer {
                Ok(answer) if answer.status == 200 => return,
                seen if started.elapsed() > READY_WITHIN => {
                    panic!("not ready within {READY_WITHIN:?}: {seen:?}\n{}", self.log())
                }
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// SIGKILL; nothing is told to anyone.
    pub fn kill9(&mut self) {
        let mut process = self.process.take().expect("the mesh runs");
        process.kill9();
        self.earlier_logs.push_str(&process.log());
    }

    /// After [`Self::kill9`], or an end that was asked for.
    pub async fn restart(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill9();
            self.earlier_logs.push_str(&process.log());
        }
        self.launch();
        self.wait_until_ready().await;
    }

    /// # Panics
    /// When it was not started.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the mesh runs")
    }

    /// What all its processes have logged.
    pub fn log(&self) -> String {
        let now = self.process.as_ref().map(Process::log).unwrap_or_default();
        format!("{}{now}", self.earlier_logs)
    }

    pub fn program(&self) -> &Path {
        &self.program
    }

    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    pub fn ports(&self) -> &Ports {
        &self.ports
    }

    fn url(&self, default_port: u16) -> String {
        format!("http://127.0.0.1:{}", self.ports.of(default_port))
    }

    pub fn gateway(&self) -> String {
        self.url(8000)
    }

    pub fn broker(&self) -> String {
        self.url(1026)
    }

    pub fn north(&self) -> String {
        self.url(4041)
    }

    pub fn south(&self) -> String {
        self.url(7896)
    }

    pub fn series(&self) -> String {
        self.url(8668)
    }

    pub fn admin(&self) -> String {
        self.url(9600)
    }

    /// What `thingmesh token` prints for a tenant of this data directory.
    ///
    /// # Panics
    /// When it prints none.
    pub fn token(&self, tenant: &str) -> String {
        let dir = self.data_dir.display().to_string();
        let arguments = ["token", "--tenant", tenant, "--data-dir", &dir];
        let finished = process::run(&self.program, &arguments, &[], Duration::from_secs(20));
        assert!(finished.status.success(), "no token: {}", finished.stderr);
        finished.stdout.trim().to_owned()
    }

    /// Waits until `/readyz` answers `status` and gives its text.
    pub async fn readiness_becomes(&self, status: u16, limit: Duration) -> String {
        readiness_becomes(&self.admin(), status, limit).await
    }
}

/// Waits until `/readyz` of an admin port answers `status` and gives its text.
pub async fn readiness_becomes(admin: &str, status: u16, limit: Duration) -> String {
    let client = Client::new(admin);
    until(&format!("readiness {status}"), limit, || async {
        let answer = client.try_send(http::Method::GET, "/readyz", &Caller::nobody(), None).await?;
        if answer.status == status {
            Ok(answer.text())
        } else {
            Err(format!("{} {}", answer.status, answer.text()))
        }
    })
    .await
}
