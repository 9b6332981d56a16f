//! `thingmesh doctor`: what would keep the mesh from working here, and how to mend it.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    time::Duration,
};

use service_kit::Clock;

use crate::{
    config::MeshConfig,
    demo::client::{Caller, Http},
};

/// A finding: what was looked at, and what is wrong with it.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) what: String,
    pub(crate) verdict: Verdict,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Fine(String),
    /// Neither fine nor wrong: it depends on what is wanted.
    Note(String),
    Wrong {
        fault: String,
        remedy: String,
    },
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Below this the store may stop working soon.
const LOW_DISK_BYTES: u64 = 512 * 1024 * 1024;
/// 2026-01-01: no clock is right that shows less.
const EARLIEST_US: i64 = 1_767_225_600_000_000;

/// Looks at everything; never changes anything but for making the data folder's lock file.
pub(crate) async fn examine(config: &MeshConfig, data_dir: &Path, clock: &dyn Clock) -> Vec<Finding> {
    let mut findings = vec![folder(data_dir)];
    let usable = !matches!(findings[0].verdict, Verdict::Wrong { .. });
    let running = matches!(findings[0].verdict, Verdict::Note(_));
    findings.extend(if running { running_mesh(config).await } else { ports(config) });
    if usable {
        findings.push(disk(data_dir));
    }
    findings.push(time(clock));
    findings.extend(servers(config).await);
    findings
}

/// Prints the findings; true when nothing is wrong.
pub(crate) fn report(findings: &[Finding]) -> bool {
    let mut healthy = true;
    for Finding { what, verdict } in findings {
        match verdict {
            Verdict::Fine(seen) => println!("ok    {what}: {seen}"),
            Verdict::Note(seen) => println!("note  {what}: {seen}"),
            Verdict::Wrong { fault, remedy } => {
                healthy = false;
                println!("WRONG {what}: {fault}\n      {remedy}");
            }
        }
    }
    healthy
}

fn fine(what: impl Into<String>, seen: impl Into<String>) -> Finding {
    Finding { what: what.into(), verdict: Verdict::Fine(seen.into()) }
}

fn wrong(what: impl Into<String>, fault: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { what: what.into(), verdict: Verdict::Wrong { fault: fault.into(), remedy: remedy.into() } }
}

fn ports(config: &MeshConfig) -> Vec<Finding> {
    config.listeners().into_iter().map(|(name, address)| port(name, address)).collect()
}

/// A mesh runs on the folder. Its ports are in use, as they should be, if it is the one that answers at the admin port.
async fn running_mesh(config: &MeshConfig) -> Vec<Finding> {
    let admin = SocketAddr::new(config.admin.host, config.admin.port);
    let what = format!("mesh at {admin} (admin.port)");
    match Http::new(format!("http://{admin}")).get(&Caller::default(), "/readyz").await {
        Ok(answer) if answer.status.is_success() => {
            vec![fine(what, "it is ready; its ports are in use, as they should be")]
        }
        Ok(answer) => vec![wrong(
            what,
            format!("it is not ready: {}", answer.status),
            format!("http://{admin}/readyz says what it waits for"),
        )],
        // It was started with other ports, so that those of this configuration are free or somebody else's.
        Err(_) => ports(config),
    }
}

fn port(name: &str, address: SocketAddr) -> Finding {
    let what = format!("port {} ({name})", address.port());
    match TcpListener::bind(address) {
        Ok(_) => fine(what, "free"),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => wrong(
            what,
            "another program listens on it",
            "stop that program, or move all ports with --port-offset, or this one in the configuration",
        ),
        Err(error) => wrong(what, error.to_string(), "choose another port or address in the configuration"),
    }
}

fn folder(data_dir: &Path) -> Finding {
    let what = format!("data folder {}", data_dir.display());
    match store::lock_data_dir(data_dir) {
        Ok(_) => fine(what, "writable, not in use"),
        Err(store::StoreError::Locked { owner, .. }) => Finding {
            what,
            verdict: Verdict::Note(format!(
                "a mesh runs on it, process {owner}; for a second one give another folder with --data-dir, and --port-offset"
            )),
        },
        Err(error) => wrong(
            what,
            error.to_string(),
            "make it writable for this user, or choose another with --data-dir",
        ),
    }
}

