//! `POST /v2/op/query`: newest values, as a context provider answers (contract section 7).

use axum::{
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::StatusCode;
use scope::QueryScope;
use serde_json::{Map, Value, json};

use super::{ApiState, error::ApiError, headers, notify};
use crate::{
    cell::Shown,
    query::{Attributes, Query, Selection, TypeRows, Window},
    time,
};

const MAX_ENTITIES: usize = 1_000;

pub(super) async fn op_query(State(api): State<ApiState>, request: Request) -> Response {
    match answer(&api, request).await {
        Ok(found) => axum::Json(found).into_response(),
        Err(ApiError::NothingFound) => super::error::nothing_found(api.config.dialect.is_old()),
        Err(error) => error.into_response(),
    }
}

fn refused(text: &str) -> ApiError {
    ApiError::text(StatusCode::BAD_REQUEST, text)
}

async fn answer(api: &ApiState, request: Request) -> Result<Vec<Value>, ApiError> {
    let (parts, body) = request.into_parts();
    let body = notify::parse_json(&notify::json_body(api, &parts.headers, body).await?)?;
    let scope = headers::query_scope(&parts.headers)?;
    let Some(asked) = body.as_object() else {
        return Err(ApiError::bad_request("the body is not of type 'object'"));
    };
    let list = |name: &str| {
        let value = asked.get(name).ok_or_else(|| ApiError::required(name))?;
        value.as_array().ok_or_else(|| ApiError::bad_request(format!("'{name}' is not of type 'array'")))
    };
    let (entities, attributes) = (list("entities")?, list("attrs")?);
    for unsupported in ["expression", "metadata"] {
        if asked.get(unsupported).is_some_and(|value| !value.is_null()) {
            return Err(refused(&format!("{unsupported} is Not Supported")));
        }
    }
    if entities.len() > MAX_ENTITIES {
        return Err(ApiError::bad_request(format!("more than {MAX_ENTITIES} entities")));
    }
    let names: Vec<String> = attributes.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let mut found = Vec::with_capacity(entities.len());
    for entity in entities {
        found.push(newest(api, &scope, entity, &names).await?.ok_or(ApiError::NothingFound)?);
    }
    Ok(found)
}

async fn newest(
    api: &ApiState,
    scope: &QueryScope,
    entity: &Value,
    names: &[String],
) -> Result<Option<Value>, ApiError> {
    let text = |name: &str| entity.get(name).and_then(Value::as_str).map(str::to_owned);
    let id = text("id").ok_or_else(|| refused("Entity id is required"))?;
    let entity_type = text("type").ok_or_else(|| refused("Entity type is required"))?;
    if entity.get("idPattern").is_some() {
        return Err(refused("idPattern is Not Supported"));
    }
    let attributes = if names.is_empty() { Attributes::All } else { Attributes::AnyOf(names.to_vec()) };
    let query = Query {
        selection: Selection {
            types: Some(vec![entity_type]),
            ids: Some(vec![id]),
            ..Selection::all(scope.clone())
        },
        attributes,
        window: Window { limit: 1, offset: 0, last_n: Some(1) },
        aggregation: None,
    };
    Ok(api.store.query(&query).await?.first().and_then(shown))
}

fn shown(rows: &TypeRows) -> Option<Value> {
    let entity = rows.entities.first()?;
    let mut fields = Map::new();
    fields.insert("id".into(), json!(entity.id));
    fields.insert("type".into(), json!(rows.name));
    for (info, column) in rows.attributes.iter().zip(&entity.columns) {
        let value = serde_json::to_value(Shown(info.kind, column.last()?)).ok()?;
        fields.insert(info.name.clone(), json!({"type": info.declared, "value": value}));
    }
    let at = time::format_ms(*entity.times.last()?);
    fields.insert("dateModified".into(), json!({"type": "DateTime", "value": at}));
    Some(Value::Object(fields))
}
