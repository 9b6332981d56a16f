use std::collections::HashSet;

use jiff::tz::TimeZone;
use serde_json::{Map, Value};

use super::{EntityWrite, context::constants};
use crate::device::{Device, Group, MappedAttribute, StaticAttribute, attribute};

/// What holds where neither device nor group says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Defaults {
    pub timestamp: bool,
    pub explicit: bool,
}

/// A device and its group merged (iot-agent 1.4): the device's entries win, the group's are added when their object id
/// (for static attributes: name) is free.
#[derive(Clone, Debug)]
pub(crate) struct Mapping {
    pub(super) entity_name: String,
    pub(super) entity_type: String,
    pub(super) zone: Option<TimeZone>,
    pub(super) timestamp: bool,
    pub(super) explicit: bool,
    pub(super) attributes: Vec<MappedAttribute>,
    object_ids: HashSet<String>,
    statics: Vec<StaticAttribute>,
    /// What expressions may name beside the measures; `None` when no attribute has an expression.
    pub(super) constants: Option<Map<String, Value>>,
}

impl Mapping {
    pub(crate) fn new(device: &Device, group: Option<&Group>, defaults: Defaults) -> Self {
        let of_group = |list: &str| group.and_then(|group| group.body.get(list));
        let mut attributes = MappedAttribute::read_list(device.body.get("attributes"));
        // A measure for a lazy attribute is written like an active one (iot-agent 5.6).
        attributes.extend(MappedAttribute::read_list(device.body.get("lazy")));
        let mut object_ids: HashSet<String> = attributes.iter().map(|own| own.object_id.clone()).collect();
        for list in ["attributes", "lazy"] {
            for added in MappedAttribute::read_list(of_group(list)) {
                if object_ids.insert(added.object_id.clone()) {
                    attributes.push(added);
                }
            }
        }
        let mut statics = StaticAttribute::read_list(device.body.get("static_attributes"));
        for added in StaticAttribute::read_list(of_group("static_attributes")) {
            if statics.iter().all(|own| own.name != added.name) {
                statics.push(added);
            }
        }
        let has_expressions = attributes.iter().any(|mapped| mapped.expression.is_some());
        let flag = |field: &str| device.flag(field).or_else(|| group.and_then(|group| group.flag(field)));
        Self {
            entity_name: device.entity_name().to_owned(),
            entity_type: device.entity_type().to_owned(),
            // An unknown zone counts as none: the time is right all the same, only its offset is UTC's.
            zone: device.text("timezone").and_then(|name| TimeZone::get(name).ok()),
            timestamp: flag("timestamp").unwrap_or(defaults.timestamp),
            // An expression waits for expressions; until then all is sent.
            explicit: flag("explicitAttrs").unwrap_or(defaults.explicit),
            attributes,
            object_ids,
            constants: has_expressions.then(|| constants(device, &statics)),
            statics,
        }
    }

    /// The entity as it stands before any measure: mapped attributes with a null value, the static ones, and of each
    /// command a state that nobody knows yet (iot-agent 1.3 and 5.2).
    pub(crate) fn skeleton<'a>(&self, commands: impl Iterator<Item = &'a str>) -> EntityWrite {
        let own = self.attributes.iter().filter(|mapped| mapped.entity.is_none());
        let mut attributes: Map<String, Value> = own
            .map(|mapped| {
                let empty = attribute(&mapped.attribute_type, Value::Null, mapped.metadata.clone());
                (mapped.name.clone(), empty.into())
            })
            .collect();
        self.add_statics(&mut attributes);
        for command in commands {
            for (suffix, kind, value) in
                [("status", "commandStatus", "UNKNOWN"), ("info", "commandResult", " ")]
            {
                let state = attributes.entry(format!("{command}_{suffix}"));
                state.or_insert_with(|| attribute(kind, value.into(), Map::new()).into());
            }
        }
        EntityWrite { id: self.entity_name.clone(), entity_type: self.entity_type.clone(), attributes }
    }

    pub(super) fn is_object_id(&self, name: &str) -> bool {
        self.object_ids.contains(name)
    }

    /// Adds the static attributes; a measured one of the same name wins.
    pub(super) fn add_statics(&self, attributes: &mut Map<String, Value>) {
        for constant in &self.statics {
            if !attributes.contains_key(&constant.name) {
                attributes.insert(constant.name.clone(), constant.attribute.clone().into());
            }
        }
    }
}
