//! Registrations in bodies of requests. Unknown members are ignored: clients send back what GET gave them.

use serde_json::{Map, Value};

use super::{DataProvided, ForwardingMode, Provider, RegisteredEntity, Registration, RegistrationPatch};
use crate::{Error, ErrorWord, parse, parse::ListedEntity, time};

const MAX_DESCRIPTION: usize = 1024;
const MAX_URL: usize = 2048;
/// Most entities, and most attributes, in one registration.
const MAX_ITEMS: usize = 1000;

fn bad(text: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::bad_request(text)
}

fn missing(field: &str) -> Error {
    bad(format!("the field /{field}/ is missing in payload"))
}

pub(super) fn registration(body: &[u8]) -> Result<Registration, Error> {
    let patch = patch(body)?;
    let data = patch.data.ok_or_else(|| missing("dataProvided"))?;
    let provider = patch.provider.ok_or_else(|| missing("provider"))?;
    Ok(Registration {
        description: patch.description.flatten(),
        data,
        provider,
        expires_us: patch.expires_us.flatten(),
        status: patch.status.unwrap_or_else(|| "active".to_owned()),
    })
}

pub(super) fn patch(body: &[u8]) -> Result<RegistrationPatch, Error> {
    let members = parse::members(body)?;
    if members.is_empty() {
        return Err(bad("empty payload"));
    }
    let object: Map<String, Value> =
        members.into_iter().map(|(key, node)| (key, node.into_value())).collect();
    let mut patch = RegistrationPatch::default();
    if let Some(value) = object.get("description") {
        let text = string(value, "description")?;
        if text.chars().count() > MAX_DESCRIPTION {
            return Err(bad("max description length exceeded"));
        }
        if parse::has_forbidden(text) {
            return Err(bad("forbidden characters in description"));
        }
        patch.description = Some((!text.is_empty()).then(|| text.to_owned()));
    }
    patch.data = object.get("dataProvided").map(data).transpose()?;
    patch.provider = object.get("provider").map(provider).transpose()?;
    if let Some(value) = object.get("expires") {
        patch.expires_us = Some(match string(value, "expires")? {
            "" => None,
            text => {
                let end = time::parse_us(text);
                Some(end.ok_or_else(|| bad("the field /expires/ has an invalid format"))?)
            }
        });
    }
    if let Some(value) = object.get("status") {
        let text = string(value, "status")?;
        allowed(text, "status")?;
        patch.status = Some(text.to_owned());
    }
    Ok(patch)
}

fn data(value: &Value) -> Result<DataProvided, Error> {
    let object = value.as_object().ok_or_else(|| bad("/dataProvided/ must be a JSON object"))?;
    if object.is_empty() {
        return Err(bad("/dataProvided/ is empty"));
    }
    let entities = object.get("entities").ok_or_else(|| missing("entities"))?;
    let entities = entities.as_array().ok_or_else(|| bad("/entities/ is not an array"))?;
    if entities.len() > MAX_ITEMS {
        return Err(bad(format!("the field /entities/ has more than {MAX_ITEMS} items")));
    }
    if entities.is_empty() {
        return Err(bad("/entities/ is empty"));
    }
    let entities = entities.iter().map(entity).collect::<Result<Vec<_>, _>>()?;
    let mut attrs: Vec<String> = Vec::new();
    for item in object.get("attrs").map_or(Ok(&[][..]), |value| array(value, "attrs"))? {
        let name = item.as_str().ok_or_else(|| bad("only JSON Strings allowed in string vector /attrs/"))?;
        if name.is_empty() {
            return Err(bad("empty string found in string vector /attrs/"));
        }
        parse::check_attribute_name(name)?;
        if !attrs.iter().any(|own| own == name) {
            attrs.push(name.to_owned());
        }
    }
    let expression = object.get("expression");
    if let Some(expression) = expression {
        members(expression, "expression")?;
    }
    Ok(DataProvided { entities, attrs, expression: expression.cloned() })
}

