//! The backing servers die and come back; the libraries that use them go on by themselves.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bus::{
    Batch, Bus, ConsumeError, Consumed, Consumer, KafkaBus, KafkaConfig, OutboxDb, Outgoing, Waker, outbox,
};
use scope::Tenant;
use soft_state::{RedisConfig, RedisSoftState, SoftState};
use sqlx::PgPool;
use store::{Migration, PostgresConfig, StoreError, open_postgres, position};
use thingmesh_tests::servers::Server;
use tokio::task::block_in_place;
use tokio_util::sync::CancellationToken;

const SOON: Duration = Duration::from_secs(60);
const TOPIC: &str = "things";

const SCHEMA: &[Migration] = &[Migration {
    version: 1,
    name: "both ends",
    sqlite: &[],
    postgres: &[
        outbox::POSTGRES_SCHEMA,
        position::POSTGRES_SCHEMA,
        "CREATE TABLE effect (n BIGINT GENERATED ALWAYS AS IDENTITY, payload BIGINT NOT NULL)",
    ],
}];

async fn soon<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let reached = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, reached).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

/// Stores what it reads, with its position, in PostgreSQL.
struct Ledger(PgPool);

impl Ledger {
    async fn store(&self, batch: &Batch) -> Result<Consumed, StoreError> {
        let mut transaction = self.0.begin().await?;
        let (topic, partition) = (&batch.topic, batch.partition);
        if !position::advance_postgres(&mut transaction, topic, partition, batch.expected, batch.next).await?
        {
            return Ok(Consumed::Moved);
        }
        let payloads: Vec<i64> =
            batch.records.iter().map(|r| std::str::from_utf8(&r.payload).unwrap().parse().unwrap()).collect();
        sqlx::query("INSERT INTO effect (payload) SELECT unnest($1::int8[])")
            .bind(payloads)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(Consumed::Stored)
    }
}

#[async_trait]
impl Consumer for Ledger {
    async fn position(&self, topic: &str, partition: i32) -> Result<Option<i64>, ConsumeError> {
        let mut connection = self.0.acquire().await.map_err(StoreError::from)?;
        Ok(position::load_postgres(&mut connection, topic, partition).await?)
    }

    async fn consume(&self, batch: &Batch) -> Result<Consumed, ConsumeError> {
        Ok(self.store(batch).await?)
    }
}

/// Appends one numbered record after the other until stopped; counts those whose commit was confirmed.
async fn write(pool: PgPool, waker: Waker, confirmed: Arc<AtomicUsize>, stop: CancellationToken) -> Vec<i64> {
    let mut sure = Vec::new();
    for n in 0.. {
        if stop.is_cancelled() {
            break;
        }
        let append = async {
            let mut transaction = pool.begin().await?;
            let record = Outgoing {
                tenant: Tenant::canonical("factory").unwrap(),
                key: format!("key{}", n % 7).into_bytes().into(),
                payload: n.to_string().into_bytes().into(),
                headers: Vec::new(),
            };
            outbox::append_postgres(&mut transaction, TOPIC, &[record]).await?;
            Ok::<_, StoreError>(transaction.commit().await?)
        };
        if append.await.is_ok() {
            sure.push(n);
            confirmed.fetch_add(1, Ordering::SeqCst);
            waker.wake();
        } else {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    sure
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_committed_arrives_once_though_kafka_and_postgresql_are_killed() {
    let (Some(mut kafka), Some(mut postgres)) = (Server::start("kafka"), Server::start("postgres")) else {
        return;
    };
    let config = PostgresConfig::new(postgres.url());
    let pool = open_postgres(&config, "producer", "test", SCHEMA).await.unwrap();
    let reader = open_postgres(&config, "consumer", "test", SCHEMA).await.unwrap();
    let kafka_config = KafkaConfig { partitions: 3, ..KafkaConfig::new(kafka.url()) };
    let bus = Arc::new(KafkaBus::new(kafka_config).unwrap());
    let stop = CancellationToken::new();
    let waker = bus.attach(TOPIC, OutboxDb::Postgres(pool.clone()), stop.clone()).await.unwrap();
    let reading = tokio::spawn({
        let (bus, stop, ledger) = (bus.clone(), stop.clone(), Arc::new(Ledger(reader.clone())));
        async move { bus.consume(TOPIC, "ledger", ledger, stop).await }
    });
    let (confirmed, enough) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
    let writing = tokio::spawn(write(pool.clone(), waker, confirmed.clone(), enough.clone()));
    let more = async |count: usize| {
        let wanted = confirmed.load(Ordering::SeqCst) + count;
        soon("more commits", || async { confirmed.load(Ordering::SeqCst) >= wanted }).await;
    };
    let arrived = || async {
        sqlx::query_scalar::<_, i64>("SELECT count(DISTINCT payload) FROM effect").fetch_one(&reader).await
    };

    more(300).await;
    block_in_place(|| kafka.kill9());
    more(300).await;
    soon("the bus notices", || async { bus.check().await.is_err() }).await;
    block_in_place(|| kafka.restart());
    more(100).await;
    soon("the bus is back", || async { bus.check().await.is_ok() }).await;
    block_in_place(|| postgres.kill9());
    block_in_place(|| postgres.restart());
    more(300).await;
    enough.cancel();
    let sure = writing.await.unwrap();
    soon("all arrive", || async { arrived().await.is_ok_and(|count| count >= sure.len() as i64) }).await;
    soon("the outbox is empty", || async {
        let left = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM bus_log").fetch_one(&pool).await;
        left.is_ok_and(|left| left == 0)
    })
    .await;

    let payloads: Vec<i64> =
        sqlx::query_scalar("SELECT payload FROM effect ORDER BY payload").fetch_all(&reader).await.unwrap();
    let missing: Vec<&i64> = sure.iter().filter(|n| payloads.binary_search(n).is_err()).collect();
    assert!(missing.is_empty(), "{} of {} are missing: {missing:?}", missing.len(), sure.len());
    // A relay that died between Kafka and its deletion repeats at most one batch: consumers know it by its version.
    let repeated = payloads.windows(2).filter(|pair| pair[0] == pair[1]).count();
    assert!(repeated <= 2 * KafkaConfig::default().batch_records, "{repeated} repeated");
    let unknown = payloads.len() - repeated - sure.len();
    assert!(unknown <= 2, "{unknown} records came whose commit was not confirmed");
    stop.cancel();
    reading.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_comes_back_and_is_used_again() {
    let Some(mut redis) = Server::start("redis") else { return };
    let state = RedisSoftState::new(&RedisConfig::new(redis.url())).unwrap();
    soon("redis answers", || async { state.check().await.is_ok() }).await;
    assert!(state.acquire_lease("l", "one", SOON).await.unwrap());
    block_in_place(|| redis.kill9());
    assert!(state.acquire_lease("l", "one", SOON).await.is_err());
    block_in_place(|| redis.restart());
    soon("redis answers again", || async { state.check().await.is_ok() }).await;
    assert!(state.acquire_lease("l", "two", SOON).await.unwrap(), "soft state may be lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_server_outlives_its_guard() {
    let Some(redis) = Server::start("redis") else { return };
    let address = redis.url().trim_start_matches("redis://").trim_end_matches('/').to_owned();
    tokio::net::TcpStream::connect(&address).await.unwrap();
    block_in_place(|| drop(redis));
    soon("the port is closed", || async { tokio::net::TcpStream::connect(&address).await.is_err() }).await;
}
