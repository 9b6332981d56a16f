//! The registrations of one tenant, found by the entities that a request is about.

use std::{collections::HashMap, sync::Arc};

use ngsi::{
    query::EntitySelector,
    registration::{RegisteredEntity, Registration},
};
use scope::{PathPattern, ServicePath};

use super::{RegistrationId, StoredRegistration};

/// A registration that is ready to be asked for.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: RegistrationId,
    pub(crate) path: ServicePath,
    pub(crate) registration: Registration,
}

/// What a request may get of a provider.
#[derive(Clone, Debug)]
pub(crate) struct Provided {
    pub(crate) entry: Arc<Entry>,
    /// Which of the request's entities it has, as it is asked for them.
    pub(crate) entities: Vec<RegisteredEntity>,
}

/// All registrations of a tenant as of an epoch.
#[derive(Debug, Default)]
pub(crate) struct TenantIndex {
    pub(crate) epoch: i64,
    entries: Vec<Arc<Entry>>,
    by_id: HashMap<String, Vec<usize>>,
    /// Those that have any id, or several.
    patterns: Vec<usize>,
}

impl TenantIndex {
    pub(crate) fn build(epoch: i64, stored: Vec<StoredRegistration>) -> Self {
        let mut index = Self { epoch, ..Self::default() };
        for one in stored {
            let registration = match Registration::parse(one.body.as_bytes()) {
                Ok(registration) => registration,
                Err(error) => {
                    tracing::error!(registration = %one.id, %error, "stored registration not readable");
                    continue;
                }
            };
            index.add(Entry { id: one.id, path: one.path, registration });
        }
        index
    }

    fn add(&mut self, entry: Entry) {
        let place = self.entries.len();
        let entities = &entry.registration.data.entities;
        if entities.iter().any(|entity| entity.id.is_none()) {
            self.patterns.push(place);
        }
        for id in entities.iter().filter_map(|entity| entity.id.as_ref()) {
            let places = self.by_id.entry(id.clone()).or_default();
            if places.last() != Some(&place) {
                places.push(place);
            }
        }
        self.entries.push(Arc::new(entry));
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The registrations that have entities of `selector` somewhere in `patterns`: those with exact ids first.
    pub(crate) fn providers(
        &self,
        patterns: &[PathPattern],
        selector: &EntitySelector,
        now_us: i64,
    ) -> Vec<Provided> {
        let mut places: Vec<usize> = if selector.ids.is_empty() {
            (0..self.entries.len()).collect()
        } else {
            let exact = selector.ids.iter().filter_map(|id| self.by_id.get(id)).flatten();
            exact.chain(&self.patterns).copied().collect()
        };
        let mut seen = vec![false; self.entries.len()];
        places.retain(|place| seen.get_mut(*place).is_some_and(|seen| !std::mem::replace(seen, true)));
        let entries = places.into_iter().filter_map(|place| self.entries.get(place));
        let mut found: Vec<Provided> = entries
            .filter(|entry| !entry.registration.is_expired(now_us))
            .filter(|entry| patterns.iter().any(|pattern| pattern.matches(&entry.path)))
            .filter_map(|entry| {
                let entities = shared(selector, &entry.registration.data.entities);
                (!entities.is_empty()).then(|| Provided { entry: entry.clone(), entities })
            })
            .collect();
        found.sort_by_key(|provided| {
            provided.entry.registration.data.entities.iter().all(|entity| entity.id.is_none())
        });
        found
    }
}

/// The entities that both name, as narrow as the narrower of the two.
fn shared(selector: &EntitySelector, registered: &[RegisteredEntity]) -> Vec<RegisteredEntity> {
    let mut found: Vec<RegisteredEntity> = Vec::new();
    for own in registered {
        let ids: Vec<Option<&String>> = match &own.id {
            Some(id) if selector.ids.is_empty() || selector.ids.contains(id) => {
                let fits = selector.id_pattern.as_ref().is_none_or(|pattern| pattern.is_match(id));
                if fits { vec![Some(id)] } else { continue }
            }
            Some(_) => continue,
            None if selector.ids.is_empty() => vec![None],
            None => selector.ids.iter().map(Some).collect(),
        };
        let types: Vec<Option<&String>> = match &own.entity_type {
            Some(own) if selector.types.is_empty() || selector.types.contains(own) => {
                let fits = selector.type_pattern.as_ref().is_none_or(|pattern| pattern.is_match(own));
                if fits { vec![Some(own)] } else { continue }
            }
            Some(_) => continue,
            None if selector.types.is_empty() => vec![None],
            None => selector.types.iter().map(Some).collect(),
        };
        for id in ids {
            for entity_type in &types {
                let entity = RegisteredEntity { id: id.cloned(), entity_type: entity_type.cloned() };
                if !found.contains(&entity) {
                    found.push(entity);
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn index(rows: &[(&str, Value)]) -> TenantIndex {
        let stored = rows.iter().enumerate().map(|(at, (path, entities))| StoredRegistration {
            id: RegistrationId::parse(&format!("{at:024x}")).unwrap(),
            path: ServicePath::parse(path).unwrap(),
            body: json!({"dataProvided": {"entities": entities}, "provider": {"http": {"url": "http://p"}}})
                .to_string(),
            revision: 1,
            counters: Default::default(),
        });
        TenantIndex::build(1, stored.collect())
    }

    fn found(index: &TenantIndex, path: &str, ids: &[&str], types: &[&str]) -> Vec<(usize, Vec<String>)> {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let selector = EntitySelector { ids: texts(ids), types: texts(types), ..EntitySelector::default() };
        let providers = index.providers(&[PathPattern::parse(path).unwrap()], &selector, 0);
        let shown = |entity: &RegisteredEntity| {
            let text = |part: &Option<String>| part.clone().unwrap_or_else(|| "*".to_owned());
            format!("{}/{}", text(&entity.id), text(&entity.entity_type))
        };
        providers
            .iter()
            .map(|one| {
                let place = usize::from_str_radix(one.entry.id.as_str(), 16).unwrap();
                (place, one.entities.iter().map(shown).collect())
            })
            .collect()
    }

    #[test]
    fn exact_ids_come_before_patterns() {
        let index = index(&[
            ("/", json!([{"idPattern": ".*", "type": "T"}])),
            ("/", json!([{"id": "a"}, {"id": "b", "type": "U"}])),
        ]);
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(found(&index, "/#", &["a"], &["T"]), [(1, texts(&["a/T"])), (0, texts(&["a/T"]))]);
        assert_eq!(found(&index, "/#", &["b"], &[]), [(1, texts(&["b/U"])), (0, texts(&["b/T"]))]);
        assert_eq!(found(&index, "/#", &["b"], &["X"]), []);
        assert_eq!(found(&index, "/#", &[], &["T"]), [(1, texts(&["a/T"])), (0, texts(&["*/T"]))]);
        assert_eq!(found(&index, "/#", &[], &[]), [(1, texts(&["a/*", "b/U"])), (0, texts(&["*/T"]))]);
    }

    #[test]
    fn the_path_of_a_registration_is_within_what_is_asked() {
        let index = index(&[("/a", json!([{"id": "a"}])), ("/a/b", json!([{"id": "a"}]))]);
        let places =
            |path| found(&index, path, &["a"], &[]).into_iter().map(|(at, _)| at).collect::<Vec<_>>();
        assert_eq!(places("/a"), [0]);
        assert_eq!(places("/a/#"), [0, 1]);
        assert_eq!(places("/"), Vec::<usize>::new());
    }
}
