//! The HTTP request of a notification.

use std::borrow::Cow;

use scope::Tenant;
use serde_json::Value;

use super::{
    content::{self, Content, Heading},
    macros::Names,
    matching::ChangeView,
    model::{AttrsFormat, CustomHttp, CustomPayload, Subscription},
};
use crate::{Attribute, EntityUpdate, MetadataMap, ValueUpdate, parse};

/// Headers that a custom notification can't set (decision 6 and ngsi-v2.md 8).
const FIXED_HEADERS: [&str; 5] =
    ["fiware-correlator", "ngsiv2-attrsformat", "fiware-service", "content-length", "host"];
const DEFAULT_EVALUATION_PRIORITY: u64 = 100_000;

/// On whose behalf a notification is sent.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    pub subscription_id: &'a str,
    pub tenant: &'a Tenant,
    /// The whole value of `Fiware-Correlator`, such as `id; cbnotif=1`.
    pub correlator: &'a str,
    pub user_agent: &'a str,
}

/// A request that is ready to be sent. Header names are lower-case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Subscription {
    /// The request that tells its receiver of `change`.
    pub fn notification(&self, change: &ChangeView<'_>, envelope: &Envelope<'_>) -> Notification {
        let target = &self.notification.target;
        let names = Names::new(change, envelope.tenant.as_str());
        let plain = CustomHttp::default();
        let custom = target.custom.as_ref().unwrap_or(&plain);
        let (body, content_type, format) = self.body(custom, change, envelope, &names);
        let mut headers = default_headers(change, envelope, format);
        if let Some(content_type) = content_type {
            set_header(&mut headers, "content-type", content_type);
        }
        for (name, template) in &custom.headers {
            let name = name.to_ascii_lowercase();
            if !FIXED_HEADERS.contains(&name.as_str()) {
                set_header(&mut headers, &name, &names.expand_text(&percent_decode(template)));
            }
        }
        let url = if target.custom.is_some() {
            with_query(names.expand_text(&target.url), custom, &names)
        } else {
            target.url.clone()
        };
        let method = custom.method.as_deref().unwrap_or("POST").to_owned();
        Notification { method, url, headers, body }
    }

    fn body(
        &self,
        custom: &CustomHttp,
        change: &ChangeView<'_>,
        envelope: &Envelope<'_>,
        names: &Names<'_>,
    ) -> (Vec<u8>, Option<&'static str>, &'static str) {
        const JSON: Option<&str> = Some("application/json");
        const NGSI: Option<&str> = Some("application/json; charset=utf-8");
        let spec = &self.notification;
        match &custom.payload {
            CustomPayload::Nothing => (Vec::new(), None, "custom"),
            CustomPayload::Text(template) => {
                (names.expand_text(&percent_decode(template)).into_bytes(), Some("text/plain"), "custom")
            }
            CustomPayload::Json(template) => {
                (names.expand_json(template).to_string().into_bytes(), JSON, "custom")
            }
            CustomPayload::Default => {
                let content = content::select(spec, change);
                let heading = heading(envelope, &change.entity.id, &change.entity.entity_type);
                let body = content::body(&heading, &content, spec.attrs_format, &spec.metadata, change);
                (body, NGSI, spec.attrs_format.as_str())
            }
            CustomPayload::Ngsi(patch, _) => {
                (self.patched_body(patch, change, envelope), NGSI, AttrsFormat::Normalized.as_str())
            }
        }
    }

    /// The notified entity with the `ngsi` template merged over it, before `attrs` choose.
    fn patched_body(
        &self,
        patch: &EntityUpdate,
        change: &ChangeView<'_>,
        envelope: &Envelope<'_>,
    ) -> Vec<u8> {
        let mut entity = change.entity.clone();
        let mut steps: Vec<_> = patch.attributes.iter().collect();
        steps.sort_by_key(|(_, update)| {
            let priority = update.metadata.as_ref().and_then(|m| m.get("evalPriority")?.value.as_u64());
            priority.unwrap_or(DEFAULT_EVALUATION_PRIORITY)
        });
        for (name, update) in steps {
            let ValueUpdate::Set(template) = &update.value else { continue };
            let value = {
                let so_far = ChangeView { entity: &entity, ..*change };
                Names::new(&so_far, envelope.tenant.as_str()).expand_json(template)
            };
            let attribute_type =
                update.attribute_type.clone().unwrap_or_else(|| parse::type_of_value(&value).to_owned());
            let before = entity.attributes.get(name);
            let metadata = before.map_or_else(MetadataMap::new, |a| a.metadata.clone());
            let attribute = Attribute { attribute_type, value, metadata, created_us: 0, modified_us: 0 };
            entity.attributes.insert(name.clone(), attribute);
        }
        let patched = ChangeView { entity: &entity, ..*change };
        let names = Names::new(&patched, envelope.tenant.as_str());
        let text = |template: &str, own: &str| match template {
            "" => own.to_owned(),
            template => as_text(names.expand_json(&Value::String(template.to_owned()))),
        };
        let id = text(&patch.id, &entity.id);
        let entity_type = text(patch.entity_type.as_deref().unwrap_or_default(), &entity.entity_type);
        let spec = &self.notification;
        let content: Content<'_> = content::select(spec, &patched);
        content::body(
            &heading(envelope, &id, &entity_type),
            &content,
            AttrsFormat::Normalized,
            &spec.metadata,
            &patched,
        )
    }
}

