//! The whole service: listeners, the consumer of the event stream, gRPC, readiness, stop.

use std::{path::Path, sync::Arc, time::Duration};

use bus::{Bus, EmbeddedBus, HISTORY, OutboxDb, Outgoing};
use bytes::Bytes;
use prost::Message;
use proto::v1::{
    AppendRequest, HistoryRecord, QueryEntityRequest, Row, time_series_client::TimeSeriesClient,
};
use scope::Tenant;
use service_kit::{ManualClock, Readiness, Running, grpc};
use store::Migration;
use time_series::{Config, Deps, start};
use tokio_util::sync::CancellationToken;

const OUTBOX: &[Migration] =
    &[Migration { version: 1, name: "outbox", sqlite: &[bus::outbox::SQLITE_SCHEMA], postgres: &[] }];

struct Service {
    running: Running,
    readiness: Readiness,
    metrics: service_kit::metrics::Metrics,
}

async fn bus_in(dir: &Path) -> Arc<dyn Bus> {
    let pools = store::open_sqlite(&dir.join("producer.db"), "producer", OUTBOX).await.unwrap();
    let bus = EmbeddedBus::default();
    bus.attach(HISTORY, OutboxDb::Sqlite(pools), CancellationToken::new()).await.unwrap();
    Arc::new(bus)
}

async fn service(dir: &Path, bus: Arc<dyn Bus>) -> Service {
    let config = Config { port: 0, grpc_port: 0, data_dir: dir.to_owned(), ..Config::default() };
    let (readiness, metrics) = (Readiness::new(), service_kit::metrics::Metrics::new());
    let clock = Arc::new(ManualClock::at_us(5_000_000));
    let deps = Deps { bus, clock, readiness: readiness.clone(), metrics: metrics.clone() };
    let running = start(config, deps).await.unwrap();
    Service { running, readiness, metrics }
}

fn change(version: i64) -> Outgoing {
    let attributes = format!(r#"{{"n":{{"type":"Integer","value":{version}}}}}"#);
    let record = HistoryRecord {
        tenant: "t".into(),
        service_path: "/".into(),
        entity_id: "e".into(),
        entity_type: "T".into(),
        version,
        // Pairs of changes share their millisecond.
        commit_time_us: version / 2 * 1_000,
        attributes: attributes.into(),
        ..HistoryRecord::default()
    };
    Outgoing {
        tenant: Tenant::from_header(Some("t")).unwrap(),
        key: Bytes::from_static(b"t/e"),
        payload: record.encode_to_vec().into(),
        headers: Vec::new(),
    }
}

fn client(service: &Service) -> TimeSeriesClient<grpc::Neighbour> {
    let address = service.running.addresses()["grpc"];
    TimeSeriesClient::new(grpc::remote(&format!("http://{address}")).unwrap())
}

/// Rows of `e`, as soon as there are `count`.
async fn rows_of_e(client: &mut TimeSeriesClient<grpc::Neighbour>, count: usize) -> String {
    let query = QueryEntityRequest { tenant: "t".into(), entity_id: "e".into(), ..Default::default() };
    let wait = async {
        loop {
            if let Ok(reply) = client.query_entity(query.clone()).await {
                let reply = reply.into_inner();
                if reply.time_us.len() >= count {
                    return String::from_utf8(reply.columns[0].values.to_vec()).unwrap();
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("rows appear")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_the_event_stream_are_stored_once_and_after_a_restart_it_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let bus = bus_in(dir.path()).await;
    let first = service(dir.path(), bus.clone()).await;
    bus.publish(HISTORY, (0..4).map(change).collect()).await.unwrap();
    let mut asking = client(&first);
    assert_eq!(rows_of_e(&mut asking, 4).await, "[0,1,2,3]");
    assert!(first.running.stop(Duration::from_secs(5)).await, "stops in time");
    // Down for a while: the stream waits. A relay that was killed has published two changes twice.
    bus.publish(HISTORY, [2, 3, 4, 4, 5].into_iter().map(change).collect()).await.unwrap();
    let second = service(dir.path(), bus.clone()).await;
    let mut asking = client(&second);
    assert_eq!(rows_of_e(&mut asking, 6).await, "[0,1,2,3,4,5]");
    assert!(second.metrics.encode().contains("thingmesh_time_series_rows_repeated_total 3"));
    assert!(second.running.stop(Duration::from_secs(5)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_appended_over_grpc_are_readable_when_the_call_returns() {
    let dir = tempfile::tempdir().unwrap();
    let service = service(dir.path(), bus_in(dir.path()).await).await;
    let mut client = client(&service);
    let row = |id: &str, time_us: i64, attributes: &'static str| Row {
        service_path: "/a".into(),
        entity_id: id.into(),
        entity_type: "T".into(),
        attributes: attributes.into(),
        time_us,
    };
    let rows = vec![
        row("e", 7, r#"{"n":{"type":"Number","value":1.5}}"#),
        row("e", 0, r#"{"n":{"type":"Number","value":2.5}}"#),
    ];
    let reply = client.append(AppendRequest { tenant: "t".into(), rows }).await.unwrap().into_inner();
    assert_eq!(reply.stored, 2);
    let query = QueryEntityRequest {
        tenant: "t".into(),
        service_paths: vec!["/a/#".into()],
        entity_id: "e".into(),
        last_n: 5,
        ..Default::default()
    };
    let found = client.query_entity(query.clone()).await.unwrap().into_inner();
    // The second row took the time of arrival.
    assert_eq!((found.entity_type.as_str(), found.time_us), ("T", vec![7, 5_000_000]));
    assert_eq!((found.columns[0].name.as_str(), &found.columns[0].values[..]), ("n", &b"[1.5,2.5]"[..]));
    let elsewhere = QueryEntityRequest { tenant: "u".into(), ..query.clone() };
    assert_eq!(client.query_entity(elsewhere).await.unwrap_err().code(), tonic::Code::NotFound);
    for (tenant, attributes) in [("a-b", "{}"), ("t", "[]"), ("t", "{")] {
        let append = AppendRequest { tenant: tenant.into(), rows: vec![row("e", 1, attributes)] };
        assert_eq!(
            client.append(append).await.unwrap_err().code(),
            tonic::Code::InvalidArgument,
            "{attributes}"
        );
    }
    let ready = async {
        while !service.readiness.is_ready() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ready).await.expect("the store is ready");
    assert!(service.running.stop(Duration::from_secs(5)).await);
}
