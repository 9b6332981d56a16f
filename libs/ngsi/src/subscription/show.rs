//! Subscriptions as GET shows them, and as they are stored.

use serde_json::{Map, Value, json};

use super::{
    model::{Condition, NotificationSpec, Subject, Subscription},
    target::{Custom, CustomPayload, HIDDEN, KafkaKey, Login, Target, Transport},
};
use crate::time;

/// Who reads it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// Passwords are hidden from them.
    Client,
    Store,
}

/// How a subscription fared. Instants in microseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub times_sent: u64,
    pub last_notification_us: Option<i64>,
    pub last_success_us: Option<i64>,
    pub last_success_code: Option<u16>,
    pub last_failure_us: Option<i64>,
    pub last_failure_reason: Option<String>,
    /// Consecutive failures.
    pub fails: u64,
    /// It made itself inactive: its one shot is gone, or too many failures.
    pub closed: bool,
}

impl Subscription {
    /// All that a request set, in a form that [`Subscription::parse`] reads back: what a store keeps.
    pub fn definition_json(&self) -> Vec<u8> {
        let mut object = Map::new();
        self.define(&mut object, self.status.as_str(), notification(&self.notification, Reader::Store));
        Value::Object(object).to_string().into_bytes()
    }

    fn define(&self, object: &mut Map<String, Value>, status: &str, notification: Map<String, Value>) {
        if let Some(description) = &self.description {
            object.insert("description".to_owned(), json!(description));
        }
        if let Some(expires_us) = self.expires_us {
            object.insert("expires".to_owned(), json!(time::format_us(expires_us)));
        }
        object.insert("status".to_owned(), json!(status));
        object.insert("subject".to_owned(), subject(&self.subject));
        object.insert("notification".to_owned(), Value::Object(notification));
        if let Some(throttling_s) = self.throttling_s {
            object.insert("throttling".to_owned(), json!(throttling_s));
        }
    }

    fn shown_status(&self, counters: &Counters, now_us: i64) -> &'static str {
        if self.is_expired(now_us) {
            "expired"
        } else if counters.closed {
            "inactive"
        } else {
            self.status.as_str()
        }
    }
}

/// How the delivery of its notifications stands: shown when it is asked for, the original has nothing like it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryHealth {
    /// Notifications that wait to be sent.
    pub pending: u64,
    /// When the oldest of them was caused.
    pub oldest_us: Option<i64>,
    /// Tries that the most tried of them has behind it.
    pub attempts: u64,
    /// Notifications that were given up.
    pub dropped: u64,
    /// Consecutive failures.
    pub fails: u64,
    pub last_failure_reason: Option<String>,
}

impl DeliveryHealth {
    fn state(&self) -> &'static str {
        match (self.pending > 0, self.fails > 0 || self.attempts > 0) {
            (false, false) => "ok",
            (true, false) => "pending",
            (true, true) => "retrying",
            (false, true) => "failing",
        }
    }

    fn to_json(&self) -> Value {
        let mut object = Map::new();
        object.insert("state".to_owned(), json!(self.state()));
        object.insert("pending".to_owned(), json!(self.pending));
        if let Some(micros) = self.oldest_us {
            object.insert("oldest".to_owned(), json!(time::format_us(micros)));
        }
        object.insert("attempts".to_owned(), json!(self.attempts));
        object.insert("dropped".to_owned(), json!(self.dropped));
        if let Some(reason) = &self.last_failure_reason {
            object.insert("lastFailureReason".to_owned(), json!(reason));
        }
        Value::Object(object)
    }
}

/// Appends a subscription with its counters: what GET answers.
pub fn write_subscription(
    out: &mut Vec<u8>,
    id: &str,
    subscription: &Subscription,
    counters: &Counters,
    health: Option<&DeliveryHealth>,
    now_us: i64,
) {
    let mut object = Map::new();
    object.insert("id".to_owned(), json!(id));
    let mut notification = notification(&subscription.notification, Reader::Client);
    add_counters(&mut notification, counters);
    subscription.define(&mut object, subscription.shown_status(counters, now_us), notification);
    if let Some(health) = health {
        object.insert("deliveryHealth".to_owned(), health.to_json());
    }
    crate::render::write_value(out, &Value::Object(object));
}

