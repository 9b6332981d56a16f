//! `/v2/entities` and `/v2/entities/{E}`.

use http::Method;
use ngsi::{
    Entity, EntityUpdate, Error, UpdateAction, parse,
    query::EntityQuery,
    render::{Format, Names, Selection},
    update::{AttributeUpdates, DEFAULT_ENTITY_TYPE},
};
use scope::Scope;
use std::sync::Arc;

use super::{Answer, Api, Call};
use crate::{
    query::{Found, Page},
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
    let entity = get_found(api, call, &call.params.selection().attributes).await?;
    let mut body = Vec::with_capacity(512);
    entity.write(&mut body, &call.params.selection(), call.params.format())?;
    Ok(Answer::Json(body))
}

/// The one entity that the path and `type` name, with the attributes in `names` wherever they are.
async fn get_found(api: &Api, call: &Call, names: &Names) -> Result<Found, Error> {
    if api.core.registrations.is_empty(&call.tenant) {
        return api.core.get_found(&call.query_scope(), call.entity_id(), call.entity_type()).await;
    }
    get(api, call, names).await.map(Found::Whole)
}

/// The same, decoded.
pub(super) async fn get(api: &Api, call: &Call, names: &Names) -> Result<Arc<Entity>, Error> {
    let entity = (call.entity_id(), call.entity_type());
    if api.core.registrations.is_empty(&call.tenant) {
        return api.core.get(&call.query_scope(), entity.0, entity.1).await;
    }
    // Boxed, as all that few requests need: a future is as large as the largest of what it may wait for.
    Box::pin(api.core.get_everywhere(&call.query_scope(), entity, names, &call.caller())).await
}

async fn list(api: &Api, call: &Call) -> Result<Answer, Error> {
    let query = call.params.entity_query()?;
    let selection = call.params.selection();
    let page = find(api, call, &query, &selection.attributes).await?;
    page_answer(&page, &selection, call.params.format())
}

/// A page of entities with the attributes in `names`, wherever they are.
pub(super) async fn find(api: &Api, call: &Call, query: &EntityQuery, names: &Names) -> Result<Page, Error> {
    if api.core.registrations.is_empty(&call.tenant) {
        return api.core.query(&call.query_scope(), query).await;
    }
    Box::pin(api.core.query_everywhere(&call.query_scope(), query, names, &call.caller())).await
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
    if api.core.registrations.is_empty(&call.tenant) {
        return api.core.apply_operation(scope, operation, call.cause()).await;
    }
    let mut results = Box::pin(apply_all(api, call, &scope, vec![operation])).await?;
    results.pop().unwrap_or_else(|| Err(Error::internal()))
}

/// Applies operations of one kind, and has providers do what can't be done here. The error is that of the whole.
pub(super) async fn apply_all(
    api: &Api,
    call: &Call,
    scope: &Scope,
    operations: Vec<Operation>,
) -> Result<Vec<Result<Applied, Error>>, Error> {
    let action = operations.first().map(|operation| operation.action);
    let forwarded = action == Some(UpdateAction::Update) && !api.core.registrations.is_empty(&call.tenant);
    let updates: Vec<EntityUpdate> = match forwarded {
        true => operations.iter().map(|operation| operation.update.clone()).collect(),
        false => Vec::new(),
    };
    let mut results = api.core.apply(scope, operations, &call.cause()).await;
    if forwarded {
        Box::pin(api.core.update_everywhere(scope, &updates, &mut results, &call.caller())).await?;
    }
    Ok(results)
}
