//! Writes: what the store is asked to do, and how a batch of them changes the entities it touches.

mod batch;
mod event;
mod key;

use std::sync::Arc;

use ngsi::{EntityText, EntityUpdate, UpdateAction, UpdateOptions, update::DEFAULT_ENTITY_TYPE};
use scope::Scope;
use service_kit::RequestContext;

pub(crate) use batch::{Batch, Derived, Limits, Plan, PlannedRow, Slot, remember};
pub(crate) use event::event_key;
pub(crate) use key::{GroupKey, GroupMap};

/// Set by the sender of a measure: applied at most once for its entity.
pub type MeasureId = [u8; 16];

/// Measure ids that an entity remembers: more than a sender repeats at once.
pub const MEASURE_IDS_KEPT: usize = 32;

/// Id, type and service path of an entity together, bytes.
const MAX_KEY_BYTES: usize = 1014;

/// One entity's part of a request.
#[derive(Clone, Debug)]
pub struct Operation {
    pub update: EntityUpdate,
    pub action: UpdateAction,
    pub options: UpdateOptions,
    /// An entity that does not exist is an error, also where the action would create it (`POST …/attrs`).
    pub must_exist: bool,
    pub measure_id: Option<MeasureId>,
}

impl Operation {
    pub fn new(action: UpdateAction, update: EntityUpdate) -> Self {
        Self { update, action, options: UpdateOptions::default(), must_exist: false, measure_id: None }
    }

    /// Whether it may create its entity.
    pub(crate) fn creates(&self) -> bool {
        use UpdateAction::{Append, AppendStrict, Create, Ensure};
        !self.must_exist && matches!(self.action, Create | Append | AppendStrict | Ensure)
    }
}

/// An operation on its way to the store.
#[derive(Clone, Debug)]
pub struct Write {
    pub scope: Scope,
    pub operation: Operation,
    /// The request that caused it: its trace and correlator go into the event.
    pub cause: RequestContext,
    /// Creation time of what it makes: that of its request, a microsecond later for each operation of the request, so that
    /// lists show entities in the order in which they were sent. None: when it is applied.
    pub(crate) accepted_us: Option<i64>,
    key: GroupKey,
}

/// It is handed on through several queues and futures.
pub(crate) type BoxedWrite = Box<Write>;

impl Write {
    pub(crate) fn new(scope: Scope, operation: Operation, cause: RequestContext) -> BoxedWrite {
        let key = GroupKey::new(scope.tenant.clone(), operation.update.id.as_str().into());
        Box::new(Self { scope, operation, cause, accepted_us: None, key })
    }

    /// What it may change.
    pub(crate) fn key(&self) -> &GroupKey {
        &self.key
    }

    /// Whether id, type and service path together are short enough for the index of a store (ngsi-v2.md 4).
    pub(crate) fn has_storable_key(&self) -> bool {
        let update = &self.operation.update;
        let entity_type = update.entity_type.as_deref().unwrap_or(DEFAULT_ENTITY_TYPE);
        update.id.len() + entity_type.len() + self.scope.path.as_str().len() <= MAX_KEY_BYTES
    }
}

/// What a successful operation did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The type of the entity, also when the request named none.
    pub entity_type: Arc<str>,
    /// Of the entity after the change.
    pub version: i64,
    pub created: bool,
    /// Applied before under the same measure id; nothing was changed now.
    pub repeated: bool,
}

/// An entity as the store holds it.
#[derive(Clone, Debug)]
pub struct Stored {
    pub entity: Arc<EntityText>,
    /// When it disappears, microseconds since 1970.
    pub expires_us: Option<i64>,
    /// Where its location is, see [`ngsi::geo::cell_of`].
    pub cell: Option<i64>,
    /// Of the last measures applied, oldest first.
    pub measures: Vec<MeasureId>,
}

impl Stored {
    pub fn is_alive(&self, now_us: i64) -> bool {
        self.expires_us.is_none_or(|end| end > now_us)
    }
}

#[cfg(test)]
impl Stored {
    pub(crate) fn sample(id: &str, version: i64) -> Self {
        let entity = EntityText {
            id: id.into(),
            entity_type: "T".into(),
            path: scope::ServicePath::root(),
            attributes: bytes::Bytes::from_static(b"{}"),
            created_us: 1,
            modified_us: 1,
            version,
        };
        Self { entity: Arc::new(entity), expires_us: None, cell: None, measures: Vec::new() }
    }
}
