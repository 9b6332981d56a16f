//! The message of a notification, whatever carries it.

use scope::Tenant;

use super::{
    content::{self, Heading},
    encoding::percent_encode,
    macros::Context,
    matching::ChangeView,
    model::{AttrsFormat, Subscription},
    target::{Custom, CustomPayload, KafkaKey, Target, Transport},
};

/// Headers that a custom notification can't set (decision 6 and ngsi-v2.md 8).
const FIXED_HEADERS: [&str; 5] =
    ["fiware-correlator", "ngsiv2-attrsformat", "fiware-service", "content-length", "host"];

/// On whose behalf a notification is sent.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    pub subscription_id: &'a str,
    pub tenant: &'a Tenant,
    /// The whole value of `Fiware-Correlator`, such as `id; cbnotif=1`.
    pub correlator: &'a str,
    pub user_agent: &'a str,
    /// What stands for the `X-Auth-Token` of the request that changed the entity.
    pub auth_token: Option<&'a str>,
    /// False: custom notifications are sent as plain ones, their macros stay as they are.
    pub custom: bool,
}

/// A message that is ready to be sent. Header names are lower-case for HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub means: Means,
}

/// How it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Means {
    Http { method: String },
    Mqtt { topic: String, qos: u8, retain: bool },
    Kafka { topic: String, key: Option<String> },
}

/// A body, what it is and in which format.
struct Body {
    bytes: Vec<u8>,
    content_type: Option<&'static str>,
    format: &'static str,
}

impl Subscription {
    /// The message that tells its receiver of `change`.
    pub fn notification(&self, change: &ChangeView<'_>, envelope: &Envelope<'_>) -> Notification {
        let target = &self.notification.target;
        let token = envelope.auth_token.unwrap_or_default();
        let context = Context::new(change, envelope.tenant.as_str(), token);
        let plain = Custom::default();
        let custom = target.custom.as_deref().filter(|_| envelope.custom);
        let body = self.body(custom.unwrap_or(&plain), change, envelope, &context);
        let headers = match target.transport {
            Transport::Http => http_headers(custom, change, envelope, &body, &context),
            Transport::Kafka(_) => kafka_headers(custom, change, envelope, &body, &context),
            Transport::Mqtt(_) => Vec::new(),
        };
        let url = match custom {
            Some(custom) if target.is_http() => with_query(custom.url.text(&context), custom, &context),
            _ => target.url.clone(),
        };
        let means = means(target, custom, &context);
        Notification { url, headers, body: body.bytes, means }
    }

    fn body(
        &self,
        custom: &Custom,
        change: &ChangeView<'_>,
        envelope: &Envelope<'_>,
        context: &Context<'_>,
    ) -> Body {
        const NGSI: Option<&str> = Some("application/json; charset=utf-8");
        let spec = &self.notification;
        match &custom.payload {
            CustomPayload::Nothing => Body { bytes: Vec::new(), content_type: None, format: "custom" },
            CustomPayload::Text(template) => Body {
                bytes: template.text(context).into_bytes(),
                content_type: Some("text/plain"),
                format: "custom",
            },
            CustomPayload::Json(template) => Body {
                bytes: template.value(context).to_string().into_bytes(),
                content_type: Some("application/json"),
                format: "custom",
            },
            CustomPayload::Default => {
                let bytes = self.ngsi_body(spec.attrs_format, change, envelope);
                Body { bytes, content_type: NGSI, format: spec.attrs_format.as_str() }
            }
            CustomPayload::Ngsi(patch) => {
                let token = envelope.auth_token.unwrap_or_default();
                let merged = patch.merged(change, envelope.tenant.as_str(), token);
                let change = ChangeView { entity: &merged, ..*change };
                let format = AttrsFormat::Normalized;
                let bytes = self.ngsi_body(format, &change, envelope);
                Body { bytes, content_type: NGSI, format: format.as_str() }
            }
        }
    }

    fn ngsi_body(&self, format: AttrsFormat, change: &ChangeView<'_>, envelope: &Envelope<'_>) -> Vec<u8> {
        let spec = &self.notification;
        let content = content::select(spec, change);
        let heading = Heading {
            subscription_id: envelope.subscription_id,
            entity_id: &change.entity.id,
            entity_type: &change.entity.entity_type,
        };
        content::body(&heading, &content, format, &spec.metadata, change)
    }
}

