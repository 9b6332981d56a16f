//! A batch of operations against the entities they touch: pure, the same for both stores. The store loads the entities
//! under its locks, calls [`Batch::apply`] for each operation in order, and writes back what [`Batch::finish`] lists.

use std::sync::Arc;

use bus::Outgoing;
use ngsi::{
    Alteration, Entity, EntityText, Error, Outcome, Spliced, WriteContext, apply_to_text,
    update::DEFAULT_ENTITY_TYPE,
};
use scope::{ServicePath, Tenant};

use super::{Applied, GroupKey, GroupMap, MEASURE_IDS_KEPT, MeasureId, Stored, Write, event};

/// One entity of a group while the batch runs.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) path: ServicePath,
    pub(crate) entity_type: Arc<str>,
    /// What it is now; `None` after a delete.
    pub(crate) stored: Option<Stored>,
    /// Whether the database has a row for it.
    has_row: bool,
    /// What of that row is part of indexes.
    indexed: Option<Indexed>,
    changed: bool,
}

/// Creation, expiry and cell.
type Indexed = (i64, Option<i64>, Option<i64>);

fn indexed(stored: &Stored) -> Indexed {
    (stored.entity.created_us, stored.expires_us, stored.cell)
}

impl Slot {
    pub(crate) fn loaded(stored: Stored) -> Self {
        Self {
            path: stored.entity.path.clone(),
            entity_type: stored.entity.entity_type.clone(),
            indexed: Some(indexed(&stored)),
            stored: Some(stored),
            has_row: true,
            changed: false,
        }
    }

    /// A row that was only made to be locked: there is no entity yet.
    pub(crate) fn reserved(path: ServicePath, entity_type: Arc<str>) -> Self {
        Self { path, entity_type, stored: None, has_row: true, indexed: None, changed: true }
    }

    fn fresh(path: ServicePath, entity_type: Arc<str>) -> Self {
        Self { has_row: false, changed: false, ..Self::reserved(path, entity_type) }
    }
}

/// What one entity may hold (decision 11).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) max_entity_bytes: usize,
}

/// A row to be written.
#[derive(Clone, Debug)]
pub(crate) struct PlannedRow {
    pub(crate) key: GroupKey,
    pub(crate) stored: Stored,
    /// Its row has the same creation, expiry and cell already: indexes stay as they are.
    pub(crate) keeps_indexes: bool,
}

/// What the transaction has to write.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) puts: Vec<PlannedRow>,
    /// Rows to delete: tenant and id, path, type.
    pub(crate) deletes: Vec<(GroupKey, ServicePath, Arc<str>)>,
    /// In the order of the operations.
    pub(crate) events: Vec<Outgoing>,
    /// For each event, the measure that caused it.
    pub(crate) causes: Vec<Option<MeasureId>>,
    /// The groups that changed, as they will be.
    pub(crate) groups: Vec<(GroupKey, Arc<[Stored]>)>,
}

