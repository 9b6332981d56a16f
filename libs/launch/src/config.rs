use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use bus::{KafkaConfig, Retention};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use service_kit::{
    config::{HIDDEN, Layers, Secret, unread_variables},
    telemetry::TelemetryConfig,
};
use store::{PostgresConfig, StoreConfig};

/// The servers that hold state and events. Empty = embedded: SQLite files, a log in them, memory.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Backends {
    /// `postgres://user:password@host:port/database`
    pub postgres: Secret,
    /// Kafka bootstrap servers, `host:port` with commas between.
    pub kafka: String,
    /// `redis://:password@host:port`
    pub redis: Secret,
}

impl Backends {
    /// Where a service keeps its state, unless its own table says otherwise.
    pub fn store(&self) -> StoreConfig {
        if self.postgres.is_empty() {
            StoreConfig::Sqlite
        } else {
            StoreConfig::Postgres(PostgresConfig::new(self.postgres.expose()))
        }
    }

    /// What to do when a start failed because PostgreSQL is away or lets nobody in.
    pub fn advice(&self, error: &anyhow::Error) -> Option<String> {
        // Services wrap the store's error each in their own way; its words stay.
        let away = error.chain().any(|cause| cause.to_string().contains("store unavailable"));
        if !away || self.postgres.is_empty() {
            return None;
        }
        let url = url::Url::parse(self.postgres.expose()).ok();
        let server = url.as_ref().and_then(url::Url::host_str).map_or_else(String::new, |host| {
            let port = url.as_ref().and_then(url::Url::port).unwrap_or(5432);
            format!(" at {host}:{port}")
        });
        Some(format!(
            "is PostgreSQL{server} up, and do user, password and database of backends.postgres exist there? \
             `thingmesh doctor` asks every server of the configuration"
        ))
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    /// Health and metrics; 0 = any free port.
    pub port: u16,
    pub host: IpAddr,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { port: 9600, host: IpAddr::V4(Ipv4Addr::LOCALHOST) }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ShutdownConfig {
    /// After SIGTERM: how long to serve on while not ready, so that balancers notice.
    pub drain_ms: u64,
    /// Then: how long requests in flight may take to end.
    pub grace_ms: u64,
}

impl Default for ShutdownConfig {
    fn default() -> Self {
        Self { drain_ms: 5_000, grace_ms: 10_000 }
    }
}

impl ShutdownConfig {
    pub fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }

    pub fn grace(&self) -> Duration {
        Duration::from_millis(self.grace_ms)
    }
}

/// The tables that every process reads.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct ProcessConfig {
    pub backends: Backends,
    /// Tuning of the bus; which Kafka it is stands in `backends`.
    pub kafka: KafkaConfig,
    /// How much of the embedded event log is kept (without Kafka).
    pub event_log: Retention,
    pub telemetry: TelemetryConfig,
    pub admin: AdminConfig,
    pub shutdown: ShutdownConfig,
}

/// Lays file, environment and `key=value` settings over `defaults`.
pub fn load_over<T>(defaults: T, file: Option<&Path>, settings: &[String]) -> Result<T>
where
    T: Serialize + DeserializeOwned,
{
    Ok(layers(&defaults, file, settings, &[])?.extract()?)
}

/// The same, before the types. Tables in `foreign` belong to other programs that share the file: they are passed over.
#[allow(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub(crate) fn layers<T: Serialize>(
    defaults: &T,
    file: Option<&Path>,
    settings: &[String],
    foreign: &[&str],
) -> Result<Layers> {
    let mut layers = Layers::defaults(defaults)?.ignoring(foreign);
    if let Some(path) = file {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        layers = layers.file(&text, &path.display().to_string())?;
    }
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    layers = layers.environment(variables)?;
    if let Ok(endpoint) = std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT") {
        layers = layers.set("telemetry.otlp_endpoint", &endpoint, "OTEL_EXPORTER_OTLP_ENDPOINT")?;
    }
    for setting in settings {
        let Some((key, value)) = setting.split_once('=') else { bail!("--set {setting}: wanted KEY=VALUE") };
        layers = layers.set(key, value, "--set")?;
    }
    Ok(layers)
}

/// What to tell about variables that look like settings and are none; nothing is wrong with the rest.
#[allow(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub fn unread_environment() -> Option<String> {
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let unread = unread_variables(names);
    (!unread.is_empty()).then(|| {
        format!(
            "{} sets nothing: a setting is THINGMESH_<TABLE>__<KEY> with two underscores, such as THINGMESH_ADMIN__PORT",
            unread.join(", ")
        )
    })
}

/// A configuration as TOML with every setting; secrets, and passwords in URLs, are hidden.
pub fn shown<T: Serialize>(config: &T) -> Result<String> {
    let mut table = toml::Table::try_from(config)?;
    hide_passwords(&mut table);
    Ok(toml::to_string_pretty(&table)?)
}

fn hide_passwords(table: &mut toml::Table) {
    for (key, value) in table.iter_mut() {
        match value {
            toml::Value::Table(inner) => hide_passwords(inner),
            toml::Value::String(text)
                if !text.is_empty() && (key.contains("password") || key.contains("secret")) =>
            {
                *text = HIDDEN.to_owned();
            }
            toml::Value::String(text) => {
                if let Ok(mut url) = url::Url::parse(text)
                    && url.password().is_some()
                    && url.set_password(Some(HIDDEN)).is_ok()
                {
                    *text = url.to_string();
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_is_away_is_named_without_its_password() {
        let postgres = Secret::new("postgres://u:hunter2@db.example:6432/d");
        let backends = Backends { postgres, ..Backends::default() };
        let error = anyhow::anyhow!("store unavailable: refused").context("context-broker");
        let advice = backends.advice(&error).unwrap();
        assert!(advice.contains("db.example:6432") && !advice.contains("hunter2"), "{advice}");
        assert_eq!(backends.advice(&anyhow::anyhow!("port taken")), None);
        assert_eq!(Backends::default().advice(&error), None, "a folder is not a server");
    }
}
