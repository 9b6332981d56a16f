//! Groups and devices as the south port needs them: from memory, with the store behind.
//!
//! A change made by this process is seen at once; one made by another replica after `shared_ttl_ms` at the latest.
//! What is not there is remembered as well, under the same rule.

use std::{
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use moka::sync::Cache;
use parking_lot::Mutex;
use scope::Scope;

use crate::{
    config::CacheConfig,
    device::{ApiKey, Device, Group},
    measure::{Defaults, Mapping},
    metrics::Metrics,
    store::{Store, StoreError},
};

/// Where this process alone writes, only memory bounds how long an entry lives; this frees what is not used.
const IDLE: Duration = Duration::from_secs(600);

/// A device with the mapping made for the group it was last used with.
pub(crate) struct KnownDevice {
    pub device: Device,
    mapping: Mutex<Option<(u64, Arc<Mapping>)>>,
}

/// A group, and a number that is new each time it is read.
pub(crate) struct KnownGroup {
    pub group: Group,
    stamp: u64,
}

impl KnownDevice {
    pub(crate) fn new(device: Device) -> Self {
        Self { device, mapping: Mutex::new(None) }
    }

    /// The device merged with its group.
    pub(crate) fn mapping(&self, group: Option<&KnownGroup>, defaults: Defaults) -> Arc<Mapping> {
        let stamp = group.map_or(0, |group| group.stamp);
        let mut made = self.mapping.lock();
        match &*made {
            Some((of, mapping)) if *of == stamp => mapping.clone(),
            _ => {
                let mapping = Arc::new(Mapping::new(&self.device, group.map(|group| &group.group), defaults));
                *made = Some((stamp, mapping.clone()));
                mapping
            }
        }
    }
}

type Groups = Cache<(String, ApiKey), Option<Arc<KnownGroup>>>;
type Devices = Cache<(Scope, String), Arc<[Arc<KnownDevice>]>>;

/// Look-ups by what a device shows.
pub(crate) struct Registry {
    store: Arc<dyn Store>,
    groups: Groups,
    devices: Devices,
    /// Counts writes: an answer of the store that a write may have overtaken is not remembered.
    writes: AtomicU64,
    stamps: AtomicU64,
    metrics: Metrics,
}

impl Registry {
    pub(crate) fn new(store: Arc<dyn Store>, config: &CacheConfig, metrics: Metrics) -> Self {
        let shared = store.is_shared().then(|| Duration::from_millis(config.shared_ttl_ms));
        Self {
            groups: cache(config.max_devices, shared),
            devices: cache(config.max_devices, shared),
            store,
            writes: AtomicU64::new(0),
            stamps: AtomicU64::new(1),
            metrics,
        }
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The group of this resource and key, whatever its tenant.
    pub(crate) async fn find_group(
        &self,
        resource: &str,
        key: &ApiKey,
    ) -> Result<Option<Arc<KnownGroup>>, StoreError> {
        let at = (resource.to_owned(), key.clone());
        let load = async {
            let found = self.store.group_of_key(resource, key).await?;
            let stamp = self.stamps.fetch_add(1, Ordering::Relaxed);
            Ok(found.map(|group| Arc::new(KnownGroup { group, stamp })))
        };
        self.remembered(&self.groups, at, load).await
    }

    /// All devices of this id in the scope, one per key.
    pub(crate) async fn find_devices(
        &self,
        scope: &Scope,
        id: &str,
    ) -> Result<Arc<[Arc<KnownDevice>]>, StoreError> {
        let at = (scope.clone(), id.to_owned());
        let load = async {
            let found = self.store.find_devices(scope, id).await?;
            Ok(found.into_iter().map(|device| Arc::new(KnownDevice::new(device))).collect())
        };
        self.remembered(&self.devices, at, load).await
    }

    async fn remembered<K, V>(
        &self,
        cache: &Cache<K, V>,
        at: K,
        load: impl Future<Output = Result<V, StoreError>>,
    ) -> Result<V, StoreError>
    where
        K: Hash + Eq + Clone + Send + Sync + 'static,
        V: Clone + Send + Sync + 'static,
    {
        if let Some(known) = cache.get(&at) {
            Metrics::count(&self.metrics.lookups, "hit");
            return Ok(known);
        }
        Metrics::count(&self.metrics.lookups, "miss");
        let before = self.writes.load(Ordering::SeqCst);
        let loaded = load.await?;
        cache.insert(at.clone(), loaded.clone());
        if self.writes.load(Ordering::SeqCst) != before {
            // A write committed while the store answered: the answer may be from before it.
            cache.invalidate(&at);
        }
        Ok(loaded)
    }

    /// Call it after each write of groups.
    pub(crate) fn groups_changed(&self) {
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.groups.invalidate_all();
    }

    /// Call it after each write of this device.
    pub(crate) fn device_changed(&self, scope: &Scope, id: &str) {
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.devices.invalidate(&(scope.clone(), id.to_owned()));
    }

    /// Call it after many devices went at once.
    pub(crate) fn all_devices_changed(&self) {
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.devices.invalidate_all();
    }
}

fn cache<K, V>(entries: u64, time_to_live: Option<Duration>) -> Cache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    let builder = Cache::builder().max_capacity(entries);
    match time_to_live {
        Some(time_to_live) => builder.time_to_live(time_to_live).build(),
        None => builder.time_to_idle(IDLE).build(),
    }
}
