use std::{
    cmp::Ordering,
    collections::{HashMap, hash_map::RandomState},
    hash::{BuildHasher, BuildHasherDefault, Hash, Hasher},
    sync::{Arc, LazyLock},
};

use scope::Tenant;

/// One secret for all keys of this process, so that nobody can choose ids that meet.
static SECRET: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// The entities with one id of one tenant, whatever their path and type.
///
/// It knows its hash: an update is looked up several times by the one task that plans, but its key is made by the task of its
/// request.
#[derive(Clone, Debug)]
pub(crate) struct GroupKey {
    pub(crate) tenant: Tenant,
    pub(crate) id: Arc<str>,
    hash: u64,
}

impl GroupKey {
    pub(crate) fn new(tenant: Tenant, id: Arc<str>) -> Self {
        let hash = SECRET.hash_one((tenant.as_str(), &*id));
        Self { tenant, id, hash }
    }

    /// Even over all keys, the same for one key as long as the process lives.
    pub(crate) fn even_hash(&self) -> u64 {
        self.hash
    }
}

impl PartialEq for GroupKey {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.id == other.id && self.tenant == other.tenant
    }
}

impl Eq for GroupKey {}

impl Hash for GroupKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// What is known of some groups.
pub(crate) type GroupMap<V> = HashMap<GroupKey, V, BuildHasherDefault<Known>>;

/// Hands on the hash that a key knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known(u64);

impl Hasher for Known {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, bytes: &[u8]) {
        // A key writes its hash alone.
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }
}

impl Ord for GroupKey {
    fn cmp(&self, other: &Self) -> Ordering {
        (&self.tenant, &self.id).cmp(&(&other.tenant, &other.id))
    }
}

impl PartialOrd for GroupKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
