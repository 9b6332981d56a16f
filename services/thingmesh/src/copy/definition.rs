//! Subscriptions and registrations as they are posted: what a broker shows, less what it keeps of its own.

use serde_json::{Map, Value, json};

use super::paths::Resource;

/// What a broker counts and notes in a notification.
const COUNTERS: [&str; 7] = [
    "timesSent",
    "lastNotification",
    "lastSuccess",
    "lastSuccessCode",
    "lastFailure",
    "lastFailureReason",
    "failsCounter",
];
/// A password as brokers show it.
const HIDDEN: &str = "*****";
const TRANSPORTS: [&str; 6] = ["http", "httpCustom", "mqtt", "mqttCustom", "kafka", "kafkaCustom"];

/// What is posted of an item.
pub(super) fn stripped(resource: Resource, item: &Value) -> Value {
    let mut item = item.clone();
    let Some(object) = item.as_object_mut() else { return item };
    object.remove("id");
    match resource {
        Resource::Registrations => {
            object.remove("status");
            object.remove("forwardingInformation");
        }
        Resource::Subscriptions => {
            // `failed` and `expired` are verdicts of the broker, not settings; the default is active.
            let is_set = |status: &Value| matches!(status.as_str(), Some("active" | "inactive" | "oneshot"));
            if !object.get("status").is_some_and(is_set) {
                object.remove("status");
            }
            if let Some(notification) = object.get_mut("notification").and_then(Value::as_object_mut) {
                for counter in COUNTERS {
                    notification.remove(counter);
                }
            }
        }
    }
    item
}

/// What makes two items the same, as a text: what they are about and whom they concern. Members that have their default
/// count as absent, since not all versions show them; the order of members does not count.
pub(super) fn identity(resource: Resource, path: &str, stripped: &Value) -> String {
    let mut members = Map::new();
    let named: &[&str] = match resource {
        Resource::Subscriptions => &["description", "subject", "notification"],
        Resource::Registrations => &["description", "dataProvided", "provider"],
    };
    for name in named {
        let value = stripped.get(*name).cloned().unwrap_or(Value::Null);
        members.insert((*name).to_owned(), value);
    }
    let mut identity = json!({"path": path, "is": members});
    let is = &mut identity["is"];
    drop_default(is, "description", &json!(""));
    drop_default(is, "description", &Value::Null);
    match resource {
        Resource::Subscriptions => plain_subscription(is),
        Resource::Registrations => {
            drop_default(&mut is["dataProvided"], "attrs", &json!([]));
            drop_default(&mut is["provider"], "supportedForwardingMode", &json!("all"));
            drop_default(&mut is["provider"], "legacyForwarding", &json!(false));
        }
    }
    identity.sort_all_objects();
    identity.to_string()
}

fn plain_subscription(is: &mut Value) {
    let subject = &mut is["subject"];
    drop_default(&mut subject["condition"], "attrs", &json!([]));
    drop_default(&mut subject["condition"], "notifyOnMetadataChange", &json!(true));
    drop_default(subject, "condition", &json!({}));
    drop_default(subject, "condition", &Value::Null);
    let notification = &mut is["notification"];
    for (name, default) in [
        ("attrs", json!([])),
        ("attrsFormat", json!("normalized")),
        ("onlyChangedAttrs", json!(false)),
        ("covered", json!(false)),
    ] {
        drop_default(notification, name, &default);
    }
    for transport in TRANSPORTS {
        if notification.get(transport).is_some() {
            let target = &mut notification[transport];
            drop_default(target, "timeout", &json!(0));
            drop_default(target, "qos", &json!(0));
            drop_default(target, "retain", &json!(false));
        }
    }
}

fn drop_default(of: &mut Value, name: &str, default: &Value) {
    if let Some(object) = of.as_object_mut()
        && object.get(name) == Some(default)
    {
        object.remove(name);
    }
}

/// Whether it ended before now: it would be created for nothing.
pub(super) fn is_expired(item: &Value, now_us: i64) -> bool {
    let end = item["expires"].as_str().and_then(ngsi::time::parse_us);
    end.is_some_and(|end| end <= now_us)
}

