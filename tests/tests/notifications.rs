//! kill -9 while notifications are on their way: none that is due is lost, order is kept, and what comes twice is the same.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use rand::RngExt;
use thingmesh_tests::{
    client::Client,
    cluster::Cluster,
    mesh::{Mesh, Options},
    notified::Campaign,
};

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
