//! A query whose time is over while PostgreSQL reads for it: the server gives the statement up by itself.

use std::time::Duration;

use context_broker::{Config, QueryConfig};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use store::{PostgresConfig, StoreConfig, testing};

use crate::{
    broker::{Broker, request},
    conformance::NoBus,
};

const PATIENCE: Duration = Duration::from_secs(5);

/// Looks again and again until there is something to see.
async fn seen<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            match look().await {
                Some(found) => return found,
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("not seen: {what}"))
}

#[tokio::test]
async fn a_statement_whose_time_is_over_is_ended_by_the_server_and_its_connection_serves_again() {
    let Some(url) = testing::server("TEST_POSTGRES_URL") else { return };
    let schema = testing::fresh_schema("deadline");
    let config = Config {
        store: StoreConfig::Postgres(PostgresConfig { max_connections: 4, ..PostgresConfig::new(&url) }),
        postgres_schema: schema.clone(),
        query: QueryConfig { max_ms: 1000 },
        ..Config::default()
    };
    let broker = Broker::start_with(config, std::sync::Arc::new(NoBus::new())).await;
    broker.expect(request("POST /v2/entities?options=keyValues").json(r#"{"id":"E","n":7}"#), 201, "").await;

    // Whoever reads waits for this lock, as long as its own time and the lock's limit of ten seconds allow.
    let mut holder = PgConnection::connect(&url).await.unwrap();
    let mut held = holder.begin().await.unwrap();
    let lock = AssertSqlSafe(format!("LOCK TABLE {schema}.entity IN ACCESS EXCLUSIVE MODE"));
    sqlx::query(lock).execute(&mut *held).await.unwrap();

    let mut watcher = PgConnection::connect(&url).await.unwrap();
    let query = || request("GET /v2/entities?q=n==7&options=keyValues");
    let description = "the query takes longer than 1000 ms, restrict it by type or id";
    let waits = seen("a statement that waits", async || {
        sqlx::query_scalar::<_, i32>(
            "SELECT pid FROM pg_stat_activity \
             WHERE application_name = $1 AND wait_event_type = 'Lock' AND query LIKE 'SELECT%'",
        )
        .bind(format!("thingmesh-{schema}"))
        .fetch_optional(&mut watcher)
        .await
        .unwrap()
    });
    let ((), connection) =
        tokio::join!(broker.refuses(query(), 413, "NoResourcesAvailable", description), waits);

    // The lock is held all the while: only the statement's own limit can have ended it.
    let state = "SELECT state FROM pg_stat_activity WHERE pid = $1";
    seen("its connection at rest", async || {
        let state: Option<String> =
            sqlx::query_scalar(state).bind(connection).fetch_optional(&mut watcher).await.unwrap();
        state.expect("the connection is kept").eq("idle").then_some(())
    })
    .await;
    held.rollback().await.unwrap();
    // As often as there are connections.
    for _ in 0..4 {
        broker.expect(query(), 200, r#"[{"id":"E","type":"Thing","n":7}]"#).await;
    }
    let kept: Option<i32> = sqlx::query_scalar("SELECT pid FROM pg_stat_activity WHERE pid = $1")
        .bind(connection)
        .fetch_optional(&mut watcher)
        .await
        .unwrap();
    assert_eq!(kept, Some(connection));
}
