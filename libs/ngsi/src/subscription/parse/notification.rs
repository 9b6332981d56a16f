use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::{boolean, members, refuse_forbidden, string, strings};
use crate::{
    Error, ErrorWord,
    parse::{self, has_forbidden},
    subscription::{
        macros,
        model::{AttrsFormat, CustomHttp, CustomPayload, HttpTarget, NotificationSpec},
    },
};

const TRANSPORTS: [&str; 6] = ["http", "httpCustom", "mqtt", "mqttCustom", "kafka", "kafkaCustom"];
const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
const MAX_TIMEOUT_MS: u64 = 1_800_000;
const MAX_URL_LEN: usize = 8192;

pub(super) fn notification(value: &Value) -> Result<NotificationSpec, Error> {
    let object = members(value, "notification")?;
    let target = target(object)?;
    let attrs = strings(object, "attrs")?;
    let except_attrs = strings(object, "exceptAttrs")?;
    if attrs.is_some() && except_attrs.is_some() {
        return Err(Error::bad_request("http notification has attrs and exceptAttrs"));
    }
    if except_attrs.as_ref().is_some_and(Vec::is_empty) {
        return Err(Error::bad_request("exceptAttrs is empty"));
    }
    let spec = NotificationSpec {
        target,
        attrs: attrs.unwrap_or_default(),
        except_attrs: except_attrs.unwrap_or_default(),
        metadata: strings(object, "metadata")?.unwrap_or_default(),
        attrs_format: attrs_format(object)?,
        only_changed_attrs: boolean(object, "onlyChangedAttrs", false)?,
        covered: boolean(object, "covered", false)?,
        max_fails_limit: max_fails_limit(object)?,
    };
    if spec.covered && spec.attrs.is_empty() {
        return Err(Error::bad_request(
            "covered true cannot be used if notification attributes list is empty",
        ));
    }
    Ok(spec)
}

fn target(object: &Map<String, Value>) -> Result<HttpTarget, Error> {
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
    let fields = members(value, name)?;
    if !matches!(name, "http" | "httpCustom") {
        return Err(Error::new(ErrorWord::NotImplemented, format!("{name} notifications are not supported")));
    }
    let url = fields
        .get("url")
        .ok_or_else(|| Error::bad_request(format!("url {name} notification is missing")))
        .and_then(|url| string(url, "url"))?;
    let custom = if name == "httpCustom" { Some(custom(fields)?) } else { None };
    check_url(url, custom.is_some())?;
    Ok(HttpTarget { url: url.to_owned(), timeout_ms: timeout(fields)?, custom })
}

fn check_url(url: &str, custom: bool) -> Result<(), Error> {
    if url.starts_with("mqtt://") {
        return Err(Error::bad_request("mqtt URL cannot be used in http notifications"));
    }
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let has_host = rest.is_some_and(|rest| {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        !host.is_empty() && !host.starts_with(':')
    });
    let good = url.len() <= MAX_URL_LEN && url.bytes().all(|b| b.is_ascii_graphic()) && has_host;
    match (custom, good) {
        (true, true) => Ok(()),
        (true, false) if url.len() <= MAX_URL_LEN && macros::begins_with_macro(url) => Ok(()),
        (true, false) => Err(Error::bad_request("invalid custom /url/")),
        (false, true) if has_forbidden(url.split('?').next().unwrap_or_default()) => {
            Err(Error::bad_request("forbidden characters in http field /url/"))
        }
        (false, true) => Ok(()),
        (false, false) => Err(Error::bad_request("Invalid URL parsing notification url")),
    }
}

fn timeout(fields: &Map<String, Value>) -> Result<u64, Error> {
    let Some(value) = fields.get("timeout") else { return Ok(0) };
    value.as_u64().filter(|ms| *ms <= MAX_TIMEOUT_MS).ok_or_else(|| {
        Error::bad_request(format!("timeout field must be an integer between 0 and {MAX_TIMEOUT_MS}"))
    })
}

