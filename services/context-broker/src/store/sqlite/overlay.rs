//! Committed changes that are in the journal but not yet in the rows.
//!
//! ```text
//! writer ─► fresh ─► (applier takes all) ─► applying ─► rows ─► gone from here
//! find ───► fresh, applying, then the cache, then the rows
//! ```
//!
//! Whoever reads rows first waits until what was committed before is in them ([`Overlay::settle`]).

use std::sync::Arc;

use bus::Outgoing;
use parking_lot::RwLock;
use scope::ServicePath;
use store::StoreError;
use tokio::sync::{Notify, watch};

use crate::update::{GroupKey, GroupMap, Plan, Stored};

/// Beyond so many bytes of entities, about, writers wait for the applier.
const MOST_BYTES: usize = 24 << 20;
/// The applier does not wait for more when so many entities wait, or so many bytes of them: whoever reads rows waits for all of
/// it.
const MANY: usize = 16_000;
const MANY_BYTES: usize = MOST_BYTES / 2;
/// What an entity costs beside its attributes, about.
const ENTITY_BYTES: usize = 500;

#[derive(Default)]
pub(super) struct Overlay {
    inner: RwLock<Inner>,
    progress: watch::Sender<Progress>,
    /// Something waits to be applied.
    pub(super) filled: Notify,
    /// Somebody waits for it.
    pub(super) wanted: Notify,
    /// So much waits that it is not to become more.
    pub(super) full: Notify,
}

#[derive(Default)]
struct Inner {
    fresh: Groups,
    applying: Arc<Taken>,
    /// Of `fresh`.
    bytes: usize,
    /// Offset of the newest entry that is here or in the rows.
    newest: i64,
    /// Version of the newest change.
    version: i64,
    /// Events on their way to the outbox, when they are not read from the journal.
    events: Vec<Outgoing>,
}

type Groups = GroupMap<Changed>;

/// All entities of one id as they are now, and which of the rows are not.
#[derive(Clone, Debug)]
pub(super) struct Changed {
    pub(super) group: Arc<[Stored]>,
    pub(super) rows: Vec<ChangedRow>,
}

#[derive(Clone, Debug)]
pub(super) struct ChangedRow {
    pub(super) path: ServicePath,
    pub(super) entity_type: Arc<str>,
    /// There is such a row, and what of it is in indexes stays as it is.
    pub(super) keeps_indexes: bool,
    /// The row goes.
    pub(super) deleted: bool,
}

/// What the applier writes in one transaction.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) groups: Groups,
    pub(super) events: Vec<Outgoing>,
    /// Offset of the last entry that is in the rows afterwards, and of the one that was before.
    pub(super) last: i64,
    pub(super) before: i64,
    pub(super) version: i64,
    bytes: usize,
}

#[derive(Clone, Debug, Default)]
struct Progress {
    /// Offset of the last entry that is in the rows.
    applied: i64,
    /// Why the last attempt failed.
    failure: Option<StoreError>,
    attempts: u64,
}

impl Overlay {
    /// Begins with nothing waiting: everything up to entry `applied` is in the rows, the newest of which has `version`.
    pub(super) fn new(applied: i64, version: i64) -> Self {
        let inner = Inner { newest: applied, version, ..Inner::default() };
        let progress = watch::Sender::new(Progress { applied, ..Progress::default() });
        Self { inner: RwLock::new(inner), progress, ..Self::default() }
    }

    /// The entities of an id; `None`: nothing of it waits here.
    pub(super) fn get(&self, key: &GroupKey) -> Option<Arc<[Stored]>> {
        let inner = self.inner.read();
        inner.fresh.get(key).or_else(|| inner.applying.groups.get(key)).map(|changed| changed.group.clone())
    }

    /// Version of the newest change.
    pub(super) fn version(&self) -> i64 {
        self.inner.read().version
    }

    /// Entities that wait, about: for metrics.
    pub(super) fn waiting(&self) -> usize {
        let inner = self.inner.read();
        inner.fresh.len() + inner.applying.groups.len()
    }

