//! One attribute before and after a request.

use serde_json::Value;

use super::{AttributeUpdate, UpdateOptions, ValueUpdate, operator};
use crate::{Attribute, Error, MetadataMap, parse, time};

pub(super) struct Staged {
    pub(super) attribute: Attribute,
    /// Value, type or metadata is not what it was.
    pub(super) differs: bool,
}

/// The attribute as it will be. None: an operator that removes from nothing creates nothing.
pub(super) fn stage(
    existing: Option<&Attribute>,
    update: &AttributeUpdate,
    options: UpdateOptions,
    now_us: i64,
) -> Result<Option<Staged>, Error> {
    let known_type = update.attribute_type.as_deref().or(existing.map(|a| a.attribute_type.as_str()));
    let value = match &update.value {
        ValueUpdate::Set(value) => value.clone(),
        ValueUpdate::Operate(operators) => {
            let is_date = known_type.is_some_and(time::is_date_type);
            match operator::evaluate(existing.map(|a| &a.value), operators, is_date)? {
                Some(value) => value,
                None => return Ok(None),
            }
        }
    };
    // An operator keeps a type that somebody chose; one that followed from the value follows it again, but for `PUT …/value`,
    // which has no metadata either.
    let follows = |before: &Attribute| {
        let operates = matches!(update.value, ValueUpdate::Operate(_)) && update.attribute_type.is_none();
        operates && update.metadata.is_some() && before.attribute_type == parse::type_of_value(&before.value)
    };
    let attribute_type = match known_type {
        Some(name) if !existing.is_some_and(follows) => name.to_owned(),
        _ => parse::type_of_value(&value).to_owned(),
    };
    let value = if time::is_date_type(&attribute_type) { parse::date_value(value)? } else { value };
    let metadata = merge_metadata(existing, update.metadata.as_ref(), options.override_metadata);
    // Also what an operator made, or was sent without the type that it has here.
    parse::check_location(&attribute_type, &value, &metadata)?;
    let differs = existing.is_none_or(|before| {
        before.value != value || before.attribute_type != attribute_type || before.metadata != metadata
    });
    let modified_us = match existing {
        Some(before) if !differs && !options.forced_update => before.modified_us,
        _ => now_us,
    };
    let created_us = existing.map_or(now_us, |before| before.created_us);
    let attribute = Attribute { attribute_type, value, metadata, created_us, modified_us };
    Ok(Some(Staged { attribute, differs }))
}

/// Metadata is merged by name; existing ones stay unless the request overrides them.
fn merge_metadata(
    existing: Option<&Attribute>,
    named: Option<&MetadataMap>,
    override_all: bool,
) -> MetadataMap {
    match (existing.map(|a| &a.metadata), named) {
        (Some(before), None) => before.clone(),
        (None, None) => MetadataMap::new(),
        (Some(before), Some(named)) if !override_all && !before.is_empty() => {
            let mut merged = before.clone();
            merged.extend(named.iter().map(|(name, metadata)| (name.clone(), metadata.clone())));
            merged
        }
        (_, Some(named)) => named.clone(),
    }
}

/// Whether a metadata flag is set: boolean true.
pub(crate) fn flag(metadata: &MetadataMap, name: &str) -> bool {
    metadata.get(name).is_some_and(|m| m.value == Value::Bool(true))
}
