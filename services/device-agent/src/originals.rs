//! The originals' environment variables (iot-agent 0), as a pure function of a map of variables.

use std::collections::BTreeMap;

use service_kit::config::Secret;

use crate::Config;

/// Lays `IOTA_*` variables over `config`. Answers what to tell the user: variables that mean nothing here, and values
/// that cannot be read (those are errors).
pub fn apply_originals(
    config: &mut Config,
    variables: &BTreeMap<String, String>,
) -> Result<Vec<String>, String> {
    let mut warnings = Vec::new();
    let mut broker = (None, None);
    for (name, value) in variables.iter().filter(|(name, _)| name.starts_with("IOTA_")) {
        match name.as_str() {
            "IOTA_NORTH_PORT" => config.north_port = port(name, value)?,
            "IOTA_HTTP_PORT" => config.south_port = port(name, value)?,
            "IOTA_NORTH_HOST" | "IOTA_HTTP_HOST" => config.host = address(name, value)?,
            "IOTA_CB_HOST" => broker.0 = Some(value.clone()),
            "IOTA_CB_PORT" => broker.1 = Some(port(name, value)?),
            "IOTA_TIMESTAMP" => config.timestamp = flag(name, value)?,
            "IOTA_AUTOCAST" => config.autocast = flag(name, value)?,
            "IOTA_EXPLICIT_ATTRS" => config.explicit_attrs = flag(name, value)?,
            "IOTA_DEFAULT_RESOURCE" => config.default_resource = value.clone(),
            "IOTA_DEFAULT_KEY" => config.default_key = Secret::new(value),
            "IOTA_DEFAULT_TRANSPORT" => config.default_transport = value.clone(),
            _ => warnings.push(format!("{name} means nothing to this agent and is ignored")),
        }
    }
    if let (Some(host), http_port) = broker {
        config.broker.url = format!("http://{host}:{}", grpc_port(http_port.unwrap_or(1026)));
    } else if let (None, Some(http_port)) = broker {
        config.broker.url = format!("http://127.0.0.1:{}", grpc_port(http_port));
    }
    Ok(warnings)
}

/// The originals name the broker's NGSI port; ours listens for gRPC on the one above it.
fn grpc_port(http_port: u16) -> u16 {
    http_port.saturating_add(1)
}

fn port(name: &str, value: &str) -> Result<u16, String> {
    value.trim().parse().map_err(|_| format!("{name} is not a port number"))
}

fn address(name: &str, value: &str) -> Result<std::net::IpAddr, String> {
    value.trim().parse().map_err(|_| format!("{name} is not an IP address"))
}

fn flag(name: &str, value: &str) -> Result<bool, String> {
    match value.trim().to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("{name} is neither true nor false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(rows: &[(&str, &str)]) -> (Config, Result<Vec<String>, String>) {
        let variables = rows.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut config = Config::default();
        let result = apply_originals(&mut config, &variables);
        (config, result)
    }

    #[test]
    fn the_originals_names_set_our_settings() {
        let (config, warnings) = applied(&[
            ("IOTA_NORTH_PORT", "4061"),
            ("IOTA_HTTP_PORT", "7897"),
            ("IOTA_CB_HOST", "orion"),
            ("IOTA_CB_PORT", "1126"),
            ("IOTA_TIMESTAMP", "false"),
            ("IOTA_AUTOCAST", "False"),
            ("IOTA_DEFAULT_RESOURCE", "/iot/ul"),
            ("IOTA_DEFAULT_KEY", "secret"),
            ("PATH", "/bin"),
        ]);
        assert_eq!(warnings, Ok(vec![]));
        assert_eq!((config.north_port, config.south_port), (4061, 7897));
        assert_eq!(config.broker.url, "http://orion:1127");
        assert!(!config.timestamp && !config.autocast);
        assert_eq!(config.default_resource, "/iot/ul");
        assert_eq!(config.default_key.expose(), "secret");
    }

    #[test]
    fn unknown_variables_are_told_without_their_values() {
        let (_, warnings) = applied(&[("IOTA_MQTT_PASSWORD", "hunter2")]);
        assert_eq!(warnings.unwrap(), ["IOTA_MQTT_PASSWORD means nothing to this agent and is ignored"]);
    }

    #[test]
    fn values_that_cannot_be_read_are_errors() {
        assert_eq!(
            applied(&[("IOTA_NORTH_PORT", "many")]).1,
            Err("IOTA_NORTH_PORT is not a port number".into())
        );
        assert_eq!(
            applied(&[("IOTA_TIMESTAMP", "maybe")]).1,
            Err("IOTA_TIMESTAMP is neither true nor false".into())
        );
    }
}
