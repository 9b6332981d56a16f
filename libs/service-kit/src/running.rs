use std::{collections::BTreeMap, future::Future, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The background tasks of one service. A task that fails or panics ends the process: see [`Tasks::failed`].
#[derive(Clone)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    failure: Arc<watch::Sender<Option<String>>>,
}

impl Tasks {
    pub fn new() -> Self {
        Self {
            tracker: TaskTracker::new(),
            stop: CancellationToken::new(),
            failure: Arc::new(watch::Sender::new(None)),
        }
    }

    /// Cancelled when the service shall stop. Tasks finish what they have in hand and return.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Runs a task for as long as the service runs. `name` appears in the log when it fails.
    #[allow(clippy::disallowed_methods, reason = "the one place that spawns")]
    pub fn spawn<F, E>(&self, name: &'static str, task: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: std::fmt::Display + Send + 'static,
    {
        let failure = self.failure.clone();
        let handle = tokio::spawn(self.tracker.track_future(task));
        self.tracker.spawn(async move {
            let reason = match handle.await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => format!("{name}: {error}"),
                Err(error) if error.is_panic() => format!("{name}: panicked"),
                Err(_) => return,
            };
            tracing::error!(task = name, %reason, "background task failed");
            failure.send_if_modified(|first| {
                let is_first = first.is_none();
                if is_first {
                    *first = Some(reason);
                }
                is_first
            });
        });
    }

    /// Resolves with the reason of the first failed task; never, if none fails.
    pub async fn failed(&self) -> String {
        let mut failure = self.failure.subscribe();
        let reason = failure.wait_for(Option::is_some).await;
        match reason.map(|reason| reason.clone()) {
            Ok(Some(reason)) => reason,
            _ => std::future::pending().await,
        }
    }

    /// Tells all tasks to stop and waits for them, at most `grace`. False when some had not ended by then.
    pub async fn stop(&self, grace: Duration) -> bool {
        self.stop.cancel();
        self.tracker.close();
        tokio::time::timeout(grace, self.tracker.wait()).await.is_ok()
    }
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new()
    }
}

/// A started service: where it listens, and how to stop it.
pub struct Running {
    name: &'static str,
    addresses: BTreeMap<&'static str, SocketAddr>,
    routers: BTreeMap<&'static str, Router>,
    tasks: Tasks,
}

impl Running {
    pub fn new(name: &'static str, addresses: BTreeMap<&'static str, SocketAddr>, tasks: Tasks) -> Self {
        Self { name, addresses, routers: BTreeMap::new(), tasks }
    }

    /// Adds what [`crate::http::serve_shared`] returned for the listener `name`.
    #[must_use]
    pub fn with_router(mut self, name: &'static str, router: Router) -> Self {
        self.routers.insert(name, router);
        self
    }

    /// The HTTP API behind the listener `name`, for neighbours in this process.
    pub fn router(&self, name: &str) -> Option<Router> {
        self.routers.get(name).cloned()
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Listeners by name (`http`, `grpc`, `north`, `south` …), with the ports they really got.
    pub fn addresses(&self) -> &BTreeMap<&'static str, SocketAddr> {
        &self.addresses
    }

    /// Resolves when a background task failed: the process shall end.
    pub async fn failed(&self) -> String {
        self.tasks.failed().await
    }

    pub async fn stop(&self, grace: Duration) -> bool {
        let in_time = self.tasks.stop(grace).await;
        if !in_time {
            tracing::warn!(service = self.name, "stopped with work in flight");
        }
        in_time
    }
}
