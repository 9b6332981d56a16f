//! The six transports of a notification.

use serde_json::{Map, Value};

use super::{boolean, custom, refuse_forbidden, string};
use crate::{
    Error,
    parse::has_forbidden,
    subscription::{
        macros::MacroText,
        target::{
            KafkaKey, KafkaTarget, Login, MqttTarget, SaslMechanism, SecurityProtocol, Target, Transport,
        },
    },
};

const TRANSPORTS: [&str; 6] = ["http", "httpCustom", "mqtt", "mqttCustom", "kafka", "kafkaCustom"];
const MAX_TIMEOUT_MS: u64 = 1_800_000;
const MAX_URL_LEN: usize = 8192;
/// Longest topic, key, user, password.
const MAX_TEXT_LEN: usize = 4096;

pub(super) fn target(object: &Map<String, Value>) -> Result<Target, Error> {
    let mut named = TRANSPORTS.iter().filter_map(|name| Some((*name, object.get(*name)?)));
    let Some((name, value)) = named.next() else {
        return Err(Error::bad_request(
            "http, httpCustom, mqtt, mqttCustom, kafka or kafkaCustom is missing",
        ));
    };
    if named.next().is_some() {
        return Err(Error::bad_request(
            "only one of http, httpCustom, mqtt, mqttCustom, kafka or kafkaCustom is allowed",
        ));
    }
    let fields = value
        .as_object()
        .ok_or_else(|| Error::bad_request(format!("{name} notification is not an object")))?;
    let url = required(fields, "url", name)?;
    let is_custom = name.ends_with("Custom");
    let transport = match name {
        "http" | "httpCustom" => {
            check_http_url(url, is_custom)?;
            Transport::Http
        }
        "mqtt" | "mqttCustom" => {
            check_server_url(url, "mqtt")?;
            Transport::Mqtt(Box::new(mqtt(fields, name)?))
        }
        _ => {
            check_server_url(url, "kafka")?;
            Transport::Kafka(Box::new(kafka(fields, name)?))
        }
    };
    let custom = is_custom.then(|| custom::custom(fields, url, name, &transport)).transpose()?.map(Box::new);
    let timeout_ms = if transport == Transport::Http { timeout(fields)? } else { 0 };
    Ok(Target { url: url.to_owned(), timeout_ms, transport, custom })
}

fn required<'a>(fields: &'a Map<String, Value>, field: &str, transport: &str) -> Result<&'a str, Error> {
    fields
        .get(field)
        .ok_or_else(|| Error::bad_request(format!("{field} {transport} notification is missing")))
        .and_then(|value| string(value, &format!("{field} {transport} notification")))
}

fn invalid_url() -> Error {
    Error::bad_request("Invalid URL parsing notification url")
}

fn check_http_url(url: &str, is_custom: bool) -> Result<(), Error> {
    if url.starts_with("mqtt://") || url.starts_with("mqtts://") {
        return Err(Error::bad_request("mqtt URL cannot be used in http notifications"));
    }
    if has_forbidden(url) {
        let place = if is_custom { "custom" } else { "http field" };
        return Err(Error::bad_request(format!("forbidden characters in {place} /url/")));
    }
    // What a template becomes is not known yet.
    let is_template = is_custom && url.contains("${");
    let good = is_template || is_http_url(url);
    match (is_custom, good && url.len() <= MAX_URL_LEN) {
        (_, true) => Ok(()),
        (true, false) => Err(Error::bad_request("invalid custom /url/")),
        (false, false) => Err(invalid_url()),
    }
}

/// `http://host:port/…` or `https://…`.
fn is_http_url(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")) else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let server = authority.rsplit_once('@').map_or(authority, |(_, server)| server);
    let (host, port) = server_parts(server);
    url.bytes().all(|b| b.is_ascii_graphic()) && !host.is_empty() && is_port(port)
}

/// Host and port of `host:port`; a missing port is any good one.
fn server_parts(server: &str) -> (&str, &str) {
    server.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).unwrap_or((server, "1"))
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|port| port > 0)
}

/// `mqtt://host:port`, `mqtts://host:port` (over TLS; the original knows no such), or `kafka://host:port,host:port`; a
/// missing port is the usual one.
fn check_server_url(url: &str, scheme: &str) -> Result<(), Error> {
    if url.starts_with("http://") || url.starts_with("https://") {
        return Err(Error::bad_request(format!(
            "http or https URL cannot be used in {scheme} notifications"
        )));
    }
    let servers = url.strip_prefix(scheme);
    let servers = servers.map(|rest| rest.strip_prefix('s').filter(|_| scheme == "mqtt").unwrap_or(rest));
    let servers = servers.and_then(|rest| rest.strip_prefix("://"));
    let servers = servers.filter(|_| url.len() <= MAX_URL_LEN).ok_or_else(invalid_url)?;
    let (servers, path) = servers.split_once('/').map_or((servers, None), |(own, path)| (own, Some(path)));
    if path.is_some_and(|path| !path.is_empty()) {
        return Err(Error::bad_request(format!("path cannot be used in {scheme} url, use topic instead")));
    }
    let good = |server: &str| {
        let (host, port) = server_parts(server);
        !host.is_empty()
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._[]:".contains(&b))
            && is_port(port)
    };
    let mut servers = servers.split(',');
    let is_good = servers.next().is_some_and(good) && servers.all(|one| scheme == "kafka" && good(one));
    if is_good { Ok(()) } else { Err(invalid_url()) }
}