    /// Takes what was committed up to entry `last`; `events` are those that go to the outbox.
    pub(super) fn add(&self, plan: &Plan, events: Vec<Outgoing>, last: i64, version: i64) {
        let mut inner = self.inner.write();
        for (key, group) in &plan.groups {
            let bytes = |group: &[Stored]| -> usize {
                group.iter().map(|stored| ENTITY_BYTES + stored.entity.attributes.len()).sum()
            };
            inner.bytes += bytes(group);
            match inner.fresh.get_mut(key) {
                Some(changed) => {
                    let before = std::mem::replace(&mut changed.group, group.clone());
                    inner.bytes -= bytes(&before);
                }
                None => {
                    inner.fresh.insert(key.clone(), Changed { group: group.clone(), rows: Vec::new() });
                }
            }
        }
        for put in &plan.puts {
            let entity = &put.stored.entity;
            inner.change(&put.key, &entity.path, &entity.entity_type, put.keeps_indexes, false);
        }
        for (key, path, entity_type) in &plan.deletes {
            inner.change(key, path, entity_type, false, true);
        }
        inner.events.extend(events);
        inner.newest = last;
        inner.version = version;
        let is_full = inner.fill() >= 1.0;
        drop(inner);
        self.filled.notify_one();
        if is_full {
            self.full.notify_one();
        }
    }

    /// How much of what may wait has gathered since the applier last took something; 1 and more: enough.
    pub(super) fn fill(&self) -> f64 {
        self.inner.read().fill()
    }

    /// What is to be written next: what failed before, or else all that is fresh. `None` when there is nothing.
    pub(super) fn take(&self) -> Option<Arc<Taken>> {
        // Before the lock is held: whoever waits looks at both in the other order.
        let before = self.progress.borrow().applied;
        let mut inner = self.inner.write();
        if inner.applying.last == 0 {
            if inner.newest == before {
                return None;
            }
            let taken = Taken {
                groups: std::mem::take(&mut inner.fresh),
                events: std::mem::take(&mut inner.events),
                last: inner.newest,
                before,
                version: inner.version,
                bytes: std::mem::take(&mut inner.bytes),
            };
            inner.applying = Arc::new(taken);
        }
        Some(inner.applying.clone())
    }

    /// What was taken is in the rows.
    pub(super) fn applied(&self, taken: &Taken) {
        self.inner.write().applying = Arc::default();
        self.progress.send_modify(|progress| {
            progress.applied = taken.last;
            progress.failure = None;
            progress.attempts += 1;
        });
    }

    /// What was taken is not in the rows; it is tried again.
    pub(super) fn failed(&self, error: &StoreError) {
        self.progress.send_modify(|progress| {
            progress.failure = Some(error.clone());
            progress.attempts += 1;
        });
    }

    /// Why the applier's last attempt failed, if it did.
    pub(super) fn failure(&self) -> Option<StoreError> {
        self.progress.borrow().failure.clone()
    }

    /// Waits until everything that was committed before is in the rows; fails when the applier does.
    pub(super) async fn settle(&self) -> Result<(), StoreError> {
        let newest = self.inner.read().newest;
        self.wait(|progress| progress.applied >= newest).await
    }

    /// Waits until there is room for more; fails when the applier does.
    pub(super) async fn room(&self) -> Result<(), StoreError> {
        let fits = || {
            let inner = self.inner.read();
            inner.bytes + inner.applying.bytes < MOST_BYTES
        };
        if fits() {
            return Ok(());
        }
        self.wait(|_| fits()).await
    }

    async fn wait(&self, reached: impl Fn(&Progress) -> bool) -> Result<(), StoreError> {
        let mut progress = self.progress.subscribe();
        let attempts = {
            let now = progress.borrow_and_update();
            if reached(&now) {
                return Ok(());
            }
            now.attempts
        };
        self.wanted.notify_one();
        let until = |progress: &Progress| {
            reached(progress) || (progress.failure.is_some() && progress.attempts > attempts)
        };
        let ended = progress.wait_for(until).await;
        let ended = ended.map_err(|_| StoreError::Unavailable("the store is closed".into()))?;
        match &ended.failure {
            Some(error) if !reached(&ended) => Err(error.clone()),
            _ => Ok(()),
        }
    }
}

impl Inner {
    fn fill(&self) -> f64 {
        let share = |part: usize, whole: usize| part as f64 / whole as f64;
        share(self.fresh.len(), MANY).max(share(self.bytes, MANY_BYTES))
    }