fn as_text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

fn heading<'a>(envelope: &Envelope<'a>, entity_id: &'a str, entity_type: &'a str) -> Heading<'a> {
    Heading { subscription_id: envelope.subscription_id, entity_id, entity_type }
}

fn default_headers(change: &ChangeView<'_>, envelope: &Envelope<'_>, format: &str) -> Vec<(String, String)> {
    let mut headers = Vec::with_capacity(8);
    let mut add = |name: &str, value: &str| headers.push((name.to_owned(), value.to_owned()));
    add("user-agent", envelope.user_agent);
    add("accept", "application/json");
    add("fiware-correlator", envelope.correlator);
    add("ngsiv2-attrsformat", format);
    add("fiware-servicepath", change.entity.path.as_str());
    if !envelope.tenant.is_default() {
        add("fiware-service", envelope.tenant.as_str());
    }
    headers
}

/// Sets, replaces or (empty value) removes a header. Control characters never pass.
fn set_header(headers: &mut Vec<(String, String)>, name: &str, value: &str) {
    headers.retain(|(own, _)| own != name);
    let value: String = value.chars().filter(|c| !c.is_control()).collect();
    if !value.is_empty() {
        headers.push((name.to_owned(), value));
    }
}

fn with_query(mut url: String, custom: &CustomHttp, names: &Names<'_>) -> String {
    for (name, value) in &custom.qs {
        url.push(if url.contains('?') { '&' } else { '?' });
        percent_encode(&mut url, &names.expand_text(name));
        url.push('=');
        percent_encode(&mut url, &names.expand_text(value));
    }
    url
}

fn percent_encode(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            for nibble in [byte >> 4, byte & 0xf] {
                out.push(char::from_digit(u32::from(nibble), 16).map_or('0', |c| c.to_ascii_uppercase()));
            }
        }
    }
}

fn percent_decode(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let digit =
        |byte: Option<u8>| byte.and_then(|b| char::from(b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        match (byte, digit(ahead.next()), digit(ahead.next())) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                bytes = ahead;
            }
            _ => out.push(byte),
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

#[cfg(test)]
mod tests {
    use super::{
        super::matching::tests::{step, subscription, view},
        *,
    };
    use crate::UpdateAction;
    use serde_json::json;

    fn sent(notification: Value) -> Notification {
        let subscription = subscription(&json!({"entities": [{"idPattern": ".*"}]}), &notification);
        let mut slot = None;
        let outcome =
            step(&mut slot, UpdateAction::Append, &json!({"n": {"value": 23}, "s": {"value": "a b"}}));
        let tenant = Tenant::canonical("acme").unwrap();
        let envelope =
            Envelope { subscription_id: "5", tenant: &tenant, correlator: "c; cbnotif=1", user_agent: "u" };
        subscription.notification(&view(slot.as_ref().unwrap(), &outcome), &envelope)
    }

    fn header<'a>(notification: &'a Notification, name: &str) -> Option<&'a str> {
        notification.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn an_ordinary_notification_has_the_headers_of_the_contract() {
        let sent = sent(json!({"attrsFormat": "keyValues"}));
        assert_eq!((sent.method.as_str(), sent.url.as_str()), ("POST", "http://sink/in"));
        for (name, value) in [
            ("fiware-service", "acme"),
            ("fiware-servicepath", "/"),
            ("fiware-correlator", "c; cbnotif=1"),
            ("ngsiv2-attrsformat", "keyValues"),
            ("content-type", "application/json; charset=utf-8"),
            ("accept", "application/json"),
        ] {
            assert_eq!(header(&sent, name), Some(value), "{name}");
        }
    }

    #[test]
    fn a_custom_notification_fills_url_query_headers_and_payload() {
        let sent = sent(json!({"httpCustom": {
            "url": "http://sink/${id}", "method": "PUT", "qs": {"t": "${s}"},
            "headers": {"X-N": "${n}%3B1", "Accept": "", "Fiware-Service": "other", "Fiware-Correlator": "x"},
            "payload": "n%3D${n}"
        }}));
        assert_eq!((sent.method.as_str(), sent.url.as_str()), ("PUT", "http://sink/E?t=a%20b"));
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