fn disk(data_dir: &Path) -> Finding {
    let what = "disk";
    match rustix::fs::statvfs(data_dir) {
        Ok(volume) => {
            let free = volume.f_bavail.saturating_mul(volume.f_frsize);
            let shown = format!("{} MiB free", free / (1024 * 1024));
            if free < LOW_DISK_BYTES {
                wrong(what, shown, "make room: writes are refused when the disk is full")
            } else {
                fine(what, shown)
            }
        }
        Err(error) => {
            wrong(what, format!("cannot be looked at: {error}"), "choose another folder with --data-dir")
        }
    }
}

fn time(clock: &dyn Clock) -> Finding {
    if clock.now_us() < EARLIEST_US {
        return wrong(
            "clock",
            "it shows a time long past",
            "set it (NTP): tokens look expired or not yet valid, and measures get wrong times",
        );
    }
    fine("clock", "plausible")
}

async fn servers(config: &MeshConfig) -> Vec<Finding> {
    let backends = &config.backends;
    let mut findings = Vec::new();
    let postgres = endpoint(backends.postgres.expose(), 5432);
    let redis = endpoint(backends.redis.expose(), 6379);
    let kafka: Vec<Option<String>> = backends
        .kafka
        .split(',')
        .filter(|part| !part.is_empty())
        .map(|part| Some(part.trim().to_owned()))
        .collect();
    for (name, configured, address) in [
        ("PostgreSQL", !backends.postgres.is_empty(), postgres),
        ("Redis", !backends.redis.is_empty(), redis),
    ] {
        if configured {
            findings.push(reach(name, address).await);
        }
    }
    for broker in kafka {
        findings.push(reach("Kafka", broker).await);
    }
    if findings.is_empty() {
        findings.push(fine("servers", "none configured: everything is embedded"));
    }
    findings
}

/// `host:port` of a URL; never its user or password.
fn endpoint(url: &str, default_port: u16) -> Option<String> {
    let url = url::Url::parse(url).ok()?;
    Some(format!("{}:{}", url.host_str()?, url.port().unwrap_or(default_port)))
}

async fn reach(name: &str, address: Option<String>) -> Finding {
    let Some(address) = address else {
        return wrong(name, "its URL does not parse", "correct it in table [backends]");
    };
    let what = format!("{name} at {address}");
    match tokio::time::timeout(CONNECT_TIMEOUT, tokio::net::TcpStream::connect(&address)).await {
        Ok(Ok(_)) => fine(what, "reachable"),
        Ok(Err(error)) => {
            wrong(what, error.to_string(), "start it, or correct its address in table [backends]")
        }
        Err(_) => wrong(what, "no answer in 3 s", "check the address and the network between"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_its_remedy() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let finding = port("gateway", taken.local_addr().unwrap());
        assert!(
            matches!(&finding.verdict, Verdict::Wrong { remedy, .. } if remedy.contains("--port-offset")),
            "{finding:?}"
        );
    }

    #[test]
    fn a_folder_in_use_names_its_process() {
        let dir = tempfile::tempdir().unwrap();
        let _lock = store::lock_data_dir(dir.path()).unwrap();
        let finding = folder(dir.path());
        let process = std::process::id().to_string();
        assert!(matches!(&finding.verdict, Verdict::Note(seen) if seen.contains(&process)), "{finding:?}");
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_is_one_fault_and_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let mut config = MeshConfig::default();
        for (_, port) in config.ports() {
            *port = 0;
        }
        let findings = examine(&config, &file.join("data"), &service_kit::SystemClock).await;
        let faults: Vec<usize> = findings
            .iter()
            .enumerate()
            .filter(|(_, finding)| matches!(finding.verdict, Verdict::Wrong { .. }))
            .map(|(place, _)| place)
            .collect();
        assert_eq!(faults, [0], "{findings:?}");
    }

    #[test]
    fn a_clock_of_1970_is_wrong() {
        assert!(matches!(time(&service_kit::ManualClock::at_us(0)).verdict, Verdict::Wrong { .. }));
    }

    #[test]
    fn an_endpoint_never_shows_the_password() {
        let shown = endpoint("postgres://user:secret@db.example/x", 5432);
        assert_eq!(shown.as_deref(), Some("db.example:5432"));
    }
}