fn timeout(fields: &Map<String, Value>) -> Result<u64, Error> {
    let Some(value) = fields.get("timeout") else { return Ok(0) };
    value.as_u64().filter(|ms| *ms <= MAX_TIMEOUT_MS).ok_or_else(|| {
        Error::bad_request(format!("timeout field must be an integer between 0 and {MAX_TIMEOUT_MS}"))
    })
}

fn mqtt(fields: &Map<String, Value>, name: &str) -> Result<MqttTarget, Error> {
    let topic = topic(fields, name)?;
    if topic.has_literal(&['+', '#']) {
        return Err(Error::bad_request("+ and # are not allowed in mqtt field /topic/"));
    }
    let qos = match fields.get("qos") {
        None => 0,
        Some(value) => value
            .as_u64()
            .and_then(|qos| u8::try_from(qos).ok())
            .filter(|qos| *qos <= 2)
            .ok_or_else(|| Error::bad_request("mqtt qos field must be an integer in the 0 to 2 range"))?,
    };
    Ok(MqttTarget { topic, qos, retain: boolean(fields, "retain", false)?, login: login(fields)? })
}

fn kafka(fields: &Map<String, Value>, name: &str) -> Result<KafkaTarget, Error> {
    let topic = topic(fields, name)?;
    if topic.has_literal(&['+', '#', '/']) {
        return Err(Error::bad_request("+, # and / are not allowed in kafka field /topic/"));
    }
    let key = match fields.get("key") {
        None => KafkaKey::Absent,
        Some(Value::Null) => KafkaKey::Null,
        Some(value) => {
            let text = string(value, "key")?;
            bounded(text, "key")?;
            KafkaKey::Text(MacroText::parse_encoded(text))
        }
    };
    let login = login(fields)?;
    let sasl_mechanism = choice(fields, "saslMechanism", &SaslMechanism::ALL, SaslMechanism::as_str)?;
    if login.is_some() && sasl_mechanism.is_none() {
        return Err(Error::bad_request(format!("saslMechanism {name} notification is missing")));
    }
    let security_protocol =
        choice(fields, "securityProtocol", &SecurityProtocol::ALL, SecurityProtocol::as_str)?;
    Ok(KafkaTarget { topic, key, login, sasl_mechanism, security_protocol })
}

fn choice<T: Copy>(
    fields: &Map<String, Value>,
    field: &str,
    all: &[T],
    name: fn(T) -> &'static str,
) -> Result<Option<T>, Error> {
    let Some(text) = fields.get(field).map(|value| string(value, field)).transpose()? else {
        return Ok(None);
    };
    match all.iter().find(|one| name(**one) == text) {
        Some(found) => Ok(Some(*found)),
        None => {
            let names: Vec<&str> = all.iter().map(|one| name(*one)).collect();
            Err(Error::bad_request(format!("invalid {field}, accepted values: {}", names.join(", "))))
        }
    }
}

fn topic(fields: &Map<String, Value>, name: &str) -> Result<MacroText, Error> {
    let text = required(fields, "topic", name)?;
    if text.is_empty() {
        return Err(Error::bad_request(format!("topic {name} notification is missing")));
    }
    bounded(text, "topic")?;
    let topic = MacroText::parse_encoded(text);
    if !topic.has_macros() {
        refuse_forbidden(text, &format!("{} field /topic/", name.trim_end_matches("Custom")))?;
    }
    Ok(topic)
}

fn login(fields: &Map<String, Value>) -> Result<Option<Login>, Error> {
    let text = |field: &str| fields.get(field).map(|value| string(value, field)).transpose();
    match (text("user")?, text("passwd")?) {
        (None, None) => Ok(None),
        (Some(user), Some(passwd)) => {
            bounded(user, "user")?;
            bounded(passwd, "passwd")?;
            Ok(Some(Login { user: user.to_owned(), passwd: passwd.to_owned() }))
        }
        _ => Err(Error::bad_request("you must use user and passwd fields simultaneously")),
    }
}

fn bounded(text: &str, field: &str) -> Result<(), Error> {
    if text.len() > MAX_TEXT_LEN {
        return Err(Error::bad_request(format!("{field} is longer than {MAX_TEXT_LEN} bytes")));
    }
    Ok(())
}
