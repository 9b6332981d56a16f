//! The configuration of the whole mesh: what all processes read, and one table per service.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
};

use anyhow::{Context, Result, bail};
use bus::{KafkaConfig, Retention};
use launch::{AdminConfig, Backends, ProcessConfig, ShutdownConfig};
use serde::{Deserialize, Serialize};
use service_kit::telemetry::TelemetryConfig;
use store::StoreConfig;

use crate::cli::CommonArgs;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct MeshConfig {
    pub(crate) backends: Backends,
    pub(crate) kafka: KafkaConfig,
    pub(crate) event_log: Retention,
    pub(crate) telemetry: TelemetryConfig,
    pub(crate) admin: AdminConfig,
    pub(crate) shutdown: ShutdownConfig,
    pub(crate) gateway: gateway::Config,
    pub(crate) context_broker: context_broker::Config,
    pub(crate) device_agent: device_agent::Config,
    pub(crate) time_series: time_series::Config,
}

impl MeshConfig {
    /// Reads all layers, then applies what a flag says of several settings at once: data folder, port offset, backends.
    pub(crate) fn load(args: &CommonArgs) -> Result<Self> {
        let mut config: Self = launch::load_over(Self::composed(), args.config.as_deref(), &args.set)?;
        config.place(&args.data_dir);
        config.shift_ports(args.port_offset)?;
        Ok(config)
    }

    /// The defaults of a mesh in which all services run: subscriptions to its own time series need no HTTP hop.
    fn composed() -> Self {
        let mut config = Self::default();
        config.context_broker.history.enabled = true;
        config
    }

    fn place(&mut self, data_dir: &Path) {
        self.context_broker.data_dir = data_dir.to_owned();
        self.device_agent.data_dir = data_dir.to_owned();
        self.time_series.data_dir = data_dir.to_owned();
        let shared = self.backends.store();
        for store in
            [&mut self.context_broker.store, &mut self.device_agent.store, &mut self.time_series.store]
        {
            if *store == StoreConfig::Sqlite {
                *store = shared.clone();
            }
        }
    }

    fn shift_ports(&mut self, offset: u16) -> Result<()> {
        for (name, port) in self.ports() {
            // 0 means any free port, which needs no offset.
            if *port != 0 {
                *port = port
                    .checked_add(offset)
                    .with_context(|| format!("--port-offset {offset} is too much for {name} at {port}"))?;
            }
        }
        Ok(())
    }

    /// The ports by the settings that they are set with.
    pub(crate) fn ports(&mut self) -> [(&'static str, &mut u16); 10] {
        [
            ("gateway.port", &mut self.gateway.port),
            ("gateway.authz_port", &mut self.gateway.authz_port),
            ("context-broker.port", &mut self.context_broker.port),
            ("context-broker.grpc_port", &mut self.context_broker.grpc_port),
            ("device-agent.north_port", &mut self.device_agent.north_port),
            ("device-agent.south_port", &mut self.device_agent.south_port),
            ("device-agent.grpc_port", &mut self.device_agent.grpc_port),
            ("time-series.port", &mut self.time_series.port),
            ("time-series.grpc_port", &mut self.time_series.grpc_port),
            ("admin.port", &mut self.admin.port),
        ]
    }

    /// All listeners by the settings of their ports.
    pub(crate) fn listeners(&self) -> Vec<(&'static str, SocketAddr)> {
        let mut copy = self.clone();
        let parsed = |host: &str| host.parse().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let hosts: [IpAddr; 5] = [
            parsed(&self.gateway.host),
            self.context_broker.host,
            self.device_agent.host,
            self.time_series.host,
            self.admin.host,
        ];
        let owners = [0, 0, 1, 1, 2, 2, 2, 3, 3, 4];
        let ports = copy.ports().map(|(name, port)| (name, *port));
        ports
            .into_iter()
            .zip(owners)
            .map(|((name, port), owner)| (name, SocketAddr::new(hosts[owner], port)))
            .collect()
    }

    pub(crate) fn process(&self) -> ProcessConfig {
        ProcessConfig {
            backends: self.backends.clone(),
            kafka: self.kafka.clone(),
            event_log: self.event_log.clone(),
            telemetry: self.telemetry.clone(),
            admin: self.admin.clone(),
            shutdown: self.shutdown.clone(),
        }
    }

    /// As TOML with every setting; secrets are hidden.
    pub(crate) fn shown(&self) -> Result<String> {
        launch::shown(self)
    }

    /// One process that keeps its state in PostgreSQL needs Kafka: the embedded bus reads SQLite logs.
    pub(crate) fn validate(&self) -> Result<()> {
        if !self.backends.postgres.is_empty() && self.backends.kafka.is_empty() {
            bail!("backends.postgres without backends.kafka: events of a PostgreSQL store go through Kafka");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(set: &[&str], port_offset: u16) -> CommonArgs {
        CommonArgs {
            data_dir: "state".into(),
            port_offset,
            config: None,
            set: set.iter().map(|setting| (*setting).to_owned()).collect(),
        }
    }

    #[test]
    fn the_defaults_are_the_documented_ports_on_loopback() {
        let listeners = MeshConfig::default().listeners();
        let ports: Vec<u16> = listeners.iter().map(|(_, address)| address.port()).collect();
        assert_eq!(ports, [8000, 9191, 1026, 1027, 4041, 7896, 4042, 8668, 8669, 9600]);
        assert!(listeners.iter().all(|(_, address)| address.ip().is_loopback()));
    }

    #[test]
    fn an_offset_moves_every_port_and_too_much_of_it_is_refused() {
        let config = MeshConfig::load(&args(&["context-broker.port=0"], 10)).unwrap();
        assert_eq!((config.gateway.port, config.context_broker.port, config.admin.port), (8010, 0, 9610));
        let error = MeshConfig::load(&args(&[], 60_000)).unwrap_err().to_string();
        assert!(error.contains("--port-offset 60000 is too much"), "{error}");
    }

    #[test]
    fn what_is_shown_hides_every_password() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("mesh.toml");
        let own_store = "[time-series]\nstore = { postgres = { url = 'postgres://u:hunter2@h/d' } }";
        std::fs::write(&file, own_store).unwrap();
        let flags = args(&["backends.postgres=postgres://u:hunter2@h/d"], 0);
        let config = MeshConfig::load(&CommonArgs { config: Some(file), ..flags }).unwrap();
        let shown = config.shown().unwrap();
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("[context-broker]"), "{shown}");
    }

    #[test]
    fn a_postgres_store_takes_over_for_every_service() {
        let config = MeshConfig::load(&args(&["backends.postgres=postgres://u:p@h/d"], 0)).unwrap();
        assert_ne!(config.device_agent.store, StoreConfig::Sqlite);
        assert!(config.validate().is_err());
    }
}
