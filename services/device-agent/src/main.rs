//! The device agent as a process of its own.

use std::{collections::BTreeMap, process::ExitCode};

use anyhow::{Context, Result};
use clap::Parser;
use device_agent::{Config, Deps, apply_originals, start};
use launch::{AdminConfig, Backends, Foundation, ProcessConfig, ServiceArgs, ShutdownConfig, until_signal};
use serde::{Deserialize, Serialize};
use service_kit::{grpc, telemetry::TelemetryConfig};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Tables of the configuration file that other programs read.
const FOREIGN: [&str; 3] = ["context-broker", "time-series", "gateway"];

/// Device agent: Ultralight 2.0 over HTTP. `--port` is the north (configuration) API's.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    service: ServiceArgs,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct Settings {
    device_agent: Config,
    backends: Backends,
    telemetry: TelemetryConfig,
    admin: AdminConfig,
    shutdown: ShutdownConfig,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let args = Args::parse().service;
    let mut settings: Settings = launch::load(args.config.as_deref(), &args.set, &FOREIGN)?;
    let variables: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let mut agent = settings.device_agent;
    let warnings = apply_originals(&mut agent, &variables).map_err(anyhow::Error::msg)?;
    agent.north_port = args.port.unwrap_or(agent.north_port);
    agent.data_dir = args.data_dir;
    if agent.store == store::StoreConfig::Sqlite {
        agent.store = settings.backends.store();
    }
    if args.dump_config {
        settings.device_agent = agent;
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
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let foundation = Foundation::lay(&process, &agent.data_dir).await?;
    let deps = Deps {
        bus: foundation.bus.clone(),
        soft_state: foundation.soft_state.clone(),
        clock: foundation.clock.clone(),
        broker: grpc::remote(&agent.broker.url).context("device-agent.broker.url")?,
        readiness: foundation.readiness.clone(),
        metrics: foundation.metrics.clone(),
    };
    let running = start(agent, deps).await?;
    tracing::info!(addresses = ?running.addresses(), "device-agent serves");
    let code = until_signal(foundation, vec![running], &process.shutdown).await;
    telemetry.shutdown().await;
    code
}
