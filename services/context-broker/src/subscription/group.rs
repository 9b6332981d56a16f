//! Subscriptions about the same entities, by the attribute that triggers them and by what their `q` asks.
//!
//! Names are kept as hashes: two that share one by chance cost a look at a candidate, nothing else.

use std::{collections::HashMap, hash::RandomState};

use ngsi::Attributes;

use super::{
    index::Slot,
    thresholds::{Filter, Thresholds},
};

/// The hash of an attribute's name.
pub(super) type Name = u32;
/// Stands for any attribute.
pub(super) const ANY: Name = 0;
/// A group of at most this many is a list: most groups are about one entity.
const FEW: usize = 16;

/// What triggers a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trigger {
    pub(super) name: Name,
    pub(super) slot: Slot,
}

#[derive(Debug)]
pub(super) enum Group {
    Few(Vec<Trigger>),
    #[expect(clippy::box_collection, reason = "most groups are few: theirs is the size that counts")]
    Many(Box<HashMap<Name, Bucket>>),
}

impl Default for Group {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

/// Subscriptions with one trigger.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    plain: Vec<Slot>,
    /// By the attribute of which their `q` asks something.
    filtered: HashMap<String, Thresholds>,
}

/// How what is in a group is found again.
pub(super) struct Lookup<'a> {
    /// The filter of a subscription that is there already.
    pub(super) filter: &'a dyn Fn(Slot) -> Option<Filter>,
    pub(super) hasher: &'a RandomState,
}

impl Group {
    pub(super) fn add(&mut self, trigger: Trigger, lookup: &Lookup<'_>) {
        match self {
            Self::Few(few) if few.len() < FEW => {
                few.reserve_exact(1);
                few.push(trigger);
            }
            Self::Few(few) => {
                let mut many = HashMap::new();
                for one in few.iter().chain([&trigger]) {
                    add(&mut many, *one, lookup);
                }
                *self = Self::Many(Box::new(many));
            }
            Self::Many(many) => add(many, trigger, lookup),
        }
    }

    /// Takes it out again; `filter` is that of the subscription.
    pub(super) fn remove(&mut self, trigger: Trigger, filter: Option<&Filter>, hasher: &RandomState) {
        match self {
            Self::Few(few) => {
                if let Some(place) = few.iter().position(|one| *one == trigger) {
                    few.swap_remove(place);
                }
            }
            Self::Many(many) => {
                let Some(bucket) = many.get_mut(&trigger.name) else { return };
                bucket.remove(trigger.slot, filter, hasher);
                if bucket.is_empty() {
                    many.remove(&trigger.name);
                }
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Few(few) => few.is_empty(),
            Self::Many(many) => many.is_empty(),
        }
    }

    /// Whether any of them is triggered by one of `names`, whatever its `q` asks.
    pub(super) fn has_any(&self, names: &[Name]) -> bool {
        match self {
            Self::Few(few) => few.iter().any(|one| one.name == ANY || names.contains(&one.name)),
            Self::Many(many) => many.contains_key(&ANY) || names.iter().any(|name| many.contains_key(name)),
        }
    }

    /// Adds those to `found` that `names` trigger and that may let an entity with these attributes through.
    pub(super) fn find(
        &self,
        names: &[Name],
        attributes: &Attributes,
        hasher: &RandomState,
        found: &mut Vec<Slot>,
    ) {
        match self {
            Self::Few(few) => {
                let triggered = few.iter().filter(|one| one.name == ANY || names.contains(&one.name));
                found.extend(triggered.map(|one| one.slot));
            }
            Self::Many(many) => {
                for bucket in [ANY].iter().chain(names).filter_map(|name| many.get(name)) {
                    bucket.find(attributes, hasher, found);
                }
            }
        }
    }
}

fn add(many: &mut HashMap<Name, Bucket>, trigger: Trigger, lookup: &Lookup<'_>) {
    let bucket = many.entry(trigger.name).or_default();
    match (lookup.filter)(trigger.slot) {
        Some(filter) => {
            let thresholds = bucket.filtered.entry(filter.attribute.clone()).or_default();
            thresholds.add(&filter, trigger.slot, lookup.hasher);
        }
        None => bucket.plain.push(trigger.slot),
    }
}

impl Bucket {
    fn remove(&mut self, slot: Slot, filter: Option<&Filter>, hasher: &RandomState) {
        let Some(filter) = filter else {
            if let Some(place) = self.plain.iter().position(|one| *one == slot) {
                self.plain.swap_remove(place);
            }
            return;
        };
        if let Some(thresholds) = self.filtered.get_mut(&filter.attribute) {
            thresholds.remove(filter, slot, hasher);
            if thresholds.is_empty() {
                self.filtered.remove(&filter.attribute);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.filtered.is_empty()
    }

    fn find(&self, attributes: &Attributes, hasher: &RandomState, found: &mut Vec<Slot>) {
        found.extend(&self.plain);
        if self.filtered.is_empty() {
            return;
        }
        for (name, attribute) in attributes {
            if let Some(thresholds) = self.filtered.get(name) {
                thresholds.find(&attribute.value, hasher, found);
            }
        }
    }
}
