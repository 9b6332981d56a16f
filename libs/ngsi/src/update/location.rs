//! An entity has at most one location (ngsi-v2.md 5).

use super::attribute::{Staged, flag};
use crate::{Attribute, Attributes, Error};

/// Whether an attribute of this type is a location.
pub(crate) fn is_location_type(name: &str) -> bool {
    matches!(name, "geo:json" | "geo:point" | "geo:line" | "geo:box" | "geo:polygon")
}

/// Whether it is the location of its entity.
pub(crate) fn is_location(attribute: &Attribute) -> bool {
    is_location_type(&attribute.attribute_type)
        && !attribute.value.is_null()
        && !flag(&attribute.metadata, "ignoreType")
}

pub(super) fn check<'a>(attributes: impl Iterator<Item = (&'a String, &'a Attribute)>) -> Result<(), Error> {
    if attributes.filter(|(_, attribute)| is_location(attribute)).count() > 1 {
        return Err(Error::second_location());
    }
    Ok(())
}

/// Checks an entity as it will be after `staged`; cheap when no location is written.
pub(super) fn check_write(existing: &Attributes, staged: &[(&str, Staged)]) -> Result<(), Error> {
    let written = staged.iter().filter(|(_, s)| is_location(&s.attribute)).count();
    if written == 0 {
        return Ok(());
    }
    let stays = |name: &str| staged.iter().all(|(other, _)| *other != name);
    let kept = existing.iter().filter(|(name, attribute)| is_location(attribute) && stays(name)).count();
    if written + kept > 1 { Err(Error::second_location()) } else { Ok(()) }
}
