//! What a broker sends to a provider and reads from it, in NGSIv2 and, for legacy providers, in NGSIv1.
//!
//! Answers are read leniently: what a provider has stored need not obey the rules of this API's requests. What has no
//! entity's shape makes the whole answer wrong.

use serde_json::{Map, Value, json};

use super::RegisteredEntity;
use crate::{
    Attribute, AttributeUpdate, Attributes, Entity, EntityUpdate, Metadata, ValueUpdate, parse,
    update::DEFAULT_ENTITY_TYPE,
};

/// Most entities in one answer.
pub const MAX_ENTITIES: usize = 1000;

/// The answer is not what a provider may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongAnswer;

/// The body of a query. `attrs` empty: all.
pub fn query_body(entities: &[RegisteredEntity], attrs: &[String], legacy: bool) -> Vec<u8> {
    let key = if legacy { "attributes" } else { "attrs" };
    let mut body = Map::new();
    let entities =
        entities.iter().map(|entity| if legacy { legacy_entity(entity) } else { entity_of(entity) });
    body.insert("entities".to_owned(), entities.collect());
    if !legacy || !attrs.is_empty() {
        body.insert(key.to_owned(), json!(attrs));
    }
    Value::Object(body).to_string().into_bytes()
}

fn entity_of(entity: &RegisteredEntity) -> Value {
    let mut shown = match &entity.id {
        Some(id) => json!({"id": id}),
        None => json!({"idPattern": ".*"}),
    };
    if let Some(entity_type) = &entity.entity_type {
        shown["type"] = json!(entity_type);
    }
    shown
}

fn legacy_entity(entity: &RegisteredEntity) -> Value {
    let mut shown = Map::new();
    if let Some(entity_type) = &entity.entity_type {
        shown.insert("type".to_owned(), json!(entity_type));
    }
    shown.insert("isPattern".to_owned(), json!(if entity.id.is_some() { "false" } else { "true" }));
    shown.insert("id".to_owned(), json!(entity.id.as_deref().unwrap_or(".*")));
    Value::Object(shown)
}

/// The body of an update of one entity: its attributes exist at the provider, or are refused there.
pub fn update_body(update: &EntityUpdate, legacy: bool) -> Vec<u8> {
    let body = if legacy {
        let attributes: Vec<Value> =
            update.attributes.iter().map(|(name, one)| legacy_attribute(name, one)).collect();
        let entity =
            RegisteredEntity { id: Some(update.id.clone()), entity_type: update.entity_type.clone() };
        let mut element = legacy_entity(&entity);
        element["attributes"] = attributes.into();
        json!({"contextElements": [element], "updateAction": "UPDATE"})
    } else {
        let mut entity = Map::new();
        entity.insert("id".to_owned(), json!(update.id));
        if let Some(entity_type) = &update.entity_type {
            entity.insert("type".to_owned(), json!(entity_type));
        }
        for (name, attribute) in &update.attributes {
            let metadata: Map<String, Value> = attribute
                .metadata
                .iter()
                .flatten()
                .map(|(name, one)| (name.clone(), json!({"type": one.metadata_type, "value": one.value})))
                .collect();
            let value = value_of(&attribute.value);
            let attribute_type = type_of(attribute, &value);
            entity
                .insert(name.clone(), json!({"type": attribute_type, "value": value, "metadata": metadata}));
        }
        json!({"entities": [entity], "actionType": "update"})
    };
    body.to_string().into_bytes()
}

fn value_of(update: &ValueUpdate) -> Value {
    match update {
        ValueUpdate::Set(value) => value.clone(),
        ValueUpdate::Operate(operators) => operators
            .iter()
            .map(|operator| (operator.name.as_str().to_owned(), operator.operand.clone()))
            .collect::<Map<_, _>>()
            .into(),
    }
}

fn type_of<'a>(attribute: &'a AttributeUpdate, value: &Value) -> &'a str {
    attribute.attribute_type.as_deref().unwrap_or_else(|| parse::type_of_value(value))
}