fn add_counters(notification: &mut Map<String, Value>, counters: &Counters) {
    let mut add = |name: &str, value: Value| {
        notification.insert(name.to_owned(), value);
    };
    if counters.times_sent > 0 {
        add("timesSent", json!(counters.times_sent));
    }
    if counters.fails > 0 {
        add("failsCounter", json!(counters.fails));
    }
    for (name, instant) in [
        ("lastNotification", counters.last_notification_us),
        ("lastSuccess", counters.last_success_us),
        ("lastFailure", counters.last_failure_us),
    ] {
        if let Some(micros) = instant {
            add(name, json!(time::format_us(micros)));
        }
    }
    if let Some(code) = counters.last_success_code {
        add("lastSuccessCode", json!(code));
    }
    if let Some(reason) = &counters.last_failure_reason {
        add("lastFailureReason", json!(reason));
    }
}

fn subject(subject: &Subject) -> Value {
    let entities: Vec<Value> = subject
        .entities
        .iter()
        .map(|entity| {
            let mut object = Map::new();
            let mut add = |name: &str, text: Option<&str>| {
                if let Some(text) = text {
                    object.insert(name.to_owned(), json!(text));
                }
            };
            add("id", entity.id.as_deref());
            add("idPattern", entity.id_pattern.as_ref().map(|p| p.as_str()));
            add("type", entity.entity_type.as_deref());
            add("typePattern", entity.type_pattern.as_ref().map(|p| p.as_str()));
            Value::Object(object)
        })
        .collect();
    json!({"entities": entities, "condition": condition(&subject.condition)})
}

fn condition(condition: &Condition) -> Value {
    let mut object = Map::new();
    object.insert("attrs".to_owned(), json!(condition.attrs));
    let mut expression = Map::new();
    for (name, part) in [("q", &condition.q), ("mq", &condition.mq)] {
        if let Some(part) = part {
            expression.insert(name.to_owned(), json!(part.as_str()));
        }
    }
    if let Some(geo) = &condition.geo {
        for (name, part) in [("georel", &geo.georel), ("geometry", &geo.geometry), ("coords", &geo.coords)] {
            expression.insert(name.to_owned(), json!(part));
        }
    }
    if !expression.is_empty() {
        object.insert("expression".to_owned(), Value::Object(expression));
    }
    if let Some(jexl) = &condition.jexl {
        object.insert("jexlExpression".to_owned(), json!(jexl.as_str()));
    }
    if let Some(kinds) = &condition.alteration_types {
        let names: Vec<_> = kinds.iter().map(|kind| kind.as_str()).collect();
        object.insert("alterationTypes".to_owned(), json!(names));
    }
    object.insert("notifyOnMetadataChange".to_owned(), json!(condition.notify_on_metadata_change));
    Value::Object(object)
}

fn notification(spec: &NotificationSpec, reader: Reader) -> Map<String, Value> {
    let mut object = Map::new();
    let mut add = |name: &str, value: Value| {
        object.insert(name.to_owned(), value);
    };
    if spec.except_attrs.is_empty() {
        add("attrs", json!(spec.attrs));
    } else {
        add("exceptAttrs", json!(spec.except_attrs));
    }
    if !spec.metadata.is_empty() {
        add("metadata", json!(spec.metadata));
    }
    add("attrsFormat", json!(spec.attrs_format.as_str()));
    add("onlyChangedAttrs", json!(spec.only_changed_attrs));
    add("covered", json!(spec.covered));
    if let Some(limit) = spec.max_fails_limit {
        add("maxFailsLimit", json!(limit));
    }
    add(spec.target.name(), target(&spec.target, reader));
    object
}

fn target(target: &Target, reader: Reader) -> Value {
    let mut object = Map::new();
    object.insert("url".to_owned(), json!(target.url));
    if target.timeout_ms > 0 {
        object.insert("timeout".to_owned(), json!(target.timeout_ms));
    }
    add_transport(&mut object, &target.transport, reader);
    if let Some(custom) = &target.custom {
        add_custom(&mut object, custom);
    }
    Value::Object(object)
}