pub(crate) struct Batch<'a> {
    groups: GroupMap<Vec<Slot>>,
    events: Vec<Outgoing>,
    causes: Vec<Option<MeasureId>>,
    /// Subscription epochs of the tenants at hand.
    epochs: &'a dyn Fn(&Tenant) -> i64,
    limits: Limits,
    now_us: i64,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(
        groups: GroupMap<Vec<Slot>>,
        epochs: &'a dyn Fn(&Tenant) -> i64,
        limits: Limits,
        now_us: i64,
    ) -> Self {
        Self { groups, events: Vec::new(), causes: Vec::new(), epochs, limits, now_us }
    }

    /// Applies one operation; `version` is used up if it changes something. A refused operation changes nothing, a
    /// partly refused one what its error does not name.
    pub(crate) fn apply(&mut self, write: &Write, version: i64) -> Result<Applied, Error> {
        let now_us = self.now_us;
        let path = &write.scope.path;
        let operation = &write.operation;
        let epoch = (self.epochs)(&write.scope.tenant);
        let key = write.key();
        let id = key.id.clone();
        let slots = match self.groups.get_mut(key) {
            Some(slots) => slots,
            None => self.groups.entry(key.clone()).or_default(),
        };
        let index = target(slots, write, now_us)?;
        let slot = match index {
            Some(index) => &mut slots[index],
            None => {
                let named = operation.update.entity_type.as_deref().unwrap_or(DEFAULT_ENTITY_TYPE);
                slots.push(Slot::fresh(path.clone(), named.into()));
                let last = slots.len() - 1;
                &mut slots[last]
            }
        };
        let alive = slot.stored.as_ref().filter(|stored| stored.is_alive(now_us));
        if let Some(repeated) = repeated(alive, operation.measure_id.as_ref()) {
            return Ok(repeated);
        }
        if alive.is_none() && operation.must_exist {
            return Err(Error::entity_not_found());
        }
        // Never before what the entity saw last: the clock may have been set back.
        let not_before = match alive {
            Some(stored) => now_us.max(stored.entity.modified_us),
            None => write.accepted_us.unwrap_or(now_us),
        };
        let context = WriteContext { path, now_us: not_before };
        let before = alive.map(|stored| (stored.entity.clone(), Derived::of(stored)));
        let Changed { outcome, after } = change(before.as_ref(), write, context)?;
        let Some(alteration) = outcome.alteration else {
            return finished(&outcome, before.map_or(0, |(entity, _)| entity.version), slot, false);
        };
        let after = after.map(|(entity, derived)| {
            // One text for the name, here and in the key.
            let id = before.as_ref().map_or(id, |(before, _)| before.id.clone());
            (Arc::new(EntityText { id, version, ..entity }), derived)
        });
        if let Some((entity, _)) = &after
            && entity.attributes.len() > self.limits.max_entity_bytes
        {
            return Err(Error::entity_too_large(self.limits.max_entity_bytes));
        }
        if let Some((entity, _)) = after.as_ref().or(before.as_ref()) {
            self.causes.push(operation.measure_id);
            self.events.push(event::encode(&event::Change {
                write,
                entity,
                outcome: &outcome,
                alteration,
                version,
                commit_time_us: not_before,
                epoch,
            }));
        }
        let measures = remember(slot.stored.take(), operation.measure_id, alteration == Alteration::Create);
        slot.changed = true;
        slot.stored =
            after.map(|(entity, Derived { expires_us, cell })| Stored { entity, expires_us, cell, measures });
        finished(&outcome, version, slot, alteration == Alteration::Create)
    }

    /// What has to be written.
    pub(crate) fn finish(self) -> Plan {
        let mut plan = Plan { events: self.events, causes: self.causes, ..Plan::default() };
        for (key, slots) in self.groups {
            if !slots.iter().any(|slot| slot.changed) {
                continue;
            }
            for slot in &slots {
                match &slot.stored {
                    Some(stored) if slot.changed => plan.puts.push(PlannedRow {
                        key: key.clone(),
                        stored: stored.clone(),
                        keeps_indexes: slot.indexed == Some(indexed(stored)),
                    }),
                    None if slot.has_row => {
                        plan.deletes.push((key.clone(), slot.path.clone(), slot.entity_type.clone()));
                    }
                    _ => {}
                }
            }
            let group = slots.into_iter().filter_map(|slot| slot.stored).collect();
            plan.groups.push((key, group));
        }
        plan
    }
}

/// The slot that an operation means; `None`: there is none yet.
fn target(slots: &[Slot], write: &Write, now_us: i64) -> Result<Option<usize>, Error> {
    let here = |slot: &Slot| slot.path == write.scope.path;
    let alive = |slot: &Slot| slot.stored.as_ref().is_some_and(|stored| stored.is_alive(now_us));
    let named = match write.operation.update.entity_type.as_deref() {
        Some(named) => named,
        None => {
            let mut matching = slots.iter().enumerate().filter(|(_, slot)| here(slot) && alive(slot));
            match (matching.next(), matching.next()) {
                (Some(_), Some(_)) => return Err(Error::too_many_results()),
                (Some((index, _)), None) => return Ok(Some(index)),
                (None, _) => DEFAULT_ENTITY_TYPE,
            }
        }
    };
    let found = slots.iter().position(|slot| here(slot) && *slot.entity_type == *named);
    if found.is_none() && !write.operation.creates() {
        return Err(Error::entity_not_found());
    }
    Ok(found)
}

