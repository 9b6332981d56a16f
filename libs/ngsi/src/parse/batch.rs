//! Bodies of `op/update` and `op/query` (ngsi-v2.md 6, Batch).

use serde_json::Value;

use super::{
    BodyFormat, Node,
    entity::entity_members,
    has_forbidden,
    json::{self, Members},
    names::{check_entity_id, check_entity_type},
};
use crate::{
    EntityUpdate, Error, ErrorWord, UpdateAction,
    geo::GeoQuery,
    query::{EntitySelector, Pattern},
};

/// Most entities in one query.
const MAX_SELECTORS: usize = 1000;
/// Most regular expressions in one query.
const MAX_PATTERNS: usize = 100;

/// A parsed `op/update`.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    pub action: UpdateAction,
    pub entities: Vec<EntityUpdate>,
}

/// A parsed `op/query`; the parts are given to the query module as they stand.
#[derive(Clone, Debug, Default)]
pub struct BatchQuery {
    /// Any of these; empty: every entity.
    pub selectors: Vec<EntitySelector>,
    pub attrs: Option<Vec<String>>,
    pub metadata: Option<Vec<String>>,
    pub expression: QueryExpression,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueryExpression {
    pub q: Option<String>,
    pub mq: Option<String>,
    pub geo: Option<GeoQuery>,
}

pub fn batch(body: &[u8], format: BodyFormat) -> Result<Batch, Error> {
    let members = json::members(body)?;
    if members.is_empty() {
        return Err(Error::bad_request("empty payload"));
    }
    let mut action = None;
    let mut entities = None;
    for (key, node) in members {
        match key.as_str() {
            "actionType" => action = Some(action_type(&node)?),
            "entities" => entities = Some(node),
            other => {
                return Err(Error::bad_request(format!("Unrecognized field in JSON payload: /{other}/")));
            }
        }
    }
    let missing = |field: &str| {
        Error::bad_request(format!("Invalid JSON payload, mandatory field /{field}/ not found"))
    };
    let action = action.ok_or_else(|| missing("actionType"))?;
    let nodes = match entities.ok_or_else(|| missing("entities"))? {
        Node::Array(nodes) => nodes,
        _ => return Err(Error::bad_request("not a JSON array")),
    };
    if nodes.is_empty() {
        return Err(Error::bad_request("empty entities vector"));
    }
    let entities = nodes
        .into_iter()
        .map(|node| match node {
            Node::Object(members) => batch_entity(members, format),
            _ => Err(Error::bad_request("not a JSON object")),
        })
        .collect::<Result<_, _>>()?;
    Ok(Batch { action, entities })
}

fn batch_entity(members: Members, format: BodyFormat) -> Result<EntityUpdate, Error> {
    if members.iter().any(|(key, _)| key == "idPattern" || key == "typePattern") {
        return Err(Error::new(ErrorWord::NotImplemented, "patterns are not supported in updates"));
    }
    entity_members(members, format)
}

fn action_type(node: &Node) -> Result<UpdateAction, Error> {
    match node.as_str() {
        Some("append" | "APPEND") => Ok(UpdateAction::Append),
        Some("appendStrict" | "APPEND_STRICT") => Ok(UpdateAction::AppendStrict),
        Some("update" | "UPDATE") => Ok(UpdateAction::Update),
        Some("delete" | "DELETE") => Ok(UpdateAction::Delete),
        Some("replace" | "REPLACE") => Ok(UpdateAction::Replace),
        _ => Err(Error::bad_request(
            "invalid update action type: right ones are: append, appendStric, delete, replace, update",
        )),
    }
}

pub fn batch_query(body: &[u8]) -> Result<BatchQuery, Error> {
    let members = json::members(body)?;
    let mut query = BatchQuery::default();
    let mut relevant = false;
    for (key, node) in members {
        match key.as_str() {
            "entities" => query.selectors = selectors(node)?,
            "attrs" => query.attrs = Some(strings(node, "attrs")?),
            "attributes" => query.attrs = Some(strings(node, "attributes")?),
            "metadata" => query.metadata = Some(strings(node, "metadata")?),
            "expression" => query.expression = expression(node)?,
            other => {
                return Err(Error::bad_request(format!("Unrecognized field in JSON payload: /{other}/")));
            }
        }
        relevant |= key != "metadata";
    }
    if !relevant {
        return Err(Error::bad_request("Invalid JSON payload, no relevant fields found"));
    }
    Ok(query)
}

fn selectors(node: Node) -> Result<Vec<EntitySelector>, Error> {
    let Node::Array(nodes) = node else { return Err(Error::bad_request("/entities/ is not an array")) };
    if nodes.len() > MAX_SELECTORS {
        return Err(Error::bad_request(format!("/entities/ has more than {MAX_SELECTORS} items")));
    }
    let selectors: Vec<EntitySelector> = nodes
        .into_iter()
        .map(|node| match node {
            Node::Object(members) => selector(members),
            _ => Err(Error::bad_request("not a JSON object")),
        })
        .collect::<Result<_, _>>()?;
    let patterns =
        |s: &EntitySelector| usize::from(s.id_pattern.is_some()) + usize::from(s.type_pattern.is_some());
    if selectors.iter().map(patterns).sum::<usize>() > MAX_PATTERNS {
        return Err(Error::bad_request(format!("/entities/ has more than {MAX_PATTERNS} patterns")));
    }
    Ok(selectors)
}

fn selector(members: Members) -> Result<EntitySelector, Error> {
    let mut selector = EntitySelector::default();
    let mut named_id = false;
    for (key, node) in members {
        let Node::Scalar(Value::String(text)) = node else {
            return Err(Error::bad_request(format!("{key} is not a string")));
        };
        match key.as_str() {
            "id" => {
                check_entity_id(&text)?;
                selector.ids.push(text);
                named_id = true;
            }
            "type" => {
                check_entity_type(&text)?;
                selector.types.push(text);
            }
            "idPattern" => {
                let invalid = || Error::bad_request("Invalid regex for entity idPattern");
                selector.id_pattern = Some(Pattern::parse(&text).map_err(|_| invalid())?);
                named_id = true;
            }
            "typePattern" => {
                let invalid = || Error::bad_request("Invalid regex for entity typePattern");
                selector.type_pattern = Some(Pattern::parse(&text).map_err(|_| invalid())?);
            }
            other => {
                return Err(Error::bad_request(format!("Unrecognized field in JSON payload: /{other}/")));
            }
        }
    }
    if !named_id {
        return Err(Error::bad_request("nor /id/ nor /idPattern/ present"));
    }
    if !selector.ids.is_empty() && selector.id_pattern.is_some() {
        return Err(Error::bad_request("/entities/ element has both /id/ and /idPattern/"));
    }
    if !selector.types.is_empty() && selector.type_pattern.is_some() {
        return Err(Error::bad_request("/entities/ element has both /type/ and /typePattern/"));
    }
    Ok(selector)
}

fn expression(node: Node) -> Result<QueryExpression, Error> {
    let Node::Object(members) = node else { return Err(Error::bad_request("expression is not an object")) };
    if members.is_empty() {
        return Err(Error::bad_request("expression is empty"));
    }
    let mut expression = QueryExpression::default();
    let (mut georel, mut geometry, mut coords) = (None, None, None);
    for (key, node) in members {
        let Node::Scalar(Value::String(text)) = node else {
            return Err(Error::bad_request(format!("{key} is not a string")));
        };
        if text.is_empty() {
            return Err(Error::bad_request(format!("{key} is empty")));
        }
        match key.as_str() {
            "q" => expression.q = Some(text),
            "mq" => expression.mq = Some(text),
            "georel" => georel = Some(text),
            "geometry" => geometry = Some(text),
            "coords" => coords = Some(text),
            other => {
                return Err(Error::bad_request(format!("Unrecognized field in JSON payload: /{other}/")));
            }
        }
    }
    expression.geo = geo(georel, geometry, coords)?;
    Ok(expression)
}

fn geo(
    georel: Option<String>,
    geometry: Option<String>,
    coords: Option<String>,
) -> Result<Option<GeoQuery>, Error> {
    match (georel, geometry, coords) {
        (None, None, None) => Ok(None),
        (Some(georel), Some(geometry), Some(coords)) => {
            let query = GeoQuery::parse(&georel, &geometry, &coords);
            query.map(Some).map_err(|error| error.prefixed("error parsing geo-query fields: "))
        }
        _ => Err(Error::bad_request(
            "partial geo expression: geometry, georel and coords have to be provided together",
        )),
    }
}

fn strings(node: Node, field: &str) -> Result<Vec<String>, Error> {
    let wrong = || Error::bad_request(format!("/{field}/ is not an array of strings"));
    let Node::Array(nodes) = node else { return Err(wrong()) };
    nodes
        .into_iter()
        .map(|node| match node {
            Node::Scalar(Value::String(text)) if has_forbidden(&text) => {
                let words = if field == "metadata" { "metadata name" } else { "attribute name" };
                Err(Error::bad_request(format!("Invalid characters in {words}")))
            }
            Node::Scalar(Value::String(text)) => Ok(text),
            _ => Err(wrong()),
        })
        .collect()
}
