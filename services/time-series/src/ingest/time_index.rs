//! Which instant a row gets (contract section 4).

use serde_json::{Map, Value};

use crate::time;

/// An attribute as a notification holds it.
#[derive(Clone, Copy)]
pub struct Attribute<'a> {
    pub name: &'a str,
    pub body: &'a Map<String, Value>,
}

/// Text, or an NGSI-LD date object.
fn instant(value: &Value) -> Option<i64> {
    match value {
        Value::String(text) => time::parse_iso(text),
        Value::Object(object) => object.get("@value").and_then(Value::as_str).and_then(time::parse_iso),
        _ => None,
    }
}

fn of_attribute(attributes: &[Attribute<'_>], name: &str) -> Option<i64> {
    let attribute = attributes.iter().find(|attribute| attribute.name == name)?;
    attribute.body.get("value").and_then(instant)
}

fn newest(attributes: &[Attribute<'_>], of: impl Fn(&Map<String, Value>) -> Option<&Value>) -> Option<i64> {
    attributes.iter().filter_map(|attribute| of(attribute.body).and_then(instant)).max()
}

fn of_metadata(attributes: &[Attribute<'_>], name: &str) -> Option<i64> {
    newest(attributes, |body| body.get("metadata")?.get(name)?.get("value"))
}

/// The time index that the entity itself names, or `None` for the time of arrival.
pub(super) fn time_index(
    entity: &Map<String, Value>,
    attributes: &[Attribute<'_>],
    wanted: Option<&str>,
) -> Option<i64> {
    let named = |name: &str| of_attribute(attributes, name).or_else(|| of_metadata(attributes, name));
    let inside = |name: &str| {
        newest(attributes, |body| {
            let value = body.get(name)?;
            Some(value.get("value").unwrap_or(value))
        })
    };
    let plain = |name: &str| entity.get(name).and_then(instant);
    wanted
        .and_then(named)
        .or_else(|| named("TimeInstant"))
        .or_else(|| named("timestamp"))
        .or_else(|| inside("observedAt"))
        .or_else(|| inside("modifiedAt"))
        .or_else(|| plain("observedAt"))
        .or_else(|| plain("modifiedAt"))
        .or_else(|| named("dateModified"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn index_of(entity: &Value, wanted: Option<&str>) -> Option<String> {
        let entity = entity.as_object().unwrap();
        let attributes: Vec<Attribute<'_>> = entity
            .iter()
            .filter_map(|(name, body)| Some(Attribute { name, body: body.as_object()? }))
            .collect();
        time_index(entity, &attributes, wanted)
            .map(|at_us| time::format_ms(at_us).split("-").next().unwrap().to_owned())
    }

    #[test]
    fn candidates_are_tried_in_the_order_of_the_contract() {
        let mut entity = json!({
            "a": {"value": 1, "observedAt": "2007-01-01", "modifiedAt": "2008-01-01", "metadata": {
                "mine": {"value": "2002-01-01"}, "TimeInstant": {"value": "2004-01-01"},
                "timestamp": {"value": "2006-01-01"}, "dateModified": {"value": "2012-01-01"}}},
            "mine": {"value": "2001-01-01"}, "TimeInstant": {"value": "2003-01-01"},
            "timestamp": {"value": "2005-01-01"}, "dateModified": {"value": "2011-01-01"},
            "observedAt": "2009-01-01", "modifiedAt": "2010-01-01"});
        for (year, remove) in [
            ("2001", "/mine"),
            ("2002", "/a/metadata/mine"),
            ("2003", "/TimeInstant"),
            ("2004", "/a/metadata/TimeInstant"),
            ("2005", "/timestamp"),
            ("2006", "/a/metadata/timestamp"),
            ("2007", "/a/observedAt"),
            ("2008", "/a/modifiedAt"),
            ("2009", "/observedAt"),
            ("2010", "/modifiedAt"),
            ("2011", "/dateModified"),
            ("2012", "/a/metadata/dateModified"),
        ] {
            assert_eq!(index_of(&entity, Some("mine")).as_deref(), Some(year));
            let (parent, name) = remove.rsplit_once('/').unwrap();
            entity.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(name);
        }
        assert_eq!(index_of(&entity, Some("mine")), None);
    }

    #[test]
    fn the_newest_metadata_counts_and_bad_dates_are_skipped() {
        let entity = json!({
            "a": {"value": 1, "metadata": {"TimeInstant": {"value": "2004-01-01"}}},
            "b": {"value": 1, "metadata": {"TimeInstant": {"value": "2005-01-01"}}},
            "c": {"value": 1, "metadata": {"TimeInstant": {"value": "never"}}},
            "TimeInstant": {"value": " "}});
        assert_eq!(index_of(&entity, None).as_deref(), Some("2005"));
    }

    #[test]
    fn date_objects_are_read() {
        let entity = json!({"TimeInstant": {"value": {"@type": "DateTime", "@value": "2004-01-01"}}});
        assert_eq!(index_of(&entity, None).as_deref(), Some("2004"));
    }
}