fn repeated(stored: Option<&Stored>, measure_id: Option<&MeasureId>) -> Option<Applied> {
    let stored = stored?;
    stored.measures.contains(measure_id?).then(|| Applied {
        entity_type: stored.entity.entity_type.clone(),
        version: stored.entity.version,
        created: false,
        repeated: true,
    })
}

/// The measure ids of the entity after the change: the last ones, oldest first.
pub(crate) fn remember(
    before: Option<Stored>,
    measure_id: Option<MeasureId>,
    is_new: bool,
) -> Vec<MeasureId> {
    let mut measures = before.filter(|_| !is_new).map(|stored| stored.measures).unwrap_or_default();
    if let Some(measure_id) = measure_id {
        // One that is made again after a kill may be there already.
        measures.retain(|known| *known != measure_id);
        measures.push(measure_id);
    }
    let surplus = measures.len().saturating_sub(MEASURE_IDS_KEPT);
    measures.drain(..surplus);
    measures
}

fn finished(outcome: &Outcome, version: i64, slot: &Slot, created: bool) -> Result<Applied, Error> {
    match &outcome.partial {
        Some(refused) => Err(refused.clone()),
        None => Ok(Applied { entity_type: slot.entity_type.clone(), version, created, repeated: false }),
    }
}

/// What follows from an entity's attributes.
#[derive(Clone, Copy)]
pub(crate) struct Derived {
    pub(crate) expires_us: Option<i64>,
    pub(crate) cell: Option<i64>,
}

impl Derived {
    fn of(stored: &Stored) -> Self {
        Self { expires_us: stored.expires_us, cell: stored.cell }
    }

    pub(crate) fn from(entity: &Entity) -> Self {
        let cell = entity.location().as_ref().map(ngsi::geo::cell_of);
        Self { expires_us: entity.expires_us(), cell }
    }
}

/// What an operation makes of an entity.
struct Changed {
    outcome: Outcome,
    /// The entity afterwards, still with the old version; `None` when there is none, or nothing was written.
    after: Option<(EntityText, Derived)>,
}

fn change(
    before: Option<&(Arc<EntityText>, Derived)>,
    write: &Write,
    context: WriteContext<'_>,
) -> Result<Changed, Error> {
    let operation = &write.operation;
    let spliced = before.and_then(|(entity, _)| {
        apply_to_text(entity, &operation.update, operation.action, operation.options, context)
    });
    let (Some(spliced), Some((entity, derived))) = (spliced, before) else {
        return change_whole(before.map(|(entity, _)| &**entity), write, context);
    };
    let Spliced { outcome, attributes } = spliced?;
    let after = attributes.map(|attributes| {
        (EntityText { attributes, modified_us: context.now_us, ..(**entity).clone() }, *derived)
    });
    Ok(Changed { outcome, after })
}

fn change_whole(
    before: Option<&EntityText>,
    write: &Write,
    context: WriteContext<'_>,
) -> Result<Changed, Error> {
    let operation = &write.operation;
    let mut entity = before.map(EntityText::decode).transpose().map_err(|error| no_json(&error))?;
    let outcome = ngsi::apply(&mut entity, &operation.update, operation.action, operation.options, context)?;
    let written = entity.filter(|_| outcome.alteration.is_some());
    let after = match written {
        Some(entity) => {
            let text = EntityText::of(&entity).map_err(|error| no_json(&error))?;
            Some((text, Derived::from(&entity)))
        }
        None => None,
    };
    Ok(Changed { outcome, after })
}

fn no_json(error: &serde_json::Error) -> Error {
    tracing::error!(%error, "attributes have no JSON form");
    Error::internal()
}