fn legacy_attribute(name: &str, attribute: &AttributeUpdate) -> Value {
    let value = value_of(&attribute.value);
    let mut shown = json!({"name": name, "type": type_of(attribute, &value), "value": value});
    let metadatas: Vec<Value> = attribute
        .metadata
        .iter()
        .flatten()
        .map(|(name, one)| json!({"name": name, "type": one.metadata_type, "value": one.value}))
        .collect();
    if !metadatas.is_empty() {
        shown["metadatas"] = metadatas.into();
    }
    shown
}

/// Reads the answer to a query. `now_us` becomes the dates of what comes.
pub fn entities(body: &[u8], legacy: bool, now_us: i64) -> Result<Vec<Entity>, WrongAnswer> {
    let answer: Value = serde_json::from_slice(body).map_err(|_| WrongAnswer)?;
    if legacy {
        return legacy_entities(&answer, now_us);
    }
    let items = answer.as_array().filter(|items| items.len() <= MAX_ENTITIES).ok_or(WrongAnswer)?;
    items.iter().map(|item| entity(item, now_us)).collect()
}

fn entity(item: &Value, now_us: i64) -> Result<Entity, WrongAnswer> {
    let members = item.as_object().ok_or(WrongAnswer)?;
    let text = |name| members.get(name).map(|value| value.as_str().ok_or(WrongAnswer)).transpose();
    let mut attributes = Attributes::new();
    for (name, member) in members.iter().filter(|(name, _)| !matches!(name.as_str(), "id" | "type")) {
        let member = member.as_object().ok_or(WrongAnswer)?;
        let value = member.get("value").cloned().unwrap_or_default();
        let mut attribute = attribute(member, value, now_us)?;
        if let Some(metadata) = member.get("metadata") {
            for (name, one) in metadata.as_object().ok_or(WrongAnswer)? {
                let one = one.as_object().ok_or(WrongAnswer)?;
                attribute.metadata.insert(name.clone(), metadata_of(one)?);
            }
        }
        attributes.insert(name.clone(), attribute);
    }
    entity_with(text("id")?, text("type")?, attributes, now_us)
}

fn entity_with(
    id: Option<&str>,
    entity_type: Option<&str>,
    attributes: Attributes,
    now_us: i64,
) -> Result<Entity, WrongAnswer> {
    let id = id.filter(|id| parse::check_entity_id(id).is_ok()).ok_or(WrongAnswer)?;
    Ok(Entity {
        id: id.to_owned(),
        entity_type: entity_type.unwrap_or(DEFAULT_ENTITY_TYPE).to_owned(),
        path: scope::ServicePath::root(),
        attributes,
        created_us: now_us,
        modified_us: now_us,
        version: 0,
    })
}

fn attribute(member: &Map<String, Value>, value: Value, now_us: i64) -> Result<Attribute, WrongAnswer> {
    let value = canonical(value);
    Ok(Attribute {
        attribute_type: type_text(member, &value)?,
        value,
        metadata: crate::MetadataMap::new(),
        created_us: now_us,
        modified_us: now_us,
    })
}

fn metadata_of(member: &Map<String, Value>) -> Result<Metadata, WrongAnswer> {
    let value = canonical(member.get("value").cloned().unwrap_or_default());
    Ok(Metadata { metadata_type: type_text(member, &value)?, value })
}

fn type_text(member: &Map<String, Value>, value: &Value) -> Result<String, WrongAnswer> {
    match member.get("type") {
        None => Ok(parse::type_of_value(value).to_owned()),
        Some(given) => given.as_str().map(str::to_owned).ok_or(WrongAnswer),
    }
}

