//! The subscriptions of one tenant, found by what a change is about: those that can't match cost nothing.
//!
//! Each entity of a subject puts it into one group: by its id, else by what its pattern begins with, and by its type. A change
//! of a subscription touches its own places alone.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use ngsi::{
    Alteration, Attributes, Error,
    subscription::{Subject, SubjectEntity, Subscription},
};
use parking_lot::RwLock;
use scope::PathPattern;

use super::{
    StoredSubscription, SubscriptionId,
    group::{ANY, Group, Lookup, Name, Trigger},
    thresholds::Filter,
};

/// A subscription that is ready to match.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: SubscriptionId,
    pub(crate) path: PathPattern,
    /// Without its description.
    pub(crate) subscription: Subscription,
    pub(crate) since_epoch: i64,
    pub(crate) revision: i64,
    created_us: i64,
}

impl Entry {
    fn of(stored: &StoredSubscription) -> Result<Self, Error> {
        let mut subscription = Subscription::parse(stored.body.as_bytes())?;
        // Only the API shows it, and reads it from the store.
        subscription.description = None;
        Ok(Self {
            id: stored.id.clone(),
            path: stored.path.clone(),
            subscription,
            since_epoch: stored.since_epoch,
            revision: stored.revision,
            created_us: stored.created_us,
        })
    }

    fn subject(&self) -> &Subject {
        &self.subscription.subject
    }

    fn filter(&self) -> Option<Filter> {
        Filter::of(self.subject().condition.q.as_ref()?.conditions())
    }
}

/// Where an entry is kept.
pub(super) type Slot = u32;

/// All subscriptions of a tenant. It is brought up to date in place, while others look for candidates.
#[derive(Debug, Default)]
pub(crate) struct TenantIndex {
    /// Complete up to this.
    epoch: AtomicI64,
    places: RwLock<Places>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Places {
    entries: Vec<Option<Arc<Entry>>>,
    free: Vec<Slot>,
    by_id: HashMap<SubscriptionId, Slot>,
    /// By the hash of what they have in common: two that share one by chance are told apart when a candidate is looked at.
    groups: HashMap<u64, Group>,
    /// How many entities of subjects have an id that begins with a text of this length, bytes.
    prefixes: BTreeMap<usize, usize>,
}

impl TenantIndex {
    pub(crate) fn epoch(&self) -> i64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Now it holds all changes up to `epoch`.
    pub(crate) fn completed(&self, epoch: i64) {
        self.epoch.store(epoch, Ordering::Release);
    }

    /// Takes in subscriptions that were made, changed or deleted.
    pub(crate) fn take_in(&self, changed: &[StoredSubscription], deleted: &[SubscriptionId]) {
        let read = |one| match Entry::of(one) {
            Ok(entry) => Some(entry),
            Err(error) => {
                tracing::error!(subscription = %one.id, %error, "stored subscription not readable");
                None
            }
        };
        let entries: Vec<Option<Entry>> = changed.iter().map(read).collect();
        let mut places = self.places.write();
        for id in changed.iter().map(|one| &one.id).chain(deleted) {
            self.remove(&mut places, id);
        }
        for entry in entries.into_iter().flatten() {
            self.add(&mut places, entry);
        }
    }

    pub(crate) fn ids(&self) -> Vec<SubscriptionId> {
        self.places.read().by_id.keys().cloned().collect()
    }

    pub(crate) fn get(&self, id: &SubscriptionId) -> Option<Arc<Entry>> {
        let places = self.places.read();
        places.entries[*places.by_id.get(id)? as usize].clone()
    }

    fn add(&self, places: &mut Places, entry: Entry) {
        let entry = Arc::new(entry);
        let slot = places.free.pop().unwrap_or_else(|| {
            places.entries.push(None);
            Slot::try_from(places.entries.len() - 1).expect("fewer subscriptions than slots")
        });
        places.by_id.insert(entry.id.clone(), slot);
        places.entries[slot as usize] = Some(entry.clone());
        let Places { entries, groups, prefixes, .. } = places;
        let filter = |slot: Slot| entries[slot as usize].as_ref()?.filter();
        let lookup = Lookup { filter: &filter, hasher: &self.hasher };
        for subject in &entry.subject().entities {
            *prefixes.entry(prefix(subject).len()).or_default() += 1;
            let group = groups.entry(self.group_of(subject)).or_default();
            for name in self.triggers(entry.subject()) {
                group.add(Trigger { name, slot }, &lookup);
            }
        }
    }

    fn remove(&self, places: &mut Places, id: &SubscriptionId) {
        let Some(slot) = places.by_id.remove(id) else { return };
        let Some(entry) = places.entries[slot as usize].take() else { return };
        places.free.push(slot);
        let filter = entry.filter();
        for subject in &entry.subject().entities {
            let length = prefix(subject).len();
            let others = places.prefixes.get_mut(&length).map(|count| {
                *count -= 1;
                *count
            });
            if others == Some(0) {
                places.prefixes.remove(&length);
            }
            let key = self.group_of(subject);
            let Some(group) = places.groups.get_mut(&key) else { continue };
            for name in self.triggers(entry.subject()) {
                group.remove(Trigger { name, slot }, filter.as_ref(), &self.hasher);
            }
            if group.is_empty() {
                places.groups.remove(&key);
            }
        }
    }

