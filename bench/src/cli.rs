use std::{
    path::{Path, PathBuf},
    process::Command as Program,
    time::Duration,
};

use anyhow::Result;
use bench::{
    cases::{Bench, GROUPS, Programs, Results, Servers, Sizes},
    floor, load, machine,
    report::{Circumstances, Report},
};
use clap::{Args, Parser, Subcommand, builder::PossibleValuesParser};

/// Measures the mesh: starts it, loads it on a fixed schedule, and compares it with a bare HTTP handler.
#[derive(Parser)]
#[command(name = "thingmesh-bench", args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) measure: MeasureArgs,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// The bare handler (started by the measurement itself).
    #[command(hide = true)]
    Floor(FloorArgs),
}

#[derive(Args)]
pub(crate) struct FloorArgs {
    #[arg(long)]
    pub(crate) status: u16,
    #[arg(long, default_value = "")]
    pub(crate) content_type: String,
    #[arg(long)]
    pub(crate) body: PathBuf,
}

#[derive(Args)]
pub(crate) struct MeasureArgs {
    /// A smoke run: small worlds, short loads; its figures mean nothing.
    #[arg(long)]
    quick: bool,
    /// Write docs/performance.md and its plots.
    #[arg(long)]
    write: bool,
    /// Only these groups of figures, separated by commas: rest, broker (PATCH and GET), batch, subscribed, list, measure,
    /// fan-out, faults, history, gateway, forwarding, postgres, scaling, and, in a world of a million entities, point, filter, near, pages.
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "GROUP",
        hide_possible_values = true,
        value_parser = PossibleValuesParser::new(GROUPS)
    )]
    only: Vec<String>,
    /// The program to measure; default: `thingmesh` beside this one.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Where data folders are made while measuring; must be on a real disk.
    #[arg(long, value_name = "DIR", default_value = "target")]
    folder: PathBuf,
    #[arg(long, value_name = "N", default_value_t = 64)]
    connections: usize,
    /// PostgreSQL for the group `postgres`: `postgres://user:password@host:port/database`; a database of its own is made and
    /// dropped. Default: $TEST_POSTGRES_URL; without it the group is left out.
    #[arg(long, value_name = "URL", env = "TEST_POSTGRES_URL", hide_env_values = true)]
    postgres: Option<String>,
    /// Kafka beside it. Default: $TEST_KAFKA_BROKERS.
    #[arg(long, value_name = "HOST:PORT", env = "TEST_KAFKA_BROKERS")]
    kafka: Option<String>,
}

pub(crate) fn measure(args: MeasureArgs) -> Result<()> {
    let bench = prepare(&args)?;
    let groups: Vec<&str> = match args.only.as_slice() {
        [] => GROUPS.to_vec(),
        only => only.iter().map(String::as_str).collect(),
    };
    let circumstances = circumstances(&bench, &args)?;
    let commit_time = bench.effort.step;
    eprintln!("committing to {}", bench.folder.display());
    let commits = floor::commit_rates(&bench.folder, commit_time)?;
    let (mut results, mut failed) = (Results::default(), Vec::new());
    for group in groups {
        eprintln!("measuring {group} (load average {:.1})", machine::load_average());
        if let Err(error) = bench.measure(group, &mut results) {
            eprintln!("{group}: {error:#}");
            failed.push(group);
        }
    }
    let report = Report { circumstances, commits, results };
    print!("{}", report.tables());
    if args.write {
        report.write(Path::new("."))?;
    }
    anyhow::ensure!(failed.is_empty(), "not measured: {}", failed.join(", "));
    Ok(())
}

fn prepare(args: &MeasureArgs) -> Result<Bench> {
    let own_program = floor::own_program()?;
    let program = match &args.program {
        Some(program) => program.clone(),
        None => own_program.with_file_name("thingmesh"),
    };
    anyhow::ensure!(
        program.is_file(),
        "{} is not there: build it first, or use bench/run",
        program.display()
    );
    std::fs::create_dir_all(&args.folder)?;
    let seconds = |full: u64, quick_millis: u64| {
        if args.quick { Duration::from_millis(quick_millis) } else { Duration::from_secs(full) }
    };
    let effort = load::Effort {
        connections: if args.quick { args.connections.min(8) } else { args.connections },
        warm_up: seconds(1, 50),
        step: seconds(3, 100),
        steady: seconds(6, 150),
        share: 0.7,
        // Nothing is to be read from a quick run, also not on a machine that is busy with other tests.
        p99_limit: if args.quick { Duration::from_secs(10) } else { Duration::from_millis(25) },
    };
    let sizes = if args.quick {
        Sizes {
            entities: 200,
            million: 2000,
            listed: 500,
            points: 10_000,
            devices: 10,
            entity_steps: vec![10, 500],
            subscription_steps: vec![1, 50],
        }
    } else {
        Sizes {
            entities: 10_000,
            million: 1_000_000,
            listed: 100_000,
            points: 1_000_000,
            devices: 1000,
            entity_steps: vec![10, 100, 1000, 10_000, 100_000, 1_000_000],
            subscription_steps: vec![1, 10, 100, 1000, 10_000],
        }
    };
    let servers = args.postgres.clone().zip(args.kafka.clone());
    let servers = servers.map(|(postgres, kafka)| Servers { postgres, kafka });
    let programs = Programs { program, own_program, folder: args.folder.canonicalize()? };
    Ok(Bench::new(programs, effort, sizes, servers))
}

fn circumstances(bench: &Bench, args: &MeasureArgs) -> Result<Circumstances> {
    let output = Program::new(&bench.program).arg("version").output()?;
    let version =
        String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().trim().to_owned();
    let folder = bench.program.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    Ok(Circumstances {
        machine: machine::describe(),
        commit: machine::commit(),
        date: machine::today(),
        command: command(args),
        profile: format!("{version}, profile {folder}"),
        connections: bench.effort.connections,
        p99_limit_millis: bench.effort.p99_limit.as_millis(),
        load_before: machine::load_average(),
    })
}

/// What to type for the same figures.
fn command(args: &MeasureArgs) -> String {
    let mut words = vec!["bench/run".to_owned()];
    words.extend(args.quick.then(|| "--quick".to_owned()));
    words.extend(args.write.then(|| "--write".to_owned()));
    if !args.only.is_empty() {
        words.push(format!("--only {}", args.only.join(",")));
    }
    words.join(" ")
}
