//! `/v2/entities` and `/v2/entities/{E}`.

use http::Method;
use ngsi::{
    Entity, EntityUpdate, Error, UpdateAction, parse,
    render::{Format, Selection},
    update::{AttributeUpdates, DEFAULT_ENTITY_TYPE},
};
use std::sync::Arc;

use super::{Answer, Api, Call};
use crate::{
    query::Page,
    update::{Applied, Operation},
};

pub(super) async fn collection(api: &Api, call: &Call) -> Result<Answer, Error> {
    if call.method == Method::POST { create(api, call).await } else { list(api, call).await }
}

pub(super) async fn entity(api: &Api, call: &Call) -> Result<Answer, Error> {
    if call.method == Method::DELETE {
        let update = EntityUpdate {
            id: call.entity_id().to_owned(),
            entity_type: call.entity_type().map(str::to_owned),
            attributes: AttributeUpdates::new(),
        };
        apply(api, call, Operation::new(UpdateAction::Delete, update)).await?;
        return Ok(Answer::DONE);
    }
    let entity = api.core.get_found(&call.query_scope(), call.entity_id(), call.entity_type()).await?;
    let mut body = Vec::with_capacity(512);
    entity.write(&mut body, &call.params.selection(), call.params.format())?;
    Ok(Answer::Json(body))
}

/// The one entity that the path and `type` name.
pub(super) async fn get(api: &Api, call: &Call) -> Result<Arc<Entity>, Error> {
    api.core.get(&call.query_scope(), call.entity_id(), call.entity_type()).await
}

async fn list(api: &Api, call: &Call) -> Result<Answer, Error> {
    let query = call.params.entity_query()?;
    let page = api.core.query(&call.query_scope(), &query).await?;
    page_answer(&page, &call.params.selection(), call.params.format())
}

pub(super) fn page_answer(page: &Page, selection: &Selection, format: Format) -> Result<Answer, Error> {
    let mut body = Vec::with_capacity(64 + 256 * page.entities.len());
    body.push(b'[');
    for (at, entity) in page.entities.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        entity.write(&mut body, selection, format)?;
    }
    body.push(b']');
    Ok(Answer::List(body, page.total))
}

async fn create(api: &Api, call: &Call) -> Result<Answer, Error> {
    let mut update = parse::entity(&call.body, call.params.body_format())?;
    let entity_type = update.entity_type.get_or_insert_with(|| DEFAULT_ENTITY_TYPE.to_owned());
    let location = format!("/v2/entities/{}?type={entity_type}", update.id);
    let upsert = call.params.option("upsert");
    let action = if upsert { UpdateAction::Append } else { UpdateAction::Create };
    apply(api, call, Operation::new(action, update)).await?;
    Ok(if upsert { Answer::NoContent(Some(location)) } else { Answer::Created(location) })
}

/// Applies one operation in the scope of the call.
pub(super) async fn apply(api: &Api, call: &Call, mut operation: Operation) -> Result<Applied, Error> {
    operation.options = call.params.update_options();
    let scope = call.write_scope()?;
    let mut results = api.core.apply(&scope, vec![operation], &call.cause()).await;
    results.pop().unwrap_or_else(|| Err(Error::internal()))
}
