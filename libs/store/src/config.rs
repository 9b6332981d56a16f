use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where a service keeps its state. In a configuration file: `store = "sqlite"`, or
/// `store = { postgres = { url = "postgres://…" } }`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreConfig {
    /// One file per concern in the service's data directory.
    #[default]
    Sqlite,
    Postgres(PostgresConfig),
}

impl StoreConfig {
    /// The file of `name` in the data directory, for instance `context-broker.db`.
    pub fn sqlite_file(data_dir: &Path, name: &str) -> PathBuf {
        data_dir.join(format!("{name}.db"))
    }
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    /// `postgres://user:password@host:port/database`. Holds a secret: never logged, hidden in dumps.
    pub url: String,
    /// Connections of one process and purpose, at most.
    #[serde(default = "default_connections")]
    pub max_connections: u32,
    /// How long opening or getting a connection may take, milliseconds.
    #[serde(default = "default_acquire_timeout_ms")]
    pub acquire_timeout_ms: u64,
}

fn default_connections() -> u32 {
    10
}

fn default_acquire_timeout_ms() -> u64 {
    5_000
}

impl PostgresConfig {
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            max_connections: default_connections(),
            acquire_timeout_ms: default_acquire_timeout_ms(),
        }
    }
}

impl std::fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("url", &"…")
            .field("max_connections", &self.max_connections)
            .field("acquire_timeout_ms", &self.acquire_timeout_ms)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_stores_are_read_from_configuration() {
        assert_eq!(serde_json::from_str::<StoreConfig>(r#""sqlite""#).unwrap(), StoreConfig::Sqlite);
        let postgres: StoreConfig =
            serde_json::from_str(r#"{"postgres":{"url":"postgres://u:secret@h/d"}}"#).unwrap();
        assert_eq!(postgres, StoreConfig::Postgres(PostgresConfig::new("postgres://u:secret@h/d")));
        assert!(!format!("{postgres:?}").contains("secret"));
    }

    #[test]
    fn unknown_keys_are_refused() {
        let wrong = r#"{"postgres":{"url":"postgres://h/d","pool":3}}"#;
        assert!(serde_json::from_str::<StoreConfig>(wrong).is_err());
    }
}
