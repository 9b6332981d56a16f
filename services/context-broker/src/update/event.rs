//! The event of a committed change (decision 9): one record of topic `context.changes`.

use bus::{Outgoing, header};
use bytes::Bytes;
use ngsi::{Alteration, EntityText, Outcome};
use prost::Message;
use proto::v1;

use super::Write;

/// A change that is about to be committed.
pub(super) struct Change<'a> {
    pub(super) write: &'a Write,
    /// After the change; before it, for a delete.
    pub(super) entity: &'a EntityText,
    pub(super) outcome: &'a Outcome,
    pub(super) alteration: Alteration,
    pub(super) version: i64,
    pub(super) commit_time_us: i64,
    pub(super) epoch: i64,
}

/// The key that keeps an entity's events in order.
pub(crate) fn event_key(tenant: &str, path: &str, id: &str, entity_type: &str) -> Bytes {
    // The path begins with a slash of its own.
    format!("{tenant}{path}/{id}/{entity_type}").into()
}

pub(super) fn encode(change: &Change<'_>) -> Outgoing {
    let entity = change.entity;
    let scope = &change.write.scope;
    let cause = &change.write.cause;
    let previous = if change.outcome.previous.is_empty() {
        Bytes::from_static(b"{}")
    } else {
        serde_json::to_vec(&change.outcome.previous).unwrap_or_default().into()
    };
    let alteration = match change.alteration {
        Alteration::Create => v1::Alteration::Create,
        Alteration::Change => v1::Alteration::Change,
        Alteration::Update => v1::Alteration::Update,
        Alteration::Delete => v1::Alteration::Delete,
    };
    let traceparent = cause.trace.traceparent();
    let correlator = cause.correlator.to_string();
    let message = v1::ContextChange {
        tenant: scope.tenant.as_str().to_owned(),
        service_path: scope.path.as_str().to_owned(),
        entity_id: (*entity.id).to_owned(),
        entity_type: (*entity.entity_type).to_owned(),
        alteration: alteration.into(),
        version: change.version,
        commit_time_us: change.commit_time_us,
        subscription_epoch: change.epoch,
        attributes: entity.attributes.clone(),
        previous,
        updated: change.outcome.updated.clone(),
        changed: change.outcome.changed.clone(),
        removed: change.outcome.removed.clone(),
        created_us: entity.created_us,
        modified_us: entity.modified_us,
        traceparent: traceparent.clone(),
        tracestate: cause.trace.state.clone(),
        correlator: correlator.clone(),
        token_ref: cause.token_ref.as_deref().unwrap_or_default().to_owned(),
    };
    Outgoing {
        tenant: scope.tenant.clone(),
        key: event_key(scope.tenant.as_str(), scope.path.as_str(), &entity.id, &entity.entity_type),
        payload: message.encode_to_vec().into(),
        headers: vec![
            (header::TRACEPARENT.to_owned(), traceparent),
            (header::CORRELATOR.to_owned(), correlator),
        ],
    }
}
