//! The time series as a process of its own.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use launch::{AdminConfig, Backends, Foundation, ProcessConfig, ServiceArgs, ShutdownConfig, until_signal};
use serde::{Deserialize, Serialize};
use service_kit::telemetry::TelemetryConfig;
use time_series::{Config, Deps, start};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Tables of the configuration file that other programs read.
const FOREIGN: [&str; 3] = ["context-broker", "device-agent", "gateway"];

/// The history of all entities, over QuantumLeap's HTTP API.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    service: ServiceArgs,
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct Settings {
    time_series: Config,
    backends: Backends,
    telemetry: TelemetryConfig,
    admin: AdminConfig,
    shutdown: ShutdownConfig,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let args = Args::parse().service;
    let mut settings: Settings = launch::load(args.config.as_deref(), &args.set, &FOREIGN)?;
    let series = &mut settings.time_series;
    series.port = args.port.unwrap_or(series.port);
    series.data_dir = args.data_dir;
    if series.store == store::StoreConfig::Sqlite {
        series.store = settings.backends.store();
    }
    if args.dump_config {
        print!("{}", toml::to_string(&settings)?);
        return Ok(ExitCode::SUCCESS);
    }
    let Settings { time_series: config, backends, telemetry, admin, shutdown } = settings;
    let process = ProcessConfig { backends, telemetry, admin, shutdown };
    let telemetry = service_kit::telemetry::init(&process.telemetry)?;
    let foundation = Foundation::lay(&process, &config.data_dir).await?;
    let deps = Deps {
        bus: foundation.bus.clone(),
        clock: foundation.clock.clone(),
        readiness: foundation.readiness.clone(),
        metrics: foundation.metrics.clone(),
    };
    let running = start(config, deps).await?;
    tracing::info!(addresses = ?running.addresses(), "time-series serves");
    let code = until_signal(foundation, vec![running], &process.shutdown).await;
    telemetry.shutdown().await;
    code
}