/// Whether a password is needed that the source does not tell.
pub(super) fn hides_password(item: &Value) -> bool {
    TRANSPORTS.iter().any(|transport| item["notification"][*transport]["passwd"] == HIDDEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription() -> Value {
        json!({
            "id": "5f0000000000000000000001", "description": "doors", "status": "failed",
            "expires": "2040-01-01T00:00:00.000Z", "throttling": 5,
            "subject": {"entities": [{"idPattern": ".*", "type": "Door"}], "condition": {"attrs": ["open"]}},
            "notification": {
                "timesSent": 4, "lastNotification": "2026-01-01T00:00:00.000Z", "failsCounter": 2,
                "lastFailure": "2026-01-01T00:00:00.000Z", "lastFailureReason": "Timeout was reached",
                "lastSuccess": "2026-01-01T00:00:00.000Z", "lastSuccessCode": 200, "maxFailsLimit": 3,
                "attrs": ["open"], "attrsFormat": "keyValues", "http": {"url": "http://sink/in"},
            },
        })
    }

    #[test]
    fn what_the_broker_keeps_of_its_own_is_not_posted() {
        let expected = json!({
            "description": "doors", "expires": "2040-01-01T00:00:00.000Z", "throttling": 5,
            "subject": {"entities": [{"idPattern": ".*", "type": "Door"}], "condition": {"attrs": ["open"]}},
            "notification": {
                "maxFailsLimit": 3, "attrs": ["open"], "attrsFormat": "keyValues", "http": {"url": "http://sink/in"},
            },
        });
        assert_eq!(stripped(Resource::Subscriptions, &subscription()), expected);
        let registration = json!({
            "id": "5f", "status": "active", "forwardingInformation": {"timesSent": 3},
            "dataProvided": {"entities": [{"id": "m"}], "attrs": []}, "provider": {"http": {"url": "http://p"}},
        });
        let expected = json!({
            "dataProvided": {"entities": [{"id": "m"}], "attrs": []}, "provider": {"http": {"url": "http://p"}},
        });
        assert_eq!(stripped(Resource::Registrations, &registration), expected);
    }

    #[test]
    fn a_status_that_somebody_set_is_kept() {
        for (shown, kept) in
            [("active", true), ("inactive", true), ("oneshot", true), ("expired", false), ("failed", false)]
        {
            let mut item = subscription();
            item["status"] = json!(shown);
            let posted = stripped(Resource::Subscriptions, &item);
            assert_eq!(posted.get("status"), kept.then(|| json!(shown)).as_ref(), "{shown}");
        }
    }

    #[test]
    fn defaults_order_and_counters_do_not_make_another_subscription_and_all_else_does() {
        let of = |path: &str, item: &Value| {
            identity(Resource::Subscriptions, path, &stripped(Resource::Subscriptions, item))
        };
        let one = subscription();
        let mut same = json!({
            "notification": {
                "http": {"timeout": 0, "url": "http://sink/in"}, "attrsFormat": "keyValues", "attrs": ["open"],
                "covered": false, "onlyChangedAttrs": false, "maxFailsLimit": 3,
            },
            "subject": {
                "condition": {"notifyOnMetadataChange": true, "attrs": ["open"]},
                "entities": [{"type": "Door", "idPattern": ".*"}],
            },
            "description": "doors", "status": "inactive", "throttling": 9,
        });
        assert_eq!(of("/a", &one), of("/a", &same));
        assert_ne!(of("/a", &one), of("/a/#", &same));
        same["notification"]["http"]["url"] = json!("http://other/in");
        assert_ne!(of("/a", &one), of("/a", &same));
        let mut other = one.clone();
        other["description"] = json!("windows");
        assert_ne!(of("/a", &one), of("/a", &other));
        let bare = json!({"subject": {"entities": []}, "notification": {"mqtt": {"topic": "t"}}});
        let shown = json!({
            "subject": {"entities": [], "condition": {"attrs": []}},
            "notification": {"mqtt": {"topic": "t", "qos": 0, "retain": false}, "attrs": [], "attrsFormat": "normalized"},
        });
        assert_eq!(of("/", &bare), of("/", &shown));
    }

    #[test]
    fn a_registration_is_the_same_with_its_defaults() {
        let of = |item: &Value| identity(Resource::Registrations, "/", item);
        let bare =
            json!({"dataProvided": {"entities": [{"id": "m"}]}, "provider": {"http": {"url": "http://p"}}});
        let mut shown = json!({
            "dataProvided": {"entities": [{"id": "m"}], "attrs": []},
            "provider": {"http": {"url": "http://p"}, "supportedForwardingMode": "all", "legacyForwarding": false},
        });
        assert_eq!(of(&bare), of(&shown));
        shown["provider"]["legacyForwarding"] = json!(true);
        assert_ne!(of(&bare), of(&shown));
    }

    #[test]
    fn what_ended_and_what_hides_a_password_is_seen() {
        let now_us = ngsi::time::parse_us("2026-06-01T00:00:00Z").unwrap();
        assert!(is_expired(&json!({"expires": "2026-05-31T23:59:59.000Z"}), now_us));
        assert!(!is_expired(&json!({"expires": "2026-06-01T00:00:01.000Z"}), now_us));
        assert!(!is_expired(&json!({}), now_us));
        for transport in ["mqtt", "mqttCustom", "kafka", "kafkaCustom"] {
            assert!(
                hides_password(&json!({"notification": {transport: {"passwd": "*****"}}})),
                "{transport}"
            );
        }
        assert!(!hides_password(&subscription()));
    }
}
