//! kill -9 while notifications are on their way: none that is due is lost, order is kept, and what comes twice is the same.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use rand::RngExt;
use serde_json::{Value, json};
use thingmesh_tests::{
    client::{Caller, Client},
    cluster::Cluster,
    mesh::{Mesh, Options},
    notified::Campaign,
    receiver::{Receiver, Temper},
    until::until,
};

const SOON: Duration = Duration::from_secs(60);

async fn embedded(kills: u64) {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut mesh) = Mesh::start(dir.path(), Options::default()).await else { return };
    let mut campaign = Campaign::start(vec![Client::new(mesh.broker())]).await;
    for kill in 1..=kills {
        campaign.comes_through(60).await;
        // Anywhere between two commits: a kill is worth most where nobody thought of it.
        tokio::time::sleep(Duration::from_millis(rand::rng().random_range(0..600))).await;
        println!("kill {kill}: {}", campaign.ledger.summary());
        mesh.kill9();
        mesh.restart().await;
        if kill == 2 {
            campaign.subscribe_late().await;
        }
    }
    campaign.comes_through(60).await;
    let faults = campaign.judge(kills, Duration::from_secs(20)).await;
    assert!(faults.is_empty(), "{faults:#?}");
}

async fn split(rounds: u64) {
    let Some(mut cluster) = Cluster::of_brokers(&[]).await else { return };
    let mut campaign = Campaign::start(cluster.entrances().broker).await;
    for round in 1..=rounds {
        for index in 0..cluster.members.len() {
            campaign.comes_through(150).await;
            println!("round {round}, kill {index}: {}", campaign.ledger.summary());
            cluster.members[index].kill9();
            // The other replica carries on alone for a while.
            campaign.comes_through(60).await;
            cluster.members[index].launch();
            cluster.members[index].wait_until_ready().await;
            if round == 1 && index == 0 {
                campaign.subscribe_late().await;
            }
        }
    }
    campaign.comes_through(150).await;
    let faults = campaign.judge(2 * rounds, Duration::from_secs(40)).await;
    assert!(faults.is_empty(), "{faults:#?}\n{}", cluster.logs());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_due_notification_is_lost_when_the_mesh_is_killed_again_and_again() {
    embedded(8).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_due_notification_is_lost_when_each_of_two_brokers_is_killed_in_turn() {
    split(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long"]
async fn no_due_notification_is_lost_in_a_hundred_kills() {
    embedded(100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long"]
async fn no_due_notification_is_lost_in_ten_rounds_of_kills_of_two_brokers() {
    split(10).await;
}

/// The value of `n` in each notification that came.
fn told(receiver: &Receiver) -> Vec<i64> {
    let value =
        |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap()["data"][0]["n"]["value"].as_i64();
    receiver.arrivals().iter().map(|arrival| value(&arrival.body).unwrap()).collect()
}

async fn is_told(receiver: &Receiver, n: i64) {
    let last = || async { told(receiver).contains(&n).then_some(()).ok_or(format!("{:?}", told(receiver))) };
    until("the notification", SOON, last).await;
}

/// A relay is killed between Kafka's confirmation and the deletion of what it relayed, and whoever told it dies too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_kafka_brings_again_after_all_brokers_died_is_told_once() {
    let Some(mut cluster) = Cluster::of_brokers(&[]).await else { return };
    let (broker, caller) = (cluster.entrances().broker[0].clone(), Caller::of("alpha"));
    let receiver = Receiver::start(Temper::Steady).await;
    let entity = json!({ "id": "meter", "type": "Meter", "n": { "type": "Number", "value": 0 } });
    broker.post("/v2/entities", &caller, &entity).await.expect(201);
    let subscription = json!({
        "subject": { "entities": [{ "id": "meter", "type": "Meter" }] },
        "notification": { "http": { "url": receiver.url() } },
    });
    broker.post("/v2/subscriptions", &caller, &subscription).await.expect(201);
    let change = |n: i64| {
        let (broker, caller) = (&broker, &caller);
        async move {
            let body = json!({ "n": { "type": "Number", "value": n } });
            broker.patch("/v2/entities/meter/attrs", caller, &body).await.expect(204);
        }
    };
    change(1).await;
    is_told(&receiver, 1).await;

    let database = sqlx::PgPool::connect(cluster.postgres.url()).await.unwrap();
    let rows_of = async |statement: &'static str| {
        let rows = sqlx::query_scalar::<_, i64>(statement).fetch_one(&database).await.unwrap();
        (rows == 0).then_some(()).ok_or(format!("{rows} rows"))
    };
    let waiting = || rows_of("SELECT count(*) FROM context_broker.bus_log");
    // What is told and not yet settled when a broker is killed is told again, and rightly.
    let unsettled = || rows_of("SELECT count(*) FROM context_broker.pending_delivery");
    until("what is to be relayed is gone", SOON, waiting).await;
    let keep = "CREATE FUNCTION context_broker.keep() RETURNS trigger LANGUAGE plpgsql \
        AS $$ BEGIN RAISE EXCEPTION 'not now'; END $$; \
        CREATE TRIGGER keep BEFORE DELETE ON context_broker.bus_log EXECUTE FUNCTION context_broker.keep()";
    sqlx::raw_sql(keep).execute(&database).await.unwrap();
    change(2).await;
    is_told(&receiver, 2).await;
    until("what was told is settled", SOON, unsettled).await;
    for member in &mut cluster.members {
        member.kill9();
    }
    sqlx::raw_sql("DROP TRIGGER keep ON context_broker.bus_log").execute(&database).await.unwrap();
    assert!(waiting().await.is_err(), "the row of the change is still there, to be relayed again");
    for member in &mut cluster.members {
        member.launch();
        member.wait_until_ready().await;
    }
    until("the row is relayed again", SOON, waiting).await;
    change(3).await;
    is_told(&receiver, 3).await;
    assert_eq!(told(&receiver), [1, 2, 3], "{}", cluster.logs());
}