fn means(target: &Target, custom: Option<&Custom>, context: &Context<'_>) -> Means {
    let text = |template: &super::macros::MacroText| match custom {
        Some(_) => template.text(context),
        None => template.as_str().to_owned(),
    };
    match &target.transport {
        Transport::Http => {
            let method = custom.and_then(|custom| custom.method.as_deref()).unwrap_or("POST");
            Means::Http { method: method.to_owned() }
        }
        Transport::Mqtt(mqtt) => Means::Mqtt { topic: text(&mqtt.topic), qos: mqtt.qos, retain: mqtt.retain },
        Transport::Kafka(kafka) => {
            let key = match &kafka.key {
                KafkaKey::Text(template) => Some(text(template)),
                KafkaKey::Absent | KafkaKey::Null => None,
            };
            Means::Kafka { topic: text(&kafka.topic), key }
        }
    }
}

fn http_headers(
    custom: Option<&Custom>,
    change: &ChangeView<'_>,
    envelope: &Envelope<'_>,
    body: &Body,
    context: &Context<'_>,
) -> Vec<(String, String)> {
    let mut headers = Vec::with_capacity(10);
    let mut add = |name: &str, value: &str| headers.push((name.to_owned(), value.to_owned()));
    add("user-agent", envelope.user_agent);
    add("accept", "application/json");
    add("fiware-correlator", envelope.correlator);
    add("ngsiv2-attrsformat", body.format);
    add("fiware-servicepath", change.entity.path.as_str());
    if !envelope.tenant.is_default() {
        add("fiware-service", envelope.tenant.as_str());
    }
    if let Some(token) = envelope.auth_token {
        add("x-auth-token", token);
    }
    if let Some(content_type) = body.content_type {
        add("content-type", content_type);
    }
    for (name, template) in custom.map_or(&[][..], |custom| &custom.headers) {
        let name = name.to_ascii_lowercase();
        if !FIXED_HEADERS.contains(&name.as_str()) {
            set_header(&mut headers, &name, &template.text(context));
        }
    }
    headers
}

fn kafka_headers(
    custom: Option<&Custom>,
    change: &ChangeView<'_>,
    envelope: &Envelope<'_>,
    body: &Body,
    context: &Context<'_>,
) -> Vec<(String, String)> {
    let mut headers = Vec::with_capacity(6);
    let mut add = |name: &str, value: &str| headers.push((name.to_owned(), value.to_owned()));
    if !envelope.tenant.is_default() {
        add("Fiware-Service", envelope.tenant.as_str());
    }
    add("Fiware-Servicepath", change.entity.path.as_str());
    add("Fiware-Correlator", envelope.correlator);
    add("Ngsiv2-AttrsFormat", body.format);
    for (name, template) in custom.map_or(&[][..], |custom| &custom.headers) {
        if !FIXED_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
            set_header(&mut headers, name, &template.text(context));
        }
    }
    headers
}

/// Sets, replaces or (empty value) removes a header. Control characters never pass.
fn set_header(headers: &mut Vec<(String, String)>, name: &str, value: &str) {
    headers.retain(|(own, _)| !own.eq_ignore_ascii_case(name));
    let value: String = value.chars().filter(|c| !c.is_control()).collect();
    if !value.is_empty() {
        headers.push((name.to_owned(), value));
    }
}

fn with_query(mut url: String, custom: &Custom, context: &Context<'_>) -> String {
    for (name, value) in &custom.qs {
        let (name, value) = (name.text(context), value.text(context));
        // As the original: what is empty is not sent.
        if name.is_empty() || value.is_empty() {
            continue;
        }
        url.push(if url.contains('?') { '&' } else { '?' });
        percent_encode(&mut url, &name);
        url.push('=');
        percent_encode(&mut url, &value);
    }
    url
}

#[cfg(test)]
mod tests {
    use super::{
        super::matching::tests::{step, subscription, view},
        *,
    };
    use crate::UpdateAction;
    use serde_json::{Value, json};

    fn sent(notification: Value) -> Notification {
        let subscription = subscription(&json!({"entities": [{"idPattern": ".*"}]}), &notification);
        let mut slot = None;
        let outcome =
            step(&mut slot, UpdateAction::Append, &json!({"n": {"value": 23}, "s": {"value": "a b"}}));
        let tenant = Tenant::canonical("acme").unwrap();
        let envelope = Envelope {
            subscription_id: "5",
            tenant: &tenant,
            correlator: "c; cbnotif=1",
            user_agent: "u",
            auth_token: Some("t0k"),
            custom: true,
        };
        subscription.notification(&view(slot.as_ref().unwrap(), &outcome), &envelope)
    }

    fn method(notification: &Notification) -> &str {
        match &notification.means {
            Means::Http { method } => method,
            other => panic!("not HTTP: {other:?}"),
        }
    }

