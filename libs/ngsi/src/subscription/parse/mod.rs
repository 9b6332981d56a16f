//! Subscriptions in bodies of requests. Unknown members are ignored: clients send back what GET gave them.

mod custom;
mod notification;
mod subject;
mod transport;

use serde_json::{Map, Value};

use super::model::{Status, Subscription, SubscriptionPatch};
use crate::{Error, ErrorWord, parse, time};

const MAX_DESCRIPTION: usize = 1024;
/// Most strings in one list, and most entities in a subject.
const MAX_ITEMS: usize = 1000;

pub(super) fn subscription(body: &[u8]) -> Result<Subscription, Error> {
    let object = object(body)?;
    let patch = fields(&object)?;
    let subject = patch.subject.ok_or_else(|| Error::bad_request("no subject for subscription specified"))?;
    let notification =
        patch.notification.ok_or_else(|| Error::bad_request("no notification for subscription specified"))?;
    Ok(Subscription {
        description: patch.description.flatten(),
        subject,
        notification,
        expires_us: patch.expires_us.flatten(),
        status: patch.status.unwrap_or_default(),
        throttling_s: patch.throttling_s.filter(|seconds| *seconds > 0),
    })
}

pub(super) fn patch(body: &[u8]) -> Result<SubscriptionPatch, Error> {
    fields(&object(body)?)
}

fn object(body: &[u8]) -> Result<Map<String, Value>, Error> {
    // The original takes JSON that is no object for none at all; it does so here only.
    let members = parse::members(body).map_err(|error| match error.word {
        ErrorWord::BadRequest => Error::json_syntax(),
        _ => error,
    })?;
    if members.is_empty() {
        return Err(Error::bad_request("empty payload"));
    }
    Ok(members.into_iter().map(|(key, node)| (key, node.into_value())).collect())
}

fn fields(object: &Map<String, Value>) -> Result<SubscriptionPatch, Error> {
    let mut patch = SubscriptionPatch::default();
    if let Some(value) = object.get("description") {
        let text = string(value, "description")?;
        if text.len() > MAX_DESCRIPTION {
            return Err(Error::bad_request("max description length exceeded"));
        }
        refuse_forbidden(text, "description")?;
        patch.description = Some((!text.is_empty()).then(|| text.to_owned()));
    }
    if let Some(value) = object.get("subject") {
        patch.subject = Some(subject::subject(value)?);
    }
    if let Some(value) = object.get("notification") {
        patch.notification = Some(notification::notification(value)?);
    }
    if let Some(value) = object.get("expires") {
        patch.expires_us = Some(expires(string(value, "expires")?)?);
    }
    if let Some(value) = object.get("status") {
        patch.status = Some(status(string(value, "status")?)?);
    }
    if let Some(value) = object.get("throttling") {
        let seconds = value.as_u64().ok_or_else(|| Error::bad_request("throttling is not an int"))?;
        patch.throttling_s = Some(seconds);
    }
    Ok(patch)
}

fn expires(text: &str) -> Result<Option<i64>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    match time::parse_us(text) {
        Some(micros) => Ok(Some(micros)),
        None => Err(Error::bad_request("expires has an invalid format")),
    }
}

fn status(text: &str) -> Result<Status, Error> {
    match text {
        "active" => Ok(Status::Active),
        "inactive" => Ok(Status::Inactive),
        "oneshot" => Ok(Status::Oneshot),
        _ => Err(Error::bad_request("status is not valid: it has to be either active, inactive or oneshot")),
    }
}

fn string<'a>(value: &'a Value, field: &str) -> Result<&'a str, Error> {
    value.as_str().ok_or_else(|| Error::bad_request(format!("{field} is not a string")))
}

fn members<'a>(value: &'a Value, field: &str) -> Result<&'a Map<String, Value>, Error> {
    value.as_object().ok_or_else(|| Error::bad_request(format!("{field} is not an object")))
}

fn boolean(object: &Map<String, Value>, field: &str, default: bool) -> Result<bool, Error> {
    match object.get(field) {
        None => Ok(default),
        Some(value) => value.as_bool().ok_or_else(|| Error::bad_request(format!("{field} is not a bool"))),
    }
}

fn refuse_forbidden(text: &str, field: &str) -> Result<(), Error> {
    if parse::has_forbidden(text) {
        return Err(Error::bad_request(format!("forbidden characters in {field}")));
    }
    Ok(())
}

