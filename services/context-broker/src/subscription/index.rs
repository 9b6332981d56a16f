//! The subscriptions of one tenant, found by what a change is about: those that can't match cost nothing.
//!
//! Each entity of a subject puts it into one group: by its id, else by what its pattern begins with, and by its type.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use ngsi::{Alteration, Error, subscription::Subscription};
use scope::PathPattern;

use super::{StoredSubscription, SubscriptionId};

/// A subscription that is ready to match.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: SubscriptionId,
    pub(crate) path: PathPattern,
    pub(crate) subscription: Subscription,
    pub(crate) since_epoch: i64,
    pub(crate) revision: i64,
}

impl Entry {
    pub(crate) fn of(stored: &StoredSubscription) -> Result<Self, Error> {
        Ok(Self {
            id: stored.id.clone(),
            path: stored.path.clone(),
            subscription: Subscription::parse(stored.body.as_bytes())?,
            since_epoch: stored.since_epoch,
            revision: stored.revision,
        })
    }
}

/// Entries by the attribute that triggers them.
#[derive(Debug, Default)]
struct ByAttribute {
    any: Vec<usize>,
    named: HashMap<String, Vec<usize>>,
}

/// Groups by what ids begin with; the empty text is for all.
#[derive(Debug, Default)]
struct ByPrefix {
    groups: HashMap<Box<str>, ByAttribute>,
    /// Lengths of the texts, bytes.
    lengths: BTreeSet<usize>,
}

impl ByPrefix {
    fn group(&mut self, prefix: &str) -> &mut ByAttribute {
        self.lengths.insert(prefix.len());
        self.groups.entry(prefix.into()).or_default()
    }

    fn groups<'a>(&'a self, id: &'a str) -> impl Iterator<Item = &'a ByAttribute> {
        let prefixes = self.lengths.iter().map_while(move |length| match *length <= id.len() {
            true => Some(id.get(..*length)),
            false => None,
        });
        prefixes.flatten().filter_map(|prefix| self.groups.get(prefix))
    }
}

/// All subscriptions of a tenant as of an epoch.
#[derive(Debug, Default)]
pub(crate) struct TenantIndex {
    pub(crate) epoch: i64,
    entries: Vec<Arc<Entry>>,
    by_key: HashMap<SubscriptionId, usize>,
    by_id: HashMap<String, ByAttribute>,
    by_type: HashMap<String, ByPrefix>,
    /// Those that name neither an id nor a type.
    any: ByPrefix,
}

impl TenantIndex {
    /// Builds the index; what `before` has of the same revision is not parsed again.
    pub(crate) fn build(epoch: i64, stored: &[StoredSubscription], before: &Self) -> Self {
        let mut index = Self { epoch, ..Self::default() };
        for one in stored {
            let known = before.get(&one.id).filter(|entry| entry.revision == one.revision);
            let entry = match known {
                Some(entry) => entry.clone(),
                None => match Entry::of(one) {
                    Ok(entry) => Arc::new(entry),
                    Err(error) => {
                        tracing::error!(subscription = %one.id, %error, "stored subscription not readable");
                        continue;
                    }
                },
            };
            index.add(entry);
        }
        index
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = &SubscriptionId> {
        self.by_key.keys()
    }

    fn add(&mut self, entry: Arc<Entry>) {
        let place = self.entries.len();
        let condition = &entry.subscription.subject.condition;
        let deletes =
            condition.alteration_types.as_ref().is_some_and(|kinds| kinds.contains(&Alteration::Delete));
        for subject in &entry.subscription.subject.entities {
            let prefix = subject.id_pattern.as_ref().map_or("", |pattern| pattern.literal_prefix());
            let group = match (&subject.id, &subject.entity_type) {
                (Some(id), _) => self.by_id.entry(id.clone()).or_default(),
                (None, Some(entity_type)) => {
                    self.by_type.entry(entity_type.clone()).or_default().group(prefix)
                }
                (None, None) => self.any.group(prefix),
            };
            // A delete triggers whatever the attributes.
            if condition.attrs.is_empty() || deletes {
                group.any.push(place);
            }
            for name in &condition.attrs {
                group.named.entry(name.clone()).or_default().push(place);
            }
        }
        self.by_key.insert(entry.id.clone(), place);
        self.entries.push(entry);
    }

    pub(crate) fn get(&self, id: &SubscriptionId) -> Option<&Arc<Entry>> {
        self.by_key.get(id).map(|place| &self.entries[*place])
    }

    /// Where the subscriptions are that may be about an entity.
    fn groups<'a>(&'a self, id: &'a str, entity_type: &str) -> impl Iterator<Item = &'a ByAttribute> {
        let by_type = self.by_type.get(entity_type).into_iter().flat_map(move |groups| groups.groups(id));
        self.by_id.get(id).into_iter().chain(by_type).chain(self.any.groups(id))
    }

    /// Whether [`TenantIndex::candidates`] finds any.
    pub(crate) fn has_candidates<'a>(
        &self,
        id: &str,
        entity_type: &str,
        attributes: impl Iterator<Item = &'a String> + Clone,
    ) -> bool {
        self.groups(id, entity_type).any(|group| {
            !group.any.is_empty()
                || (!group.named.is_empty() && attributes.clone().any(|name| group.named.contains_key(name)))
        })
    }