    fn change(
        &mut self,
        key: &GroupKey,
        path: &ServicePath,
        entity_type: &Arc<str>,
        keeps: bool,
        deleted: bool,
    ) {
        let Some(changed) = self.fresh.get_mut(key) else { return };
        let known = changed.rows.iter_mut().find(|row| row.entity_type == *entity_type && row.path == *path);
        match known {
            Some(row) => {
                row.keeps_indexes &= keeps;
                row.deleted = deleted;
            }
            None => changed.rows.push(ChangedRow {
                path: path.clone(),
                entity_type: entity_type.clone(),
                keeps_indexes: keeps,
                deleted,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::update::PlannedRow;

    fn plan(id: &str, version: i64, keeps_indexes: bool) -> Plan {
        let stored = Stored::sample(id, version);
        let tenant = scope::Tenant::default();
        let key = GroupKey::new(tenant, id.into());
        Plan {
            puts: vec![PlannedRow { key: key.clone(), stored: stored.clone(), keeps_indexes }],
            groups: vec![(key, Arc::new([stored]))],
            ..Plan::default()
        }
    }

    fn delete(id: &str) -> Plan {
        let tenant = scope::Tenant::default();
        let stored = Stored::sample(id, 0).entity;
        let key = GroupKey::new(tenant, id.into());
        Plan {
            deletes: vec![(key.clone(), stored.path.clone(), stored.entity_type.clone())],
            groups: vec![(key, Arc::new([]))],
            ..Plan::default()
        }
    }

    fn version(overlay: &Overlay, id: &str) -> Option<i64> {
        let key = GroupKey::new(scope::Tenant::default(), id.into());
        overlay.get(&key).map(|group| group[0].entity.version)
    }

    #[tokio::test]
    async fn the_newest_is_seen_until_it_is_in_the_rows() {
        let overlay = Overlay::new(5, 10);
        overlay.settle().await.unwrap();
        assert!(overlay.take().is_none());
        overlay.add(&plan("a", 11, true), Vec::new(), 6, 11);
        overlay.add(&plan("b", 12, true), Vec::new(), 7, 12);
        let taken = overlay.take().unwrap();
        assert_eq!((taken.before, taken.last, taken.version, taken.groups.len()), (5, 7, 12, 2));
        overlay.add(&plan("a", 13, true), Vec::new(), 8, 13);
        assert_eq!(
            (version(&overlay, "a"), version(&overlay, "b"), overlay.waiting()),
            (Some(13), Some(12), 3)
        );
        // Not in the rows: the same is taken again.
        let again = overlay.take().unwrap();
        assert!(Arc::ptr_eq(&taken, &again));
        overlay.applied(&taken);
        assert_eq!((version(&overlay, "a"), version(&overlay, "b")), (Some(13), None));
        let taken = overlay.take().unwrap();
        assert_eq!((taken.before, taken.last), (7, 8));
        overlay.applied(&taken);
        assert_eq!((version(&overlay, "a"), overlay.version()), (None, 13));
        overlay.settle().await.unwrap();
    }

    #[test]
    fn a_row_keeps_its_indexes_when_each_change_did() {
        let changed = |plans: &[Plan]| {
            let overlay = Overlay::new(0, 0);
            for (offset, plan) in (1..).zip(plans) {
                overlay.add(plan, Vec::new(), offset, offset);
            }
            let taken = overlay.take().unwrap();
            let rows = &taken.groups.values().next().unwrap().rows;
            assert_eq!(rows.len(), 1);
            (rows[0].keeps_indexes, rows[0].deleted)
        };
        assert_eq!(changed(&[plan("a", 1, true), plan("a", 2, true)]), (true, false));
        assert_eq!(changed(&[plan("a", 1, false), plan("a", 2, true)]), (false, false));
        assert_eq!(changed(&[plan("a", 1, true), delete("a")]), (false, true));
        assert_eq!(changed(&[delete("a"), plan("a", 2, true)]), (false, false));
    }

    #[tokio::test]
    async fn who_waits_learns_that_it_failed_and_the_next_one_waits_again() {
        let overlay = Arc::new(Overlay::new(0, 0));
        overlay.add(&plan("a", 1, true), Vec::new(), 1, 1);
        let waiting = |overlay: Arc<Overlay>| tokio::spawn(async move { overlay.settle().await });
        let first = waiting(overlay.clone());
        overlay.wanted.notified().await;
        overlay.failed(&StoreError::Full("disk".into()));
        assert!(matches!(first.await.unwrap(), Err(StoreError::Full(_))));
        assert!(matches!(overlay.failure(), Some(StoreError::Full(_))));
        let second = waiting(overlay.clone());
        overlay.wanted.notified().await;
        let taken = overlay.take().unwrap();
        overlay.applied(&taken);
        second.await.unwrap().unwrap();
        assert!(overlay.failure().is_none());
    }
}
