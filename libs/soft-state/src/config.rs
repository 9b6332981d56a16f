use serde::{Deserialize, Serialize};

/// Where soft state is. In a configuration file: `soft_state = "memory"`, or
/// `soft_state = { redis = { url = "redis://…" } }`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SoftStateConfig {
    #[default]
    Memory,
    Redis(RedisConfig),
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisConfig {
    /// `redis://:password@host:port/database`. Holds a secret: never logged, hidden in dumps.
    pub url: String,
    /// In front of each key, so that several meshes share a server.
    #[serde(default = "default_prefix")]
    pub prefix: String,
}

fn default_prefix() -> String {
    "thingmesh".into()
}

impl RedisConfig {
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), prefix: default_prefix() }
    }
}

impl std::fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisConfig").field("url", &"…").field("prefix", &self.prefix).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_are_read_from_configuration() {
        assert_eq!(serde_json::from_str::<SoftStateConfig>(r#""memory""#).unwrap(), SoftStateConfig::Memory);
        let redis: SoftStateConfig =
            serde_json::from_str(r#"{"redis":{"url":"redis://:secret@h:1/"}}"#).unwrap();
        assert_eq!(redis, SoftStateConfig::Redis(RedisConfig::new("redis://:secret@h:1/")));
        assert!(!format!("{redis:?}").contains("secret"));
    }
}