fn custom(fields: &Map<String, Value>) -> Result<CustomHttp, Error> {
    let method = fields.get("method").map(|value| string(value, "method")).transpose()?;
    if method.is_some_and(|method| !METHODS.contains(&method)) {
        return Err(Error::bad_request("unknown method httpCustom notification"));
    }
    Ok(CustomHttp {
        headers: pairs(fields, "headers")?,
        qs: pairs(fields, "qs")?,
        method: method.map(str::to_owned),
        payload: payload(fields)?,
    })
}

fn pairs(fields: &Map<String, Value>, field: &str) -> Result<IndexMap<String, String>, Error> {
    let Some(value) = fields.get(field) else { return Ok(IndexMap::new()) };
    let object = members(value, field)?;
    if object.is_empty() {
        return Err(Error::bad_request(format!("{field} is empty")));
    }
    let mut pairs = IndexMap::with_capacity(object.len());
    for (key, value) in object {
        refuse_forbidden(key, field)?;
        let good = field != "headers"
            || key.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&*+-.^_`|~".contains(&b));
        if key.is_empty() || !good {
            return Err(Error::bad_request(format!("invalid name in {field}")));
        }
        pairs.insert(key.clone(), string(value, key)?.to_owned());
    }
    Ok(pairs)
}

fn payload(fields: &Map<String, Value>) -> Result<CustomPayload, Error> {
    let named = ["payload", "json", "ngsi"].iter().filter(|name| fields.contains_key(**name)).count();
    if named > 1 {
        return Err(Error::bad_request(
            "only one of payload, json or ngsi fields accepted at the same time in httpCustom, mqttCustom or kafkaCustom",
        ));
    }
    if let Some(value) = fields.get("json") {
        if !value.is_object() && !value.is_array() {
            return Err(Error::bad_request(
                "json fields in httpCustom, mqttCustom or kafkaCustom must be object or array",
            ));
        }
        return Ok(CustomPayload::Json(value.clone()));
    }
    if let Some(value) = fields.get("ngsi") {
        return ngsi_patch(members(value, "ngsi")?, value);
    }
    match fields.get("payload") {
        None => Ok(CustomPayload::Default),
        Some(Value::Null) => Ok(CustomPayload::Nothing),
        Some(value) => {
            let text = string(value, "payload")?;
            refuse_forbidden(text, "payload")?;
            Ok(if text.is_empty() { CustomPayload::Default } else { CustomPayload::Text(text.to_owned()) })
        }
    }
}

fn ngsi_patch(object: &Map<String, Value>, source: &Value) -> Result<CustomPayload, Error> {
    let update = parse::template_entity(object)?;
    let only_priority = update
        .attributes
        .values()
        .flat_map(|attribute| attribute.metadata.iter().flatten())
        .all(|(name, _)| name == "evalPriority");
    if !only_priority {
        return Err(Error::bad_request(
            "only evalPriority metadata is allowed in ngsi field in custom notifications",
        ));
    }
    Ok(CustomPayload::Ngsi(Box::new(update), source.clone()))
}

fn attrs_format(object: &Map<String, Value>) -> Result<AttrsFormat, Error> {
    let Some(value) = object.get("attrsFormat") else { return Ok(AttrsFormat::Normalized) };
    match string(value, "attrsFormat")? {
        "normalized" => Ok(AttrsFormat::Normalized),
        "keyValues" => Ok(AttrsFormat::KeyValues),
        "values" => Ok(AttrsFormat::Values),
        "simplifiedNormalized" => Ok(AttrsFormat::SimplifiedNormalized),
        "simplifiedKeyValues" => Ok(AttrsFormat::SimplifiedKeyValues),
        _ => Err(Error::bad_request(
            "invalid attrsFormat, accepted values: normalized, simplifiedNormalized, keyValues, simplifiedkeyValues, values",
        )),
    }
}

fn max_fails_limit(object: &Map<String, Value>) -> Result<Option<u64>, Error> {
    match object.get("maxFailsLimit") {
        None => Ok(None),
        Some(value) => match value.as_i64() {
            None => Err(Error::bad_request("maxFailsLimit is not an int")),
            Some(limit) => match u64::try_from(limit) {
                Ok(limit) if limit > 0 => Ok(Some(limit)),
                _ => Err(Error::bad_request("maxFailsLimit must be greater than zero")),
            },
        },
    }
}
