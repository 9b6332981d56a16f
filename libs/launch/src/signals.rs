use std::{process::ExitCode, time::Duration};

use anyhow::{Result, bail};
use service_kit::Running;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Mutex,
};

use crate::{Foundation, ShutdownConfig};

/// Within this after SIGINT everything has ended.
const QUICK_GRACE: Duration = Duration::from_millis(1_500);

/// SIGINT and SIGTERM, caught from the moment this is made: a signal during start is not lost, and does not end the process
/// before it can stop in order.
pub(crate) struct Signals(Mutex<(Signal, Signal)>);

impl Signals {
    pub(crate) fn catch() -> Result<Self> {
        Ok(Self(Mutex::new((signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))))
    }
}

impl Foundation {
    /// Runs `start` to its end, or until a signal comes first: then the process ends, as nothing serves yet.
    pub async fn unless_interrupted<T>(&self, start: impl Future<Output = Result<T>>) -> Result<T> {
        let mut signals = self.signals.0.lock().await;
        let (interrupt, terminate) = &mut *signals;
        tokio::select! {
            started = start => started,
            () = either(interrupt, terminate) => bail!("interrupted during start"),
        }
    }
}

/// Serves until a signal or a failed task, then stops the services, last started first.
///
/// SIGINT stops at once and within two seconds; SIGTERM first drains; a second signal ends the process on the spot.
pub async fn until_signal(
    foundation: &Foundation,
    services: &[Running],
    shutdown: &ShutdownConfig,
) -> Result<ExitCode> {
    foundation.started();
    let mut signals = foundation.signals.0.lock().await;
    let (interrupt, terminate) = &mut *signals;
    let (code, grace) = tokio::select! {
        _ = interrupt.recv() => (ExitCode::SUCCESS, QUICK_GRACE),
        _ = terminate.recv() => {
            foundation.readiness.set("shutdown", Err("draining".to_owned()));
            tracing::info!(drain_ms = shutdown.drain_ms, "draining");
            tokio::select! {
                () = tokio::time::sleep(shutdown.drain()) => {}
                () = either(interrupt, terminate) => return Ok(ExitCode::from(130)),
            }
            (ExitCode::SUCCESS, shutdown.grace())
        }
        reason = first_failure(foundation, services) => {
            tracing::error!(%reason, "stopping: a background task failed");
            (ExitCode::FAILURE, QUICK_GRACE)
        }
    };
    tokio::select! {
        () = stop_all(foundation, services, grace) => Ok(code),
        () = either(interrupt, terminate) => Ok(ExitCode::from(130)),
    }
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

async fn first_failure(foundation: &Foundation, services: &[Running]) -> String {
    let mut failures: Vec<std::pin::Pin<Box<dyn Future<Output = String> + Send + '_>>> =
        vec![Box::pin(foundation.tasks.failed())];
    for service in services {
        failures.push(Box::pin(async move { format!("{}: {}", service.name(), service.failed().await) }));
    }
    std::future::poll_fn(|context| {
        for failure in &mut failures {
            if let std::task::Poll::Ready(reason) = failure.as_mut().poll(context) {
                return std::task::Poll::Ready(reason);
            }
        }
        std::task::Poll::Pending
    })
    .await
}

async fn stop_all(foundation: &Foundation, services: &[Running], grace: Duration) {
    let deadline = tokio::time::Instant::now() + grace;
    for service in services.iter().rev() {
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        service.stop(left.max(Duration::from_millis(50))).await;
    }
    foundation.tasks.stop(Duration::from_millis(200)).await;
    tracing::info!("stopped");
}
