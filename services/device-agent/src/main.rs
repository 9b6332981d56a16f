//! The device agent as a process of its own.

use std::{collections::BTreeMap, process::ExitCode};

use anyhow::{Context, Result};
use clap::Parser;
use device_agent::{Config, Deps, apply_originals, start};
use launch::{Program, ServiceArgs};
use service_kit::grpc;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Device agent: Ultralight 2.0 over HTTP. `--port` is the north (configuration) API's.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    service: ServiceArgs,
}

const PROGRAM: Program<Config> = Program { table: "device-agent", place, store: |config| &mut config.store };

/// Applies the flags, then what the original agent's variables (`IOTA_…`) say; warns of those that mean nothing here.
fn place(config: &mut Config, args: &ServiceArgs) -> Result<Vec<String>> {
    let variables: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let warnings = apply_originals(config, &variables).map_err(anyhow::Error::msg)?;
    config.north_port = args.port.unwrap_or(config.north_port);
    config.data_dir = args.data_dir.clone();
    Ok(warnings)
}

fn main() -> ExitCode {
    PROGRAM.main(run())
}

async fn run() -> Result<ExitCode> {
    let args = Args::parse().service;
    PROGRAM
        .run(&args, async |config, foundation| {
            let deps = Deps {
                bus: foundation.bus.clone(),
                soft_state: foundation.soft_state.clone(),
                clock: foundation.clock.clone(),
                broker: grpc::remote(&config.broker.url).context("device-agent.broker.url")?,
                readiness: foundation.readiness.clone(),
                metrics: foundation.metrics.clone(),
            };
            Ok(start(config, deps).await?)
        })
        .await
}
