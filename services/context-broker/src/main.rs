//! The context broker as a process of its own.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use context_broker::{Config, Deps, start};
use launch::{AdminConfig, Backends, Foundation, ProcessConfig, ServiceArgs, ShutdownConfig, until_signal};
use serde::{Deserialize, Serialize};
use service_kit::telemetry::TelemetryConfig;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Tables of the configuration file that other programs read.
const FOREIGN: [&str; 3] = ["device-agent", "time-series", "gateway"];

/// NGSIv2 context broker. `--port` is the REST API's.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    service: ServiceArgs,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct Settings {
    context_broker: Config,
    backends: Backends,
    telemetry: TelemetryConfig,
    admin: AdminConfig,
    shutdown: ShutdownConfig,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let args = Args::parse().service;
    let mut settings: Settings = launch::load(args.config.as_deref(), &args.set, &FOREIGN)?;
    let mut broker = settings.context_broker;
    broker.port = args.port.unwrap_or(broker.port);
    broker.data_dir = args.data_dir;
    if broker.store == store::StoreConfig::Sqlite {
        broker.store = settings.backends.store();
    }
    if args.dump_config {
        settings.context_broker = broker;
        print!("{}", toml::to_string_pretty(&settings)?);
        return Ok(ExitCode::SUCCESS);
    }
    let process = ProcessConfig {
        backends: settings.backends,
        telemetry: settings.telemetry,
        admin: settings.admin,
        shutdown: settings.shutdown,
    };
    let telemetry = service_kit::telemetry::init(&process.telemetry)?;
    let foundation = Foundation::lay(&process, &broker.data_dir).await?;
    let deps = Deps {
        bus: foundation.bus.clone(),
        soft_state: foundation.soft_state.clone(),
        clock: foundation.clock.clone(),
        readiness: foundation.readiness.clone(),
        metrics: foundation.metrics.clone(),
    };
    let started = start(broker, deps).await?;
    tracing::info!(addresses = ?started.running.addresses(), "context-broker serves");
    let code = until_signal(foundation, vec![started.running], &process.shutdown).await;
    telemetry.shutdown().await;
    code
}