/// Numbers in their one form. The parser has bounded the depth.
fn canonical(value: Value) -> Value {
    match value {
        Value::Number(number) => parse::canonical_number(number),
        Value::Array(items) => items.into_iter().map(canonical).collect(),
        Value::Object(members) => {
            members.into_iter().map(|(name, value)| (name, canonical(value))).collect::<Map<_, _>>().into()
        }
        other => other,
    }
}

/// The parts of an answer of NGSIv1 with their codes; none when the answer is that nothing was found.
fn legacy_responses(answer: &Value) -> Result<&[Value], WrongAnswer> {
    if let Some(error) = answer.get("errorCode") {
        return if code_of(error) == Some(404) { Ok(&[]) } else { Err(WrongAnswer) };
    }
    let responses = answer.get("contextResponses").and_then(Value::as_array).ok_or(WrongAnswer)?;
    if responses.len() > MAX_ENTITIES { Err(WrongAnswer) } else { Ok(responses) }
}

fn code_of(status: &Value) -> Option<u64> {
    let code = status.get("code")?;
    code.as_u64().or_else(|| code.as_str()?.parse().ok())
}

fn legacy_entities(answer: &Value, now_us: i64) -> Result<Vec<Entity>, WrongAnswer> {
    let found = legacy_responses(answer)?
        .iter()
        .filter(|response| response.get("statusCode").and_then(code_of).is_none_or(|code| code == 200));
    found
        .map(|response| {
            let element = response.get("contextElement").ok_or(WrongAnswer)?;
            let text = |name: &str| element.get(name).and_then(Value::as_str);
            let mut attributes = Attributes::new();
            for one in named(element.get("attributes"))? {
                let (name, member) = one?;
                let value = member.get("value").or_else(|| member.get("contextValue")).cloned();
                let mut attribute = attribute(member, value.unwrap_or_default(), now_us)?;
                for metadata in named(member.get("metadatas"))? {
                    let (name, member) = metadata?;
                    attribute.metadata.insert(name.to_owned(), metadata_of(member)?);
                }
                attributes.insert(name.to_owned(), attribute);
            }
            entity_with(text("id"), text("type").filter(|one| !one.is_empty()), attributes, now_us)
        })
        .collect()
}

type Named<'a> = Result<(&'a str, &'a Map<String, Value>), WrongAnswer>;

/// The items of a list of `{"name": …}` objects.
fn named(list: Option<&Value>) -> Result<impl Iterator<Item = Named<'_>>, WrongAnswer> {
    let items = match list {
        None | Some(Value::Null) => &[][..],
        Some(list) => list.as_array().ok_or(WrongAnswer)?,
    };
    Ok(items.iter().map(|item| {
        let member = item.as_object().ok_or(WrongAnswer)?;
        let name = member.get("name").and_then(Value::as_str).ok_or(WrongAnswer)?;
        Ok((name, member))
    }))
}

