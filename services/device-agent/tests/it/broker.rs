//! A context broker for tests: a real gRPC server that can be killed and come back with what it had, and that drops
//! repeated measure ids as the real one does.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use proto::v1::{self, UpdateAction, context_broker_server};
use serde_json::{Map, Value};
use service_kit::grpc::{self, Neighbour};
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
    sync::Notify,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// Measure ids that are remembered for an entity.
const REMEMBERED: usize = 32;

/// Tenant, service path, entity id.
pub type At = (String, String, String);

#[derive(Default)]
pub struct StoredEntity {
    pub entity_type: String,
    pub attributes: Map<String, Value>,
    /// Every applied write, in order.
    pub writes: Vec<Map<String, Value>>,
    measure_ids: VecDeque<Vec<u8>>,
}

#[derive(Default)]
pub struct State {
    pub entities: BTreeMap<At, StoredEntity>,
    /// Updates in each call.
    pub calls: Vec<usize>,
    pub repeats_dropped: usize,
    pub correlators: Vec<String>,
    pub traceparents: Vec<String>,
    /// Applies the next calls, but never answers.
    pub lose_answers: usize,
    /// The next call waits for this before it is answered.
    pub hold: Option<Arc<Notify>>,
    /// Refuses updates of this entity: gRPC code, NGSI error, description.
    pub refuse: Option<(String, tonic::Code, &'static str, &'static str)>,
}

#[derive(Clone, Default)]
pub struct FakeBroker {
    pub state: Arc<Mutex<State>>,
}

impl FakeBroker {
    pub fn value(&self, tenant: &str, path: &str, id: &str, attribute: &str) -> Option<Value> {
        let state = self.state.lock();
        let entity = state.entities.get(&(tenant.into(), path.into(), id.into()))?;
        entity.attributes.get(attribute)?.get("value").cloned()
    }

    /// What was written to one attribute, in order.
    pub fn history(&self, tenant: &str, path: &str, id: &str, attribute: &str) -> Vec<Value> {
        let state = self.state.lock();
        let entity = state.entities.get(&(tenant.into(), path.into(), id.into()));
        let writes = entity.map(|entity| entity.writes.as_slice()).unwrap_or_default();
        writes.iter().filter_map(|write| write.get(attribute)?.get("value").cloned()).collect()
    }

    pub fn in_process(&self) -> Neighbour {
        grpc::local(context_broker_server::ContextBrokerServer::new(self.clone()))
    }
}

fn apply(state: &mut State, update: v1::EntityUpdate) -> v1::UpdateResult {
    if let Some((entity, code, error, description)) = &state.refuse
        && *entity == update.entity_id
    {
        return v1::UpdateResult {
            code: *code as i32,
            error: (*error).into(),
            description: (*description).into(),
            version: 0,
        };
    }
    // As the real one does: an empty object is refused, no bytes are no attributes.
    if &*update.attributes == b"{}" {
        return v1::UpdateResult {
            code: tonic::Code::InvalidArgument as i32,
            error: "BadRequest".into(),
            description: "empty payload".into(),
            version: 0,
        };
    }
    let at = (update.tenant.clone(), update.service_path.clone(), update.entity_id.clone());
    let entity = state.entities.entry(at).or_default();
    assert_eq!(update.measure_id.len(), 16);
    if entity.measure_ids.contains(&update.measure_id.to_vec()) {
        state.repeats_dropped += 1;
        return v1::UpdateResult::default();
    }
    entity.measure_ids.push_back(update.measure_id.to_vec());
    if entity.measure_ids.len() > REMEMBERED {
        entity.measure_ids.pop_front();
    }
    entity.entity_type.clone_from(&update.entity_type);
    let given: Map<String, Value> = match update.attributes.is_empty() {
        true => Map::new(),
        false => serde_json::from_slice(&update.attributes).expect("attributes are JSON"),
    };
    match update.action() {
        UpdateAction::Ensure => {
            for (name, value) in given {
                entity.attributes.entry(name).or_insert(value);
            }
        }
        UpdateAction::Append => {
            entity.writes.push(given.clone());
            entity.attributes.extend(given);
        }
        other => panic!("{other:?}"),
    }
    state.correlators.push(update.correlator);
    state.traceparents.push(update.traceparent);
    v1::UpdateResult::default()
}

#[tonic::async_trait]
impl context_broker_server::ContextBroker for FakeBroker {
    type UpdateStreamStream = futures::stream::Empty<Result<v1::UpdateResult, Status>>;
    type WatchStream = futures::stream::Empty<Result<v1::WatchEvent, Status>>;

    async fn update_stream(
        &self,
        _: Request<tonic::Streaming<v1::EntityUpdate>>,
    ) -> Result<Response<Self::UpdateStreamStream>, Status> {
        Err(Status::unimplemented("the agent does not ask for it"))
    }

    async fn watch(&self, _: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("the agent does not ask for it"))
    }

    async fn update(&self, request: Request<v1::UpdateRequest>) -> Result<Response<v1::UpdateReply>, Status> {
        let updates = request.into_inner().updates;
        let (results, lost, hold) = {
            let mut state = self.state.lock();
            state.calls.push(updates.len());
            let lost = state.lose_answers > 0;
            state.lose_answers = state.lose_answers.saturating_sub(1);
            (updates.into_iter().map(|update| apply(&mut state, update)).collect(), lost, state.hold.take())
        };
        if let Some(hold) = hold {
            hold.notified().await;
        }
        if lost {
            std::future::pending::<()>().await;
        }
        Ok(Response::new(v1::UpdateReply { results }))
    }

    async fn get_entity(&self, _: Request<v1::GetEntityRequest>) -> Result<Response<v1::Entity>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn query_entities(
        &self,
        _: Request<v1::QueryEntitiesRequest>,
    ) -> Result<Response<v1::QueryEntitiesReply>, Status> {
        Err(Status::unimplemented(""))
    }
}

/// The fake behind a port, to be killed and brought back. It has a runtime of its own, whose end is the end of all its
/// connections.
pub struct BrokerServer {
    pub broker: FakeBroker,
    pub address: SocketAddr,
    runtime: Option<Runtime>,
}

impl BrokerServer {
    pub async fn start() -> Self {
        let mut server =
            Self { broker: FakeBroker::default(), address: ([127, 0, 0, 1], 0).into(), runtime: None };
        server.bring_back().await;
        server
    }

    pub fn neighbour(&self) -> Neighbour {
        grpc::remote(&format!("http://{}", self.address)).unwrap()
    }

    /// Ends at once, with calls in flight.
    pub async fn kill(&mut self) {
        let runtime = self.runtime.take().expect("it runs");
        tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(5))).await.unwrap();
    }

    pub async fn bring_back(&mut self) {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = loop {
            // Bound inside the runtime that will own it.
            let bound = runtime.spawn(TcpListener::bind(self.address)).await.unwrap();
            match bound {
                Ok(listener) => break listener,
                // The dead server's socket may linger for a moment.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        self.address = listener.local_addr().unwrap();
        let api = context_broker_server::ContextBrokerServer::new(self.broker.clone());
        let server = tonic::transport::Server::builder().add_service(api);
        let incoming = TcpListenerStream::new(listener);
        runtime.spawn(async move { server.serve_with_incoming(incoming).await.unwrap() });
        self.runtime = Some(runtime);
    }
}

impl Drop for BrokerServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
