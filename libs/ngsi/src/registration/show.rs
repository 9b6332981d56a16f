//! Registrations as GET shows them, and as they are stored.

use serde_json::{Map, Value, json};

use super::{RegisteredEntity, Registration};
use crate::time;

/// How a provider fared. Instants in microseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForwardingCounters {
    pub times_sent: u64,
    pub last_forwarding_us: Option<i64>,
    pub last_success_us: Option<i64>,
    pub last_failure_us: Option<i64>,
}

impl ForwardingCounters {
    /// Takes in what another process, or this one since, has counted.
    pub fn add(&mut self, other: &Self) {
        self.times_sent += other.times_sent;
        self.last_forwarding_us = self.last_forwarding_us.max(other.last_forwarding_us);
        self.last_success_us = self.last_success_us.max(other.last_success_us);
        self.last_failure_us = self.last_failure_us.max(other.last_failure_us);
    }
}

impl Registration {
    /// All that a request set, in a form that [`Registration::parse`] reads back: what a store keeps.
    pub fn definition_json(&self) -> Vec<u8> {
        let mut object = Map::new();
        self.define(&mut object);
        Value::Object(object).to_string().into_bytes()
    }

    fn define(&self, object: &mut Map<String, Value>) {
        let mut add = |name: &str, value: Value| {
            object.insert(name.to_owned(), value);
        };
        if let Some(description) = &self.description {
            add("description", json!(description));
        }
        let entities: Vec<Value> = self.data.entities.iter().map(entity).collect();
        let mut data = json!({"entities": entities, "attrs": self.data.attrs});
        if let Some(expression) = &self.data.expression {
            data["expression"] = expression.clone();
        }
        add("dataProvided", data);
        let provider = json!({
            "http": {"url": self.provider.url},
            "supportedForwardingMode": self.provider.mode.as_str(),
            "legacyForwarding": self.provider.legacy,
        });
        add("provider", provider);
        if let Some(expires_us) = self.expires_us {
            add("expires", json!(time::format_us(expires_us)));
        }
        add("status", json!(self.status));
    }
}

fn entity(entity: &RegisteredEntity) -> Value {
    let mut shown = match &entity.id {
        Some(id) => json!({"id": id}),
        None => json!({"idPattern": ".*"}),
    };
    if let Some(entity_type) = &entity.entity_type {
        shown["type"] = json!(entity_type);
    }
    shown
}

/// Appends a registration with its counters: what GET answers.
pub fn write_registration(
    out: &mut Vec<u8>,
    id: &str,
    registration: &Registration,
    counters: &ForwardingCounters,
) {
    let mut object = Map::new();
    object.insert("id".to_owned(), json!(id));
    registration.define(&mut object);
    if counters.times_sent > 0 {
        let mut shown = json!({"timesSent": counters.times_sent});
        for (name, instant) in [
            ("lastForwarding", counters.last_forwarding_us),
            ("lastSuccess", counters.last_success_us),
            ("lastFailure", counters.last_failure_us),
        ] {
            if let Some(instant) = instant {
                shown[name] = json!(time::format_us(instant));
            }
        }
        object.insert("forwardingInformation".to_owned(), shown);
    }
    crate::render::write_value(out, &Value::Object(object));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_defaults_are_shown_and_counters_once_there_are_any() {
        let body =
            br#"{"dataProvided":{"entities":[{"id":"m1"}]},"provider":{"http":{"url":"http://p/v2"}}}"#;
        let registration = Registration::parse(body).unwrap();
        let shown = |counters: &ForwardingCounters| {
            let mut out = Vec::new();
            write_registration(&mut out, "abc", &registration, counters);
            String::from_utf8(out).unwrap()
        };
        let plain = r#"{"id":"abc","dataProvided":{"entities":[{"id":"m1"}],"attrs":[]},"provider":{"http":{"url":"http://p/v2"},"supportedForwardingMode":"all","legacyForwarding":false},"status":"active""#;
        assert_eq!(shown(&ForwardingCounters::default()), format!("{plain}}}"));
        let counters = ForwardingCounters {
            times_sent: 2,
            last_forwarding_us: Some(1_769_853_600_000_000),
            last_success_us: None,
            last_failure_us: Some(1_769_853_600_000_000),
        };
        let at = "2026-01-31T10:00:00.000Z";
        let information = format!(
            r#","forwardingInformation":{{"timesSent":2,"lastForwarding":"{at}","lastFailure":"{at}"}}}}"#
        );
        assert_eq!(shown(&counters), format!("{plain}{information}"));
    }
}
