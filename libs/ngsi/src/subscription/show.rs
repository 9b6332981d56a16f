//! Subscriptions as GET shows them, and as they are stored.

use serde_json::{Map, Value, json};

use super::model::{
    Condition, CustomHttp, CustomPayload, HttpTarget, NotificationSpec, Subject, Subscription,
};
use crate::time;

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
        self.define(&mut object, self.status.as_str(), notification(&self.notification));
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

/// Appends a subscription with its counters: what GET answers.
pub fn write_subscription(
    out: &mut Vec<u8>,
    id: &str,
    subscription: &Subscription,
    counters: &Counters,
    now_us: i64,
) {
    let mut object = Map::new();
    object.insert("id".to_owned(), json!(id));
    let mut notification = notification(&subscription.notification);
    add_counters(&mut notification, counters);
    subscription.define(&mut object, subscription.shown_status(counters, now_us), notification);
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
    if !expression.is_empty() {
        object.insert("expression".to_owned(), Value::Object(expression));
    }
    if let Some(kinds) = &condition.alteration_types {
        let names: Vec<_> = kinds.iter().map(|kind| kind.as_str()).collect();
        object.insert("alterationTypes".to_owned(), json!(names));
    }
    object.insert("notifyOnMetadataChange".to_owned(), json!(condition.notify_on_metadata_change));
    Value::Object(object)
}

fn notification(spec: &NotificationSpec) -> Map<String, Value> {
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
    let name = if spec.target.custom.is_some() { "httpCustom" } else { "http" };
    add(name, target(&spec.target));
    object
}

fn target(target: &HttpTarget) -> Value {
    let mut object = Map::new();
    object.insert("url".to_owned(), json!(target.url));
    if target.timeout_ms > 0 {
        object.insert("timeout".to_owned(), json!(target.timeout_ms));
    }
    if let Some(custom) = &target.custom {
        add_custom(&mut object, custom);
    }
    Value::Object(object)
}

fn add_custom(object: &mut Map<String, Value>, custom: &CustomHttp) {
    let mut add = |name: &str, value: Value| {
        object.insert(name.to_owned(), value);
    };
    if !custom.headers.is_empty() {
        add("headers", json!(custom.headers));
    }
    if !custom.qs.is_empty() {
        add("qs", json!(custom.qs));
    }
    if let Some(method) = &custom.method {
        add("method", json!(method));
    }
    match &custom.payload {
        CustomPayload::Default => {}
        CustomPayload::Nothing => add("payload", Value::Null),
        CustomPayload::Text(text) => add("payload", json!(text)),
        CustomPayload::Json(template) => add("json", template.clone()),
        CustomPayload::Ngsi(_, source) => add("ngsi", source.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(body: &Value, counters: &Counters, now_us: i64) -> Value {
        let subscription = Subscription::parse(&serde_json::to_vec(body).unwrap()).unwrap();
        let mut out = Vec::new();
        write_subscription(&mut out, "0123456789abcdef01234567", &subscription, counters, now_us);
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

    fn targets() -> impl Strategy<Value = Value> {
        let url = "http://h/";
        prop::sample::select(vec![
            json!({"http": {"url": url}}),
            json!({"http": {"url": url, "timeout": 7}}),
            json!({"httpCustom": {"url": url, "payload": null}}),
            json!({"httpCustom": {"url": url, "payload": "a%3Db", "headers": {"X-A": "1"}, "qs": {"a": "b"}}}),
            json!({"httpCustom": {"url": "http://h/${id}", "json": {"a": "${b}"}, "method": "PUT"}}),
            json!({"httpCustom": {"url": url, "ngsi": {"id": "x", "a": {"value": "${b}"}}}}),
        ])
    }

    proptest! {
        #[test]
        fn a_stored_subscription_is_read_back_as_it_was(
            target in targets(),
            attrs in prop::collection::btree_set("[a-e]", 0..4),
            covered in any::<bool>(),
            status in prop::sample::select(vec!["active", "inactive", "oneshot"]),
            throttling in prop::option::of(0_u64..9),
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
