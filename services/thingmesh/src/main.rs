//! The whole mesh in one program, and its command line.

mod cli;
mod commands;
mod config;
mod copy;
mod demo;
mod doctor;
mod mesh;
mod summary;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    launch::spare_memory();
    match commands::run(cli::Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("thingmesh: {error:#}");
            ExitCode::FAILURE
        }
    }
}
