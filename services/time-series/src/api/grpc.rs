//! gRPC `thingmesh.v1.TimeSeries`.

use std::sync::Arc;

use proto::v1::{
    AppendReply, AppendRequest, Column, QueryEntityReply, QueryEntityRequest, Row as ProtoRow,
    time_series_server::{TimeSeries, TimeSeriesServer},
};
use scope::{PathPattern, QueryScope, Scope, ServicePath, Tenant};
use serde_json::Value;
use tonic::{Request, Response, Status};

use super::{ApiState, params::MAX_ROWS};
use crate::{
    cell::Shown,
    ingest::entity_row,
    query::{Attributes, Query, Selection, Window},
    row::Row,
    store::{Appended, StoreError},
};

/// Most rows of one `Append`.
const MAX_APPEND: usize = 100_000;

struct Grpc(ApiState);

/// The service, for a listener or as a neighbour in this process.
pub fn grpc_service(state: ApiState) -> TimeSeriesServer<impl TimeSeries> {
    TimeSeriesServer::from_arc(Arc::new(Grpc(state))).max_decoding_message_size(64 << 20)
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn store_status(error: StoreError) -> Status {
    tracing::error!(%error, "call failed at the store");
    match error {
        StoreError::Unavailable(_) | StoreError::Retry(_) => {
            Status::unavailable("the store is not available now")
        }
        StoreError::Full(_) => Status::resource_exhausted("no space left for the store"),
        _ => Status::internal("internal error"),
    }
}

fn tenant(name: &str) -> Result<Tenant, Status> {
    Tenant::from_header(Some(name)).map_err(|error| Status::invalid_argument(error.to_string()))
}

#[tonic::async_trait]
impl TimeSeries for Grpc {
    async fn append(&self, request: Request<AppendRequest>) -> Result<Response<AppendReply>, Status> {
        let AppendRequest { tenant: name, rows } = request.into_inner();
        let tenant = tenant(&name)?;
        if rows.len() > MAX_APPEND {
            return Err(Status::resource_exhausted(format!("more than {MAX_APPEND} rows")));
        }
        let arrived_us = self.0.clock.now_us();
        let read = move || -> Result<Vec<Row>, Status> {
            let rows = rows.iter().enumerate().map(|(at, row)| read_row(&tenant, row, at, arrived_us));
            rows.filter_map(Result::transpose).collect()
        };
        let rows =
            tokio::task::spawn_blocking(read).await.map_err(|_| Status::internal("rows not read"))??;
        let stored = match self.0.store.append(rows, None).await.map_err(store_status)? {
            Appended::Stored { rows, nulled, .. } => {
                self.0.metrics.values_nulled.inc_by(nulled);
                rows
            }
            Appended::Moved => 0,
        };
        Ok(Response::new(AppendReply { stored }))
    }

    async fn query_entity(
        &self,
        request: Request<QueryEntityRequest>,
    ) -> Result<Response<QueryEntityReply>, Status> {
        let asked = request.into_inner();
        let scope = query_scope(&asked)?;
        let entity_type = if asked.entity_type.is_empty() {
            let types = self.0.store.types_of(&scope, &asked.entity_id).await.map_err(store_status)?;
            match types.as_slice() {
                [one] => one.clone(),
                [] => return Err(Status::not_found("no records were found")),
                _ => return Err(Status::invalid_argument("several types have this entity id")),
            }
        } else {
            asked.entity_type.clone()
        };
        let found = self.0.store.query(&query(scope, entity_type, &asked)).await.map_err(store_status)?;
        let Some((rows, entity)) = found.first().and_then(|rows| Some((rows, rows.entities.first()?))) else {
            return Err(Status::not_found("no records were found"));
        };
        let columns = rows.attributes.iter().zip(&entity.columns).map(|(info, cells)| {
            let shown: Vec<Shown<'_>> = cells.iter().map(|cell| Shown(info.kind, cell)).collect();
            let values = serde_json::to_vec(&shown).map_err(|_| Status::internal("values not written"))?;
            Ok::<_, Status>(Column { name: info.name.clone(), values: values.into() })
        });
        let columns = columns.collect::<Result<_, _>>()?;
        Ok(Response::new(QueryEntityReply {
            entity_type: rows.name.clone(),
            time_us: entity.times.clone(),
            columns,
        }))
    }
}

fn read_row(tenant: &Tenant, row: &ProtoRow, at: usize, arrived_us: i64) -> Result<Option<Row>, Status> {
    let path = if row.service_path.is_empty() { "/" } else { &row.service_path };
    let path = ServicePath::parse(path).map_err(|error| Status::invalid_argument(error.to_string()))?;
    let attributes: Value = serde_json::from_slice(&row.attributes)
        .map_err(|_| Status::invalid_argument(format!("attributes of row {at} are not JSON")))?;
    let Value::Object(mut entity) = attributes else {
        return Err(Status::invalid_argument(format!("attributes of row {at} are no object")));
    };
    if row.entity_id.is_empty() || row.entity_type.is_empty() {
        return Err(Status::invalid_argument(format!("row {at} lacks an entity id or type")));
    }
    entity.insert("id".into(), row.entity_id.as_str().into());
    entity.insert("type".into(), row.entity_type.as_str().into());
    let scope = Scope::new(tenant.clone(), path);
    let read = entity_row(&Value::Object(entity), at, scope, None, arrived_us)
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    Ok(read.map(|read| if row.time_us == 0 { read } else { Row { time_us: row.time_us, ..read } }))
}

fn query_scope(asked: &QueryEntityRequest) -> Result<QueryScope, Status> {
    let tenant = tenant(&asked.tenant)?;
    if asked.service_paths.is_empty() {
        return Ok(QueryScope::whole_tenant(tenant));
    }
    let patterns = asked.service_paths.iter().map(|text| PathPattern::parse(text)).collect::<Result<_, _>>();
    let patterns = patterns.map_err(|error| Status::invalid_argument(error.to_string()))?;
    Ok(QueryScope { tenant, patterns })
}

fn query(scope: QueryScope, entity_type: String, asked: &QueryEntityRequest) -> Query {
    let limit = match asked.limit {
        0 => MAX_ROWS,
        limit => MAX_ROWS.min(limit as usize),
    };
    let bound = |at_us: i64| (at_us != 0).then_some(at_us);
    Query {
        selection: Selection {
            types: Some(vec![entity_type]),
            ids: Some(vec![asked.entity_id.clone()]),
            from_us: bound(asked.from_us),
            to_us: bound(asked.to_us),
            ..Selection::all(scope)
        },
        attributes: if asked.attributes.is_empty() {
            Attributes::All
        } else {
            Attributes::AnyOf(asked.attributes.clone())
        },
        window: Window { limit, offset: 0, last_n: (asked.last_n > 0).then_some(asked.last_n as usize) },
        aggregation: None,
    }
}
