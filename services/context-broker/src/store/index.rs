//! Indexes on attributes, declared by the configuration (decision 19).

use ngsi::query::{Condition, Range, StoreTest};
use scope::{QueryScope, Tenant};
use serde::{Deserialize, Serialize};

use super::Selection;

/// Names of such indexes begin so.
pub(super) const PREFIX: &str = "attribute_";

/// Queries of one tenant for one type find by the value of this attribute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AttributeIndex {
    /// Empty: the default tenant.
    pub tenant: String,
    #[serde(rename = "type")]
    pub entity_type: String,
    pub attribute: String,
}

impl AttributeIndex {
    /// What is wrong with it, in words.
    pub(crate) fn check(&self) -> Result<(), String> {
        let tenant = Tenant::from_header(Some(&self.tenant)).map_err(|error| error.to_string())?;
        let plain = |text: &str| {
            let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b':');
            !text.is_empty() && text.len() <= ngsi::parse::MAX_IDENTIFIER && text.bytes().all(known)
        };
        match (tenant.as_str() == self.tenant, plain(&self.entity_type) && plain(&self.attribute)) {
            (false, _) => Err(format!("attribute index: the tenant is written {tenant}")),
            (_, false) => {
                Err("attribute index: type and attribute are letters, digits and _ - . :".to_owned())
            }
            (true, true) => Ok(()),
        }
    }

    /// The same for the same index, whoever makes it.
    pub(super) fn name(&self) -> String {
        let text = [&*self.tenant, &*self.entity_type, &*self.attribute].join(" ");
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        format!("{PREFIX}{hash:016x}")
    }

    /// ` tenant = … AND type = …`, as text: planners compare it with the condition of the index.
    pub(super) fn condition(&self) -> String {
        format!("tenant = '{}' AND type = '{}'", self.tenant, self.entity_type)
    }
}

/// The first index that serves the selection, with the ranges to look for in it.
pub(super) fn serving<'a>(
    indexes: &'a [AttributeIndex],
    scope: &QueryScope,
    selection: &'a Selection,
) -> Option<(&'a AttributeIndex, &'a [Range])> {
    let [entity_type] = selection.types.as_slice() else { return None };
    let ranges =
        |index: &AttributeIndex, condition: &'a Condition| match (condition.path.as_slice(), &condition.test)
        {
            ([attribute, value], StoreTest::Within(ranges))
                if *attribute == index.attribute && value == "value" =>
            {
                Some(ranges.as_slice())
            }
            _ => None,
        };
    let own = indexes
        .iter()
        .filter(|index| index.tenant == scope.tenant.as_str() && index.entity_type == *entity_type);
    own.flat_map(|index| selection.conditions.iter().filter_map(move |c| Some((index, ranges(index, c)?))))
        .next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(tenant: &str, entity_type: &str, attribute: &str) -> AttributeIndex {
        AttributeIndex {
            tenant: tenant.to_owned(),
            entity_type: entity_type.to_owned(),
            attribute: attribute.to_owned(),
        }
    }

    #[test]
    fn what_could_end_a_literal_is_refused() {
        assert_eq!(index("", "Room", "temp").check(), Ok(()));
        assert_eq!(index("factory", "Room", "a.b:c-d_e").check(), Ok(()));
        for bad in [
            index("Factory", "Room", "t"),
            index("a'b", "Room", "t"),
            index("", "Ro'om", "t"),
            index("", "Room", "t\""),
            index("", "Room", "t\\"),
            index("", "", "t"),
            index("", "Room", ""),
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_differ_with_what_they_name() {
        assert_eq!(index("", "A", "b").name(), index("", "A", "b").name());
        assert_ne!(index("", "A", "b").name(), index("", "B", "a").name());
        assert!(index("t", "A", "b").name().len() < 63);
    }
}