/// Whether a legacy provider took an update: it answers 200 also when it did not.
pub fn legacy_update_succeeded(body: &[u8]) -> bool {
    let Ok(answer) = serde_json::from_slice::<Value>(body) else { return false };
    let taken = |response: &Value| response.get("statusCode").and_then(code_of) == Some(200);
    answer.get("errorCode").is_none()
        && answer
            .get("contextResponses")
            .and_then(Value::as_array)
            .is_some_and(|responses| !responses.is_empty() && responses.iter().all(taken))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::{BodyFormat, attributes};
    use proptest::prelude::*;

    fn text(body: Vec<u8>) -> String {
        String::from_utf8(body).unwrap()
    }

    fn meter() -> RegisteredEntity {
        RegisteredEntity { id: Some("m1".into()), entity_type: Some("Meter".into()) }
    }

    #[test]
    fn queries_are_those_of_the_contract() {
        let attrs = ["power".to_owned()];
        assert_eq!(
            text(query_body(&[meter()], &attrs, false)),
            r#"{"entities":[{"id":"m1","type":"Meter"}],"attrs":["power"]}"#
        );
        assert_eq!(
            text(query_body(&[meter()], &attrs, true)),
            r#"{"entities":[{"type":"Meter","isPattern":"false","id":"m1"}],"attributes":["power"]}"#
        );
        let all = RegisteredEntity { id: None, entity_type: None };
        assert_eq!(text(query_body(&[all], &[], false)), r#"{"entities":[{"idPattern":".*"}],"attrs":[]}"#);
    }

    #[test]
    fn updates_are_those_of_the_contract() {
        let body = br#"{"power":{"type":"Number","value":4},"n":{"value":{"$inc":2},"metadata":{"u":{"value":"W"}}}}"#;
        let update = EntityUpdate {
            id: "m1".into(),
            entity_type: Some("Meter".into()),
            attributes: attributes(body, BodyFormat::Normalized).unwrap(),
        };
        assert_eq!(
            text(update_body(&update, false)),
            r#"{"entities":[{"id":"m1","type":"Meter","power":{"type":"Number","value":4,"metadata":{}},"n":{"type":"StructuredValue","value":{"$inc":2},"metadata":{"u":{"type":"Text","value":"W"}}}}],"actionType":"update"}"#
        );
        assert_eq!(
            text(update_body(&update, true)),
            r#"{"contextElements":[{"type":"Meter","isPattern":"false","id":"m1","attributes":[{"name":"power","type":"Number","value":4},{"name":"n","type":"StructuredValue","value":{"$inc":2},"metadatas":[{"name":"u","type":"Text","value":"W"}]}]}],"updateAction":"UPDATE"}"#
        );
    }

    #[test]
    fn both_dialects_are_read() {
        let v2 = br#"[{"id":"m1","type":"Meter","power":{"value":4.0,"type":"Number","metadata":{"u":{"type":"Text","value":"W"}}}}]"#;
        let v1 = br#"{"contextResponses":[
            {"contextElement":{"type":"Meter","isPattern":"false","id":"m1","attributes":[
                {"name":"power","type":"Number","value":4,"metadatas":[{"name":"u","type":"Text","value":"W"}]}]},
             "statusCode":{"code":"200","reasonPhrase":"OK"}},
            {"contextElement":{"id":"m2"},"statusCode":{"code":"404"}}]}"#;
        let modern = entities(v2, false, 7).unwrap();
        assert_eq!(modern, entities(v1, true, 7).unwrap());
        assert_eq!(modern[0].attributes["power"].value, json!(4));
        assert_eq!(entities(br#"{"errorCode":{"code":"404"}}"#, true, 7), Ok(vec![]));
    }

    #[test]
    fn what_is_no_list_of_entities_is_wrong() {
        for body in [
            "",
            "{}",
            "[1]",
            r#"[{"type":"T"}]"#,
            r#"[{"id":"a","p":5}]"#,
            r#"[{"id":"a b"}]"#,
            r#"[{"id":"a","p":{"type":5}}]"#,
        ] {
            assert_eq!(entities(body.as_bytes(), false, 7), Err(WrongAnswer), "{body}");
        }
        for body in ["[]", r#"{"errorCode":{"code":"500"}}"#, r#"{"contextResponses":[{}]}"#] {
            assert_eq!(entities(body.as_bytes(), true, 7), Err(WrongAnswer), "{body}");
        }
    }

    #[test]
    fn a_legacy_provider_says_in_its_body_whether_it_took_an_update() {
        let taken = br#"{"contextResponses":[{"contextElement":{},"statusCode":{"code":"200"}}]}"#;
        assert!(legacy_update_succeeded(taken));
        for body in [
            r#"{"contextResponses":[{"statusCode":{"code":"404"}}]}"#,
            r#"{"contextResponses":[]}"#,
            r#"{"errorCode":{"code":"472"}}"#,
            "{",
        ] {
            assert!(!legacy_update_succeeded(body.as_bytes()), "{body}");
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..200), legacy: bool) {
            entities(&body, legacy, 7).ok();
            legacy_update_succeeded(&body);
        }
    }
}
