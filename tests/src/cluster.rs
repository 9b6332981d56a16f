//! Split mode on one machine: two replicas of each service as processes, over Kafka, PostgreSQL and Redis.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

use crate::{
    binaries, client::Client, load::Entrances, mesh::readiness_becomes, ports::Ports, process::Process,
    servers::Server,
};

const READY_WITHIN: Duration = Duration::from_secs(60);

/// What a process serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Broker,
    Agent,
    Series,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Broker, Self::Agent, Self::Series];

    fn program(self) -> &'static str {
        match self {
            Self::Broker => "context-broker",
            Self::Agent => "device-agent",
            Self::Series => "time-series",
        }
    }
}

/// One process of the cluster, on ports of its own that it keeps over restarts.
pub struct Member {
    pub kind: Kind,
    program: PathBuf,
    ports: Ports,
    settings: Vec<String>,
    data_dir: TempDir,
    process: Option<Process>,
    earlier_logs: String,
}

impl Member {
    fn new(kind: Kind, settings: Vec<String>) -> Option<Self> {
        Some(Self {
            kind,
            program: binaries::program(kind.program())?,
            ports: Ports::lease(),
            settings,
            data_dir: tempfile::tempdir().expect("a scratch directory"),
            process: None,
            earlier_logs: String::new(),
        })
    }

    fn http_port(&self) -> u16 {
        self.ports.of(match self.kind {
            Kind::Broker => 1026,
            Kind::Agent => 4041,
            Kind::Series => 8668,
        })
    }

    fn arguments(&self) -> Vec<String> {
        let name = self.kind.program();
        let mut arguments = vec![
            "--port".to_owned(),
            self.http_port().to_string(),
            "--data-dir".to_owned(),
            self.data_dir.path().display().to_string(),
        ];
        let mut set =
            |key: String, value: String| arguments.extend(["--set".to_owned(), format!("{key}={value}")]);
        set("admin.port".to_owned(), self.ports.of(9600).to_string());
        match self.kind {
            Kind::Broker => {
                set(format!("{name}.grpc_port"), self.ports.of(1027).to_string());
                set(format!("{name}.history.enabled"), "true".to_owned());
            }
            Kind::Agent => {
                set(format!("{name}.south_port"), self.ports.of(7896).to_string());
                set(format!("{name}.grpc_port"), self.ports.of(4042).to_string());
            }
            Kind::Series => set(format!("{name}.grpc_port"), self.ports.of(8669).to_string()),
        }
        for setting in &self.settings {
            arguments.extend(["--set".to_owned(), setting.clone()]);
        }
        arguments
    }

    pub fn launch(&mut self) {
        assert!(self.process.is_none(), "one process at a time");
        self.process = Some(Process::spawn(&self.program, &self.arguments(), &[]));
    }

    /// # Panics
    /// When it ends, or is not ready in time.
    pub async fn wait_until_ready(&mut self) {
        let admin = self.admin();
        let process = self.process.as_mut().expect("it was launched");
        let ended = async {
            loop {
                if let Some(status) = process.ended() {
                    panic!("ended with {status} instead of starting:\n{}", process.log());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            _ = readiness_becomes(&admin, 200, READY_WITHIN) => {}
            () = ended => {}
        }
    }

    pub fn kill9(&mut self) {
        let mut process = self.process.take().expect("it runs");
        process.kill9();
        self.earlier_logs.push_str(&process.log());
    }

    pub fn log(&self) -> String {
        format!("{}{}", self.earlier_logs, self.process.as_ref().map(Process::log).unwrap_or_default())
    }

    pub fn admin(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.of(9600))
    }

    fn url(&self, default_port: u16) -> String {
        format!("http://127.0.0.1:{}", self.ports.of(default_port))
    }

    /// Whether the process still runs: it must survive the loss of any server.
    pub fn lives(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.ended().is_none())
    }
}

/// Nine processes are enough for a small machine: one cluster at a time.
static TURN: Mutex<()> = Mutex::const_new(());

/// Servers and processes. The processes end first.
pub struct Cluster {
    pub members: Vec<Member>,
    pub kafka: Server,
    pub postgres: Server,
    pub redis: Server,
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    /// Two of each, ready; `None` when servers or programs are not there (said on stdout). `more` are settings of all.
    pub async fn start(more: &[String]) -> Option<Self> {
        Self::start_kinds(&Kind::ALL, more).await
    }

    /// The same with brokers alone.
    pub async fn of_brokers(more: &[String]) -> Option<Self> {
        Self::start_kinds(&[Kind::Broker], more).await
    }

    async fn start_kinds(kinds: &[Kind], more: &[String]) -> Option<Self> {
        binaries::program("context-broker")?;
        let turn = TURN.lock().await;
        let (kafka, postgres, redis) =
            (Server::start("kafka")?, Server::start("postgres")?, Server::start("redis")?);
        let mut settings = vec![
            format!("backends.kafka={}", kafka.url()),
            format!("backends.postgres={}", postgres.url()),
            format!("backends.redis={}", redis.url()),
        ];
        settings.extend(more.iter().cloned());
        let mut cluster = Self { members: Vec::new(), kafka, postgres, redis, _turn: turn };
        for &kind in kinds {
            for replica in 0..2 {
                let mut settings = settings.clone();
                if kind == Kind::Agent {
                    // Each agent has its own broker: when that is away, measures take the bus.
                    let broker = cluster.of(Kind::Broker)[replica].url(1027);
                    settings.push(format!("device-agent.broker.url={broker}"));
                }
                cluster.members.push(Member::new(kind, settings)?);
            }
        }
        for member in &mut cluster.members {
            member.launch();
        }
        for member in &mut cluster.members {
            member.wait_until_ready().await;
        }
        Some(cluster)
    }

    pub fn of(&self, kind: Kind) -> Vec<&Member> {
        self.members.iter().filter(|member| member.kind == kind).collect()
    }

    /// All replicas: a client takes any of them, request by request.
    pub fn entrances(&self) -> Entrances {
        let at = |kind, port| self.of(kind).iter().map(|member| Client::new(member.url(port))).collect();
        Entrances {
            broker: at(Kind::Broker, 1026),
            north: at(Kind::Agent, 4041),
            south: at(Kind::Agent, 7896),
            series: at(Kind::Series, 8668),
            tokens: BTreeMap::new(),
        }
    }

    /// The last lines of each process's log, for a failed test.
    pub fn logs(&self) -> String {
        let tail = |text: String| {
            let lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines[lines.len().saturating_sub(30)..].join("\n")
        };
        self.members.iter().map(|member| format!("--- {:?}\n{}\n", member.kind, tail(member.log()))).collect()
    }
}
