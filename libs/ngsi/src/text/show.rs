//! Representations that are pieces of the stored text.

use super::{
    EntityText,
    members::{string, value, walk},
};
use crate::{
    Attribute,
    geo::Shape,
    model::DATE_EXPIRES,
    render::{Format, write_string},
    update::is_location_type,
};

/// The parts of a stored attribute that are shown.
struct Parts<'a> {
    value: &'a [u8],
    /// Type, value and metadata, with the opening brace and without the closing one.
    normalized: &'a [u8],
}

impl EntityText {
    /// Appends the entity with all its attributes and metadata, and no builtin ones, as
    /// [`write_entity`](crate::render::write_entity) does. False, and nothing is appended, when it has to be decoded for
    /// that.
    pub fn write(&self, out: &mut Vec<u8>, format: Format) -> bool {
        let start = out.len();
        let done = self.try_write(out, format).is_some();
        if !done {
            out.truncate(start);
        }
        done
    }

    /// As [`Entity::location`](crate::Entity::location). Fails when the attributes are not such text.
    pub fn location(&self) -> Result<Option<Shape>, serde_json::Error> {
        let mut found = Ok(None);
        let walked = walk(&self.attributes, |member| {
            let after = member.value.strip_prefix(b"{\"type\":")?;
            let attribute_type = std::str::from_utf8(after.get(1..string(after)? - 1)?).ok()?;
            if is_location_type(attribute_type) && matches!(found, Ok(None)) {
                found =
                    serde_json::from_slice(member.value).map(|attribute: Attribute| Shape::of(&attribute));
            }
            Some(())
        });
        if walked.is_some() { found } else { self.decode().map(|entity| entity.location()) }
    }

    /// Tells the name and the type of each attribute. False: some of them have to be decoded for that; what was told is
    /// true all the same.
    pub fn attribute_types<'a>(&'a self, mut each: impl FnMut(&'a str, &'a str)) -> bool {
        let plain = |text: &'a [u8]| std::str::from_utf8(text).ok().filter(|text| !text.contains('\\'));
        walk(&self.attributes, |member| {
            let after = member.value.strip_prefix(b"{\"type\":")?;
            let attribute_type = after.get(1..string(after)? - 1)?;
            each(plain(member.key)?, plain(attribute_type)?);
            Some(())
        })
        .is_some()
    }

    fn try_write(&self, out: &mut Vec<u8>, format: Format) -> Option<()> {
        if !matches!(format, Format::Normalized | Format::KeyValues) {
            return None;
        }
        out.reserve(self.attributes.len() + 64);
        out.extend_from_slice(b"{\"id\":");
        write_string(out, &self.id);
        out.extend_from_slice(b",\"type\":");
        write_string(out, &self.entity_type);
        walk(&self.attributes, |member| {
            if member.key == DATE_EXPIRES.as_bytes() {
                return Some(());
            }
            let parts = parts(member.value)?;
            out.extend_from_slice(b",\"");
            out.extend_from_slice(member.key);
            out.extend_from_slice(b"\":");
            if format == Format::KeyValues {
                out.extend_from_slice(parts.value);
            } else {
                out.extend_from_slice(parts.normalized);
                out.push(b'}');
            }
            Some(())
        })?;
        out.push(b'}');
        Some(())
    }
}

