//! Whole entities in the four formats.

use std::collections::HashSet;

use serde_json::Value;

use super::{
    AttributeExtras, Names, Selection,
    attribute::{shown_value, write_attribute},
    write_string, write_value,
};
use crate::{Attribute, Entity, MetadataMap, model::DATE_EXPIRES, time};

/// How entities are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Normalized,
    KeyValues,
    /// An array of values in the order of `attrs`.
    Values,
    /// As `Values`, without repeats.
    Unique,
}

/// Appends an entity.
pub fn write_entity(out: &mut Vec<u8>, entity: &Entity, selection: &Selection, format: Format) {
    match format {
        Format::Values | Format::Unique => write_values(out, entity, selection, format),
        Format::Normalized | Format::KeyValues => {
            out.extend_from_slice(b"{\"id\":");
            write_string(out, &entity.id);
            out.extend_from_slice(b",\"type\":");
            write_string(out, &entity.entity_type);
            write_members(out, entity, selection, format, false);
            out.push(b'}');
        }
    }
}

/// Appends the attributes alone: `GET …/attrs`.
pub fn write_attributes(out: &mut Vec<u8>, entity: &Entity, selection: &Selection, format: Format) {
    match format {
        Format::Values | Format::Unique => write_values(out, entity, selection, format),
        Format::Normalized | Format::KeyValues => {
            out.push(b'{');
            write_members(out, entity, selection, format, true);
            out.push(b'}');
        }
    }
}

fn write_members(out: &mut Vec<u8>, entity: &Entity, selection: &Selection, format: Format, mut first: bool) {
    for_each(entity, &selection.attributes, |name, attribute| {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        write_string(out, name);
        out.push(b':');
        if format == Format::KeyValues {
            write_value(out, shown_value(attribute));
        } else {
            write_attribute(out, attribute, &selection.metadata, AttributeExtras::default());
        }
    });
}

fn write_values(out: &mut Vec<u8>, entity: &Entity, selection: &Selection, format: Format) {
    // As text, so that what looks the same is the same.
    let mut written: HashSet<Vec<u8>> = HashSet::new();
    let mut first = true;
    out.push(b'[');
    for_each(entity, &selection.attributes, |_, attribute| {
        let start = out.len();
        if !first {
            out.push(b',');
        }
        let value = out.len();
        write_value(out, shown_value(attribute));
        if format == Format::Unique && !written.insert(out.get(value..).unwrap_or_default().to_vec()) {
            out.truncate(start);
        } else {
            first = false;
        }
    });
    out.push(b']');
}

/// Calls `show` for each selected attribute, builtins included, no name twice.
pub(crate) fn for_each(entity: &Entity, names: &Names, mut show: impl FnMut(&str, &Attribute)) {
    let user = |name: &str| name != DATE_EXPIRES;
    let Names::Listed(names) = names else {
        entity
            .attributes
            .iter()
            .filter(|(name, _)| user(name))
            .for_each(|(name, attribute)| show(name, attribute));
        return;
    };
    for name in names {
        if name == "*" {
            let rest =
                entity.attributes.iter().filter(|(name, _)| user(name) && !names.contains(name.as_str()));
            rest.for_each(|(name, attribute)| show(name, attribute));
        } else if let Some(attribute) = entity.attributes.get(name) {
            show(name, attribute);
        } else if let Some(attribute) = builtin(entity, name) {
            show(name, &attribute);
        }
    }
}

pub(crate) fn builtin(entity: &Entity, name: &str) -> Option<Attribute> {
    let (attribute_type, value) = match name {
        "dateCreated" => ("DateTime", time::format_us(entity.created_us)),
        "dateModified" => ("DateTime", time::format_us(entity.modified_us)),
        "servicePath" => ("Text", entity.path.as_str().to_owned()),
        _ => return None,
    };
    Some(Attribute {
        attribute_type: attribute_type.to_owned(),
        value: Value::String(value),
        metadata: MetadataMap::new(),
        created_us: entity.created_us,
        modified_us: entity.modified_us,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entity() -> Entity {
        let attributes = json!({
            "level": {"type": "Number", "value": 3, "metadata": {"unit": {"type": "Text", "value": "m"}},
                "dateCreated": 1_000_000, "dateModified": 2_000_000},
            "name": {"type": "Text", "value": "a", "metadata": {}},
            "same": {"type": "Text", "value": "a", "metadata": {}},
            "dateExpires": {"type": "DateTime", "value": "2040-01-01T00:00:00.000Z", "metadata": {}}
        });
        Entity {
            id: "lamp1".to_owned(),
            entity_type: "Lamp".to_owned(),
            path: scope::ServicePath::root(),
            attributes: serde_json::from_value(attributes).unwrap(),
            created_us: 1_000_000,
            modified_us: 2_000_000,
            version: 1,
        }
    }

    fn shown(attrs: Option<&str>, metadata: Option<&str>, format: Format) -> String {
        let selection = Selection { attributes: Names::parse(attrs), metadata: Names::parse(metadata) };
        let mut out = Vec::new();
        write_entity(&mut out, &entity(), &selection, format);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn normalized_is_compact_with_id_and_type_first() {
        assert_eq!(
            shown(Some("level"), None, Format::Normalized),
            r#"{"id":"lamp1","type":"Lamp","level":{"type":"Number","value":3,"metadata":{"unit":{"type":"Text","value":"m"}}}}"#
        );
    }

    #[test]
    fn attrs_select_and_order() {
        for (attrs, format, expected) in [
            (None, Format::KeyValues, r#"{"id":"lamp1","type":"Lamp","level":3,"name":"a","same":"a"}"#),
            (Some("__NONE"), Format::Normalized, r#"{"id":"lamp1","type":"Lamp"}"#),
            (Some("id"), Format::Normalized, r#"{"id":"lamp1","type":"Lamp"}"#),
            (Some("name,level"), Format::Values, r#"["a",3]"#),
            (None, Format::Values, r#"[3,"a","a"]"#),
            (None, Format::Unique, r#"[3,"a"]"#),
            (
                Some("dateModified,*"),
                Format::KeyValues,
                r#"{"id":"lamp1","type":"Lamp","dateModified":"1970-01-01T00:00:02.000Z","level":3,"name":"a","same":"a"}"#,
            ),
            (
                Some("dateExpires,servicePath,level,level"),
                Format::KeyValues,
                r#"{"id":"lamp1","type":"Lamp","dateExpires":"2040-01-01T00:00:00.000Z","servicePath":"/","level":3}"#,
            ),
        ] {
            assert_eq!(shown(attrs, None, format), expected, "{attrs:?}");
        }
    }

    #[test]
    fn metadata_select_with_builtins() {
        assert_eq!(
            shown(Some("level"), Some("dateModified,*"), Format::Normalized),
            r#"{"id":"lamp1","type":"Lamp","level":{"type":"Number","value":3,"metadata":{"dateModified":{"type":"DateTime","value":"1970-01-01T00:00:02.000Z"},"unit":{"type":"Text","value":"m"}}}}"#
        );
        assert_eq!(
            shown(Some("level"), Some("none"), Format::Normalized),
            r#"{"id":"lamp1","type":"Lamp","level":{"type":"Number","value":3,"metadata":{}}}"#
        );
    }
}
