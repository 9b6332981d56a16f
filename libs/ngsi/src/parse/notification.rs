//! The body of `op/notify`: what another broker notifies (ngsi-v2.md 6, Batch).

use serde_json::Value;

use super::{BodyFormat, Node, entity::entity_members, has_forbidden, json};
use crate::{EntityUpdate, Error};

/// The entities of a notification in the normalized format; they are meant to be appended.
pub fn notification(body: &[u8]) -> Result<Vec<EntityUpdate>, Error> {
    let missing = |field: &str| {
        Error::bad_request(format!("invalid JSON payload, mandatory field /{field}/ not found"))
    };
    let mut subscription = None;
    let mut data = None;
    for (key, node) in json::members(body)? {
        match key.as_str() {
            "subscriptionId" => subscription = Some(node),
            "data" => data = Some(node),
            other => {
                return Err(Error::bad_request(format!("Unrecognized field in JSON payload: /{other}/")));
            }
        }
    }
    match subscription.ok_or_else(|| missing("subscriptionId"))? {
        Node::Scalar(Value::String(id)) if has_forbidden(&id) => {
            return Err(Error::bad_request("forbidden characters in subscriptionId"));
        }
        Node::Scalar(Value::String(_)) => {}
        _ => return Err(Error::bad_request("/subscriptionId/ must be a JSON string")),
    }
    let Node::Array(nodes) = data.ok_or_else(|| missing("data"))? else {
        return Err(Error::bad_request("notification field /data/ must be a JSON array"));
    };
    let entity = |node| match node {
        Node::Object(members) => entity_members(members, BodyFormat::Normalized),
        _ => Err(Error::bad_request("not a JSON object")),
    };
    nodes.into_iter().map(entity).collect()
}
