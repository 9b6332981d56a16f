//! gRPC `ContextBroker`: what neighbours in the mesh ask. Same meaning as the REST API.

use futures::{StreamExt, future::join_all, stream::BoxStream};
use ngsi::{
    EntityText, EntityUpdate, Error, ErrorWord, UpdateAction,
    geo::GeoQuery,
    parse::BodyFormat,
    query::{EntityQuery, EntitySelector, Expression, Pattern, QueryKind, parse_order},
};
use proto::v1::{
    self,
    context_broker_server::{ContextBroker, ContextBrokerServer},
};
use scope::{PathPattern, QueryScope, Scope, ServicePath, Tenant};
use service_kit::{RequestContext, TraceContext};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    Core,
    query::Found,
    update::{Applied, BoxedWrite, MeasureId, Operation, Write},
};

/// Updates in one call.
const MAX_UPDATES: usize = 10_000;
/// One call's message.
const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;
/// Items of one stream that are applied at once: about a group commit.
const STREAMED_AT_ONCE: usize = 512;
const MAX_LIMIT: u32 = 1000;
/// Ids, or types, in one query.
const MAX_ITEMS: usize = 1000;
const DEFAULT_LIMIT: u32 = 20;

/// The generated server over `core`: for a port, or as a neighbour in the same process.
pub fn grpc_service(core: Core) -> ContextBrokerServer<GrpcApi> {
    ContextBrokerServer::new(GrpcApi { core })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

pub struct GrpcApi {
    core: Core,
}

#[tonic::async_trait]
impl ContextBroker for GrpcApi {
    async fn update(&self, request: Request<v1::UpdateRequest>) -> Result<Response<v1::UpdateReply>, Status> {
        let updates = request.into_inner().updates;
        if updates.len() > MAX_UPDATES {
            return Err(Status::invalid_argument(format!("too many updates, max: {MAX_UPDATES}")));
        }
        let call = current();
        // Polled in order: items of one entity enter the group commit in the order of the call.
        let results = join_all(updates.into_iter().map(|update| {
            let write = write_of(update, &call);
            async {
                match write {
                    Ok(write) => self.core.apply_one(write).await,
                    Err(error) => Err(error),
                }
            }
        }));
        let results = results.await.into_iter().map(result_of).collect();
        Ok(Response::new(v1::UpdateReply { results }))
    }

    type UpdateStreamStream = BoxStream<'static, Result<v1::UpdateResult, Status>>;

    async fn update_stream(
        &self,
        request: Request<Streaming<v1::EntityUpdate>>,
    ) -> Result<Response<Self::UpdateStreamStream>, Status> {
        let (core, call) = (self.core.clone(), current());
        // Polled in order, and answered in order.
        let results = request.into_inner().map(move |update| {
            let (core, write) = (core.clone(), update.map(|update| write_of(update, &call)));
            async move {
                let result = match write? {
                    Ok(write) => core.apply_one(write).await,
                    Err(error) => Err(error),
                };
                Ok::<_, Status>(result_of(result))
            }
        });
        Ok(Response::new(results.buffered(STREAMED_AT_ONCE).boxed()))
    }

    type WatchStream = BoxStream<'static, Result<v1::WatchEvent, Status>>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let scope = query_scope(&request.tenant, &request.service_paths).map_err(status)?;
        Ok(Response::new(super::watch::watch(&self.core, scope, request)?))
    }

    async fn get_entity(
        &self,
        request: Request<v1::GetEntityRequest>,
    ) -> Result<Response<v1::Entity>, Status> {
        let request = request.into_inner();
        let scope = query_scope(&request.tenant, &request.service_paths).map_err(status)?;
        let entity_type = (!request.entity_type.is_empty()).then_some(request.entity_type.as_str());
        let found = self.core.get_found(&scope, &request.entity_id, entity_type).await.map_err(status)?;
        Ok(Response::new(message(&found)?))
    }

    async fn query_entities(
        &self,
        request: Request<v1::QueryEntitiesRequest>,
    ) -> Result<Response<v1::QueryEntitiesReply>, Status> {
        let request = request.into_inner();
        let scope = query_scope(&request.tenant, &request.service_paths).map_err(status)?;
        let query = query_of(&request).map_err(status)?;
        let page = self.core.query(&scope, &query).await.map_err(status)?;
        let entities = page.entities.iter().map(message).collect::<Result<_, _>>()?;
        Ok(Response::new(v1::QueryEntitiesReply { entities, total: page.total.unwrap_or_default() }))
    }
}