/// `None` also for a location that is an object: a Feature is shown as its geometry.
fn parts(attribute: &[u8]) -> Option<Parts<'_>> {
    let after = attribute.strip_prefix(b"{\"type\":")?;
    let length = string(after)?;
    let is_location = is_location_type(std::str::from_utf8(after.get(1..length - 1)?).ok()?);
    let after = after.get(length..)?.strip_prefix(b",\"value\":")?;
    let length = value(after)?;
    let shown = after.get(..length)?;
    if is_location && shown.starts_with(b"{") {
        return None;
    }
    let after = after.get(length..)?.strip_prefix(b",\"metadata\":")?;
    let after = after.get(value(after)?..)?;
    after.strip_prefix(b",\"dateCreated\":")?;
    Some(Parts { value: shown, normalized: attribute.get(..attribute.len() - after.len())? })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        Entity,
        render::{Selection, write_entity},
    };

    fn entity(attributes: serde_json::Value) -> Entity {
        Entity {
            id: "a\"b".to_owned(),
            entity_type: "T".to_owned(),
            path: scope::ServicePath::root(),
            attributes: serde_json::from_value(attributes).unwrap(),
            created_us: 1,
            modified_us: 2,
            version: 3,
        }
    }

    #[test]
    fn it_shows_what_the_decoded_entity_shows() {
        let whole = entity(json!({
            "level": {"type": "Number", "value": -3.5e-7, "metadata": {"unit": {"type": "Text", "value": "},\"dateCreated\":"}},
                "dateCreated": 1_000_000, "dateModified": 2_000_000},
            "na\"me": {"type": "Te\\xt", "value": "a\"}]\\", "metadata": {}},
            "at": {"type": "geo:point", "value": "40.4, -3.7", "metadata": {}},
            "list": {"type": "StructuredValue", "value": [{"dateCreated": 1}, null, true], "metadata": {}},
            "dateExpires": {"type": "DateTime", "value": "2040-01-01T00:00:00.000Z", "metadata": {}}
        }));
        for format in [Format::Normalized, Format::KeyValues] {
            for shown in [whole.clone(), entity(json!({}))] {
                let (mut expected, mut found) = (Vec::new(), b"before".to_vec());
                write_entity(&mut expected, &shown, &Selection::default(), format);
                assert!(EntityText::of(&shown).unwrap().write(&mut found, format));
                assert_eq!(
                    String::from_utf8_lossy(&found),
                    format!("before{}", String::from_utf8_lossy(&expected))
                );
            }
        }
    }

    #[test]
    fn a_location_is_read_from_the_text() {
        let point = json!({"type": "geo:point", "value": "40.4, -3.7", "metadata": {}});
        let ignored = json!({"type": "geo:point", "value": "1, 1", "metadata": {"ignoreType": {"type": "Boolean", "value": true}}});
        let nothing = json!({"type": "geo:json", "value": null, "metadata": {}});
        let feature = json!({"type": "geo:json", "metadata": {}, "value": {"type": "Feature", "geometry": {"type": "Point", "coordinates": [2.1, 41.4]}}});
        for attributes in [
            json!({"n": {"type": "Number", "value": 1, "metadata": {}}, "at": point}),
            json!({"a": ignored, "b": nothing, "c": point}),
            json!({"at": feature}),
            json!({}),
        ] {
            let whole = entity(attributes);
            assert_eq!(EntityText::of(&whole).unwrap().location().unwrap(), whole.location());
        }
    }

    #[test]
    fn types_of_attributes_are_read_from_the_text() {
        let plain = entity(json!({
            "a": {"type": "T\u{e9}", "value": "}\"{", "metadata": {"type": {"type": "no", "value": 1}}},
            "b": {"type": "U", "value": {"type": "no"}, "metadata": {}},
        }));
        let plain = EntityText::of(&plain).unwrap();
        let mut seen = Vec::new();
        assert!(plain.attribute_types(|name, attribute_type| seen.push((name, attribute_type))));
        assert_eq!(seen, [("a", "T\u{e9}"), ("b", "U")]);
        let quoted = entity(json!({"a\"": {"type": "T", "value": 1, "metadata": {}}}));
        assert!(!EntityText::of(&quoted).unwrap().attribute_types(|_, _| {}));
    }

    #[test]
    fn what_needs_decoding_is_left_alone() {
        let location = json!({"p": {"type": "geo:json", "value": {"type": "Feature"}, "metadata": {}}});
        let plain = json!({"p": {"type": "Text", "value": "x", "metadata": {}}});
        let mut damaged = EntityText::of(&entity(plain.clone())).unwrap();
        damaged.attributes = damaged.attributes.slice(..20);
        for (text, format) in [
            (EntityText::of(&entity(location)).unwrap(), Format::Normalized),
            (EntityText::of(&entity(plain)).unwrap(), Format::Values),
            (damaged, Format::Normalized),
        ] {
            let mut out = b"before".to_vec();
            assert!(!text.write(&mut out, format));
            assert_eq!(out, b"before");
        }
    }
}
