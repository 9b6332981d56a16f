//! `/v2/entities/{E}/attrs` and `/v2/entities/{E}/attrs/{A}`.

use http::Method;
use ngsi::{
    AttributeUpdate, EntityUpdate, Error, Failed, UpdateAction, ValueUpdate, parse,
    render::{AttributeExtras, Names, write_attribute, write_attributes},
    update::AttributeUpdates,
};

use super::{Answer, Api, Call, entities};
use crate::update::Operation;

pub(super) async fn all(api: &Api, call: &Call) -> Result<Answer, Error> {
    if call.method == Method::GET {
        let entity = entities::get(api, call, &call.params.selection().attributes).await?;
        let mut body = Vec::with_capacity(512);
        write_attributes(&mut body, &entity, &call.params.selection(), call.params.format());
        return Ok(Answer::Json(body));
    }
    let attributes = parse::attributes(&call.body, call.params.body_format())?;
    let action = match call.method {
        Method::PATCH => UpdateAction::Update,
        Method::PUT => UpdateAction::Replace,
        _ if call.params.option("append") => UpdateAction::AppendStrict,
        _ => UpdateAction::Append,
    };
    let operation = Operation { must_exist: true, ..Operation::new(action, update(call, attributes)) };
    entities::apply(api, call, operation).await?;
    Ok(Answer::DONE)
}

pub(super) async fn one(api: &Api, call: &Call) -> Result<Answer, Error> {
    match call.method {
        Method::PUT => write(api, call, parse::attribute(call.attribute(), &call.body)?).await,
        Method::DELETE => {
            // Only the name counts in a delete.
            let nothing = AttributeUpdate {
                attribute_type: None,
                value: ValueUpdate::Set(serde_json::Value::Null),
                metadata: None,
            };
            change(api, call, UpdateAction::Delete, nothing).await
        }
        _ => {
            let entity = entities::get(api, call, &Names::one(call.attribute())).await?;
            let attribute = entity.attributes.get(call.attribute()).ok_or_else(Error::attribute_not_found)?;
            let mut body = Vec::with_capacity(256);
            let metadata = Names::parse(call.params.get("metadata"));
            write_attribute(&mut body, attribute, &metadata, AttributeExtras::default());
            Ok(Answer::Json(body))
        }
    }
}

/// Overwrites one attribute that must exist.
pub(super) async fn write(api: &Api, call: &Call, attribute: AttributeUpdate) -> Result<Answer, Error> {
    change(api, call, UpdateAction::Update, attribute).await
}

async fn change(
    api: &Api,
    call: &Call,
    action: UpdateAction,
    attribute: AttributeUpdate,
) -> Result<Answer, Error> {
    let attributes = AttributeUpdates::from_iter([(call.attribute().to_owned(), attribute)]);
    let operation = Operation::new(action, update(call, attributes));
    match entities::apply(api, call, operation).await {
        Err(error) if matches!(error.failed, Some(Failed::Missing(_))) => Err(Error::attribute_not_found()),
        Err(error) => Err(error),
        Ok(_) => Ok(Answer::DONE),
    }
}

fn update(call: &Call, attributes: AttributeUpdates) -> EntityUpdate {
    EntityUpdate {
        id: call.entity_id().to_owned(),
        entity_type: call.entity_type().map(str::to_owned),
        attributes,
    }
}