fn current() -> RequestContext {
    RequestContext::current().unwrap_or_else(|| RequestContext::background("context-broker"))
}

fn write_of(update: v1::EntityUpdate, call: &RequestContext) -> Result<BoxedWrite, Error> {
    let bad = |error: String| Error::bad_request(error);
    let tenant = Tenant::from_header(Some(&update.tenant)).map_err(|error| bad(error.to_string()))?;
    let path = match update.service_path.as_str() {
        "" => ServicePath::root(),
        path => ServicePath::parse(path).map_err(|error| bad(error.to_string()))?,
    };
    let action = action_of(update.action())?;
    let measure_id = match update.measure_id.len() {
        0 => None,
        _ => Some(
            MeasureId::try_from(&*update.measure_id)
                .map_err(|_| bad("a measure id has 16 bytes".to_owned()))?,
        ),
    };
    let trace = match TraceContext::parse(&update.traceparent) {
        Some(trace) => TraceContext { state: update.tracestate, ..trace },
        None => call.trace.clone(),
    };
    let correlator = match update.correlator.as_str() {
        "" => call.correlator.clone(),
        own => own.into(),
    };
    ngsi::parse::check_entity_id(&update.entity_id)?;
    if !update.entity_type.is_empty() {
        ngsi::parse::check_entity_type(&update.entity_type)?;
    }
    let attributes = match update.attributes.is_empty() {
        true => Default::default(),
        false => ngsi::parse::attributes(&update.attributes, BodyFormat::Normalized)?,
    };
    let entity = EntityUpdate {
        id: update.entity_id,
        entity_type: (!update.entity_type.is_empty()).then_some(update.entity_type),
        attributes,
    };
    Ok(Write::new(
        Scope::new(tenant, path),
        Operation { measure_id, ..Operation::new(action, entity) },
        RequestContext { trace, correlator, token_ref: None, service: "context-broker" },
    ))
}

fn action_of(action: v1::UpdateAction) -> Result<UpdateAction, Error> {
    Ok(match action {
        v1::UpdateAction::Append => UpdateAction::Append,
        v1::UpdateAction::AppendStrict => UpdateAction::AppendStrict,
        v1::UpdateAction::Update => UpdateAction::Update,
        v1::UpdateAction::Replace => UpdateAction::Replace,
        v1::UpdateAction::Delete => UpdateAction::Delete,
        v1::UpdateAction::Ensure => UpdateAction::Ensure,
        v1::UpdateAction::Unspecified => return Err(Error::bad_request("the action is not specified")),
    })
}

fn result_of(result: Result<Applied, Error>) -> v1::UpdateResult {
    match result {
        Ok(applied) => v1::UpdateResult { version: applied.version, ..v1::UpdateResult::default() },
        Err(error) => v1::UpdateResult {
            // A measure has an id: it may be sent again, and counts once.
            code: if error.is_outcome_unknown() { tonic::Code::Aborted } else { code(error.word) }.into(),
            error: error.word.as_str().to_owned(),
            description: error.description.into_owned(),
            version: 0,
        },
    }
}