fn add_transport(object: &mut Map<String, Value>, transport: &Transport, reader: Reader) {
    let mut add = |name: &str, value: Value| {
        object.insert(name.to_owned(), value);
    };
    let passwd = |login: &Login| match reader {
        Reader::Client => json!(HIDDEN),
        Reader::Store => json!(login.passwd),
    };
    let login = match transport {
        Transport::Http => None,
        Transport::Mqtt(mqtt) => {
            add("topic", json!(mqtt.topic.as_str()));
            add("qos", json!(mqtt.qos));
            add("retain", json!(mqtt.retain));
            mqtt.login.as_ref()
        }
        Transport::Kafka(kafka) => {
            add("topic", json!(kafka.topic.as_str()));
            match &kafka.key {
                KafkaKey::Absent => {}
                KafkaKey::Null => add("key", Value::Null),
                KafkaKey::Text(text) => add("key", json!(text.as_str())),
            }
            if let Some(mechanism) = kafka.sasl_mechanism {
                add("saslMechanism", json!(mechanism.as_str()));
            }
            if let Some(protocol) = kafka.security_protocol {
                add("securityProtocol", json!(protocol.as_str()));
            }
            kafka.login.as_ref()
        }
    };
    if let Some(login) = login {
        add("user", json!(login.user));
        add("passwd", passwd(login));
    }
}

