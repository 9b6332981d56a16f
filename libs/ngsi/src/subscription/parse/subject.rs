use serde_json::{Map, Value};

use super::{MAX_ITEMS, boolean, members, string, strings};
use crate::{
    Alteration, Error,
    geo::GeoQuery,
    parse::ListedEntity,
    query::{Expression, Pattern, QueryKind},
    subscription::{
        macros::JexlCondition,
        model::{Condition, GeoCondition, Subject, SubjectEntity},
    },
};

/// Most regular expressions in one subject: each is kept in memory, compiled.
const MAX_PATTERNS: usize = 100;

pub(super) fn subject(value: &Value) -> Result<Subject, Error> {
    let object = members(value, "subject")?;
    let entities =
        object.get("entities").ok_or_else(|| Error::bad_request("no subject entities specified"))?;
    let entities = entities.as_array().ok_or_else(|| Error::bad_request("/entities/ is not an array"))?;
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
    let mut items: Vec<ListedEntity<'_>> = Vec::with_capacity(entities.len());
    for item in entities {
        let item = ListedEntity::parse(item)?;
        if !items.contains(&item) {
            items.push(item);
        }
    }
    let mut entities: Vec<SubjectEntity> = items.into_iter().map(entity).collect::<Result<_, _>>()?;
    // Mostly one, and kept as long as the subscription.
    entities.shrink_to_fit();
    let patterns =
        |e: &SubjectEntity| usize::from(e.id_pattern.is_some()) + usize::from(e.type_pattern.is_some());
    if entities.iter().map(patterns).sum::<usize>() > MAX_PATTERNS {
        return Err(Error::bad_request(format!("entities has more than {MAX_PATTERNS} patterns")));
    }
    Ok(Subject { entities, condition })
}

fn entity(item: ListedEntity<'_>) -> Result<SubjectEntity, Error> {
    Ok(SubjectEntity {
        id: item.id.map(str::to_owned),
        id_pattern: pattern(item.id_pattern, "idPattern")?.map(Box::new),
        entity_type: item.entity_type.map(str::to_owned),
        type_pattern: pattern(item.type_pattern, "typePattern")?.map(Box::new),
    })
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
    let jexl = match object.get("jexlExpression").map(|value| string(value, "jexlExpression")).transpose()? {
        Some("") => return Err(Error::bad_request("jexlExpression is empty")),
        text => text.map(|text| Box::new(JexlCondition::parse(text))),
    };
    let expression = match object.get("expression") {
        Some(value) => expression(members(value, "expression")?)?,
        None => Condition::default(),
    };
    Ok(Condition {
        attrs: strings(object, "attrs")?.unwrap_or_default(),
        jexl,
        alteration_types: alteration_types(object)?,
        notify_on_metadata_change: boolean(object, "notifyOnMetadataChange", true)?,
        ..expression
    })
}

fn expression(object: &Map<String, Value>) -> Result<Condition, Error> {
    if object.is_empty() {
        return Err(Error::bad_request("expression is empty"));
    }
    let text = |field: &str| match object.get(field).map(|value| string(value, field)).transpose()? {
        Some("") => Err(Error::bad_request(format!("{field} is empty"))),
        other => Ok(other),
    };
    let parse = |field, kind| text(field)?.map(|text| Expression::parse(text, kind)).transpose();
    Ok(Condition {
        q: parse("q", QueryKind::Attributes)?,
        mq: parse("mq", QueryKind::Metadata)?,
        geo: geo(text("georel")?, text("geometry")?, text("coords")?)?,
        ..Condition::default()
    })
}

fn geo(
    georel: Option<&str>,
    geometry: Option<&str>,
    coords: Option<&str>,
) -> Result<Option<Box<GeoCondition>>, Error> {
    match (georel, geometry, coords) {
        (None, None, None) => Ok(None),
        (Some(georel), Some(geometry), Some(coords)) => {
            let query = GeoQuery::parse(georel, geometry, coords)
                .map_err(|error| error.prefixed("error parsing geo-query fields: "))?;
            let [georel, geometry, coords] = [georel, geometry, coords].map(str::to_owned);
            Ok(Some(Box::new(GeoCondition { georel, geometry, coords, query })))
        }
        _ => Err(Error::bad_request(
            "partial geo expression: geometry, georel and coords have to be provided together",
        )),
    }
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
