//! From what a device measured to what the broker gets (iot-agent 3 and 4). Pure.
//!
//! ```text
//! MeasureGroup + Mapping (device and group merged) ──► EntityWrite (main entity), EntityWrite (others) …
//! ```

mod context;
mod instant;
mod mapping;

pub(crate) use instant::{iso_millis, iso_millis_in, parse_iso};
pub(crate) use mapping::{Defaults, Mapping};

use context::Context;
use indexmap::IndexMap;
use jexl::Budget;
use serde_json::{Map, Value};

use crate::{
    device::{DEFAULT_ATTRIBUTE_TYPE, MappedAttribute, attribute},
    ultralight::MeasureGroup,
};

pub(crate) const TIME_INSTANT: &str = "TimeInstant";
const DATE_TIME: &str = "DateTime";

/// One entity with the attributes to write.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EntityWrite {
    pub id: String,
    pub entity_type: String,
    /// Attribute name -> `{"type","value","metadata"}`.
    pub attributes: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Invalid ISO8601 timestamp [{value}] in [{entity}]")]
pub struct BadTimestamp {
    pub value: String,
    pub entity: String,
}

/// When the measures of a request were taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times<'a> {
    /// Query parameter `t`: counts for all groups.
    pub given: Option<&'a str>,
    /// When the request came, microseconds since 1970.
    pub arrived_us: i64,
}

impl Mapping {
    /// What the broker gets for these groups: in order of arrival, or by time if each has one.
    pub(crate) fn apply(
        &self,
        groups: Vec<MeasureGroup>,
        times: Times<'_>,
    ) -> Result<Vec<EntityWrite>, BadTimestamp> {
        let mut writes = Vec::with_capacity(groups.len());
        // One request has one budget, however many groups and attributes it has.
        let mut budget = Budget::new();
        for group in groups {
            self.apply_group(group, times, &mut budget, &mut writes)?;
        }
        sort_by_time(&mut writes);
        Ok(writes)
    }

    fn apply_group(
        &self,
        group: MeasureGroup,
        times: Times<'_>,
        budget: &mut Budget,
        writes: &mut Vec<EntityWrite>,
    ) -> Result<(), BadTimestamp> {
        let mut measures = named(group.measures);
        if let Some(time) = times.given.map(str::to_owned).or(group.time) {
            measures.insert(TIME_INSTANT.to_owned(), time.into());
        }
        let mut entities: IndexMap<(&str, &str), Map<String, Value>> = IndexMap::new();
        let main = (self.entity_name.as_str(), self.entity_type.as_str());
        entities.insert(main, Map::new());
        let constants = self.constants.as_ref();
        let mut context =
            constants.map(|constants| Context::new(&measures, constants, times.arrived_us, budget));
        let mut mapped_names = Vec::new();
        for mapped in &self.attributes {
            let measured = self.measured(mapped, &measures);
            mapped_names.extend(measured.map(|(measure, _)| measure));
            let raw = measured.map(|(_, value)| value);
            let value = match &mut context {
                Some(context) => context.value_of(mapped, raw),
                None => raw.cloned(),
            };
            let Some(value) = value.filter(|value| *value != mapped.skip_value) else { continue };
            let target = match &mapped.entity {
                None => main,
                Some((name, own_type)) => (name.as_str(), own_type.as_deref().unwrap_or(main.1)),
            };
            let written = attribute(&mapped.attribute_type, value, mapped.metadata.clone());
            entities.entry(target).or_default().insert(mapped.name.clone(), written.into());
        }
        let attributes = entities.entry(main).or_default();
        if !self.explicit {
            for (name, value) in &measures {
                if name != TIME_INSTANT
                    && !mapped_names.contains(&name.as_str())
                    && !attributes.contains_key(name)
                {
                    let written = attribute(DEFAULT_ATTRIBUTE_TYPE, value.clone(), Map::new());
                    attributes.insert(name.clone(), written.into());
                }
            }
        }
        self.add_statics(attributes);
        let time = self.time_instant(attributes, &measures, times.arrived_us)?;
        for ((id, entity_type), mut attributes) in entities {
            if attributes.is_empty() {
                continue;
            }
            if let Some(time) = &time {
                self.stamp(&mut attributes, time);
            }
            writes.push(EntityWrite { id: id.to_owned(), entity_type: entity_type.to_owned(), attributes });
        }
        Ok(())
    }

    /// The measure of a mapped attribute: by object id, else by the attribute's own name.
    fn measured<'m>(
        &self,
        mapped: &'m MappedAttribute,
        measures: &'m IndexMap<String, Value>,
    ) -> Option<(&'m str, &'m Value)> {
        if let Some(value) = measures.get(&mapped.object_id) {
            return Some((&mapped.object_id, value));
        }
        let value = measures.get(&mapped.name).filter(|_| !self.is_object_id(&mapped.name))?;
        Some((&mapped.name, value))
    }

    /// The entity's time: a mapped attribute of that name, else what the measure says, else (with the flag on) arrival.
    fn time_instant(
        &self,
        attributes: &mut Map<String, Value>,
        measures: &IndexMap<String, Value>,
        arrived_us: i64,
    ) -> Result<Option<Value>, BadTimestamp> {
        let mapped =
            attributes.shift_remove(TIME_INSTANT).and_then(|mut own| own.get_mut("value").map(Value::take));
        let given = mapped.or_else(|| measures.get(TIME_INSTANT).cloned());
        if !self.timestamp {
            return Ok(given);
        }
        let Some(given) = given else {
            let arrived = match &self.zone {
                Some(zone) => iso_millis_in(arrived_us, zone),
                None => iso_millis(arrived_us),
            };
            return Ok(Some(arrived.into()));
        };
        if given.as_str().and_then(parse_iso).is_some() {
            return Ok(Some(given));
        }
        let value: String =
            given.as_str().map_or_else(|| given.to_string(), str::to_owned).chars().take(64).collect();
        Err(BadTimestamp { value, entity: self.entity_name.clone() })
    }

    fn stamp(&self, attributes: &mut Map<String, Value>, time: &Value) {
        let instant = Value::from(attribute(DATE_TIME, time.clone(), Map::new()));
        if self.timestamp {
            for written in attributes.values_mut().filter_map(Value::as_object_mut) {
                let metadata = written.entry("metadata").or_insert_with(|| Map::new().into());
                if let Some(metadata) = metadata.as_object_mut() {
                    metadata.insert(TIME_INSTANT.to_owned(), instant.clone());
                }
            }
        }
        attributes.insert(TIME_INSTANT.to_owned(), instant);
    }
}

/// Measures by name; `id` and `type` are what an entity has, so measures of these names get others.
fn named(measures: Vec<(String, Value)>) -> IndexMap<String, Value> {
    let renamed = measures.into_iter().map(|(name, value)| match name.as_str() {
        "id" => ("measure_id".to_owned(), value),
        "type" => ("measure_type".to_owned(), value),
        _ => (name, value),
    });
    renamed.collect()
}

fn sort_by_time(writes: &mut [EntityWrite]) {
    if writes.len() < 2 {
        return;
    }
    let time =
        |write: &EntityWrite| write.attributes.get(TIME_INSTANT)?.get("value")?.as_str().and_then(parse_iso);
    if writes.iter().all(|write| time(write).is_some()) {
        writes.sort_by_cached_key(time);
    }
}

#[cfg(test)]
mod tests;
