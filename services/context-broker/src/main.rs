//! The context broker as a process of its own.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use context_broker::{Config, Deps, start};
use launch::{Program, ServiceArgs};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// NGSIv2 context broker. `--port` is the REST API's.
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    service: ServiceArgs,
}

const PROGRAM: Program<Config> = Program {
    table: "context-broker",
    place: |config, args| {
        config.port = args.port.unwrap_or(config.port);
        config.data_dir = args.data_dir.clone();
        Ok(Vec::new())
    },
    store: |config| &mut config.store,
};

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let args = Args::parse().service;
    PROGRAM
        .run(&args, async |config, foundation| {
            let deps = Deps {
                bus: foundation.bus.clone(),
                soft_state: foundation.soft_state.clone(),
                clock: foundation.clock.clone(),
                readiness: foundation.readiness.clone(),
                metrics: foundation.metrics.clone(),
            };
            Ok(start(config, deps).await?.running)
        })
        .await
}