fn entity(value: &Value) -> Result<RegisteredEntity, Error> {
    let item = ListedEntity::parse(value)?;
    if item.id_pattern.is_some_and(|pattern| pattern != ".*") {
        return Err(Error::new(ErrorWord::NotImplemented, "Unsupported idPattern"));
    }
    if item.type_pattern.is_some() {
        return Err(Error::new(ErrorWord::NotImplemented, "typePattern is not supported"));
    }
    Ok(RegisteredEntity { id: item.id.map(str::to_owned), entity_type: item.entity_type.map(str::to_owned) })
}

fn provider(value: &Value) -> Result<Provider, Error> {
    let object = value.as_object().ok_or_else(|| bad("/provider/ must be a JSON object"))?;
    let http = object.get("http").ok_or_else(|| bad("/provider/ must contain a field /http/"))?;
    let http = http.as_object().ok_or_else(|| bad("/http/ must be a JSON object"))?;
    let url = http.get("url").ok_or_else(|| bad("/http/ must contain a field /url/"))?;
    let url = url.as_str().ok_or_else(|| bad("/url/ field of /http/ must be a JSON string"))?;
    let mode = match object.get("supportedForwardingMode") {
        None => ForwardingMode::default(),
        Some(value) => {
            match value.as_str().ok_or_else(|| bad("/supportedForwardingMode/ must be a JSON string"))? {
                "none" => ForwardingMode::None,
                "query" => ForwardingMode::Query,
                "update" => ForwardingMode::Update,
                "all" => ForwardingMode::All,
                _ => return Err(bad("invalid value of /supportedForwardingMode/")),
            }
        }
    };
    let legacy = match object.get("legacyForwarding") {
        None => false,
        Some(value) => {
            value.as_bool().ok_or_else(|| bad("the field /legacyForwarding/ must be a boolean"))?
        }
    };
    Ok(Provider { url: checked_url(url)?.to_owned(), mode, legacy })
}

/// `http://host…` or `https://host…`.
fn checked_url(url: &str) -> Result<&str, Error> {
    if url.is_empty() {
        return Err(bad("/url/ field of /http/ cannot be the empty string"));
    }
    allowed(url, "url")?;
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
    let plain = url.bytes().all(|byte| byte.is_ascii_graphic());
    if host.is_empty() || host.starts_with(':') || !plain || url.len() > MAX_URL {
        return Err(bad("/url/ field of /http/ is invalid"));
    }
    Ok(url)
}

fn string<'a>(value: &'a Value, field: &str) -> Result<&'a str, Error> {
    value.as_str().ok_or_else(|| bad(format!("the field /{field}/ must be a string")))
}

fn members<'a>(value: &'a Value, field: &str) -> Result<&'a Map<String, Value>, Error> {
    value.as_object().ok_or_else(|| bad(format!("the field /{field}/ must be a JSON object")))
}

fn array<'a>(value: &'a Value, field: &str) -> Result<&'a [Value], Error> {
    let items = value.as_array().ok_or_else(|| bad(format!("the field /{field}/ must be a JSON array")))?;
    if items.len() > MAX_ITEMS {
        return Err(bad(format!("the field /{field}/ has more than {MAX_ITEMS} items")));
    }
    Ok(items)
}

