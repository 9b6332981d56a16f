//! The entities that a subscription or a registration lists: both are read by the same rules (ngsi-v2.md 8 and 9).

use serde_json::Value;

use super::names::{MAX_IDENTIFIER, is_identifier};
use crate::Error;

/// An item of such a list: one of `id` and `id_pattern` is there, and at most one of the two for the type. None is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListedEntity<'a> {
    pub(crate) id: Option<&'a str>,
    pub(crate) id_pattern: Option<&'a str>,
    pub(crate) entity_type: Option<&'a str>,
    pub(crate) type_pattern: Option<&'a str>,
}

impl<'a> ListedEntity<'a> {
    pub(crate) fn parse(item: &'a Value) -> Result<Self, Error> {
        let refused = |text: &str| Error::bad_request(format!("/entities/ vector item {text}"));
        let bad = |text: &str| Err(refused(text));
        let Some(object) = item.as_object() else { return bad("is not an object") };
        let text = |field: &str| match object.get(field) {
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(refused(&format!("/{field}/ is not a string"))),
            None => Ok(None),
        };
        let (id, id_pattern) = (text("id")?, text("idPattern")?);
        match (id, id_pattern) {
            (Some(_), Some(_)) => return bad("has both /id/ and /idPattern/"),
            (None, None) => return bad("does not have /id/ nor /idPattern/"),
            (Some(""), None) | (None, Some("")) => {
                return Err(Error::bad_request("id and idPattern cannot be both empty at the same time"));
            }
            _ => {}
        }
        let (entity_type, type_pattern) = (text("type")?, text("typePattern")?);
        if entity_type.is_some() && type_pattern.is_some() {
            return Err(Error::bad_request("/entities/ element has both /type/ and /typePattern/"));
        }
        if entity_type == Some("") {
            return Err(Error::bad_request("entity type length: 0, min length supported: 1"));
        }
        if type_pattern == Some("") {
            return bad("/typePattern/ is empty");
        }
        check_name(id, "id")?;
        check_name(entity_type, "type")?;
        Ok(Self { id, id_pattern, entity_type, type_pattern })
    }
}

fn check_name(text: Option<&str>, field: &str) -> Result<(), Error> {
    let place = format_args!("in /entities/ vector item /{field}/");
    match text {
        Some(text) if !is_identifier(text) => {
            Err(Error::bad_request(format!("forbidden characters {place}")))
        }
        Some(text) if text.len() > MAX_IDENTIFIER => {
            Err(Error::bad_request(format!("max {field} length exceeded {place}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn items_are_refused_in_the_words_of_the_original() {
        let long = "a".repeat(MAX_IDENTIFIER + 1);
        for (item, expected) in [
            (json!(1), "/entities/ vector item is not an object"),
            (json!({"id": 1}), "/entities/ vector item /id/ is not a string"),
            (json!({"id": "a", "type": null}), "/entities/ vector item /type/ is not a string"),
            (json!({"id": "a", "idPattern": ""}), "/entities/ vector item has both /id/ and /idPattern/"),
            (json!({"type": "T"}), "/entities/ vector item does not have /id/ nor /idPattern/"),
            (json!({"idPattern": ""}), "id and idPattern cannot be both empty at the same time"),
            (
                json!({"id": "a", "type": "b", "typePattern": "c"}),
                "/entities/ element has both /type/ and /typePattern/",
            ),
            (json!({"id": "a", "type": ""}), "entity type length: 0, min length supported: 1"),
            (json!({"id": "a", "typePattern": ""}), "/entities/ vector item /typePattern/ is empty"),
            (json!({"id": "a b"}), "forbidden characters in /entities/ vector item /id/"),
            (json!({"id": "a", "type": "b#"}), "forbidden characters in /entities/ vector item /type/"),
            (json!({"id": long}), "max id length exceeded in /entities/ vector item /id/"),
            (json!({"id": "a", "type": long}), "max type length exceeded in /entities/ vector item /type/"),
        ] {
            assert_eq!(ListedEntity::parse(&item).unwrap_err().description, expected, "{item}");
        }
        let whole = json!({"idPattern": "a(b)=;", "type": "T", "more": 1});
        let expected =
            ListedEntity { id: None, id_pattern: Some("a(b)=;"), entity_type: Some("T"), type_pattern: None };
        assert_eq!(ListedEntity::parse(&whole), Ok(expected));
    }
}