fn add_custom(object: &mut Map<String, Value>, custom: &Custom) {
    let mut add = |name: &str, value: Value| {
        object.insert(name.to_owned(), value);
    };
    let object_of = |pairs: &mut dyn Iterator<Item = (&str, &str)>| -> Value {
        Value::Object(pairs.map(|(name, value)| (name.to_owned(), json!(value))).collect())
    };
    if !custom.headers.is_empty() {
        let mut pairs = custom.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        add("headers", object_of(&mut pairs));
    }
    if !custom.qs.is_empty() {
        let mut pairs = custom.qs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        add("qs", object_of(&mut pairs));
    }
    if let Some(method) = &custom.method {
        add("method", json!(method));
    }
    match &custom.payload {
        CustomPayload::Default => {}
        CustomPayload::Nothing => add("payload", Value::Null),
        CustomPayload::Text(text) => add("payload", json!(text.as_str())),
        CustomPayload::Json(template) => add("json", template.source().clone()),
        CustomPayload::Ngsi(patch) => add("ngsi", patch.source().clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(body: &Value, counters: &Counters, now_us: i64) -> Value {
        let subscription = Subscription::parse(&serde_json::to_vec(body).unwrap()).unwrap();
        let mut out = Vec::new();
        write_subscription(&mut out, "0123456789abcdef01234567", &subscription, counters, None, now_us);
        serde_json::from_slice(&out).unwrap()
    }

    fn door() -> Value {
        json!({
            "description": "doors",
            "subject": {"entities": [{"idPattern": ".*", "type": "Door"}],
                "condition": {"attrs": ["open"], "expression": {"q": "open==true"}, "alterationTypes": ["entityChange"]}},
            "notification": {"http": {"url": "http://sink.example:8080/in"}, "attrs": ["open"], "attrsFormat": "keyValues"},
            "expires": "2040-01-01T00:00:00.00Z", "throttling": 5
        })
    }

    #[test]
    fn the_example_of_the_contract_is_shown_with_its_defaults() {
        assert_eq!(
            shown(&door(), &Counters::default(), 0),
            json!({
                "id": "0123456789abcdef01234567", "description": "doors", "expires": "2040-01-01T00:00:00.000Z",
                "status": "active",
                "subject": {"entities": [{"idPattern": ".*", "type": "Door"}],
                    "condition": {"attrs": ["open"], "expression": {"q": "open==true"},
                        "alterationTypes": ["entityChange"], "notifyOnMetadataChange": true}},
                "notification": {"attrs": ["open"], "attrsFormat": "keyValues", "onlyChangedAttrs": false,
                    "covered": false, "http": {"url": "http://sink.example:8080/in"}},
                "throttling": 5
            })
        );
    }

    #[test]
    fn counters_and_status_are_shown_when_there_is_something_to_show() {
        let counters = Counters {
            times_sent: 3,
            last_notification_us: Some(1_000_000),
            last_failure_us: Some(1_000_000),
            last_failure_reason: Some("Timeout was reached".to_owned()),
            fails: 2,
            closed: true,
            ..Counters::default()
        };
        let body = shown(&door(), &counters, 0);
        assert_eq!(body["status"], "inactive");
        let notification = &body["notification"];
        assert_eq!(notification["timesSent"], 3);
        assert_eq!(notification["failsCounter"], 2);
        assert_eq!(notification["lastNotification"], "1970-01-01T00:00:01.000Z");
        assert_eq!(notification["lastFailureReason"], "Timeout was reached");
        assert!(notification.get("lastSuccess").is_none());
        assert_eq!(shown(&door(), &Counters::default(), i64::MAX)["status"], "expired");
    }

    #[test]
    fn what_get_shows_can_be_sent_back() {
        let shown = shown(&door(), &Counters { times_sent: 1, ..Counters::default() }, 0);
        let mut subscription = Subscription::parse(&serde_json::to_vec(&door()).unwrap()).unwrap();
        let before = subscription.clone();
        subscription.merge(
            crate::subscription::SubscriptionPatch::parse(&serde_json::to_vec(&shown).unwrap()).unwrap(),
        );
        assert_eq!(subscription, before);
    }

    #[test]
    fn passwords_are_hidden_from_clients_only() {
        let mut body = door();
        body["notification"] =
            json!({"mqtt": {"url": "mqtt://h", "topic": "t", "user": "u", "passwd": "p4ss"}});
        let expected = json!({"url": "mqtt://h", "topic": "t", "qos": 0, "retain": false, "user": "u", "passwd": "*****"});
        assert_eq!(shown(&body, &Counters::default(), 0)["notification"]["mqtt"], expected);
        let stored = Subscription::parse(&serde_json::to_vec(&body).unwrap()).unwrap().definition_json();
        assert!(String::from_utf8(stored).unwrap().contains("p4ss"));
    }

    fn targets() -> impl Strategy<Value = Value> {
        let url = "http://h/";
        prop::sample::select(vec![
            json!({"http": {"url": url}}),
            json!({"http": {"url": url, "timeout": 7}}),
            json!({"httpCustom": {"url": url, "payload": null}}),
            json!({"httpCustom": {"url": url, "payload": "a%3Db", "headers": {"X-A": "1"}, "qs": {"a": "b"}}}),
            json!({"httpCustom": {"url": "http://h/${id}", "json": {"a": "${b}"}, "method": "PUT"}}),
            json!({"httpCustom": {"url": url, "ngsi": {"id": "x", "a": {"value": "${b}"}}}}),
            json!({"mqtt": {"url": "mqtt://h:1", "topic": "a/b", "qos": 2, "user": "u", "passwd": "p"}}),
            json!({"mqtt": {"url": "mqtts://h:8883", "topic": "a/b"}}),
            json!({"mqttCustom": {"url": "mqtt://h:1", "topic": "${id}", "retain": true, "payload": "a%3Db"}}),
            json!({"kafka": {"url": "kafka://h:1,i:2", "topic": "t", "key": null, "user": "u", "passwd": "p",
                "saslMechanism": "SCRAM-SHA-256", "securityProtocol": "SASL_PLAINTEXT"}}),
            json!({"kafkaCustom": {"url": "kafka://h:1", "topic": "t", "key": "${id}", "headers": {"A": "b"}}}),
        ])
    }

    proptest! {
        #[test]
        fn a_stored_subscription_is_read_back_as_it_was(
            target in targets(),
            attrs in prop::collection::btree_set("[a-e]", 0..4),
            covered in any::<bool>(),
            status in prop::sample::select(vec!["active", "inactive", "oneshot"]),
            throttling in prop::option::of(1_u64..9),
            format in prop::sample::select(vec!["normalized", "keyValues", "values", "simplifiedNormalized", "simplifiedKeyValues"]),
        ) {
            let mut notification = target;
            notification["attrs"] = json!(attrs);
            notification["covered"] = json!(covered && !attrs.is_empty());
            notification["attrsFormat"] = json!(format);
            let mut body = json!({
                "subject": {"entities": [{"id": "a"}, {"idPattern": "^b", "typePattern": "T"}]},
                "notification": notification, "status": status
            });
            if let Some(throttling) = throttling {
                body["throttling"] = json!(throttling);
            }
            let subscription = Subscription::parse(&serde_json::to_vec(&body).unwrap()).unwrap();
            prop_assert_eq!(Subscription::parse(&subscription.definition_json()).unwrap(), subscription);
        }

        #[test]
        fn no_body_makes_the_parser_panic(body in "\\PC{0,60}") {
            let _ignored = Subscription::parse(body.as_bytes());
        }
    }
}
