//! Configuration in layers: defaults < file < environment < flags. Unknown keys are errors.
//!
//! A file is TOML with one table per service and a table `backends` for what they share. The variable
//! `THINGMESH_CONTEXT_BROKER__REQUEST_TIMEOUT_MS` sets key `request_timeout_ms` of table `context-broker`.

use std::{cell::Cell, collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use toml::{Table, Value};

/// Prefix of all environment variables that set configuration.
pub const ENV_PREFIX: &str = "THINGMESH_";

/// Has our prefix and belongs to the test tools: where they keep the servers they build.
const NOT_A_SETTING: &str = "THINGMESH_CACHE";

/// What stands where a secret is not shown.
pub const HIDDEN: &str = "***";

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{origin}: {message}")]
    Syntax { origin: String, message: String },
    #[error("{origin}: unknown setting `{key}`; `config` lists all there are")]
    UnknownKey { origin: String, key: String },
    #[error(
        "{origin}: `{key}` is `***`, which only stands for a secret that is not shown: write the secret itself, \
         or leave the line out and set {}",
        variable(.key)
    )]
    Hidden { origin: String, key: String },
    #[error("{origin}: setting `{key}`: {message}")]
    Type { origin: String, key: String, message: String },
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
        serializer.serialize_str(if hidden { HIDDEN } else { &self.0 })
    }
}

/// The layers laid over each other so far.
#[derive(Clone, Debug)]
pub struct Layers {
    effective: Table,
    foreign: Vec<String>,
    /// Where a setting that is not the default was made: file, variable or flag, by the setting's dotted key.
    origins: BTreeMap<String, String>,
}

impl Layers {
    /// Starts from documented defaults: a struct with one field per service table.
    pub fn defaults<T: Serialize>(defaults: &T) -> Result<Self, ConfigError> {
        REVEALING.set(true);
        let effective = Table::try_from(defaults);
        REVEALING.set(false);
        let effective = effective.map_err(|error| ConfigError::Invalid(error.to_string()))?;
        Ok(Self { effective, foreign: Vec::new(), origins: BTreeMap::new() })
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
        merge(&mut self.effective, table, &mut self.origins, origin, "")?;
        Ok(self)
    }

    /// Lays environment variables over it; those without our prefix are not ours, and for those without `__` see
    /// [`unread_variables`].
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
                refuse_hidden(&value, origin, key)?;
                table.insert(part.to_owned(), value);
                self.origins.insert(key.to_owned(), origin.to_owned());
                break;
            }
            table = table.get_mut(part).and_then(Value::as_table_mut).ok_or_else(unknown)?;
        }
        Ok(self)
    }

    pub fn extract<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        self.effective.clone().try_into().map_err(|error| self.invalid(&error, None))
    }

    /// One table alone; empty if it is not there.
    pub fn extract_table<T: DeserializeOwned>(&self, name: &str) -> Result<T, ConfigError> {
        let table = self.effective.get(name).cloned().unwrap_or_else(|| Table::new().into());
        table.try_into().map_err(|error| self.invalid(&error, Some(name)))
    }

    /// All but one table.
    pub fn extract_without<T: DeserializeOwned>(&self, name: &str) -> Result<T, ConfigError> {
        let mut rest = self.effective.clone();
        rest.remove(name);
        rest.try_into().map_err(|error| self.invalid(&error, None))
    }

    /// The error in words, with the setting and where it was made.
    fn invalid(&self, error: &toml::de::Error, table: Option<&str>) -> ConfigError {
        let shown = error.to_string();
        let inner = shown.lines().find_map(|line| line.strip_prefix("in `")?.strip_suffix('`'));
        let Some(key) = inner.map(|inner| table.into_iter().chain([inner]).collect::<Vec<_>>().join("."))
        else {
            return ConfigError::Invalid(shown.trim().to_owned());
        };
        let origin = self.origins.iter().rev().find(|(made, _)| within(&key, made) || within(made, &key));
        let origin = origin.map_or("configuration", |(_, origin)| origin.as_str()).to_owned();
        ConfigError::Type { origin, key, message: in_words(error.message()) }
    }
}

