//! Deletes (contract section 8).

use axum::{
    extract::{Path, RawQuery, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode};

use super::{
    ApiState,
    error::{ApiError, nothing_found},
    headers,
    params::Raw,
};
use crate::query::Deletion;

fn settle(api: &ApiState, removed: Result<u64, ApiError>) -> Response {
    match removed {
        Ok(0) => nothing_found(api.config.dialect.is_old()),
        Ok(_) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => error.into_response(),
    }
}

pub(super) async fn entity(
    State(api): State<ApiState>,
    Path(id): Path<String>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let removed = async {
        let raw = Raw::parse(query.as_deref());
        let scope = headers::query_scope(&headers)?;
        let ((_, from_us), (_, to_us)) = raw.dates()?;
        let entity_type = raw.text("type").filter(|name| !name.is_empty()).map(str::to_owned);
        if entity_type.is_none() && api.store.types_of(&scope, &id).await?.len() > 1 {
            return Err(ApiError::ambiguous_delete(&id));
        }
        let deletion = Deletion { scope, entity_type, entity_id: Some(id), from_us, to_us };
        Ok(api.store.delete(&deletion).await?)
    };
    settle(&api, removed.await)
}

pub(super) async fn entity_type(
    State(api): State<ApiState>,
    Path(name): Path<String>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let removed = async {
        let raw = Raw::parse(query.as_deref());
        let scope = headers::query_scope(&headers)?;
        if raw.boolean("dropTable")? {
            if !headers::is_root(&scope) {
                let text = "dropTable requires the root fiware-servicepath: '/'";
                return Err(ApiError::text(StatusCode::UNPROCESSABLE_ENTITY, text));
            }
            api.store.drop_type(&scope.tenant, &name).await?;
            return Ok(1);
        }
        let ((_, from_us), (_, to_us)) = raw.dates()?;
        let deletion = Deletion { scope, entity_type: Some(name), entity_id: None, from_us, to_us };
        Ok(api.store.delete(&deletion).await?)
    };
    settle(&api, removed.await)
}