    fn group_of(&self, subject: &SubjectEntity) -> u64 {
        match (&subject.id, &subject.entity_type) {
            (Some(id), _) => self.hasher.hash_one((Kind::Id, id.as_str())),
            (None, Some(entity_type)) => {
                self.hasher.hash_one((Kind::Type, entity_type.as_str(), prefix(subject)))
            }
            (None, None) => self.hasher.hash_one((Kind::Any, prefix(subject))),
        }
    }

    /// The names that trigger it.
    fn triggers(&self, subject: &Subject) -> Vec<Name> {
        let condition = &subject.condition;
        let mut names: Vec<Name> = condition.attrs.iter().map(|name| self.name(name)).collect();
        let kinds = condition.alteration_types.as_ref();
        // A delete triggers whatever the attributes.
        if names.is_empty() || kinds.is_some_and(|kinds| kinds.contains(&Alteration::Delete)) {
            return vec![ANY];
        }
        names.sort_unstable();
        names.dedup();
        names
    }

    fn name(&self, name: &str) -> Name {
        let hash = self.hasher.hash_one(name);
        // The upper half will do; it must not look like "any".
        Name::try_from(hash >> 32).unwrap_or_default().max(ANY + 1)
    }

    fn names<'a>(&self, names: impl Iterator<Item = &'a str>) -> Vec<Name> {
        names.map(|name| self.name(name)).collect()
    }

    /// Where the subscriptions are that may be about an entity.
    fn groups<'a>(
        &'a self,
        places: &'a Places,
        id: &'a str,
        entity_type: &'a str,
    ) -> impl Iterator<Item = &'a Group> {
        let prefixes = places.prefixes.keys().map_while(|length| (*length <= id.len()).then_some(*length));
        let prefixes = prefixes.filter_map(|length| id.get(..length));
        let patterns = prefixes.flat_map(move |prefix| {
            [
                self.hasher.hash_one((Kind::Type, entity_type, prefix)),
                self.hasher.hash_one((Kind::Any, prefix)),
            ]
        });
        let keys = [self.hasher.hash_one((Kind::Id, id))].into_iter().chain(patterns);
        keys.filter_map(|key| places.groups.get(&key))
    }

    /// Whether there may be candidates for an entity, whatever its attributes are.
    pub(crate) fn has_candidates<'a>(
        &self,
        id: &str,
        entity_type: &str,
        touched: impl Iterator<Item = &'a str>,
    ) -> bool {
        let places = self.places.read();
        let mut groups = self.groups(&places, id, entity_type).peekable();
        if groups.peek().is_none() {
            return false;
        }
        let names = self.names(touched);
        groups.any(|group| group.has_any(&names))
    }

    /// Subscriptions that a change of the attributes `touched` of this entity may trigger, in order of creation, each once.
    pub(crate) fn candidates<'a>(
        &self,
        (id, entity_type): (&str, &str),
        touched: impl Iterator<Item = &'a str>,
        attributes: &Attributes,
    ) -> Vec<Arc<Entry>> {
        let (mut slots, names) = (Vec::new(), self.names(touched));
        let places = self.places.read();
        for group in self.groups(&places, id, entity_type) {
            group.find(&names, attributes, &self.hasher, &mut slots);
        }
        slots.sort_unstable();
        slots.dedup();
        let mut found: Vec<Arc<Entry>> =
            slots.into_iter().filter_map(|slot| places.entries[slot as usize].clone()).collect();
        drop(places);
        found.sort_by(|one, other| (one.created_us, &one.id).cmp(&(other.created_us, &other.id)));
        found
    }
}

/// What the hash of a group is made of.
#[derive(Hash)]
enum Kind {
    Id,
    Type,
    Any,
}

