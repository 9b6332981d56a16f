//! The rules of updates as a model of their own, and random histories of requests to compare it with: two replicas on one
//! PostgreSQL, which share the requests, and one broker on SQLite. Every answer has the status that the model says, and
//! after every round each broker shows what the model holds: values, types, metadata, paths and dates.

mod operation;
mod rules;
mod values;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, Ordering},
    },
};

use context_broker::Config;
use futures::future::join_all;
use proptest::test_runner::{Config as Runs, RngSeed, TestCaseError, TestRunner};
use serde_json::{Value, json};
use service_kit::{Clock, ManualClock};
use store::{PostgresConfig, StoreConfig, testing};
use tokio::runtime::Runtime;

use crate::{
    broker::{Broker, NOW_US, request},
    conformance::NoBus,
};
use operation::{One, Round};
use rules::Model;

const SECOND_US: i64 = 1_000_000;
/// Longer than any history: what expires in one is no concern of the next.
const BETWEEN_HISTORIES_US: i64 = 1_000 * SECOND_US;
/// Everything that can be shown of an entity.
const SHOWN: &str = "GET /v2/entities?limit=1000&attrs=*,dateCreated,dateModified,dateExpires,servicePath\
    &metadata=*,dateCreated,dateModified";

/// As the API shows it.
fn instant(at_us: i64) -> String {
    jiff::Timestamp::from_microsecond(at_us).unwrap().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// Brokers over one store and one clock.
struct Replicas {
    brokers: Vec<Broker>,
    clock: Arc<ManualClock>,
    begin_us: AtomicI64,
    tenants: AtomicU32,
}

impl Replicas {
    fn new(brokers: Vec<Broker>, clock: Arc<ManualClock>) -> Self {
        Self { brokers, clock, begin_us: AtomicI64::new(NOW_US), tenants: AtomicU32::new(0) }
    }

    /// One history in a tenant of its own.
    async fn follow(&self, history: Vec<Round>) -> Result<(), TestCaseError> {
        let begin_us = self.begin_us.fetch_add(BETWEEN_HISTORIES_US, Ordering::Relaxed);
        let tenant = format!("t{}", self.tenants.fetch_add(1, Ordering::Relaxed));
        self.clock.set_us(begin_us);
        let mut model = Model::default();
        let mut turn = 0;
        for round in operation::anchored(history, |after_s| instant(begin_us + after_s * SECOND_US)) {
            self.clock.set_us(self.clock.now_us() + SECOND_US);
            let now_us = self.clock.now_us();
            let (found, expected) = match &round {
                Round::Ones(ones) => {
                    let found = self.send(&tenant, ones, turn).await;
                    (found, ones.iter().map(|one| model.one(one, now_us)).collect())
                }
                Round::Batch(batch) => {
                    let reply = self.broker(turn).send(batch.request(&tenant)).await;
                    (vec![(reply.status, reply.body)], vec![model.batch(batch, now_us)])
                }
            };
            turn += expected.len();
            let statuses: Vec<u16> = found.iter().map(|(status, _)| *status).collect();
            same(&statuses, &expected, || format!("{round:?}\n    answers {found:?}"))?;
            for broker in &self.brokers {
                same(&shown(broker, &tenant).await, &model.shown(now_us), || format!("{round:?}"))?;
            }
        }
        Ok(())
    }

    fn broker(&self, turn: usize) -> &Broker {
        &self.brokers[turn % self.brokers.len()]
    }

    /// Statuses and bodies of the answers, in the order of the requests. Those about one id wait for each other, and each goes to the
    /// next replica.
    async fn send(&self, tenant: &str, ones: &[One], turn: usize) -> Vec<(u16, String)> {
        let mut lanes: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (at, one) in ones.iter().enumerate() {
            lanes.entry(one.id).or_default().push(at);
        }
        let lanes = lanes.into_values().map(async |lane| {
            let mut answers = Vec::with_capacity(lane.len());
            for at in lane {
                let reply = self.broker(turn + at).send(ones[at].request(tenant)).await;
                answers.push((at, (reply.status, reply.body)));
            }
            answers
        });
        let mut answers: Vec<_> = join_all(lanes).await.into_iter().flatten().collect();
        answers.sort_unstable_by_key(|(at, _)| *at);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }
}

fn same<T: PartialEq + serde::Serialize>(
    found: &T,
    expected: &T,
    about: impl Fn() -> String,
) -> Result<(), TestCaseError> {
    if found == expected {
        return Ok(());
    }
    let (found, expected) = (serde_json::to_string(found).unwrap(), serde_json::to_string(expected).unwrap());
    Err(TestCaseError::fail(format!("the broker {found}\nthe model  {expected}\nafter {}", about())))
}

/// All entities that a broker lists, sorted as the model's.
async fn shown(broker: &Broker, tenant: &str) -> Vec<Value> {
    let list = request(SHOWN).header("Fiware-Service", tenant).header("Fiware-ServicePath", "/#");
    let reply = broker.send(list).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let mut entities: Vec<Value> = serde_json::from_str(&reply.body).unwrap();
    // The dates of a builtin attribute itself mean nothing.
    for entity in &mut entities {
        for builtin in ["dateCreated", "dateModified", "servicePath"] {
            entity[builtin]["metadata"] = json!({});
        }
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    entities.sort_by_cached_key(|entity| {
        (text(&entity["servicePath"]["value"]), text(&entity["id"]), text(&entity["type"]))
    });
    entities
}

/// Random histories, the same again for the same `TEST_SEED`.
#[allow(clippy::disallowed_methods, reason = "the seed of an earlier run comes through the environment")]
fn follow_histories(count: u32, runtime: &Runtime, replicas: &Replicas) {
    let given = std::env::var("TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = given.unwrap_or_else(rand::random);
    println!("TEST_SEED={seed}");
    let runs = Runs {
        cases: count,
        failure_persistence: None,
        max_shrink_iters: 4_000,
        rng_seed: RngSeed::Fixed(seed),
        ..Runs::default()
    };
    let run = TestRunner::new(runs)
        .run(&operation::histories(), |history| runtime.block_on(replicas.follow(history)));
    if let Err(failure) = run {
        panic!("{failure}");
    }
}

fn on_sqlite(histories: u32) {
    let runtime = Runtime::new().unwrap();
    let clock = Arc::new(ManualClock::at_us(NOW_US));
    let bus = Arc::new(bus::EmbeddedBus::default());
    let broker = runtime.block_on(Broker::start_at(Config::default(), bus, clock.clone()));
    follow_histories(histories, &runtime, &Replicas::new(vec![broker], clock));
}

fn on_postgresql(url: &str, histories: u32) {
    let runtime = Runtime::new().unwrap();
    let clock = Arc::new(ManualClock::at_us(NOW_US));
    let schema = testing::fresh_schema("model");
    let config = || Config {
        store: StoreConfig::Postgres(PostgresConfig { max_connections: 4, ..PostgresConfig::new(url) }),
        postgres_schema: schema.clone(),
        ..Config::default()
    };
    let start = || runtime.block_on(Broker::start_at(config(), Arc::new(NoBus::new()), clock.clone()));
    let brokers = vec![start(), start()];
    follow_histories(histories, &runtime, &Replicas::new(brokers, clock));
}

#[test]
fn one_broker_on_sqlite_follows_the_model() {
    if !testing::too_long_for_quick() {
        on_sqlite(100);
    }
}

#[test]
fn two_replicas_on_postgresql_that_share_the_requests_follow_the_model() {
    if let Some(url) = testing::server("TEST_POSTGRES_URL") {
        on_postgresql(&url, 100);
    }
}

#[test]
#[ignore = "long"]
fn one_broker_on_sqlite_follows_the_model_through_a_thousand_histories() {
    on_sqlite(1_000);
}

#[test]
#[ignore = "long"]
fn two_replicas_on_postgresql_follow_the_model_through_a_thousand_histories() {
    if let Some(url) = testing::server("TEST_POSTGRES_URL") {
        on_postgresql(&url, 1_000);
    }
}
