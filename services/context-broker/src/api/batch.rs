//! `/v2/op/update` and `/v2/op/query`.

use ngsi::{
    Error, ErrorWord,
    error::{BatchItem, batch_answer},
    parse,
    query::{EntityQuery, QueryKind},
    render::Names,
};

use super::{Answer, Api, Call, entities::page_answer, params::expression};
use crate::update::Operation;

pub(super) async fn update(api: &Api, call: &Call) -> Result<Answer, Error> {
    let batch = parse::batch(&call.body, call.params.body_format())?;
    let scope = call.write_scope()?;
    let options = call.params.update_options();
    let names: Vec<_> =
        batch.entities.iter().map(|entity| (entity.id.clone(), entity.entity_type.clone())).collect();
    let operations = batch
        .entities
        .into_iter()
        .map(|entity| Operation { options, ..Operation::new(batch.action, entity) })
        .collect();
    let results = api.core.apply(&scope, operations, &call.cause()).await;
    let items: Vec<_> = names
        .iter()
        .zip(&results)
        .map(|((id, entity_type), result)| BatchItem {
            id,
            entity_type: entity_type.as_deref(),
            error: result.as_ref().err(),
        })
        .collect();
    batch_answer(&items)?;
    Ok(Answer::DONE)
}

pub(super) async fn query(api: &Api, call: &Call) -> Result<Answer, Error> {
    let request = parse::batch_query(&call.body)?;
    if request.expression.has_geo {
        return Err(Error::new(ErrorWord::NotImplemented, "geographic queries are not supported"));
    }
    let query = call.params.paged(EntityQuery {
        selectors: request.selectors,
        q: expression(request.expression.q.as_deref(), QueryKind::Attributes)?,
        mq: expression(request.expression.mq.as_deref(), QueryKind::Metadata)?,
        ..EntityQuery::default()
    })?;
    let page = api.core.query(&call.query_scope(), &query).await?;
    let mut selection = call.params.selection();
    if let Some(attrs) = request.attrs {
        selection.attributes = Names::listed(attrs);
    }
    if let Some(metadata) = request.metadata {
        selection.metadata = Names::listed(metadata);
    }
    Ok(page_answer(&page, &selection, call.params.format()))
}