/// What the ids begin with that it means, as far as that is known.
fn prefix(subject: &SubjectEntity) -> &str {
    subject.id_pattern.as_ref().map_or("", |pattern| pattern.literal_prefix())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

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

    fn build(all: &[StoredSubscription]) -> TenantIndex {
        let index = TenantIndex::default();
        index.take_in(all, &[]);
        index
    }

    /// Revisions of the candidates for a change of these attributes, of which `n` has the value given.
    fn found_with(index: &TenantIndex, id: &str, entity_type: &str, touched: &[&str], n: &Value) -> Vec<i64> {
        let attributes = json!({"n": {"type": "Number", "value": n}});
        let attributes: Attributes = serde_json::from_value(attributes).unwrap();
        let candidates = index.candidates((id, entity_type), touched.iter().copied(), &attributes);
        assert!(candidates.is_empty() || index.has_candidates(id, entity_type, touched.iter().copied()));
        candidates.iter().map(|entry| entry.revision).collect()
    }

    fn found(index: &TenantIndex, id: &str, entity_type: &str, touched: &[&str]) -> Vec<i64> {
        found_with(index, id, entity_type, touched, &json!(null))
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
        let index = build(&all);
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
        let index = build(&all);
        assert_eq!(found(&index, "room1-a", "Room", &["a"]), [1, 100_000]);
        assert_eq!(found(&index, "room3", "Room", &["a"]), [3, 100_000]);
        assert_eq!(found(&index, "roof", "Room", &["a"]), [100_000]);
        assert_eq!(found(&index, "x", "Room5", &["a"]), [5]);
    }

    #[test]
    fn thousands_whose_query_keeps_the_value_out_are_not_looked_at() {
        let q = |n: i64| match n % 4 {
            0 => format!("n>{n}"),
            1 => format!("n=={n}"),
            2 => format!("n<-{n}"),
            _ => format!("n=={n}..{}", n + 2),
        };
        let subject = |n: i64| {
            json!({"entities": [{"idPattern": ".*", "type": "T"}],
                "condition": {"attrs": ["n"], "expression": {"q": q(n)}}})
        };
        let all: Vec<_> = (0..20_000).map(|n| stored(n, &subject(n))).collect();
        let index = build(&all);
        assert_eq!(found_with(&index, "e", "T", &["n"], &json!(-5)), [2]);
        assert_eq!(found_with(&index, "e", "T", &["n"], &json!(5)), [0, 3, 4, 5]);
        assert_eq!(found_with(&index, "e", "T", &["n"], &json!("x")), [0; 0]);
        assert_eq!(found_with(&index, "e", "T", &["n"], &json!([])).len(), all.len(), "any element may do");
        assert_eq!(found_with(&index, "e", "T", &["m"], &json!(5)), [0; 0]);
    }

    #[test]
    fn what_is_deleted_is_found_no_more_and_what_is_changed_as_it_is_now() {
        let subject = |n: i64| match n % 3 {
            0 => json!({"entities": [{"id": "e"}], "condition": {"expression": {"q": format!("n>{n}")}}}),
            1 => json!({"entities": [{"idPattern": "^e", "type": "T"}], "condition": {"attrs": ["n", "m"]}}),
            _ => json!({"entities": [{"id": "e"}, {"id": "e", "type": "T"}], "condition": {"attrs": ["n"]}}),
        };
        let mut all: Vec<_> = (0..60).map(|n| stored(n, &subject(n))).collect();
        let index = build(&all);
        let before = found_with(&index, "e", "T", &["n"], &json!(30));
        assert_eq!(before.len(), 51, "those whose query asks for more than 30 are left out");
        let deleted: Vec<SubscriptionId> = all.drain(..20).map(|one| one.id).collect();
        for one in &mut all[..10] {
            one.body = stored(0, &json!({"entities": [{"id": "other"}]})).body;
            one.revision += 1_000;
        }
        index.take_in(&all[..10], &deleted);
        let after = found_with(&index, "e", "T", &["n"], &json!(30));
        assert_eq!(after, before.into_iter().filter(|revision| *revision >= 30).collect::<Vec<_>>());
        assert_eq!(found(&index, "other", "T", &["x"]), (1_020..1_030).collect::<Vec<_>>());
        assert_eq!(index.ids().len(), 40);
        index.take_in(&[], &all.into_iter().map(|one| one.id).collect::<Vec<_>>());
        let places = index.places.read();
        assert!(places.groups.is_empty() && places.prefixes.is_empty() && places.by_id.is_empty());
        assert_eq!(places.free.len(), places.entries.len());
    }

    fn resident() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    #[test]
    #[ignore = "long"]
    fn a_subscription_takes_at_most_a_kibibyte_beside_its_text() {
        let typical = |n: i64| {
            let subject = json!({
                "entities": [{"id": format!("urn:ngsi-ld:Room:{n}"), "type": "Room"}],
                "condition": {"attrs": ["temperature"], "expression": {"q": "temperature>25"}},
            });
            let mut one = stored(n, &subject);
            let url = format!("http://127.0.0.1:9/receiver/{}", n % 500);
            let notification = json!({"http": {"url": url}, "attrs": ["temperature"]});
            one.body = json!({"subject": subject, "notification": notification}).to_string();
            one
        };
        let all: Vec<_> = (0..100_000).map(typical).collect();
        let text: usize = all.iter().map(|one| one.body.len()).sum();
        let before = resident();
        let index = build(&all);
        let each = (resident() - before) / 100_000;
        println!("{each} bytes each, of {} bytes of text", text / 100_000);
        assert_eq!(index.ids().len(), all.len());
        assert!(each < 1024 + text as u64 / 100_000);
    }
}
