use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result, anyhow};
use serde::{Serialize, de::DeserializeOwned};
use service_kit::{Running, telemetry};
use store::StoreConfig;

use crate::{
    Foundation, ProcessConfig, ServiceArgs, config, port_is_taken, shown, unread_environment, until_signal,
};

/// Tables that belong to one service each: a program passes over those of the others.
const SERVICE_TABLES: [&str; 4] = ["context-broker", "device-agent", "time-series", "gateway"];

/// How long the tasks of a start that failed may take to end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What a program that runs one service does with the service's configuration `T`.
pub struct Program<T> {
    /// Its table in the configuration file.
    pub table: &'static str,
    /// Applies the flags, and what else the program reads; returns warnings.
    pub place: fn(&mut T, &ServiceArgs) -> Result<Vec<String>>,
    /// Where the service keeps its state: replaced by the shared backend if there is one.
    pub store: fn(&mut T) -> &mut StoreConfig,
}

#[derive(Serialize)]
struct Defaults<'a, T> {
    #[serde(flatten)]
    process: &'a ProcessConfig,
    #[serde(flatten)]
    service: std::collections::BTreeMap<&'static str, &'a T>,
}

impl<T: Default + Serialize + DeserializeOwned> Program<T> {
    /// The effective configuration, and warnings about it.
    pub fn load(&self, args: &ServiceArgs) -> Result<(ProcessConfig, T, Vec<String>)> {
        let (process, service) = (ProcessConfig::default(), T::default());
        let defaults = Defaults { process: &process, service: [(self.table, &service)].into() };
        let foreign: Vec<&str> = SERVICE_TABLES.into_iter().filter(|table| *table != self.table).collect();
        let layers = config::layers(&defaults, args.config.as_deref(), &args.set, &foreign)?;
        let mut service: T = layers.extract_table(self.table)?;
        let process: ProcessConfig = layers.extract_without(self.table)?;
        let mut warnings = (self.place)(&mut service, args)?;
        warnings.extend(unread_environment());
        let store = (self.store)(&mut service);
        if *store == StoreConfig::Sqlite {
            *store = process.backends.store();
        }
        Ok((process, service, warnings))
    }

    /// Runs the service: configuration, telemetry, foundation, `start`, signals.
    pub async fn run<F>(&self, args: &ServiceArgs, start: F) -> Result<ExitCode>
    where
        F: AsyncFnOnce(T, &Foundation) -> Result<Running>,
    {
        let (process, service, warnings) = self.load(args)?;
        if args.dump_config {
            warnings.iter().for_each(|warning| eprintln!("{warning}"));
            print!("{}", shown(&Defaults { process: &process, service: [(self.table, &service)].into() })?);
            return Ok(ExitCode::SUCCESS);
        }
        let telemetry = telemetry::init(&process.telemetry)?;
        for warning in args.warnings.iter().chain(&warnings) {
            tracing::warn!("{warning}");
        }
        let foundation =
            Foundation::lay(&process, &args.data_dir).await.map_err(|error| self.advised(error, &process))?;
        let started = foundation.unless_interrupted(start(service, &foundation)).await;
        let running = started.map_err(|error| self.advised(error, &process))?;
        tracing::info!(service = running.name(), addresses = ?running.addresses(), "serving");
        let code = until_signal(&foundation, &[running], &process.shutdown).await;
        telemetry.shutdown().await;
        code
    }

    /// Runs the program in a runtime of its own. What is wrong is told in words, below all that was logged and without a
    /// trace of calls; exit code 1.
    pub fn main(&self, run: impl Future<Output = Result<ExitCode>>) -> ExitCode {
        crate::spare_memory();
        let runtime = crate::runtime();
        let ended = runtime.context("no runtime").and_then(|runtime| {
            let ended = runtime.block_on(run);
            if ended.is_err() {
                // What still tries to reach a server would talk on.
                runtime.shutdown_timeout(LAST_WORDS);
            }
            ended
        });
        ended.unwrap_or_else(|error| {
            eprintln!("{}: {error:#}", self.table);
            ExitCode::FAILURE
        })
    }

    /// Says what to do about a port that is taken, or a server that is away.
    fn advised(&self, error: anyhow::Error, process: &ProcessConfig) -> anyhow::Error {
        if let Some(advice) = process.backends.advice(&error) {
            return anyhow!("{error:#}\n  {advice}");
        }
        if !port_is_taken(&error) {
            return error;
        }
        let table = self.table;
        anyhow!(
            "{error:#}\n  choose another port with --port or --set {table}.KEY=PORT (admin.port for health and metrics), \
             or stop the program that listens there; --dump-config shows all ports"
        )
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Own {
        port: u16,
        store: StoreConfig,
    }

    const PROGRAM: Program<Own> = Program {
        table: "time-series",
        place: |own, args| {
            own.port = args.port.unwrap_or(own.port);
            Ok(Vec::new())
        },
        store: |own| &mut own.store,
    };

    fn args(set: &[&str]) -> ServiceArgs {
        ServiceArgs {
            port: Some(7),
            data_dir: "x".into(),
            config: None,
            set: set.iter().map(|setting| (*setting).to_owned()).collect(),
            dump_config: false,
            warnings: Vec::new(),
        }
    }

    #[test]
    fn a_program_reads_its_own_table_and_the_shared_ones_and_passes_over_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("mesh.toml");
        std::fs::write(&file, "[gateway]\nport = 1\n[admin]\nport = 2\n[time-series]\nport = 3").unwrap();
        let (process, own, _) = PROGRAM.load(&ServiceArgs { config: Some(file), ..args(&[]) }).unwrap();
        assert_eq!((process.admin.port, own.port), (2, 7));
    }

    #[test]
    fn the_shared_backend_becomes_the_store() {
        let (_, own, _) = PROGRAM.load(&args(&["backends.postgres=postgres://u@h/d"])).unwrap();
        assert_ne!(own.store, StoreConfig::Sqlite);
    }

    #[test]
    fn an_unknown_setting_of_its_own_is_refused() {
        let error = PROGRAM.load(&args(&["time-series.prot=1"])).unwrap_err();
        assert!(format!("{error:#}").contains("time-series.prot"), "{error:#}");
    }
}
