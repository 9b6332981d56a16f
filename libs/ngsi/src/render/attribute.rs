//! `{"type":…,"value":…,"metadata":{…}}`.

use serde_json::Value;

use super::{Names, write_string, write_value};
use crate::{Attribute, Metadata, time, update::is_location_type};

/// Builtin metadata that only a notification knows.
#[derive(Clone, Copy, Debug, Default)]
pub struct AttributeExtras<'a> {
    /// The attribute before the request.
    pub previous: Option<&'a Attribute>,
    /// `append` or `update`.
    pub action_type: Option<&'static str>,
}

/// Appends an attribute in normalized form.
pub fn write_attribute(
    out: &mut Vec<u8>,
    attribute: &Attribute,
    metadata: &Names,
    extras: AttributeExtras<'_>,
) {
    out.extend_from_slice(b"{\"type\":");
    write_string(out, &attribute.attribute_type);
    out.extend_from_slice(b",\"value\":");
    write_value(out, shown_value(attribute));
    out.extend_from_slice(b",\"metadata\":{");
    let mut writer = MetadataWriter { out, first: true };
    match metadata {
        Names::All => attribute.metadata.iter().for_each(|(name, metadata)| writer.user(name, metadata)),
        Names::Listed(names) => {
            for name in names {
                match attribute.metadata.get(name) {
                    Some(metadata) => writer.user(name, metadata),
                    None if name == "*" => {
                        let rest =
                            attribute.metadata.iter().filter(|(name, _)| !names.contains(name.as_str()));
                        rest.for_each(|(name, metadata)| writer.user(name, metadata));
                    }
                    None => writer.builtin(name, attribute, extras),
                }
            }
        }
    }
    out.extend_from_slice(b"}}");
}

/// A Feature is stored whole and shown as its geometry (ngsi-v2.md 5).
pub fn shown_value(attribute: &Attribute) -> &Value {
    if !is_location_type(&attribute.attribute_type) {
        return &attribute.value;
    }
    let value = &attribute.value;
    match value["type"].as_str() {
        Some("Feature") => &value["geometry"],
        Some("FeatureCollection") => &value["features"][0]["geometry"],
        _ => value,
    }
}

struct MetadataWriter<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl MetadataWriter<'_> {
    fn name(&mut self, name: &str) {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        write_string(self.out, name);
        self.out.extend_from_slice(b":{\"type\":");
    }

    fn user(&mut self, name: &str, metadata: &Metadata) {
        self.name(name);
        write_string(self.out, &metadata.metadata_type);
        self.out.extend_from_slice(b",\"value\":");
        write_value(self.out, &metadata.value);
        self.out.push(b'}');
    }

    fn builtin(&mut self, name: &str, attribute: &Attribute, extras: AttributeExtras<'_>) {
        match (name, extras.previous, extras.action_type) {
            ("dateCreated", _, _) => self.date(name, attribute.created_us),
            ("dateModified", _, _) => self.date(name, attribute.modified_us),
            ("previousValue", Some(previous), _) => {
                self.name(name);
                write_string(self.out, &previous.attribute_type);
                self.out.extend_from_slice(b",\"value\":");
                write_value(self.out, shown_value(previous));
                self.out.push(b'}');
            }
            ("actionType", _, Some(action)) => {
                self.name(name);
                self.out.extend_from_slice(b"\"Text\",\"value\":");
                write_string(self.out, action);
                self.out.push(b'}');
            }
            _ => {}
        }
    }

    fn date(&mut self, name: &str, micros: i64) {
        // What no store has kept, such as `alterationType`.
        if micros == 0 {
            return;
        }
        self.name(name);
        self.out.extend_from_slice(b"\"DateTime\",\"value\":\"");
        self.out.extend_from_slice(time::format_us(micros).as_bytes());
        self.out.extend_from_slice(b"\"}");
    }
}
