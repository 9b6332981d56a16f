//! gRPC `ContextBroker`: what neighbours in the mesh ask. Same meaning as the REST API.

use futures::future::join_all;
use ngsi::{
    EntityText, EntityUpdate, Error, ErrorWord, UpdateAction,
    parse::BodyFormat,
    query::{EntityQuery, EntitySelector, Expression, Pattern, QueryKind},
};
use proto::v1::{
    self,
    context_broker_server::{ContextBroker, ContextBrokerServer},
};
use scope::{PathPattern, QueryScope, Scope, ServicePath, Tenant};
use service_kit::{RequestContext, TraceContext};
use tonic::{Request, Response, Status};

use crate::{
    Core,
    query::Found,
    update::{Applied, MeasureId, Operation, Write},
};

/// Updates in one call.
const MAX_UPDATES: usize = 10_000;
/// One call's message.
const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;
const MAX_LIMIT: u32 = 1000;
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

fn write_of(update: v1::EntityUpdate, call: &RequestContext) -> Result<Write, Error> {
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
    Ok(Write {
        scope: Scope::new(tenant, path),
        operation: Operation { measure_id, ..Operation::new(action, entity) },
        cause: RequestContext { trace, correlator, token_ref: None, service: "context-broker" },
    })
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
    let id_pattern = match request.id_pattern.as_str() {
        "" => None,
        pattern => Some(
            Pattern::parse(pattern).map_err(|_| Error::bad_request("Invalid regex for entity idPattern"))?,
        ),
    };
    let types = (!request.entity_type.is_empty()).then(|| request.entity_type.clone());
    let selector =
        EntitySelector { id_pattern, types: types.into_iter().collect(), ..EntitySelector::default() };
    let q = match request.q.as_str() {
        "" => None,
        q => Some(Expression::parse(q, QueryKind::Attributes)?),
    };
    let limit = match request.limit {
        0 => DEFAULT_LIMIT,
        limit => limit.min(MAX_LIMIT),
    };
    Ok(EntityQuery {
        selectors: vec![selector],
        q,
        limit: limit as usize,
        offset: request.offset as usize,
        count: true,
        ..EntityQuery::default()
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
