use proto::v1::{
    EntityUpdate, GetEntityRequest, QueryEntitiesRequest, UpdateAction, UpdateRequest,
    context_broker_client::ContextBrokerClient,
};
use serde_json::{Value, json};
use service_kit::grpc::{Neighbour, local, remote};

use crate::started::Broker;

fn update(id: &str, action: UpdateAction, attributes: Value) -> EntityUpdate {
    EntityUpdate {
        tenant: "factory".to_owned(),
        service_path: "/hall".to_owned(),
        action: action.into(),
        entity_id: id.to_owned(),
        entity_type: "T".to_owned(),
        attributes: attributes.to_string().into(),
        ..EntityUpdate::default()
    }
}

async fn speaks(client: Neighbour) {
    let mut client = ContextBrokerClient::new(client);
    let measured = EntityUpdate {
        measure_id: vec![1; 16].into(),
        ..update("e", UpdateAction::Append, json!({"n": {"type": "Number", "value": {"$inc": 1}}}))
    };
    let updates = vec![
        update("e", UpdateAction::Append, json!({"n": {"value": 1}})),
        measured.clone(),
        measured,
        update("none", UpdateAction::Update, json!({"n": {"value": 1}})),
        update("e", UpdateAction::Unspecified, json!({})),
        EntityUpdate { attributes: "{".into(), ..update("e", UpdateAction::Append, json!({})) },
        update("e", UpdateAction::Ensure, json!({"n": {"value": 100}, "m": {"value": 5}})),
    ];
    let results = client.update(UpdateRequest { updates }).await.unwrap().into_inner().results;
    let codes: Vec<i32> = results.iter().map(|result| result.code).collect();
    assert_eq!(codes, [0, 0, 0, 5, 3, 3, 0], "{results:?}");
    assert_eq!(results[1].version, results[2].version, "the measure counted once");
    assert_eq!(results[3].error, "NotFound");

    let bare =
        || EntityUpdate { attributes: Vec::new().into(), ..update("bare", UpdateAction::Ensure, json!(0)) };
    let updates = vec![bare(), bare(), update("bare", UpdateAction::Ensure, json!({}))];
    let results = client.update(UpdateRequest { updates }).await.unwrap().into_inner().results;
    let codes: Vec<i32> = results.iter().map(|result| result.code).collect();
    assert_eq!(codes, [0, 0, 3], "no bytes are no attributes, an empty object is a mistake: {results:?}");
    let request = GetEntityRequest {
        tenant: "factory".to_owned(),
        entity_id: "bare".to_owned(),
        ..GetEntityRequest::default()
    };
    let entity = client.get_entity(request).await.unwrap().into_inner();
    assert_eq!((entity.entity_type.as_str(), &*entity.attributes), ("T", &b"{}"[..]));

    let request = GetEntityRequest {
        tenant: "factory".to_owned(),
        entity_id: "e".to_owned(),
        ..GetEntityRequest::default()
    };
    let entity = client.get_entity(request).await.unwrap().into_inner();
    let attributes: Value = serde_json::from_slice(&entity.attributes).unwrap();
    assert_eq!((&attributes["n"]["value"], &attributes["m"]["value"]), (&json!(2), &json!(5)));
    assert_eq!(entity.service_path, "/hall");

    let elsewhere = GetEntityRequest { entity_id: "e".to_owned(), ..GetEntityRequest::default() };
    let missing = client.get_entity(elsewhere).await.unwrap_err();
    assert_eq!(missing.code(), tonic::Code::NotFound);
    assert_eq!(missing.metadata().get("ngsi-error").unwrap(), "NotFound");

    let query = QueryEntitiesRequest {
        tenant: "factory".to_owned(),
        q: "n>1".to_owned(),
        ..QueryEntitiesRequest::default()
    };
    let found = client.query_entities(query).await.unwrap().into_inner();
    assert_eq!((found.entities.len(), found.total), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_neighbour_in_another_process_updates_and_reads() {
    let broker = Broker::start().await;
    speaks(remote(&broker.grpc_url()).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_neighbour_in_the_same_process_updates_and_reads() {
    let broker = Broker::start().await;
    speaks(local(context_broker::api::grpc_service(broker.core.clone()))).await;
}