    /// Subscriptions that a change of these attributes may trigger, in order of creation, each once.
    pub(crate) fn candidates<'a>(
        &'a self,
        id: &str,
        entity_type: &str,
        attributes: impl Iterator<Item = &'a String> + Clone,
    ) -> Vec<&'a Arc<Entry>> {
        let mut places: Vec<usize> = Vec::new();
        for group in self.groups(id, entity_type) {
            places.extend(&group.any);
            if !group.named.is_empty() {
                places.extend(attributes.clone().filter_map(|name| group.named.get(name)).flatten());
            }
        }
        places.sort_unstable();
        places.dedup();
        places.into_iter().map(|place| &self.entries[place]).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stored(n: i64, subject: &serde_json::Value) -> StoredSubscription {
        let body = json!({"subject": subject, "notification": {"http": {"url": "http://sink/"}}});
        StoredSubscription {
            id: SubscriptionId::generate(n * 1_000_000),
            path: PathPattern::parse("/#").unwrap(),
            body: body.to_string(),
            since_epoch: n,
            revision: n,
            created_us: n,
        }
    }

    fn found(index: &TenantIndex, id: &str, entity_type: &str, attributes: &[&str]) -> Vec<i64> {
        let names: Vec<String> = attributes.iter().map(|&name| name.to_owned()).collect();
        let names: &'static [String] = names.leak();
        let candidates = index.candidates(id, entity_type, names.iter());
        assert_eq!(index.has_candidates(id, entity_type, names.iter()), !candidates.is_empty());
        candidates.iter().map(|entry| entry.revision).collect()
    }

    #[test]
    fn only_subscriptions_about_the_entity_and_attribute_are_candidates() {
        let all = [
            stored(1, &json!({"entities": [{"id": "e", "type": "T"}]})),
            stored(
                2,
                &json!({"entities": [{"idPattern": ".*", "type": "T"}], "condition": {"attrs": ["a"]}}),
            ),
            stored(3, &json!({"entities": [{"idPattern": ".*"}], "condition": {"attrs": ["b", "a"]}})),
            stored(
                4,
                &json!({"entities": [{"idPattern": "^x"}],
                "condition": {"attrs": ["b"], "alterationTypes": ["entityDelete"]}}),
            ),
        ];
        let index = TenantIndex::build(4, &all, &TenantIndex::default());
        assert_eq!(found(&index, "e", "T", &["a", "b"]), [1, 2, 3]);
        assert_eq!(found(&index, "f", "T", &["a"]), [2, 3]);
        assert_eq!(found(&index, "x", "U", &["c"]), [4]);
        assert_eq!(found(&index, "f", "U", &["c"]), [0; 0]);
    }

    #[test]
    fn a_hundred_thousand_that_can_not_match_are_not_looked_at() {
        let mut all: Vec<_> = (0..100_000)
            .map(|n| {
                let entity = match n % 3 {
                    0 => json!({"id": format!("room{n}"), "type": "Room"}),
                    1 => json!({"idPattern": format!("^room{n}-.*$"), "type": "Room"}),
                    _ => json!({"idPattern": ".*", "type": format!("Room{n}")}),
                };
                stored(n, &json!({"entities": [entity]}))
            })
            .collect();
        all.push(stored(100_000, &json!({"entities": [{"idPattern": "^ro", "typePattern": "^R"}]})));
        let index = TenantIndex::build(1, &all, &TenantIndex::default());
        assert_eq!(found(&index, "room1-a", "Room", &["a"]), [1, 100_000]);
        assert_eq!(found(&index, "room3", "Room", &["a"]), [3, 100_000]);
        assert_eq!(found(&index, "roof", "Room", &["a"]), [100_000]);
        assert_eq!(found(&index, "x", "Room5", &["a"]), [5]);
    }

    #[test]
    fn an_unchanged_subscription_is_not_parsed_again() {
        let all = [stored(1, &json!({"entities": [{"id": "e"}]}))];
        let first = TenantIndex::build(1, &all, &TenantIndex::default());
        let second = TenantIndex::build(2, &all, &first);
        assert!(Arc::ptr_eq(first.get(&all[0].id).unwrap(), second.get(&all[0].id).unwrap()));
    }
}
