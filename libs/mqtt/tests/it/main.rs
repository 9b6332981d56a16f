//! Against a real Mosquitto, where one is installed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod mosquitto;

use std::{sync::Arc, time::Duration};

use futures::FutureExt;
use mqtt::{Message, PublishError, Publisher, Qos, Server};
use tokio::net::TcpListener;

use mosquitto::{DEADLINE, Mosquitto, free_port};

fn server(mosquitto: &Mosquitto, login: Option<(&str, &str)>) -> Server {
    let login = login.map(|(user, password)| (user.to_owned(), password.to_owned()));
    Server { host: "localhost".to_owned(), port: mosquitto.port, login }
}

fn publisher(max_idle: Duration) -> Publisher {
    let resolve = |host: String, port: u16| {
        async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) }.boxed()
    };
    Publisher::new(Arc::new(resolve), max_idle)
}

fn message(topic: &str, payload: &str, qos: Qos) -> Message {
    Message { topic: topic.to_owned(), payload: payload.to_owned().into(), qos, retain: false }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_arrive_in_order_at_every_quality() {
    let Some(mosquitto) = Mosquitto::start(None).await else { return };
    let mut received = mosquitto.listen("a/#", None).await;
    let publisher = publisher(Duration::from_secs(60));
    for n in 0..30 {
        let qos = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce][n % 3];
        let message = message(&format!("a/{n}"), &format!("{n}"), qos);
        publisher.publish(&server(&mosquitto, None), message, DEADLINE).await.unwrap();
    }
    for n in 0..30 {
        let publish = tokio::time::timeout(DEADLINE, received.recv()).await.unwrap().unwrap();
        assert_eq!((publish.topic, &*publish.payload), (format!("a/{n}"), n.to_string().as_bytes()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_messages_at_once_are_all_answered() {
    let Some(mosquitto) = Mosquitto::start(None).await else { return };
    let mut received = mosquitto.listen("#", None).await;
    let (publisher, to) = (publisher(Duration::from_secs(60)), server(&mosquitto, None));
    let large = "x".repeat(200_000);
    let all = (0..500).map(|n| {
        let payload = if n % 100 == 0 { large.as_str() } else { "small" };
        publisher.publish(&to, message("t", payload, Qos::AtLeastOnce), DEADLINE)
    });
    for done in futures::future::join_all(all).await {
        done.unwrap();
    }
    for _ in 0..500 {
        tokio::time::timeout(DEADLINE, received.recv()).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retained_message_is_there_for_who_comes_later() {
    let Some(mosquitto) = Mosquitto::start(None).await else { return };
    let retained = Message { retain: true, ..message("r", "kept", Qos::AtLeastOnce) };
    publisher(DEADLINE).publish(&server(&mosquitto, None), retained, DEADLINE).await.unwrap();
    let publish = mosquitto.listen("r", None).await.recv().await.unwrap();
    assert!(publish.retain && &*publish.payload == b"kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_back_is_connected_to_again() {
    let Some(mut mosquitto) = Mosquitto::start(None).await else { return };
    let (publisher, to) = (publisher(Duration::from_secs(60)), server(&mosquitto, None));
    publisher.publish(&to, message("t", "1", Qos::AtLeastOnce), DEADLINE).await.unwrap();
    mosquitto.restart().await;
    let mut received = mosquitto.listen("t", None).await;
    let arrives = async {
        while publisher.publish(&to, message("t", "2", Qos::AtLeastOnce), DEADLINE).await.is_err() {}
    };
    tokio::time::timeout(DEADLINE, arrives).await.unwrap();
    assert_eq!(&*received.recv().await.unwrap().payload, b"2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_who_knows_the_password_may_publish() {
    let Some(mosquitto) = Mosquitto::start(Some(("ann", "secret"))).await else { return };
    let publisher = publisher(Duration::from_secs(60));
    let mut received = mosquitto.listen("t", Some(("ann", "secret"))).await;
    for wrong in [None, Some(("ann", "wrong"))] {
        let refused = publisher
            .publish(&server(&mosquitto, wrong), message("t", "no", Qos::AtLeastOnce), DEADLINE)
            .await;
        assert!(matches!(refused, Err(PublishError::NotAllowed(_))), "{refused:?}");
    }
    let right = server(&mosquitto, Some(("ann", "secret")));
    publisher.publish(&right, message("t", "yes", Qos::AtLeastOnce), DEADLINE).await.unwrap();
    assert_eq!(&*received.recv().await.unwrap().payload, b"yes");
    assert!(!format!("{right:?}").contains("secret"));
}

#[tokio::test]
async fn a_server_that_is_away_and_one_that_is_silent_are_told_apart() {
    let publisher = publisher(Duration::from_secs(60));
    let closed = Server { host: "127.0.0.1".to_owned(), port: free_port().await, login: None };
    let failed = publisher.publish(&closed, message("t", "", Qos::AtMostOnce), DEADLINE).await;
    assert!(matches!(failed, Err(PublishError::Unavailable(_))), "{failed:?}");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = Server { port: listener.local_addr().unwrap().port(), ..closed };
    let failed =
        publisher.publish(&silent, message("t", "", Qos::AtMostOnce), Duration::from_millis(200)).await;
    assert_eq!(failed, Err(PublishError::Timeout));
}

#[tokio::test]
async fn a_topic_with_wildcards_is_refused() {
    let nowhere = Server { host: "127.0.0.1".to_owned(), port: 1, login: None };
    for topic in ["a/+", "#", ""] {
        let refused =
            publisher(DEADLINE).publish(&nowhere, message(topic, "", Qos::AtMostOnce), DEADLINE).await;
        assert!(matches!(refused, Err(PublishError::Refused(_))), "{topic}");
    }
}