/// A list of distinct strings.
fn strings(object: &Map<String, Value>, field: &str) -> Result<Option<Vec<String>>, Error> {
    let Some(value) = object.get(field) else { return Ok(None) };
    let items = value
        .as_array()
        .ok_or_else(|| Error::bad_request(format!("the field /{field}/ must be a JSON array")))?;
    if items.len() > MAX_ITEMS {
        return Err(Error::bad_request(format!("{field} has more than {MAX_ITEMS} items")));
    }
    let mut list: Vec<String> = Vec::with_capacity(items.len());
    for item in items {
        let text = item.as_str().ok_or_else(|| {
            Error::bad_request(format!("only JSON Strings allowed in string vector /{field}/"))
        })?;
        if text.is_empty() {
            return Err(Error::bad_request(format!("empty string found in string vector /{field}/")));
        }
        refuse_forbidden(text, field)?;
        if list.iter().any(|own| own == text) {
            return Err(Error::bad_request(format!("duplicated item /{text}/ in array")));
        }
        list.push(text.to_owned());
    }
    Ok(Some(list))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A good subscription with one member replaced, or removed when the replacement is null.
    fn with(path: &str, value: Value) -> Vec<u8> {
        let mut body = json!({
            "description": "doors",
            "subject": {"entities": [{"idPattern": ".*", "type": "Door"}], "condition": {"attrs": ["open"]}},
            "notification": {"http": {"url": "http://sink.example:8080/in"}}
        });
        let (parent, last) = path.rsplit_once('/').unwrap();
        let parent = body.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        match value {
            Value::Null => drop(parent.shift_remove(last)),
            value => drop(parent.insert(last.to_owned(), value)),
        }
        serde_json::to_vec(&body).unwrap()
    }

    fn error(path: &str, value: Value) -> String {
        match Subscription::parse(&with(path, value)) {
            Ok(_) => "accepted".to_owned(),
            Err(error) => error.description.into_owned(),
        }
    }

    #[test]
    fn errors_have_the_texts_of_the_contract() {
        let url = "http://h/";
        for (path, value, expected) in [
            ("/subject", json!(null), "no subject for subscription specified"),
            ("/notification", json!(null), "no notification for subscription specified"),
            ("/subject", json!(1), "subject is not an object"),
            ("/notification", json!([]), "notification is not an object"),
            ("/subject/entities", json!(null), "no subject entities specified"),
            ("/subject/entities", json!([]), "subject entities is empty"),
            (
                "/subject/entities",
                json!([{"id": "a", "idPattern": "b"}]),
                "/entities/ vector item has both /id/ and /idPattern/",
            ),
            (
                "/subject/entities",
                json!([{"type": "T"}]),
                "/entities/ vector item does not have /id/ nor /idPattern/",
            ),
            (
                "/subject/entities",
                json!([{"id": ""}]),
                "id and idPattern cannot be both empty at the same time",
            ),
            (
                "/subject/entities",
                json!([{"id": "a<"}]),
                "forbidden characters in /entities/ vector item /id/",
            ),
            (
                "/subject/entities",
                json!([{"id": "a", "type": "b>"}]),
                "forbidden characters in /entities/ vector item /type/",
            ),
            ("/subject/entities", json!([{"idPattern": "("}]), "Invalid regex for entity idPattern"),
            ("/subject/condition", json!({}), "condition is empty"),
            ("/subject/condition", json!({"expression": {}}), "expression is empty"),
            ("/subject/condition", json!({"expression": {"q": ""}}), "q is empty"),
            (
                "/subject/condition",
                json!({"expression": {"q": "a>1..2"}}),
                "ranges only valid for equal and not equal ops",
            ),
            (
                "/subject/condition",
                json!({"alterationTypes": ["x"]}),
                "unknown subscription alterationType: x",
            ),
            (
                "/subject/condition",
                json!({"notifyOnMetadataChange": 1}),
                "notifyOnMetadataChange is not a bool",
            ),
            (
                "/notification",
                json!({}),
                "http, httpCustom, mqtt, mqttCustom, kafka or kafkaCustom is missing",
            ),
            (
                "/notification",
                json!({"http": {"url": url}, "httpCustom": {"url": url}}),
                "only one of http, httpCustom, mqtt, mqttCustom, kafka or kafkaCustom is allowed",
            ),
            ("/notification/http", json!({}), "url http notification is missing"),
            ("/notification/http", json!(3), "http notification is not an object"),
            ("/notification/http", json!({"url": 3}), "url http notification is not a string"),
            ("/notification/http", json!({"url": "ftp://x"}), "Invalid URL parsing notification url"),
            ("/notification/http", json!({"url": ""}), "Invalid URL parsing notification url"),
            ("/notification/http", json!({"url": "http://"}), "Invalid URL parsing notification url"),
            (
                "/notification/http",
                json!({"url": "mqtt://h:1"}),
                "mqtt URL cannot be used in http notifications",
            ),
            ("/notification", mqtt(json!({"topic": "t"})), "url mqtt notification is missing"),
            ("/notification", mqtt(json!({"url": "mqtt://h"})), "topic mqtt notification is missing"),
            (
                "/notification",
                mqtt(json!({"url": "mqtt://h", "topic": ""})),
                "topic mqtt notification is missing",
            ),
            (
                "/notification",
                mqtt(json!({"url": "mqtt://h:x", "topic": "t"})),
                "Invalid URL parsing notification url",
            ),
            (
                "/notification",
                mqtt(json!({"url": url, "topic": "t"})),
                "http or https URL cannot be used in mqtt notifications",
            ),
            ("/notification", mqtt(json!({"url": "mqtts://h", "topic": "t"})), "accepted"),
            (
                "/notification",
                mqtt(json!({"url": "mqttss://h", "topic": "t"})),
                "Invalid URL parsing notification url",
            ),
            (
                "/notification",
                kafka(json!({"url": "kafkas://h:1", "topic": "t"})),
                "Invalid URL parsing notification url",
            ),
            (
                "/notification",
                mqtt(json!({"url": "mqtt://h:1/a", "topic": "t"})),
                "path cannot be used in mqtt url, use topic instead",
            ),
            (
                "/notification",
                mqtt(json!({"url": "mqtt://h", "topic": "a/#"})),
                "+ and # are not allowed in mqtt field /topic/",
            ),
            (
                "/notification",
                mqtt(json!({"url": "mqtt://h", "topic": "t", "qos": 3})),
                "mqtt qos field must be an integer in the 0 to 2 range",
            ),
            (
                "/notification",
                mqtt(json!({"url": "mqtt://h", "topic": "t", "retain": 1})),
                "retain is not a bool",
            ),
            (
                "/notification",
                mqtt(json!({"url": "mqtt://h", "topic": "t", "user": "u"})),
                "you must use user and passwd fields simultaneously",
            ),
            (
                "/notification",
                json!({"mqttCustom": {"url": "mqtt://h", "topic": "t/${id}", "json": []}}),
                "accepted",
            ),
            ("/notification", kafka(json!({"topic": "t"})), "url kafka notification is missing"),
            (
                "/notification",
                kafka(json!({"url": "kafka://a:1,b:2"})),
                "topic kafka notification is missing",
            ),
            (
                "/notification",
                kafka(json!({"url": "kafka://a:1,", "topic": "t"})),
                "Invalid URL parsing notification url",
            ),
            (
                "/notification",
                kafka(json!({"url": "kafka://a:1", "topic": "a/b"})),
                "+, # and / are not allowed in kafka field /topic/",
            ),
            (
                "/notification",
                kafka(json!({"url": "kafka://a:1", "topic": "t", "key": 1})),
                "key is not a string",
            ),
            (
                "/notification",
                kafka(json!({"url": "kafka://a:1", "topic": "t", "user": "u", "passwd": "p"})),
                "saslMechanism kafka notification is missing",
            ),
            (
                "/notification",
                kafka(
                    json!({"url": "kafka://a:1", "topic": "t", "user": "u", "passwd": "p", "saslMechanism": "X"}),
                ),
                "invalid saslMechanism, accepted values: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512",
            ),
            (
                "/notification",
                kafka(
                    json!({"url": "kafka://a:1", "topic": "t", "user": "u", "passwd": "p", "saslMechanism": "PLAIN"}),
                ),
                "accepted",
            ),
            (
                "/notification",
                json!({"kafkaCustom": {"url": "kafka://a:1", "topic": "t", "headers": {}}}),
                "notification kafkaCustom headers is empty",
            ),
            (
                "/subject/condition",
                json!({"expression": {"georel": "near;maxDistance:1", "geometry": "point"}}),
                "partial geo expression: geometry, georel and coords have to be provided together",
            ),
            (
                "/subject/condition",
                json!({"expression": {"georel": "near", "geometry": "point", "coords": "1,2"}}),
                "error parsing geo-query fields: georel /near/ without either minDistance nor maxDistance",
            ),
            (
                "/subject/condition",
                json!({"expression": {"georel": "near;maxDistance:1", "geometry": "point", "coords": "1,2"}}),
                "accepted",
            ),
            ("/subject/condition", json!({"jexlExpression": ""}), "jexlExpression is empty"),
            ("/subject/condition", json!({"jexlExpression": 1}), "jexlExpression is not a string"),
            ("/subject/condition", json!({"jexlExpression": "a > (1"}), "accepted"),
            (
                "/notification/http",
                json!({"url": url, "timeout": 1_800_001}),
                "timeout field must be an integer between 0 and 1800000",
            ),
            ("/notification", json!({"httpCustom": {"url": "nonsense"}}), "invalid custom /url/"),
            (
                "/notification",
                json!({"httpCustom": {"url": url, "method": "FOO"}}),
                "unknown method httpCustom notification",
            ),
            (
                "/notification",
                json!({"httpCustom": {"url": url, "payload": "a", "json": {}}}),
                "only one of payload, json or ngsi fields accepted at the same time in httpCustom, mqttCustom or kafkaCustom",
            ),
            (
                "/notification",
                json!({"httpCustom": {"url": url, "json": 1}}),
                "json fields in httpCustom, mqttCustom or kafkaCustom must be object or array",
            ),
            (
                "/notification",
                json!({"httpCustom": {"url": url, "ngsi": {"a": {"value": 1, "metadata": {"m": {"value": 1}}}}}}),
                "only evalPriority metadata is allowed in ngsi field in custom notifications",
            ),
            (
                "/notification",
                json!({"http": {"url": url}, "attrs": ["a"], "exceptAttrs": ["b"]}),
                "http notification has attrs and exceptAttrs",
            ),
            ("/notification/attrs", json!(["a", "a"]), "duplicated item /a/ in array"),
            (
                "/notification/covered",
                json!(true),
                "covered true cannot be used if notification attributes list is empty",
            ),
            (
                "/notification/attrsFormat",
                json!("legacy"),
                "invalid attrsFormat, accepted values: normalized, simplifiedNormalized, keyValues, simplifiedkeyValues, values",
            ),
            ("/notification/maxFailsLimit", json!(0), "maxFailsLimit must be greater than zero"),
            ("/expires", json!("tomorrow"), "expires has an invalid format"),
            ("/expires", json!(3), "expires is not a string"),
            ("/throttling", json!("5"), "throttling is not an int"),
            (
                "/status",
                json!("expired"),
                "status is not valid: it has to be either active, inactive or oneshot",
            ),
            ("/description", json!("a".repeat(1025)), "max description length exceeded"),
            ("/unknown", json!(1), "accepted"),
        ] {
            assert_eq!(error(path, value.clone()), expected, "{path} {value}");
        }
    }

    fn mqtt(target: Value) -> Value {
        json!({"mqtt": target})
    }

    fn kafka(target: Value) -> Value {
        json!({"kafka": target})
    }

    #[test]
    fn a_hidden_password_that_comes_back_changes_nothing() {
        let target = |user: &str, passwd: &str| {
            json!({"notification": {"mqtt":
                {"url": "mqtt://h", "topic": "t", "user": user, "passwd": passwd}}})
        };
        let mut body: Value = serde_json::from_slice(&with("/unknown", json!(1))).unwrap();
        body["notification"] = target("u", "secret")["notification"].clone();
        let mut subscription = Subscription::parse(body.to_string().as_bytes()).unwrap();
        for (user, passwd, expected) in
            [("u", "*****", "secret"), ("u", "new", "new"), ("other", "*****", "*****")]
        {
            let patch = SubscriptionPatch::parse(target(user, passwd).to_string().as_bytes()).unwrap();
            subscription.merge(patch);
            assert_eq!(subscription.notification.target.login().unwrap().passwd, expected);
        }
        assert!(!format!("{subscription:?}").contains("new"));
    }

    #[test]
    fn a_patch_changes_only_what_it_names() {
        let mut subscription = Subscription::parse(&with("/expires", json!("2040-01-01"))).unwrap();
        let before = subscription.clone();
        subscription.merge(SubscriptionPatch::parse(br#"{"status":"inactive","timesSent":4}"#).unwrap());
        assert_eq!(subscription, Subscription { status: Status::Inactive, ..before });
        subscription.merge(SubscriptionPatch::parse(br#"{"expires":""}"#).unwrap());
        assert_eq!(subscription.expires_us, None);
    }
}
