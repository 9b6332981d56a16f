//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

use crate::copy::CopyArgs;

/// The whole mesh for things in one program: NGSIv2 context broker, Ultralight device agent, time series, and a gateway
/// that keeps the tenants apart.
#[derive(Debug, Parser)]
#[command(name = "thingmesh", version, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "Examples:
  thingmesh demo                         two factories, live in this terminal
  thingmesh up                           serve; state under ./data
  curl -H \"Authorization: Bearer $(thingmesh token --tenant acme)\" -H 'Fiware-Service: acme' \\
       http://127.0.0.1:8000/orion/v2/entities
  thingmesh doctor                       what is wrong on this machine, and how to mend it";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve all services in this process.
    ///
    /// Listens on loopback: gateway 8000 (the guarded way in), context-broker 1026, time-series 8668, device-agent 4041
    /// (north) and 7896 (south), ext_authz 9191, admin (health, metrics) 9600. The services' own ports ask for no token,
    /// as the originals' do.
    Up(UpArgs),
    /// Start everything, run scenario `basic-sense` on it, and show it live.
    Demo(DemoArgs),
    /// Print a token for a tenant, signed with this data folder's development key. Prints nothing else.
    Token(TokenArgs),
    /// Say what is wrong with ports, data folder, configured servers, clock and disk, and how to mend it.
    Doctor(CommonArgs),
    /// Copy entities, subscriptions and registrations from a broker that runs, such as Orion, into one that runs.
    ///
    /// Speaks NGSIv2 to both and changes nothing in the source. May be run again: entities are written over, and
    /// subscriptions and registrations that the target has already are not doubled. Ends with a summary per tenant; the
    /// code is 1 when something was left undone. See docs/moving-from-orion.md.
    Copy(CopyArgs),
    /// Print the effective configuration as TOML; secrets are hidden.
    Config(CommonArgs),
    /// Print the version.
    Version,
    /// Print a completion script for a shell.
    Completions { shell: clap_complete::Shell },
}

/// What all commands share that read the configuration.
#[derive(Clone, Debug, Args)]
pub(crate) struct CommonArgs {
    /// Folder of all state; made if it is not there.
    #[arg(long, value_name = "DIR", default_value = "data")]
    pub(crate) data_dir: PathBuf,
    /// Added to every port.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) port_offset: u16,
    /// Configuration file (TOML). Later layers win: defaults, file, THINGMESH_* variables, flags.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// One setting, such as `--set context-broker.port=2026`; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    /// Run the scenario to its end, check every observation, print a summary; exit 0 if all was as it must be, else 1.
    #[arg(long)]
    pub(crate) once: bool,
    /// With --once: how long to sense, in seconds.
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(crate) seconds: u32,
}

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// The tenant: 1 to 50 lower-case letters, digits or underscores.
    #[arg(long)]
    pub(crate) tenant: String,
    /// How long it is valid: a number with s, m, h or d.
    #[arg(long, default_value = "1h", value_parser = duration)]
    pub(crate) ttl: Duration,
    /// Folder of the mesh whose development key signs: the one that `up` or `demo` was given.
    #[arg(long, value_name = "DIR", default_value = "data")]
    pub(crate) data_dir: PathBuf,
}

/// Reads `90s`, `15m`, `1h`, `7d`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration such as 15m, 1h or 7d");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    match number.checked_mul(seconds) {
        Some(seconds @ 1..=31_536_000) => Ok(Duration::from_secs(seconds)),
        _ => Err("a token is valid for one second to 365 days".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_have_a_unit_and_a_bound() {
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(604_800)));
        for bad in ["", "h", "1", "1w", "-1h", "0s", "366d", "99999999999999999999s", "1é"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }
}
