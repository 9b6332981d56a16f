//! The templates of `httpCustom`, `mqttCustom` and `kafkaCustom`.

use serde_json::{Map, Value};

use super::{members, refuse_forbidden, string};
use crate::{
    Error,
    parse::has_forbidden,
    subscription::{
        macros::{MacroJson, MacroText},
        ngsi_patch::NgsiPatch,
        target::{Custom, CustomPayload, Transport},
    },
};

const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];

/// `name` is that of the transport, such as `httpCustom`.
pub(super) fn custom(
    fields: &Map<String, Value>,
    url: &str,
    name: &str,
    transport: &Transport,
) -> Result<Custom, Error> {
    let payload = payload(fields, name)?;
    let mut custom = Custom { url: MacroText::parse(url), payload, ..Custom::default() };
    if !matches!(transport, Transport::Mqtt(_)) {
        let headers = pairs(fields, "headers", name)?;
        custom.headers = headers
            .into_iter()
            .map(|(name, value)| (name.to_owned(), MacroText::parse_encoded(value)))
            .collect();
    }
    if *transport == Transport::Http {
        let qs = pairs(fields, "qs", name)?;
        custom.qs = qs
            .into_iter()
            .map(|(name, value)| (MacroText::parse_encoded(name), MacroText::parse_encoded(value)))
            .collect();
        let method =
            fields.get("method").map(|value| string(value, "method httpCustom notification")).transpose()?;
        if method.is_some_and(|method| !METHODS.contains(&method)) {
            return Err(Error::bad_request("unknown method httpCustom notification"));
        }
        custom.method = method.map(str::to_owned);
    }
    Ok(custom)
}

fn pairs<'a>(
    fields: &'a Map<String, Value>,
    field: &str,
    name: &str,
) -> Result<Vec<(&'a str, &'a str)>, Error> {
    let place = format!("notification {name} {field}");
    let bad = |text: String| Err(Error::bad_request(text));
    let Some(value) = fields.get(field) else { return Ok(Vec::new()) };
    let Some(object) = value.as_object() else { return bad(format!("{place} is not an object")) };
    if object.is_empty() {
        return bad(format!("{place} is empty"));
    }
    let is_header = field == "headers";
    let is_token =
        |key: &str| key.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&*+-.^_`|~".contains(&b));
    let mut pairs = Vec::with_capacity(object.len());
    for (key, value) in object {
        let Some(value) = value.as_str() else { return bad(format!("{place} element is not a string")) };
        // Quotes are for headers such as `If-Match`.
        let quotes: &[char] = if is_header { &['\'', '"'] } else { &[] };
        if has_forbidden(key) || has_forbidden(&value.replace(quotes, "")) {
            return bad(format!("forbidden characters in custom {place}"));
        }
        if key.is_empty() || (is_header && !is_token(key)) {
            return bad(format!("invalid name in {field}"));
        }
        pairs.push((key.as_str(), value));
    }
    Ok(pairs)
}

fn payload(fields: &Map<String, Value>, name: &str) -> Result<CustomPayload, Error> {
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
        return Ok(CustomPayload::Json(MacroJson::parse(value)));
    }
    if let Some(value) = fields.get("ngsi") {
        return Ok(CustomPayload::Ngsi(Box::new(NgsiPatch::parse(members(value, "ngsi")?)?)));
    }
    match fields.get("payload") {
        None => Ok(CustomPayload::Default),
        Some(Value::Null) => Ok(CustomPayload::Nothing),
        Some(value) => {
            let text = string(value, &format!("payload {name} notification"))?;
            refuse_forbidden(text, "custom /payload/")?;
            Ok(if text.is_empty() {
                CustomPayload::Default
            } else {
                CustomPayload::Text(MacroText::parse_encoded(text))
            })
        }
    }
}
