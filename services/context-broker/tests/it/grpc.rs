use futures::StreamExt;
use proto::v1::{
    EntityUpdate, GetEntityRequest, QueryEntitiesRequest, UpdateAction, UpdateRequest, WatchEvent,
    WatchRequest, context_broker_client::ContextBrokerClient,
};
use serde_json::{Value, json};
use service_kit::grpc::{Neighbour, local, remote};

use crate::started::{Broker, DEADLINE, START_US};

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

async fn client(broker: &Broker) -> ContextBrokerClient<Neighbour> {
    ContextBrokerClient::new(remote(&broker.grpc_url()).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_know_all_that_the_rest_api_knows() {
    let broker = Broker::start().await;
    let mut client = client(&broker).await;
    for (id, n) in [("a", 3), ("b", 1), ("c", 2)] {
        let place = json!({"type": "geo:point", "value": format!("{n}, 0")});
        broker.write(id, json!({"n": {"value": n, "metadata": {"m": {"value": n}}}, "place": place})).await;
    }
    let all = || QueryEntitiesRequest { tenant: "factory".to_owned(), ..QueryEntitiesRequest::default() };
    for (request, expected) in [
        (QueryEntitiesRequest { order_by: "!n".to_owned(), ..all() }, &["a", "c", "b"][..]),
        (QueryEntitiesRequest { entity_ids: vec!["b".to_owned(), "c".to_owned()], ..all() }, &["b", "c"]),
        (QueryEntitiesRequest { entity_types: vec!["U".to_owned()], ..all() }, &[]),
        (QueryEntitiesRequest { type_pattern: "^[TU]$".to_owned(), limit: 2, ..all() }, &["a", "b"]),
        (QueryEntitiesRequest { mq: "n.m>1".to_owned(), ..all() }, &["a", "c"]),
        (
            QueryEntitiesRequest {
                georel: "near;maxDistance:150000".to_owned(),
                geometry: "point".to_owned(),
                coords: "1,0".to_owned(),
                ..all()
            },
            &["b", "c"],
        ),
    ] {
        let found = client.query_entities(request.clone()).await.unwrap().into_inner().entities;
        let ids: Vec<&str> = found.iter().map(|entity| entity.entity_id.as_str()).collect();
        assert_eq!(ids, expected, "{request:?}");
    }
    let wrong = QueryEntitiesRequest { order_by: "n,n".to_owned(), ..all() };
    assert_eq!(client.query_entities(wrong).await.unwrap_err().code(), tonic::Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_updates_is_applied_and_answered_in_order() {
    let broker = Broker::start().await;
    let mut client = client(&broker).await;
    let set = |n: i64| update("e", UpdateAction::Append, json!({"n": {"value": n}}));
    let mut updates: Vec<EntityUpdate> = (0..2000).map(set).collect();
    updates[7] = update("none", UpdateAction::Update, json!({"n": {"value": 1}}));
    let results = client.update_stream(futures::stream::iter(updates)).await.unwrap().into_inner();
    let results: Vec<_> = results.map(Result::unwrap).collect().await;
    assert_eq!(results.len(), 2000);
    assert_eq!((results[7].code, results[7].error.as_str()), (5, "NotFound"));
    let versions: Vec<i64> =
        results.iter().filter(|result| result.code == 0).map(|result| result.version).collect();
    assert!(versions.is_sorted() && versions.len() == 1999);
    let request = GetEntityRequest {
        tenant: "factory".to_owned(),
        entity_id: "e".to_owned(),
        ..GetEntityRequest::default()
    };
    let entity = client.get_entity(request).await.unwrap().into_inner();
    let attributes: Value = serde_json::from_slice(&entity.attributes).unwrap();
    assert_eq!(attributes["n"]["value"], json!(1999));
}

fn watch() -> WatchRequest {
    WatchRequest { tenant: "factory".to_owned(), ..WatchRequest::default() }
}

async fn next(events: &mut tonic::Streaming<WatchEvent>) -> WatchEvent {
    let next = async {
        loop {
            let event = events.message().await.unwrap().expect("the watch goes on");
            if event.change.is_some() {
                return event;
            }
        }
    };
    tokio::time::timeout(DEADLINE, next).await.expect("an event comes")
}

async fn ends_without_a_change(events: &mut tonic::Streaming<WatchEvent>) {
    while let Ok(Some(event)) = events.message().await {
        assert_eq!(event.change, None);
    }
}

fn seen(event: &WatchEvent) -> (String, i64) {
    let change = event.change.as_ref().unwrap();
    (change.entity_id.clone(), change.version)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_tells_changes_from_now_on_and_goes_on_where_it_was_left() {
    let broker = Broker::start().await;
    let mut client = client(&broker).await;
    broker.write("before", json!({"n": {"value": 0}})).await;
    broker.clock.set_us(START_US + 1_000_000);
    let only =
        WatchRequest { id_pattern: "^e".to_owned(), service_paths: vec!["/hall/#".to_owned()], ..watch() };
    let mut events = client.watch(only.clone()).await.unwrap().into_inner();
    let other = WatchRequest { tenant: "other".to_owned(), ..watch() };
    let mut others = client.watch(other).await.unwrap().into_inner();
    let mut versions = Vec::new();
    for n in 0..3 {
        broker.write("passed over", json!({"n": {"value": n}})).await;
        versions.push(broker.write("e", json!({"n": {"value": n}})).await);
    }
    let first = next(&mut events).await;
    assert_eq!(seen(&first), ("e".to_owned(), versions[0]));
    drop(events);

    let again = WatchRequest { resume_token: first.resume_token, ..only };
    let mut events = client.watch(again.clone()).await.unwrap().into_inner();
    for version in &versions[1..] {
        assert_eq!(seen(&next(&mut events).await), ("e".to_owned(), *version));
    }
    let later = broker.write("e2", json!({"n": {"value": 1}})).await;
    assert_eq!(seen(&next(&mut events).await), ("e2".to_owned(), later));

    // Over a restart too; the watch itself ends with the broker.
    let broker = broker.restart().await;
    ends_without_a_change(&mut events).await;
    let mut client = self::client(&broker).await;
    let mut events = client.watch(again).await.unwrap().into_inner();
    for version in &versions[1..] {
        assert_eq!(seen(&next(&mut events).await), ("e".to_owned(), *version));
    }
    // Nothing of another tenant was told.
    ends_without_a_change(&mut others).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_the_log_cannot_honour_is_refused() {
    let broker = Broker::start().await;
    let mut client = client(&broker).await;
    broker.write("e", json!({"n": {"value": 0}})).await;
    let mut with = async |token: &str| {
        let request = WatchRequest { resume_token: token.to_owned().into(), ..watch() };
        match client.watch(request).await {
            Ok(events) => events.into_inner().message().await.unwrap_err().code(),
            Err(error) => error.code(),
        }
    };
    assert_eq!(with("what").await, tonic::Code::InvalidArgument);
    // Of a log that was replaced since.
    assert_eq!(with("1:0=1000000").await, tonic::Code::OutOfRange);
}
