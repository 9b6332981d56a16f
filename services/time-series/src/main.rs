//! The time series as a process of its own.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use launch::{Program, ServiceArgs};
use time_series::{Config, Deps, start};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The history of all entities, over QuantumLeap's HTTP API.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    service: ServiceArgs,
}

const PROGRAM: Program<Config> = Program {
    table: "time-series",
    place: |config, args| {
        config.port = args.port.unwrap_or(config.port);
        config.data_dir = args.data_dir.clone();
        Ok(Vec::new())
    },
    store: |config| &mut config.store,
};

fn main() -> ExitCode {
    PROGRAM.main(run())
}

async fn run() -> Result<ExitCode> {
    let args = Args::parse().service;
    PROGRAM
        .run(&args, async |config, foundation| {
            let deps = Deps {
                bus: foundation.bus.clone(),
                clock: foundation.clock.clone(),
                readiness: foundation.readiness.clone(),
                metrics: foundation.metrics.clone(),
            };
            Ok(start(config, deps).await?)
        })
        .await
}
