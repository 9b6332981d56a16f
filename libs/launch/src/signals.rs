use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use service_kit::Running;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{Foundation, ShutdownConfig};

/// Within this after SIGINT everything has ended.
const QUICK_GRACE: Duration = Duration::from_millis(1_500);

/// Serves until a signal or a failed task, then stops the services, last started first.
///
/// SIGINT stops at once and within two seconds; SIGTERM first drains; a second signal ends the process on the spot.
pub async fn until_signal(
    foundation: &Foundation,
    services: &[Running],
    shutdown: &ShutdownConfig,
) -> Result<ExitCode> {
    foundation.started();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (code, grace) = tokio::select! {
        _ = interrupt.recv() => (ExitCode::SUCCESS, QUICK_GRACE),
        _ = terminate.recv() => {
            foundation.readiness.set("shutdown", Err("draining".to_owned()));
            tracing::info!(drain_ms = shutdown.drain_ms, "draining");
            tokio::select! {
                () = tokio::time::sleep(shutdown.drain()) => {}
                () = either(&mut interrupt, &mut terminate) => return Ok(ExitCode::from(130)),
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
        () = either(&mut interrupt, &mut terminate) => Ok(ExitCode::from(130)),
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
