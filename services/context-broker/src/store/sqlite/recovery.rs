//! What a start finds: entries of the journal that are not in the rows yet, and events of an older program in the table that
//! was the log before there was a journal.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use bus::{Appender, Entry, Journal};
use ngsi::EntityText;
use prost::Message;
use proto::v1::{Alteration, ContextChange};
use scope::ServicePath;
use store::{SqlitePools, StoreError};

use super::{overlay::Overlay, packed::unpack, writer::LOAD};
use crate::{
    store::decode,
    update::{Derived, GroupKey, GroupMap, MeasureId, Plan, PlannedRow, Stored, remember},
};

/// Entries applied at once.
const AT_ONCE: usize = 500;
const BYTES_AT_ONCE: usize = 8 << 20;

/// The journal with all that is to be known of it.
pub(super) struct Recovered {
    pub(super) journal: Journal,
    pub(super) appender: Appender,
    pub(super) overlay: Overlay,
}

/// Opens the journal beside `file`. What is not in the rows yet waits in the overlay; `reads_journal`: events are read from
/// the journal, so those of the table belong there too.
pub(super) async fn open(
    file: &Path,
    pools: &SqlitePools,
    reads_journal: bool,
) -> Result<Recovered, StoreError> {
    let dir = file.with_extension("journal");
    let applied = sequence(pools, "journal").await?;
    let version = sequence(pools, "entity_version").await?;
    if applied == 0 && reads_journal {
        move_table(&dir, pools).await?;
    }
    let applied = sequence(pools, "journal").await?;
    let opened = tokio::task::spawn_blocking(move || Journal::open(&dir, applied)).await;
    let (journal, appender) = opened.map_err(|error| StoreError::Internal(error.to_string()))??;
    if journal.first() > applied + 1 {
        return Err(StoreError::Corrupt {
            file: file.display().to_string(),
            reason: format!(
                "it holds the changes up to {applied}, its journal begins at {}; both must be of the same backup",
                journal.first()
            ),
        });
    }
    journal.set_floor(applied + 1);
    let overlay = Overlay::new(applied, version);
    let missing = journal.next() - 1 - applied;
    if missing > 0 {
        tracing::info!(changes = missing, "changes of the journal are put into the rows");
        replay(&journal, pools, &overlay, applied + 1, reads_journal).await?;
    }
    Ok(Recovered { journal, appender, overlay })
}

async fn sequence(pools: &SqlitePools, name: &str) -> Result<i64, StoreError> {
    let value = sqlx::query_scalar("SELECT value FROM sequence WHERE name = ?").bind(name);
    Ok(value.fetch_one(&pools.writer).await?)
}

/// Repeats the entries from `from` on in the overlay.
async fn replay(
    journal: &Journal,
    pools: &SqlitePools,
    overlay: &Overlay,
    mut from: i64,
    reads_journal: bool,
) -> Result<(), StoreError> {
    loop {
        let reading = journal.clone();
        let read = tokio::task::spawn_blocking(move || reading.read(from, AT_ONCE, BYTES_AT_ONCE)).await;
        let entries = read.map_err(|error| StoreError::Internal(error.to_string()))??;
        let Some(last) = entries.last().map(|entry| entry.offset) else { return Ok(()) };
        let changes = entries.iter().map(Repeated::read).collect::<Result<Vec<_>, _>>()?;
        let mut groups = load(pools, overlay, &changes).await?;
        let mut version = overlay.version();
        for (change, entry) in changes.into_iter().zip(entries) {
            version = version.max(change.version);
            let mut group = groups.remove(&change.key).unwrap_or_default();
            let key = change.key.clone();
            let plan = change.repeat(&mut group)?;
            let events = if reads_journal { Vec::new() } else { vec![entry.record] };
            overlay.add(&plan, events, entry.offset, version);
            groups.insert(key, group);
        }
        from = last + 1;
    }
}

