//! Configuration in layers: defaults < file < environment < flags. Unknown keys are errors.
//!
//! A file is TOML with one table per service and a table `backends` for what they share. The variable
//! `THINGMESH_CONTEXT_BROKER__REQUEST_TIMEOUT_MS` sets key `request_timeout_ms` of table `context-broker`.

use std::{cell::Cell, fmt};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use toml::{Table, Value};

/// Prefix of all environment variables that set configuration.
pub const ENV_PREFIX: &str = "THINGMESH_";

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{origin}: {message}")]
    Syntax { origin: String, message: String },
    #[error("{origin}: unknown setting `{key}`; `config` lists all there are")]
    UnknownKey { origin: String, key: String },
    #[error("configuration: {0}")]
    Invalid(String),
}

/// Text that is never shown: not in logs, not by `config`.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "\"\"" } else { "\"***\"" })
    }
}

thread_local! {
    /// Set while defaults become layers: only then a secret is written as it is.
    static REVEALING: Cell<bool> = const { Cell::new(false) };
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let hidden = !self.0.is_empty() && !REVEALING.get();
        serializer.serialize_str(if hidden { "***" } else { &self.0 })
    }
}

/// The layers laid over each other so far.
#[derive(Clone, Debug)]
pub struct Layers {
    effective: Table,
    foreign: Vec<String>,
}

impl Layers {
    /// Starts from documented defaults: a struct with one field per service table.
    pub fn defaults<T: Serialize>(defaults: &T) -> Result<Self, ConfigError> {
        REVEALING.set(true);
        let effective = Table::try_from(defaults);
        REVEALING.set(false);
        let effective = effective.map_err(|error| ConfigError::Invalid(error.to_string()))?;
        Ok(Self { effective, foreign: Vec::new() })
    }

    /// Passes over these tables: they belong to other programs that share the file and the environment.
    pub fn ignoring(mut self, tables: &[&str]) -> Self {
        self.foreign = tables.iter().map(|table| (*table).to_owned()).collect();
        self
    }

    /// Lays a TOML file over it. `origin` is the file's name, for errors.
    pub fn file(mut self, text: &str, origin: &str) -> Result<Self, ConfigError> {
        let mut table: Table = text.parse().map_err(|error: toml::de::Error| ConfigError::Syntax {
            origin: origin.to_owned(),
            message: error.to_string(),
        })?;
        table.retain(|name, _| !self.foreign.iter().any(|foreign| foreign == name));
        merge(&mut self.effective, table, origin, "")?;
        Ok(self)
    }

    /// Lays environment variables over it; those without our prefix, or without `__`, are not ours and are ignored.
    pub fn environment<I>(mut self, variables: I) -> Result<Self, ConfigError>
    where
        I: IntoIterator<Item = (String, String)>,
    {
        for (name, value) in variables {
            let Some((service, key)) = name.strip_prefix(ENV_PREFIX).and_then(|rest| rest.split_once("__"))
            else {
                continue;
            };
            let table = service.to_ascii_lowercase().replace('_', "-");
            if self.foreign.contains(&table) {
                continue;
            }
            let key = key.to_ascii_lowercase().replace("__", ".");
            self = self.set(&format!("{table}.{key}"), &value, &name)?;
        }
        Ok(self)
    }

    /// Sets one value by its dotted key, as a flag does. Text becomes what the setting is: a number, a list, a switch.
    pub fn set(mut self, key: &str, text: &str, origin: &str) -> Result<Self, ConfigError> {
        let unknown = || ConfigError::UnknownKey { origin: origin.to_owned(), key: key.to_owned() };
        let mut table = &mut self.effective;
        let mut parts = key.split('.').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                let value = typed(table.get(part).ok_or_else(unknown)?, text);
                table.insert(part.to_owned(), value);
                break;
            }
            table = table.get_mut(part).and_then(Value::as_table_mut).ok_or_else(unknown)?;
        }
        Ok(self)
    }

    pub fn extract<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        self.effective
            .clone()
            .try_into()
            .map_err(|error: toml::de::Error| ConfigError::Invalid(error.to_string()))
    }
}

/// Reads `text` as the kind of value that stands there now.
fn typed(current: &Value, text: &str) -> Value {
    let plain = || Value::String(text.to_owned());
    if current.is_str() {
        return plain();
    }
    format!("v = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("v")).unwrap_or_else(plain)
}

fn merge(into: &mut Table, from: Table, origin: &str, prefix: &str) -> Result<(), ConfigError> {
    for (key, value) in from {
        let full = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match (into.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(new)) => merge(inner, new, origin, &full)?,
            (Some(current), new) => *current = new,
            (None, _) => return Err(ConfigError::UnknownKey { origin: origin.to_owned(), key: full }),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    struct All {
        context_broker: Broker,
    }

    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    #[serde(deny_unknown_fields)]
    struct Broker {
        port: u16,
        url: String,
        hosts: Vec<String>,
        token: Secret,
    }

    fn defaults() -> Layers {
        let broker = Broker { port: 1026, url: String::new(), hosts: vec![], token: Secret::default() };
        Layers::defaults(&All { context_broker: broker }).unwrap()
    }

    fn variable(name: &str, value: &str) -> Vec<(String, String)> {
        vec![(name.to_owned(), value.to_owned())]
    }

    #[test]
    fn later_layers_win_and_text_takes_the_type_of_the_setting() {
        let layers = defaults()
            .file("[context-broker]\nport = 1\nurl = 'a'", "x.toml")
            .unwrap()
            .environment(variable("THINGMESH_CONTEXT_BROKER__PORT", "2"))
            .unwrap()
            .environment(variable("THINGMESH_CONTEXT_BROKER__URL", "3"))
            .unwrap()
            .set("context-broker.hosts", "['a','b']", "--hosts")
            .unwrap();
        let all: All = layers.extract().unwrap();
        assert_eq!(all.context_broker.port, 2);
        assert_eq!(all.context_broker.url, "3");
        assert_eq!(all.context_broker.hosts, ["a", "b"]);
    }

    #[test]
    fn unknown_settings_are_named_with_their_origin() {
        let error = defaults().file("[context-broker]\nprot = 1", "x.toml").unwrap_err().to_string();
        assert_eq!(error, "x.toml: unknown setting `context-broker.prot`; `config` lists all there are");
        let error = defaults().environment(variable("THINGMESH_BROKER__PORT", "1")).unwrap_err().to_string();
        assert!(error.starts_with("THINGMESH_BROKER__PORT: unknown setting `broker.port`"), "{error}");
    }

    #[test]
    fn foreign_variables_are_ignored() {
        defaults().environment(variable("PATH", "/bin")).unwrap();
        defaults().environment(variable("THINGMESH_CACHE", "/tmp")).unwrap();
    }

    #[test]
    fn a_value_of_the_wrong_type_is_refused() {
        let layers = defaults().environment(variable("THINGMESH_CONTEXT_BROKER__PORT", "many")).unwrap();
        assert!(layers.extract::<All>().is_err());
    }

    #[test]
    fn a_secret_default_survives_the_layers_and_stays_hidden_after() {
        let broker = Broker { port: 1, url: String::new(), hosts: vec![], token: Secret::new("TEF") };
        let all: All = Layers::defaults(&All { context_broker: broker }).unwrap().extract().unwrap();
        assert_eq!(all.context_broker.token.expose(), "TEF");
        assert_eq!(serde_json::to_string(&all.context_broker.token).unwrap(), "\"***\"");
    }

    #[test]
    fn secrets_do_not_show() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "\"***\"");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
        assert_eq!(secret.expose(), "hunter2");
    }
}
