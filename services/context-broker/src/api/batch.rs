//! `/v2/op/update` and `/v2/op/query`.

use ngsi::{
    EntityUpdate, Error, UpdateAction,
    error::{BatchItem, batch_answer},
    parse,
    query::{EntityQuery, QueryKind},
    render::Names,
};

use super::{
    Answer, Api, Call,
    entities::{apply_all, find, page_answer},
    params::expression,
};
use crate::update::Operation;

pub(super) async fn update(api: &Api, call: &Call) -> Result<Answer, Error> {
    let batch = parse::batch(&call.body, call.params.body_format())?;
    apply(api, call, batch.action, batch.entities).await?;
    Ok(Answer::DONE)
}

/// What another broker notifies is appended.
pub(super) async fn notify(api: &Api, call: &Call) -> Result<Answer, Error> {
    match &call.attrs_format {
        Some(format) if format != "normalized" => {
            let format = String::from_utf8_lossy(format.as_bytes());
            return Err(Error::bad_request(format!(
                "attribute render format /{format}/ not supported for notifications"
            )));
        }
        _ => {}
    }
    let entities = parse::notification(&call.body)?;
    apply(api, call, UpdateAction::Append, entities).await?;
    Ok(Answer::Nothing)
}

/// Applies all; the error says what of it failed.
async fn apply(
    api: &Api,
    call: &Call,
    action: UpdateAction,
    entities: Vec<EntityUpdate>,
) -> Result<(), Error> {
    let scope = call.write_scope()?;
    let options = call.params.update_options();
    let names: Vec<_> =
        entities.iter().map(|entity| (entity.id.clone(), entity.entity_type.clone())).collect();
    let operations =
        entities.into_iter().map(|entity| Operation { options, ..Operation::new(action, entity) }).collect();
    let results = apply_all(api, call, &scope, operations).await?;
    let items: Vec<_> = names
        .iter()
        .zip(&results)
        .map(|((id, entity_type), result)| BatchItem {
            id,
            entity_type: entity_type.as_deref(),
            error: result.as_ref().err(),
        })
        .collect();
    batch_answer(&items)
}

pub(super) async fn query(api: &Api, call: &Call) -> Result<Answer, Error> {
    let request = parse::batch_query(&call.body)?;
    let query = call.params.paged(EntityQuery {
        selectors: request.selectors,
        q: expression(request.expression.q.as_deref(), QueryKind::Attributes)?,
        mq: expression(request.expression.mq.as_deref(), QueryKind::Metadata)?,
        geo: request.expression.geo,
        ..EntityQuery::default()
    })?;
    let mut selection = call.params.selection();
    if let Some(attrs) = request.attrs {
        selection.attributes = Names::listed(attrs);
    }
    if let Some(metadata) = request.metadata {
        selection.metadata = Names::listed(metadata);
    }
    let page = find(api, call, &query, &selection.attributes).await?;
    page_answer(&page, &selection, call.params.format())
}