/// The entities that the changes touch, as they were before.
async fn load(
    pools: &SqlitePools,
    overlay: &Overlay,
    changes: &[Repeated],
) -> Result<GroupMap<Vec<Stored>>, StoreError> {
    let mut groups: GroupMap<Vec<Stored>> = GroupMap::default();
    let mut missing = Vec::new();
    for key in changes.iter().map(|change| change.key.clone()).collect::<BTreeSet<_>>() {
        match overlay.get(&key) {
            Some(group) => drop(groups.insert(key, group.to_vec())),
            None => missing.push(key),
        }
    }
    for (statement, chunk) in LOAD.chunks(&missing) {
        let query = chunk.iter().fold(sqlx::query_scalar::<_, String>(statement), |query, key| {
            query.bind(key.tenant.as_str()).bind(&*key.id)
        });
        for row in query.fetch_all(&pools.writer).await? {
            let (tenant, stored) = unpack(row)?;
            groups.entry(GroupKey::new(tenant, stored.entity.id.clone())).or_default().push(stored);
        }
    }
    Ok(groups)
}

/// A change as the journal has it.
struct Repeated {
    key: GroupKey,
    path: ServicePath,
    entity_type: Arc<str>,
    version: i64,
    alteration: Alteration,
    measure_id: Option<MeasureId>,
    change: ContextChange,
}

impl Repeated {
    fn read(entry: &Entry) -> Result<Self, StoreError> {
        let damaged =
            || StoreError::Internal(format!("entry {} of the journal is not a change", entry.offset));
        let change = ContextChange::decode(entry.record.payload.clone()).map_err(|_| damaged())?;
        let measure_id = match entry.note.len() {
            0 => None,
            _ => Some(MeasureId::try_from(&entry.note[..]).map_err(|_| damaged())?),
        };
        Ok(Self {
            key: GroupKey::new(entry.record.tenant.clone(), change.entity_id.as_str().into()),
            path: ServicePath::parse(&change.service_path).map_err(|_| damaged())?,
            entity_type: change.entity_type.as_str().into(),
            version: change.version,
            alteration: change.alteration(),
            measure_id,
            change,
        })
    }

    /// Makes the change again.
    fn repeat(self, group: &mut Vec<Stored>) -> Result<Plan, StoreError> {
        let is_it = |stored: &Stored| {
            stored.entity.entity_type == self.entity_type && stored.entity.path == self.path
        };
        let place = group.iter().position(is_it);
        let before = place.map(|place| group.swap_remove(place));
        let mut plan = Plan::default();
        let key = self.key;
        if self.alteration == Alteration::Delete {
            plan.deletes.push((key.clone(), self.path, self.entity_type));
        } else {
            let entity = Arc::new(EntityText {
                id: key.id.clone(),
                entity_type: self.entity_type,
                path: self.path,
                attributes: self.change.attributes,
                created_us: self.change.created_us,
                modified_us: self.change.modified_us,
                version: self.version,
            });
            let Derived { expires_us, cell } = Derived::from(&*decode(&entity)?);
            let measures = remember(before, self.measure_id, self.alteration == Alteration::Create);
            let stored = Stored { entity, expires_us, cell, measures };
            group.push(stored.clone());
            // What the row's indexes hold is not asked.
            plan.puts.push(PlannedRow { key: key.clone(), stored, keeps_indexes: false });
        }
        plan.groups.push((key, group.clone().into()));
        Ok(plan)
    }
}

/// Moves the events of the table into the journal: readers find them at the same offsets.
async fn move_table(dir: &Path, pools: &SqlitePools) -> Result<(), StoreError> {
    let Some(last) = bus::outbox::copy_to_journal(pools, bus::CONTEXT_CHANGES, dir).await? else {
        return Ok(());
    };
    tracing::info!(last, "the log of changes moves from its table into the journal");
    let mut transaction = pools.begin().await?;
    sqlx::query("UPDATE sequence SET value = ? WHERE name = 'journal'")
        .bind(last)
        .execute(&mut *transaction)
        .await?;
    sqlx::query("DELETE FROM bus_log").execute(&mut *transaction).await?;
    Ok(transaction.commit().await?)
}
