//! The context broker as a process of its own.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use context_broker::{Config, Deps, read_originals, start};
use launch::{Program, ServiceArgs};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// NGSIv2 context broker. `--port` is the REST API's. The flags of Orion (one dash) and its `ORION_*` variables are
/// taken too: docs/operations.md lists what they mean here.
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

fn main() -> ExitCode {
    PROGRAM.main(run())
}

async fn run() -> Result<ExitCode> {
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let arguments = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    let originals = read_originals(arguments, variables).map_err(anyhow::Error::msg)?;
    let program = std::env::args().next().unwrap_or_default();
    let mut args = Args::parse_from([program].into_iter().chain(originals.rest)).service;
    // Our own settings win over the original's.
    args.set.splice(0..0, originals.settings);
    args.warnings = originals.warnings;
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