fn code(word: ErrorWord) -> tonic::Code {
    use tonic::Code;
    match word {
        ErrorWord::NotFound => Code::NotFound,
        ErrorWord::TooManyResults => Code::AlreadyExists,
        ErrorWord::RequestEntityTooLarge | ErrorWord::NoResourcesAvailable | ErrorWord::TooManyRequests => {
            Code::ResourceExhausted
        }
        ErrorWord::Unprocessable | ErrorWord::PartialUpdate => Code::FailedPrecondition,
        ErrorWord::ServiceUnavailable => Code::Unavailable,
        ErrorWord::InternalServerError => Code::Internal,
        ErrorWord::NotImplemented => Code::Unimplemented,
        _ => Code::InvalidArgument,
    }
}

fn status(error: Error) -> Status {
    let mut status = Status::new(code(error.word), error.description.into_owned());
    status
        .metadata_mut()
        .insert("ngsi-error", tonic::metadata::MetadataValue::from_static(error.word.as_str()));
    status
}

fn query_scope(tenant: &str, paths: &[String]) -> Result<QueryScope, Error> {
    let tenant = Tenant::from_header(Some(tenant)).map_err(|error| Error::bad_request(error.to_string()))?;
    if paths.is_empty() {
        return Ok(QueryScope::whole_tenant(tenant));
    }
    let patterns = PathPattern::parse_list(&paths.join(","));
    Ok(QueryScope { tenant, patterns: patterns.map_err(|error| Error::bad_request(error.to_string()))? })
}

fn query_of(request: &v1::QueryEntitiesRequest) -> Result<EntityQuery, Error> {
    if request.entity_ids.len() > MAX_ITEMS || request.entity_types.len() > MAX_ITEMS {
        return Err(Error::bad_request(format!("too many ids or types, max: {MAX_ITEMS}")));
    }
    let pattern = |text: &str, name: &str| match text {
        "" => Ok(None),
        text => Pattern::parse(text)
            .map(Some)
            .map_err(|_| Error::bad_request(format!("Invalid regex for entity {name}"))),
    };
    let own_type = (!request.entity_type.is_empty()).then(|| request.entity_type.clone());
    let selector = EntitySelector {
        ids: request.entity_ids.clone(),
        id_pattern: pattern(&request.id_pattern, "idPattern")?,
        types: own_type.into_iter().chain(request.entity_types.iter().cloned()).collect(),
        type_pattern: pattern(&request.type_pattern, "typePattern")?,
    };
    let expression = |text: &str, kind| match text {
        "" => Ok(None),
        text => Expression::parse(text, kind).map(Some),
    };
    let q = expression(&request.q, QueryKind::Attributes)?;
    let mq = expression(&request.mq, QueryKind::Metadata)?;
    let geo = match (request.georel.as_str(), request.geometry.as_str(), request.coords.as_str()) {
        ("", "", "") => None,
        (georel, geometry, coords) => Some(GeoQuery::parse(georel, geometry, coords)?),
    };
    let order_by = match request.order_by.as_str() {
        "" => Vec::new(),
        order => parse_order(order)?,
    };
    let limit = match request.limit {
        0 => DEFAULT_LIMIT,
        limit => limit.min(MAX_LIMIT),
    };
    Ok(EntityQuery {
        selectors: vec![selector],
        q,
        mq,
        geo,
        order_by,
        limit: limit as usize,
        offset: request.offset as usize,
        count: true,
    })
}

fn message(found: &Found) -> Result<v1::Entity, Status> {
    let entity = match found {
        Found::Text(entity) => entity.clone(),
        Found::Whole(entity) => EntityText::of(entity).map_err(|_| Status::internal("no JSON form"))?.into(),
    };
    Ok(v1::Entity {
        entity_id: (*entity.id).to_owned(),
        entity_type: (*entity.entity_type).to_owned(),
        service_path: entity.path.as_str().to_owned(),
        attributes: entity.attributes.clone(),
        version: entity.version,
        created_us: entity.created_us,
        modified_us: entity.modified_us,
    })
}
