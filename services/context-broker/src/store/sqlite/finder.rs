//! Reads of single entities that are not in memory: those that wait are answered by one statement.
//!
//! A statement costs two changes of threads, more than the rows of a page of memory; so while one runs, the next ones
//! gather, as writes do for a commit.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use store::{SqlitePools, StoreError, group_commit::BatchExecutor};

use super::{
    cache::{EntityCache, IdKey},
    packed::unpack,
    writer::LOAD,
};
use crate::update::Stored;

/// Groups of one id larger than this (in paths and types) are not kept in memory.
const MAX_CACHED_GROUP: usize = 64;

pub(super) struct Finder {
    pub(super) pools: SqlitePools,
    pub(super) cache: Arc<EntityCache>,
}

/// All entities of one id.
pub(super) type Group = Arc<[Stored]>;

impl Finder {
    async fn find(&self, keys: BTreeSet<IdKey>) -> Result<BTreeMap<IdKey, Group>, StoreError> {
        let keys: Vec<IdKey> = keys.into_iter().collect();
        let tickets: Vec<_> = keys.iter().map(|key| self.cache.ticket(key)).collect();
        let mut found: BTreeMap<IdKey, Vec<Stored>> = BTreeMap::new();
        for (statement, chunk) in LOAD.chunks(&keys) {
            let mut query = sqlx::query_scalar::<_, String>(statement);
            for key in chunk {
                query = query.bind(key.tenant.as_str()).bind(&*key.id);
            }
            for row in query.fetch_all(&self.pools.reader).await? {
                let (tenant, stored) = unpack(row)?;
                let key = IdKey::new(tenant, stored.entity.id.clone());
                found.entry(key).or_default().push(stored);
            }
        }
        let found: BTreeMap<IdKey, Group> =
            found.into_iter().map(|(key, group)| (key, group.into())).collect();
        for (key, ticket) in keys.iter().zip(tickets) {
            // What does not exist is not remembered: anyone can ask for endless names.
            if let Some((key, group)) =
                found.get_key_value(key).filter(|(_, group)| group.len() <= MAX_CACHED_GROUP)
            {
                self.cache.fill(ticket, key.clone(), group.clone());
            }
        }
        Ok(found)
    }
}

#[async_trait]
impl BatchExecutor for Finder {
    type Request = IdKey;
    type Response = Group;
    type Error = StoreError;

    async fn execute(&self, batch: Vec<IdKey>) -> Vec<Result<Group, StoreError>> {
        match self.find(batch.iter().cloned().collect()).await {
            Ok(found) => batch.iter().map(|key| Ok(found.get(key).cloned().unwrap_or_default())).collect(),
            Err(error) => batch.iter().map(|_| Err(error.clone())).collect(),
        }
    }
}
