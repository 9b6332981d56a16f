//! Changes on their way into the mesh's own history.

use bus::{Outgoing, header};
use prost::Message;
use proto::v1;
use scope::Tenant;

use super::store::HistoryPart;
use crate::update::event_key;

/// One record of topic `history`.
pub(super) fn encode(change: &v1::ContextChange, part: HistoryPart) -> Option<Outgoing> {
    let attributes = serde_json::to_vec(&part.attributes).ok()?;
    let record = v1::HistoryRecord {
        tenant: change.tenant.clone(),
        service_path: change.service_path.clone(),
        entity_id: change.entity_id.clone(),
        entity_type: change.entity_type.clone(),
        version: change.version,
        commit_time_us: change.commit_time_us,
        attributes: attributes.into(),
        traceparent: change.traceparent.clone(),
        tracestate: change.tracestate.clone(),
        correlator: change.correlator.clone(),
        time_index_attribute: part.time_index_attribute,
    };
    Some(Outgoing {
        tenant: Tenant::from_header(Some(&change.tenant)).ok()?,
        key: event_key(&change.tenant, &change.service_path, &change.entity_id, &change.entity_type),
        payload: record.encode_to_vec().into(),
        headers: vec![
            (header::TRACEPARENT.into(), change.traceparent.as_str().into()),
            (header::CORRELATOR.into(), change.correlator.as_str().into()),
        ],
    })
}
