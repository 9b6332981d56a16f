//! Entities as their rows have them, in memory, bounded by bytes. Right because this process alone writes the file; what is
//! newer than the rows is in the overlay, where one looks first.
//!
//! The applier puts what it wrote; a reader puts what it read only if nothing of that key was committed since it
//! began to read. Both happen under the key's stripe, so that an old value never replaces a newer one.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hash},
    sync::Arc,
};

use parking_lot::Mutex;
use quick_cache::{Weighter, sync::Cache};

use crate::update::Stored;

pub(super) use crate::update::GroupKey as IdKey;

const STRIPES: usize = 1024;
/// What an entry costs beside its entities, about.
const ENTRY_BYTES: usize = 150;
/// What an entity costs beside its attributes' text, about.
const ENTITY_BYTES: usize = 400;
/// An entry of usual size, from which the first size of the tables follows.
const USUAL_BYTES: u64 = 4096;

pub(super) struct EntityCache {
    entities: Cache<IdKey, Arc<[Stored]>, Bytes>,
    /// Commits per stripe of keys.
    commits: Box<[Mutex<u64>]>,
    hasher: RandomState,
}

/// Weighs what an entry costs.
#[derive(Clone)]
struct Bytes;

impl Weighter<IdKey, Arc<[Stored]>> for Bytes {
    fn weight(&self, key: &IdKey, group: &Arc<[Stored]>) -> u64 {
        let entities: usize = group
            .iter()
            .map(|stored| ENTITY_BYTES + stored.entity.attributes.len() + stored.measures.len() * 16)
            .sum();
        (ENTRY_BYTES + key.id.len() + entities) as u64
    }
}

/// What a reader saw before it read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket(u64);

impl EntityCache {
    pub(super) fn new(max_bytes: u64) -> Self {
        let usual = usize::try_from(max_bytes / USUAL_BYTES).unwrap_or(usize::MAX);
        Self {
            entities: Cache::with_weighter(usual, max_bytes, Bytes),
            commits: (0..STRIPES).map(|_| Mutex::new(0)).collect(),
            hasher: RandomState::new(),
        }
    }

    pub(super) fn get(&self, key: &IdKey) -> Option<Arc<[Stored]>> {
        self.entities.get(key)
    }

    /// Take it before reading from the database.
    pub(super) fn ticket(&self, key: &IdKey) -> Ticket {
        Ticket(*self.stripe(key).lock())
    }

    /// Keeps what was read, unless something of this stripe was committed since the ticket was taken.
    pub(super) fn fill(&self, ticket: Ticket, key: IdKey, group: Arc<[Stored]>) {
        let commits = self.stripe(&key).lock();
        if *commits == ticket.0 {
            self.entities.insert(key, group);
        }
    }

    /// Keeps what the applier wrote.
    pub(super) fn put(&self, key: IdKey, group: Arc<[Stored]>) {
        let mut commits = self.stripe(&key).lock();
        *commits += 1;
        self.entities.insert(key, group);
    }

    /// Forgets what was changed beside the writer.
    pub(super) fn forget(&self, key: &IdKey) {
        let mut commits = self.stripe(key).lock();
        *commits += 1;
        self.entities.remove(key);
    }

    pub(super) fn bytes(&self) -> u64 {
        self.entities.weight()
    }

    fn stripe(&self, key: &impl Hash) -> &Mutex<u64> {
        let index = self.hasher.hash_one(key) % (STRIPES as u64);
        &self.commits[usize::try_from(index).unwrap_or_default()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str) -> IdKey {
        IdKey::new(scope::Tenant::default(), id.into())
    }

    #[test]
    fn a_reader_does_not_put_back_what_was_committed_over() {
        let cache = EntityCache::new(1 << 20);
        let ticket = cache.ticket(&key("a"));
        cache.put(key("a"), Arc::new([Stored::sample("a", 2)]));
        cache.fill(ticket, key("a"), Arc::new([Stored::sample("a", 1)]));
        assert_eq!(cache.get(&key("a")).unwrap()[0].entity.version, 2);

        let ticket = cache.ticket(&key("b"));
        cache.forget(&key("b"));
        cache.fill(ticket, key("b"), Arc::new([Stored::sample("b", 1)]));
        assert!(cache.get(&key("b")).is_none());
    }

    #[test]
    fn a_quiet_key_is_filled_by_its_reader() {
        let cache = EntityCache::new(1 << 20);
        let ticket = cache.ticket(&key("a"));
        cache.fill(ticket, key("a"), Arc::new([Stored::sample("a", 1)]));
        assert_eq!(cache.get(&key("a")).unwrap()[0].entity.version, 1);
    }
}
