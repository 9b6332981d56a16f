//! Measures the mesh and prints tables; with `--write` also docs/performance.md.

mod cli;

use clap::Parser;

/// As in the measured program, so that the bare handler has no other allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let cli = cli::Cli::parse();
    match cli.command {
        Some(cli::Command::Floor(floor)) => {
            bench::floor::serve(floor.status, &floor.content_type, &floor.body)
        }
        None => cli::measure(cli.measure),
    }
}
