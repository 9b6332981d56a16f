use std::path::PathBuf;

use clap::Args;

/// The flags of a program that runs one service.
#[derive(Clone, Debug, Args)]
pub struct ServiceArgs {
    /// Port of the service's HTTP API; 0 = any free port. The others keep their configured ports.
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Folder of all state; made if it is not there.
    #[arg(long, value_name = "DIR", default_value = "data")]
    pub data_dir: PathBuf,
    /// Configuration file (TOML). Later layers win: defaults, file, THINGMESH_* variables, flags.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// One setting, such as `--set backends.kafka=127.0.0.1:9092`; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Print the effective configuration as TOML, secrets hidden, and end.
    #[arg(long)]
    pub dump_config: bool,
    /// What the program has to tell about its flags once there is a log.
    #[arg(skip)]
    pub warnings: Vec<String>,
}