/// Whether `key` is `table` or a setting in it.
fn within(key: &str, table: &str) -> bool {
    key.strip_prefix(table).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Says what was expected without names of Rust types.
fn in_words(message: &str) -> String {
    let Some((found, expected)) = message.rsplit_once("expected ") else { return message.to_owned() };
    let expected = match expected {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number, 0 or more",
        "i32" | "i64" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        other => other,
    };
    format!("{found}expected {expected}")
}

/// The variable that sets `key`.
fn variable(key: &str) -> String {
    let name = key.replace('-', "_").replace('.', "__").to_ascii_uppercase();
    format!("{ENV_PREFIX}{name}")
}

/// Those of `names` that look like settings of ours and set nothing, because they name no table.
pub fn unread_variables(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let ours = |name: &String| name.starts_with(ENV_PREFIX) && name != NOT_A_SETTING;
    let mut unread: Vec<String> =
        names.into_iter().filter(|name| ours(name) && !name.contains("__")).collect();
    unread.sort_unstable();
    unread
}

/// What `config` prints in place of a secret is none: taken as a value it would lock the mesh out of its own servers.
fn refuse_hidden(value: &Value, origin: &str, key: &str) -> Result<(), ConfigError> {
    match value {
        Value::String(text) if text == HIDDEN || text.contains(&format!(":{HIDDEN}@")) => {
            Err(ConfigError::Hidden { origin: origin.to_owned(), key: key.to_owned() })
        }
        Value::Table(table) => {
            table.iter().try_for_each(|(name, value)| refuse_hidden(value, origin, &format!("{key}.{name}")))
        }
        _ => Ok(()),
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

fn merge(
    into: &mut Table,
    from: Table,
    origins: &mut BTreeMap<String, String>,
    origin: &str,
    prefix: &str,
) -> Result<(), ConfigError> {
    for (key, value) in from {
        let full = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match (into.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(new)) => merge(inner, new, origins, origin, &full)?,
            (Some(current), new) => {
                refuse_hidden(&new, origin, &full)?;
                *current = new;
                origins.insert(full, origin.to_owned());
            }
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

    fn set(name: &str, value: &str) -> Vec<(String, String)> {
        vec![(name.to_owned(), value.to_owned())]
    }

    #[test]
    fn later_layers_win_and_text_takes_the_type_of_the_setting() {
        let layers = defaults()
            .file("[context-broker]\nport = 1\nurl = 'a'", "x.toml")
            .unwrap()
            .environment(set("THINGMESH_CONTEXT_BROKER__PORT", "2"))
            .unwrap()
            .environment(set("THINGMESH_CONTEXT_BROKER__URL", "3"))
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
        let error = defaults().environment(set("THINGMESH_BROKER__PORT", "1")).unwrap_err().to_string();
        assert!(error.starts_with("THINGMESH_BROKER__PORT: unknown setting `broker.port`"), "{error}");
    }

    #[test]
    fn foreign_variables_are_ignored() {
        defaults().environment(set("PATH", "/bin")).unwrap();
        defaults().environment(set("THINGMESH_CACHE", "/tmp")).unwrap();
    }

    #[test]
    fn a_variable_that_names_no_table_is_named_but_for_the_one_of_the_test_tools() {
        let names = ["PATH", "THINGMESH_PORT", "THINGMESH_CACHE", "THINGMESH_FOO", "THINGMESH_ADMIN__PORT"];
        let unread = unread_variables(names.map(str::to_owned));
        assert_eq!(unread, ["THINGMESH_FOO", "THINGMESH_PORT"]);
    }

    #[test]
    fn a_value_of_the_wrong_type_is_refused_with_its_setting_and_where_it_was_made() {
        let layers = defaults().environment(set("THINGMESH_CONTEXT_BROKER__PORT", "many")).unwrap();
        let wanted = "THINGMESH_CONTEXT_BROKER__PORT: setting `context-broker.port`: invalid type: \
                      string \"many\", expected a whole number from 0 to 65535";
        assert_eq!(layers.extract::<All>().unwrap_err().to_string(), wanted);
        assert_eq!(layers.extract_table::<Broker>("context-broker").unwrap_err().to_string(), wanted);
        let layers = defaults().file("[context-broker]\nport = 70000", "x.toml").unwrap();
        let error = layers.extract::<All>().unwrap_err().to_string();
        assert!(error.starts_with("x.toml: setting `context-broker.port`"), "{error}");
    }

    #[test]
    fn what_is_shown_in_place_of_a_secret_is_not_taken_for_one() {
        for (key, value) in [("token", "***"), ("url", "postgres://u:***@h/d")] {
            let error =
                defaults().file(&format!("[context-broker]\n{key} = '{value}'"), "x.toml").unwrap_err();
            let error = error.to_string();
            let (setting, variable) =
                (format!("x.toml: `context-broker.{key}`"), variable(&format!("context-broker.{key}")));
            assert!(error.contains(&setting) && error.contains(&variable), "{error}");
            defaults().set(&format!("context-broker.{key}"), value, "--set").unwrap_err();
        }
        assert_eq!(variable("context-broker.a.b_c"), "THINGMESH_CONTEXT_BROKER__A__B_C");
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