fn allowed(text: &str, field: &str) -> Result<(), Error> {
    if parse::has_forbidden(text) {
        return Err(bad(format!("forbidden characters in field /{field}/")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn body() -> Value {
        json!({
            "description": "meter",
            "dataProvided": {
                "entities": [{"id": "m1", "type": "Meter"}, {"idPattern": ".*", "type": "Room"}, {"id": "x"}],
                "attrs": ["power"], "expression": {"q": "a>1"},
            },
            "provider": {
                "http": {"url": "http://cp.example:4000/v2"}, "supportedForwardingMode": "query",
                "legacyForwarding": true,
            },
            "expires": "2040-01-01T00:00:00Z", "status": "inactive",
        })
    }

    fn with(path: &str, value: Value) -> Value {
        let mut body = body();
        let (parent, name) = path.rsplit_once('/').unwrap();
        let parent = body.pointer_mut(parent).unwrap();
        match (parent, value) {
            (Value::Object(parent), Value::Null) => drop(parent.remove(name)),
            (parent, value) => parent[name] = value,
        }
        body
    }

    fn parsed(body: &Value) -> Result<Registration, Error> {
        registration(body.to_string().as_bytes())
    }

    #[test]
    fn what_is_stored_is_read_back() {
        let registration = parsed(&body()).unwrap();
        assert_eq!(
            registration.data.entities[1],
            RegisteredEntity { id: None, entity_type: Some("Room".into()) }
        );
        assert!(registration.provider.legacy && registration.provider.mode.queries());
        assert!(!registration.provider.mode.updates());
        let again = Registration::parse(&registration.definition_json()).unwrap();
        assert_eq!(again, registration);
    }

    #[test]
    fn errors_have_the_texts_of_the_contract() {
        for (wrong, expected) in [
            (with("/dataProvided", Value::Null), "the field /dataProvided/ is missing in payload"),
            (with("/dataProvided", json!({})), "/dataProvided/ is empty"),
            (with("/provider", Value::Null), "the field /provider/ is missing in payload"),
            (with("/provider/http", Value::Null), "/provider/ must contain a field /http/"),
            (
                with("/provider/supportedForwardingMode", json!("some")),
                "invalid value of /supportedForwardingMode/",
            ),
            (with("/provider/legacyForwarding", json!(1)), "the field /legacyForwarding/ must be a boolean"),
            (
                with("/dataProvided/entities", json!([{"type": "T"}])),
                "/entities/ vector item does not have /id/ nor /idPattern/",
            ),
            (with("/expires", json!("soon")), "the field /expires/ has an invalid format"),
            (with("/provider/http/url", json!("ftp://a")), "/url/ field of /http/ is invalid"),
            (with("/description", json!("a<b")), "forbidden characters in description"),
            (json!({}), "empty payload"),
        ] {
            let error = parsed(&wrong).unwrap_err();
            assert_eq!((error.word, &*error.description), (ErrorWord::BadRequest, expected), "{wrong}");
        }
        for (entity, expected) in [
            (json!([{"idPattern": "a.*"}]), "Unsupported idPattern"),
            (json!([{"id": "a", "typePattern": ".*"}]), "typePattern is not supported"),
        ] {
            let error = parsed(&with("/dataProvided/entities", entity)).unwrap_err();
            assert_eq!((error.word, &*error.description), (ErrorWord::NotImplemented, expected));
        }
    }

    #[test]
    fn a_patch_replaces_what_it_names() {
        let mut registration = parsed(&body()).unwrap();
        let before = registration.clone();
        registration.merge(patch(br#"{"expires":"","description":""}"#).unwrap());
        let expected = Registration { expires_us: None, description: None, ..before };
        assert_eq!(registration, expected);
    }

    proptest! {
        #[test]
        fn any_body_is_parsed_or_refused(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            registration(&body).ok();
        }

        #[test]
        fn any_change_of_one_member_is_parsed_or_refused(
            at in prop::sample::select(vec![
                "/description", "/dataProvided", "/dataProvided/entities", "/dataProvided/attrs", "/provider",
                "/provider/http", "/provider/http/url", "/expires", "/status",
            ]),
            text in ".{0,40}",
            shape in 0..4,
        ) {
            let value = match shape {
                0 => json!(text),
                1 => json!([text]),
                2 => json!({text.clone(): text}),
                _ => json!(text.len()),
            };
            if let Ok(registration) = parsed(&with(at, value)) {
                let again = Registration::parse(&registration.definition_json());
                prop_assert_eq!(again, Ok(registration));
            }
        }
    }
}
