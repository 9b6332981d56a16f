//! The mesh that is misused, its ways in, and a good tenant that must notice nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::json;
use tempfile::TempDir;
use thingmesh_tests::{
    client::{Caller, Client},
    mesh::{Mesh, Options},
    raw,
    until::until,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const MEGABYTE: u64 = 1024 * 1024;
/// No bad input may cost more resident memory than this: some bodies of the largest size that is taken (20 MB, by the time
/// series) at once, and what the allocator keeps of them.
pub(crate) const MEMORY_BOUND: u64 = 256 * MEGABYTE;

/// A way in: its port, and a path that takes a body.
pub(crate) struct Door {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    path: &'static str,
    pub(crate) content_type: &'static str,
    /// More header lines.
    pub(crate) headers: String,
}

impl Door {
    pub(crate) fn head(&self, method: &str, more: &str) -> String {
        let Self { path, content_type, headers, .. } = self;
        format!(
            "{method} {path} HTTP/1.1\r\nHost: mesh\r\nConnection: close\r\nContent-Type: {content_type}\r\n\
             Fiware-Service: bad\r\nFiware-ServicePath: /bad\r\n{headers}{more}\r\n"
        )
    }
}

/// A running mesh, and a good tenant that works all the time.
pub(crate) struct Place {
    pub(crate) mesh: Mesh,
    pub(crate) token: String,
    good: GoodTenant,
    pub(crate) memory_before: u64,
    _dir: TempDir,
}

impl Place {
    pub(crate) async fn open(options: Options) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mesh = Mesh::start(dir.path(), options).await?;
        let token = mesh.token("bad");
        let group =
            json!({ "services": [{ "apikey": "bad-key", "entity_type": "T", "resource": "/iot/d" }] });
        let caller = Caller::of("bad").at("/bad");
        Client::new(mesh.north()).post("/iot/services", &caller, &group).await.expect(201);
        let good = GoodTenant::start(&mesh).await;
        let memory_before = mesh.process().resident_bytes();
        Some(Self { mesh, token, good, memory_before, _dir: dir })
    }

    pub(crate) fn doors(&self) -> Vec<Door> {
        let ports = self.mesh.ports();
        let json = "application/json";
        let door = |name, default, path, content_type, headers: String| Door {
            name,
            port: ports.of(default),
            path,
            content_type,
            headers,
        };
        vec![
            door(
                "gateway",
                8000,
                "/orion/v2/entities",
                json,
                format!("Authorization: Bearer {}\r\n", self.token),
            ),
            door("context-broker", 1026, "/v2/entities", json, String::new()),
            door("device-agent north", 4041, "/iot/devices", json, String::new()),
            door("device-agent south", 7896, "/iot/d?k=bad-key&i=dev", "text/plain", String::new()),
            door("time-series", 8668, "/v2/notify", json, String::new()),
        ]
    }

    /// What must hold after any misuse.
    pub(crate) async fn close(mut self) {
        let used = self.mesh.process().resident_bytes().saturating_sub(self.memory_before);
        assert!(used < MEMORY_BOUND, "{} MB more than before", used / MEGABYTE);
        assert!(self.mesh.process().ended().is_none(), "still alive");
        let metrics =
            Client::new(self.mesh.admin()).get("/metrics", &Caller::nobody()).await.expect(200).text();
        for line in metrics.lines().filter(|line| line.contains("request_panics_total")) {
            assert!(line.starts_with('#') || line.ends_with(" 0"), "{line}\n{}", self.mesh.log());
        }
        self.good.finish().await;
    }
}

/// Writes and reads as a tenant of its own; every request must succeed, and soon.
struct GoodTenant {
    stop: CancellationToken,
    rounds: Arc<AtomicUsize>,
    work: JoinHandle<Result<Duration, String>>,
}

impl GoodTenant {
    const SOON: Duration = Duration::from_secs(5);

    async fn start(mesh: &Mesh) -> Self {
        let (stop, rounds) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
        let caller = Caller::of("good").with_token(&mesh.token("good"));
        let gateway = Client::new(mesh.gateway());
        let entity = json!({ "id": "e", "type": "T", "n": { "type": "Number", "value": 0 } });
        gateway.post("/orion/v2/entities", &caller, &entity).await.expect(201);
        let work = tokio::spawn(Self::work(gateway, caller, stop.clone(), rounds.clone()));
        Self { stop, rounds, work }
    }

    async fn work(
        gateway: Client,
        caller: Caller,
        stop: CancellationToken,
        rounds: Arc<AtomicUsize>,
    ) -> Result<Duration, String> {
        let mut slowest = Duration::ZERO;
        for number in 1.. {
            if stop.is_cancelled() {
                break;
            }
            let started = Instant::now();
            let body = json!({ "n": { "type": "Number", "value": number } }).to_string();
            let body = Some(("application/json", body.into()));
            let written =
                gateway.try_send(http::Method::PATCH, "/orion/v2/entities/e/attrs", &caller, body).await?;
            let read = gateway.try_send(http::Method::GET, "/orion/v2/entities/e", &caller, None).await?;
            if written.status != 204 || read.json()["n"]["value"] != number {
                return Err(format!(
                    "{} {}, then {} {}",
                    written.status,
                    written.text(),
                    read.status,
                    read.text()
                ));
            }
            slowest = slowest.max(started.elapsed());
            rounds.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(slowest)
    }

    async fn finish(self) {
        let before = self.rounds.load(Ordering::Relaxed);
        until("the good tenant works on", Duration::from_secs(10), || async {
            if self.rounds.load(Ordering::Relaxed) > before + 3 || self.work.is_finished() {
                Ok(())
            } else {
                Err("no new round".to_owned())
            }
        })
        .await;
        self.stop.cancel();
        let slowest = self.work.await.unwrap().unwrap_or_else(|error| panic!("the good tenant: {error}"));
        assert!(slowest < Self::SOON, "the good tenant once waited {slowest:?}");
    }
}

/// A refusal that a client can understand: the status, and a JSON body with a text.
pub(crate) fn assert_clear(door: &str, answer: &str, statuses: &[u16]) {
    let status = raw::status(answer);
    assert!(statuses.contains(&status), "{door}: wanted {statuses:?}: {}", shortened(answer));
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    assert!(body.len() > 10 && !body.contains("panicked"), "{door}: says why: {}", shortened(answer));
}

pub(crate) fn shortened(text: &str) -> String {
    text.chars().take(600).collect()
}
