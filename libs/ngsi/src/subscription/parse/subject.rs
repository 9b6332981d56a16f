use serde_json::{Map, Value};

use super::{MAX_ITEMS, boolean, members, string, strings};
use crate::{
    Alteration, Error, ErrorWord,
    parse::has_forbidden,
    query::{Expression, Pattern, QueryKind},
    subscription::model::{Condition, Subject, SubjectEntity},
};

/// Most regular expressions in one subject: each is kept in memory, compiled.
const MAX_PATTERNS: usize = 100;

pub(super) fn subject(value: &Value) -> Result<Subject, Error> {
    let object = members(value, "subject")?;
    let entities =
        object.get("entities").ok_or_else(|| Error::bad_request("no subject entities specified"))?;
    let entities = entities.as_array().ok_or_else(|| Error::bad_request("entities is not an array"))?;
    if entities.is_empty() {
        return Err(Error::bad_request("subject entities is empty"));
    }
    if entities.len() > MAX_ITEMS {
        return Err(Error::bad_request(format!("entities has more than {MAX_ITEMS} items")));
    }
    let condition = match object.get("condition") {
        Some(value) => condition(members(value, "condition")?)?,
        None => Condition::default(),
    };
    let entities: Vec<SubjectEntity> = entities.iter().map(entity).collect::<Result<_, _>>()?;
    let patterns =
        |e: &SubjectEntity| usize::from(e.id_pattern.is_some()) + usize::from(e.type_pattern.is_some());
    if entities.iter().map(patterns).sum::<usize>() > MAX_PATTERNS {
        return Err(Error::bad_request(format!("entities has more than {MAX_PATTERNS} patterns")));
    }
    Ok(Subject { entities, condition })
}

fn entity(value: &Value) -> Result<SubjectEntity, Error> {
    let object = members(value, "entities item")?;
    let text = |field: &str| object.get(field).map(|value| string(value, field)).transpose();
    let (id, id_pattern) = (text("id")?, text("idPattern")?);
    match (id, id_pattern) {
        (Some(_), Some(_)) => {
            return Err(Error::bad_request("/entities/ vector item has both /id/ and /idPattern/"));
        }
        (None, None) => {
            return Err(Error::bad_request("/entities/ vector item does not have /id/ nor /idPattern/"));
        }
        (Some(""), None) | (None, Some("")) => {
            return Err(Error::bad_request("id and idPattern cannot be both empty at the same time"));
        }
        _ => {}
    }
    let (entity_type, type_pattern) = (text("type")?, text("typePattern")?);
    if entity_type.is_some() && type_pattern.is_some() {
        return Err(Error::bad_request("/entities/ vector item has both /type/ and /typePattern/"));
    }
    Ok(SubjectEntity {
        id: name(id, "id")?,
        id_pattern: pattern(id_pattern, "idPattern")?,
        entity_type: name(entity_type.filter(|text| !text.is_empty()), "type")?,
        type_pattern: pattern(type_pattern, "typePattern")?,
    })
}

fn name(text: Option<&str>, field: &str) -> Result<Option<String>, Error> {
    match text {
        Some(text) if has_forbidden(text) => {
            Err(Error::bad_request(format!("forbidden characters in /entities/ vector item /{field}/")))
        }
        other => Ok(other.map(str::to_owned)),
    }
}

fn pattern(text: Option<&str>, field: &str) -> Result<Option<Pattern>, Error> {
    text.map(Pattern::parse)
        .transpose()
        .map_err(|_| Error::bad_request(format!("Invalid regex for entity {field}")))
}

fn condition(object: &Map<String, Value>) -> Result<Condition, Error> {
    if object.is_empty() {
        return Err(Error::bad_request("condition is empty"));
    }
    if object.contains_key("jexlExpression") {
        return Err(Error::new(ErrorWord::NotImplemented, "jexlExpression is not supported"));
    }
    let (q, mq) = match object.get("expression") {
        Some(value) => expression(members(value, "expression")?)?,
        None => (None, None),
    };
    Ok(Condition {
        attrs: strings(object, "attrs")?.unwrap_or_default(),
        q,
        mq,
        alteration_types: alteration_types(object)?,
        notify_on_metadata_change: boolean(object, "notifyOnMetadataChange", true)?,
    })
}

fn expression(object: &Map<String, Value>) -> Result<(Option<Expression>, Option<Expression>), Error> {
    if object.is_empty() {
        return Err(Error::bad_request("expression is empty"));
    }
    let text = |field: &str| match object.get(field).map(|value| string(value, field)).transpose()? {
        Some("") => Err(Error::bad_request(format!("{field} is empty"))),
        other => Ok(other),
    };
    let geo = [text("georel")?, text("geometry")?, text("coords")?];
    match geo.iter().filter(|part| part.is_some()).count() {
        0 => {}
        3 => {
            return Err(Error::new(ErrorWord::NotImplemented, "geographic expressions are not supported"));
        }
        _ => {
            return Err(Error::bad_request(
                "partial geo expression: geometry, georel and coords have to be provided together",
            ));
        }
    }
    let parse = |field, kind| text(field)?.map(|text| Expression::parse(text, kind)).transpose();
    Ok((parse("q", QueryKind::Attributes)?, parse("mq", QueryKind::Metadata)?))
}

fn alteration_types(object: &Map<String, Value>) -> Result<Option<Vec<Alteration>>, Error> {
    let Some(names) = strings(object, "alterationTypes")? else { return Ok(None) };
    let kinds = names.iter().map(|name| match name.as_str() {
        "entityCreate" => Ok(Alteration::Create),
        "entityChange" => Ok(Alteration::Change),
        "entityUpdate" => Ok(Alteration::Update),
        "entityDelete" => Ok(Alteration::Delete),
        other => Err(Error::bad_request(format!("unknown subscription alterationType: {other}"))),
    });
    let kinds: Vec<_> = kinds.collect::<Result<_, _>>()?;
    Ok((!kinds.is_empty()).then_some(kinds))
}
