//! What each command does.

use std::{process::ExitCode, sync::Arc};

use anyhow::{Context, Result, bail};
use clap::CommandFactory;
use scope::Tenant;
use service_kit::{SystemClock, telemetry};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::{Cli, Command, CommonArgs, DemoArgs, TokenArgs},
    config::MeshConfig,
    copy,
    demo::{self, Stage},
    doctor,
    mesh::Mesh,
    summary,
};

/// How long a demo token is valid.
const DEMO_TOKEN_TTL: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

pub(crate) fn run(cli: Cli) -> Result<ExitCode> {
    match cli.command {
        Command::Version => {
            println!("thingmesh {}", env!("CARGO_PKG_VERSION"));
            Ok(ExitCode::SUCCESS)
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "thingmesh", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Command::Token(args) => token(&args),
        Command::Config(args) => {
            let config = MeshConfig::load(&args)?;
            tell_of_unread_variables();
            print!("{}", config.shown()?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Doctor(args) => {
            let config = MeshConfig::load(&args)?;
            tell_of_unread_variables();
            let findings = runtime()?.block_on(doctor::examine(&config, &args.data_dir, &SystemClock));
            Ok(if doctor::report(&findings) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Copy(args) => runtime()?.block_on(copy::run(&args, &SystemClock)),
        Command::Up(args) => runtime()?.block_on(up(&args.common)),
        Command::Demo(args) => runtime()?.block_on(run_demo(args)),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    launch::runtime().context("no runtime")
}

fn token(args: &TokenArgs) -> Result<ExitCode> {
    let tenant = Tenant::canonical(&args.tenant).with_context(|| format!("--tenant {:?}", args.tenant))?;
    let Some(issuer) = gateway::DevelopmentIssuer::find(&args.data_dir, Arc::new(SystemClock))? else {
        let folder = std::path::absolute(&args.data_dir).unwrap_or_else(|_| args.data_dir.clone());
        bail!(
            "no mesh has run on data folder {}: it holds no key to sign with. Name the running mesh's folder with --data-dir, \
             or start one first with `thingmesh up`",
            folder.display()
        );
    };
    println!("{}", issuer.mint(&tenant, args.ttl)?);
    Ok(ExitCode::SUCCESS)
}

/// On standard error, where there is no log.
fn tell_of_unread_variables() {
    if let Some(warning) = launch::unread_environment() {
        eprintln!("thingmesh: {warning}");
    }
}

async fn up(args: &CommonArgs) -> Result<ExitCode> {
    let config = MeshConfig::load(args)?;
    config.validate()?;
    let telemetry = telemetry::init(&config.telemetry)?;
    if let Some(warning) = launch::unread_environment() {
        tracing::warn!("{warning}");
    }
    let mesh = Mesh::start(&config, &args.data_dir).await?;
    for service in &mesh.services {
        for (listener, address) in service.addresses() {
            tracing::info!(service = service.name(), listener, %address, "listening");
        }
    }
    tracing::info!(admin = %mesh.foundation.admin_address, data_dir = %args.data_dir.display(), "mesh is up");
    summary::show(&mesh, &args.data_dir)?;
    let code = launch::until_signal(&mesh.foundation, &mesh.services, &config.shutdown).await?;
    telemetry.shutdown().await;
    Ok(code)
}

async fn run_demo(args: DemoArgs) -> Result<ExitCode> {
    let mut config = MeshConfig::load(&args.common)?;
    config.validate()?;
    // The terminal belongs to the view: only what needs a person is logged beside it.
    if config.telemetry.log_level == "info" {
        config.telemetry.log_level = "error".to_owned();
    }
    tell_of_unread_variables();
    let telemetry = telemetry::init(&config.telemetry)?;
    let mesh = Mesh::start(&config, &args.common.data_dir).await?;
    let stage = stage(&mesh, &args.common)?;
    let stop = CancellationToken::new();
    let code = if args.once {
        let finished = tokio::select! {
            finished = demo::once(&stage, args.seconds) => finished,
            interrupted = tokio::signal::ctrl_c() => interrupted.map(|()| ExitCode::from(130)).map_err(Into::into),
        };
        mesh.stop().await;
        finished?
    } else {
        let shown = async {
            let shown = demo::live(&stage, stop.clone()).await;
            shown.inspect_err(|error| eprintln!("{error:#}\nthe mesh serves on; Ctrl-C stops it"))
        };
        let served = async {
            let code = launch::until_signal(&mesh.foundation, &mesh.services, &config.shutdown).await;
            stop.cancel();
            code
        };
        let (served, shown) = tokio::join!(served, shown);
        shown?.tell();
        println!("stopped; the state is kept in {}, and the next run goes on from it", stage.data_dir);
        served?
    };
    telemetry.shutdown().await;
    Ok(code)
}

fn stage(mesh: &Mesh, args: &CommonArgs) -> Result<Stage> {
    let issuer = mesh.issuer.clone();
    let mint = move |tenant: &str| Ok(issuer.mint(&Tenant::canonical(tenant)?, DEMO_TOKEN_TTL)?);
    Ok(Stage {
        gateway: format!("http://{}", mesh.address("gateway", "http")?),
        admin: format!("http://{}", mesh.foundation.admin_address),
        data_dir: args.data_dir.display().to_string(),
        mint: Arc::new(mint),
        clock: mesh.foundation.clock.clone(),
    })
}