    #[test]
    fn mqtt_and_kafka_messages_have_their_topic_and_key() {
        let plain = sent(json!({"mqtt": {"url": "mqtt://h", "topic": "t/${id}", "qos": 1}}));
        assert_eq!(plain.means, Means::Mqtt { topic: "t/${id}".to_owned(), qos: 1, retain: false });
        let custom = sent(
            json!({"mqttCustom": {"url": "mqtt://h", "topic": "t/${id}", "retain": true, "payload": "${n}"}}),
        );
        assert_eq!(custom.means, Means::Mqtt { topic: "t/E".to_owned(), qos: 0, retain: true });
        assert_eq!((custom.body.as_slice(), custom.headers.len()), (&b"23"[..], 0));
        let kafka = sent(json!({"kafkaCustom": {
            "url": "kafka://h:1", "topic": "t-${type}", "key": "${id}", "json": {"n": "${n}"},
            "headers": {"X-N": "${n}", "Fiware-Servicepath": ""}
        }}));
        assert_eq!(kafka.means, Means::Kafka { topic: "t-T".to_owned(), key: Some("E".to_owned()) });
        assert_eq!(kafka.body, br#"{"n":23}"#);
        let headers: Vec<_> = kafka.headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(
            headers,
            [
                ("Fiware-Service", "acme"),
                ("Fiware-Correlator", "c; cbnotif=1"),
                ("Ngsiv2-AttrsFormat", "custom"),
                ("X-N", "23")
            ]
        );
    }

    fn header<'a>(notification: &'a Notification, name: &str) -> Option<&'a str> {
        notification.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn an_ordinary_notification_has_the_headers_of_the_contract() {
        let sent = sent(json!({"attrsFormat": "keyValues"}));
        assert_eq!((method(&sent), sent.url.as_str()), ("POST", "http://sink/in"));
        for (name, value) in [
            ("fiware-service", "acme"),
            ("fiware-servicepath", "/"),
            ("fiware-correlator", "c; cbnotif=1"),
            ("ngsiv2-attrsformat", "keyValues"),
            ("content-type", "application/json; charset=utf-8"),
            ("accept", "application/json"),
            ("x-auth-token", "t0k"),
        ] {
            assert_eq!(header(&sent, name), Some(value), "{name}");
        }
    }

    #[test]
    fn a_custom_notification_fills_url_query_headers_and_payload() {
        let sent = sent(json!({"httpCustom": {
            "url": "http://sink/${id}", "method": "PUT", "qs": {"t": "${s}", "${type|lowercase}${n}": "${n+1}"},
            "headers": {"X-N": "${n}%3B1", "Accept": "", "Fiware-Service": "other", "Fiware-Correlator": "x"},
            "payload": "n%3D${n}"
        }}));
        assert_eq!((method(&sent), sent.url.as_str()), ("PUT", "http://sink/E?t=a%20b&t23=24"));
        assert_eq!(sent.body, b"n=23");
        for (name, value) in [
            ("x-n", Some("23;1")),
            ("accept", None),
            ("fiware-service", Some("acme")),
            ("fiware-correlator", Some("c; cbnotif=1")),
            ("content-type", Some("text/plain")),
            ("ngsiv2-attrsformat", Some("custom")),
        ] {
            assert_eq!(header(&sent, name), value, "{name}");
        }
    }

    #[test]
    fn json_and_ngsi_templates_make_the_body() {
        let custom = |member: &str, template: Value| {
            let sent = sent(json!({"httpCustom": {"url": "http://sink/", member: template}}));
            (
                String::from_utf8(sent.body.clone()).unwrap(),
                header(&sent, "ngsiv2-attrsformat").unwrap().to_owned(),
            )
        };
        assert_eq!(custom("json", json!({"v": "${n}"})), (r#"{"v":23}"#.to_owned(), "custom".to_owned()));
        assert_eq!(custom("payload", json!(null)), (String::new(), "custom".to_owned()));
        let template = json!({"id": "x-${id}", "s": {"value": "${t}"}, "t": {"value": "${n}", "metadata": {"evalPriority": {"value": 1}}}});
        let (body, format) = custom("ngsi", template);
        assert_eq!(format, "normalized");
        assert_eq!(
            body,
            concat!(
                r#"{"subscriptionId":"5","data":[{"id":"x-E","type":"T","#,
                r#""n":{"type":"Number","value":23,"metadata":{}},"#,
                r#""s":{"type":"Number","value":23,"metadata":{}},"#,
                r#""t":{"type":"Number","value":23,"metadata":{}}}]}"#
            )
        );
    }

    #[test]
    fn values_of_macros_can_not_add_headers() {
        let sent = sent(json!({"httpCustom": {"url": "http://sink/", "headers": {"X-A": "a%0D%0AX-B: b"}}}));
        assert_eq!(header(&sent, "x-a"), Some("aX-B: b"));
    }
}
