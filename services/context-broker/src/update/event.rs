//! The event of a committed change (decision 9): one record of topic `context.changes`.

use std::borrow::Cow;

use bus::{Outgoing, header};
use bytes::Bytes;
use ngsi::{Alteration, EntityText, Outcome};
use proto::{v1, wire::Fields};

use super::Write;

/// What the event of a usual change holds beside attributes, bytes.
const OTHER_BYTES: usize = 384;

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
    [tenant, path, "/", id, "/", entity_type].concat().into()
}

pub(super) fn encode(change: &Change<'_>) -> Outgoing {
    let entity = change.entity;
    let scope = &change.write.scope;
    let cause = &change.write.cause;
    let alteration = match change.alteration {
        Alteration::Create => v1::Alteration::Create,
        Alteration::Change => v1::Alteration::Change,
        Alteration::Update => v1::Alteration::Update,
        Alteration::Delete => v1::Alteration::Delete,
    };
    let previous = if change.outcome.previous.is_empty() {
        Cow::Borrowed(b"{}".as_slice())
    } else {
        Cow::Owned(serde_json::to_vec(&change.outcome.previous).unwrap_or_default())
    };
    let traceparent = cause.trace.traceparent();
    let mut message = Fields::with_capacity(OTHER_BYTES + entity.attributes.len() + previous.len());
    message.text(1, scope.tenant.as_str());
    message.text(2, scope.path.as_str());
    message.text(3, &entity.id);
    message.text(4, &entity.entity_type);
    message.int(5, i32::from(alteration).into());
    message.int(6, change.version);
    message.int(7, change.commit_time_us);
    message.int(8, change.epoch);
    message.bytes(9, &entity.attributes);
    message.bytes(10, &previous);
    message.texts(11, &change.outcome.updated);
    message.texts(12, &change.outcome.changed);
    message.texts(13, &change.outcome.removed);
    message.int(14, entity.created_us);
    message.int(15, entity.modified_us);
    message.text(16, &traceparent);
    message.text(17, &cause.trace.state);
    message.text(18, &cause.correlator);
    message.text(19, cause.token_ref.as_deref().unwrap_or_default());
    // The tenant's comes to them.
    let mut headers = Vec::with_capacity(3);
    headers.push((header::TRACEPARENT.into(), traceparent.into()));
    headers.push((header::CORRELATOR.into(), cause.correlator.clone()));
    Outgoing {
        tenant: scope.tenant.clone(),
        key: event_key(scope.tenant.as_str(), scope.path.as_str(), &entity.id, &entity.entity_type),
        payload: message.finish().into(),
        headers,
    }
}

#[cfg(test)]
mod tests {
    use ngsi::{EntityUpdate, UpdateAction};
    use proptest::prelude::*;
    use prost::Message;
    use scope::{Scope, ServicePath, Tenant};
    use service_kit::{RequestContext, TraceContext};

    use super::*;
    use crate::update::Operation;

    fn names() -> impl Strategy<Value = Vec<String>> {
        proptest::collection::vec(".{0,200}", 0..4)
    }

    proptest! {
        /// Neighbours of another version read it with the generated message.
        #[test]
        fn an_event_is_the_generated_message_byte_for_byte(
            (tenant, path, id, entity_type) in ("[a-z]{0,9}", "(/[a-z]{1,9}){0,2}", ".{1,300}", ".{0,9}"),
            (attributes, state, correlator) in (".{0,400}", "[a-z]{0,9}", ".{0,40}"),
            token_ref in proptest::option::of("[a-z]{0,9}"),
            numbers in any::<[i64; 5]>(),
            (trace_id, span_id, sampled) in any::<(u128, u64, bool)>(),
            (updated, changed, removed) in (names(), names(), names()),
            alteration in prop_oneof![Just(Alteration::Create), Just(Alteration::Change), Just(Alteration::Delete)],
        ) {
            let [version, commit_time_us, epoch, created_us, modified_us] = numbers;
            let scope = Scope::new(
                Tenant::from_header(Some(&tenant)).unwrap(),
                if path.is_empty() { ServicePath::root() } else { ServicePath::parse(&path).unwrap() },
            );
            let cause = RequestContext {
                trace: TraceContext { trace_id, span_id, sampled, state: state.clone() },
                correlator: correlator.as_str().into(),
                token_ref: token_ref.as_deref().map(Into::into),
                service: "context-broker",
            };
            let entity = EntityText {
                id: id.as_str().into(),
                entity_type: entity_type.as_str().into(),
                path: scope.path.clone(),
                attributes: attributes.clone().into(),
                created_us,
                modified_us,
                version,
            };
            let (of, to) = (updated.clone(), changed.clone());
            let outcome = Outcome { updated: of, changed: to, removed: removed.clone(), ..Outcome::default() };
            let operation = Operation::new(UpdateAction::Update, EntityUpdate::default());
            let write = Write::new(scope, operation, cause);
            let event = encode(&Change {
                write: &write,
                entity: &entity,
                outcome: &outcome,
                alteration,
                version,
                commit_time_us,
                epoch,
            });
            let traceparent = format!("00-{trace_id:032x}-{span_id:016x}-{:02x}", u8::from(sampled));
            let expected = v1::ContextChange {
                tenant,
                service_path: write.scope.path.as_str().to_owned(),
                entity_id: id,
                entity_type,
                alteration: match alteration {
                    Alteration::Create => v1::Alteration::Create,
                    Alteration::Change => v1::Alteration::Change,
                    Alteration::Update => v1::Alteration::Update,
                    Alteration::Delete => v1::Alteration::Delete,
                }.into(),
                version,
                commit_time_us,
                subscription_epoch: epoch,
                attributes: attributes.into(),
                previous: Bytes::from_static(b"{}"),
                updated,
                changed,
                removed,
                created_us,
                modified_us,
                traceparent,
                tracestate: state,
                correlator,
                token_ref: token_ref.unwrap_or_default(),
            };
            prop_assert_eq!(event.payload, expected.encode_to_vec());
        }
    }
}
