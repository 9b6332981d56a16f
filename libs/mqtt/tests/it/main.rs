//! Against a real Mosquitto, where one is installed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod mosquitto;

use std::{path::Path, sync::Arc, time::Duration};

use futures::FutureExt;
use mqtt::{Message, PublishError, Publisher, Qos, Server, Trust};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};

use mosquitto::{DEADLINE, Mosquitto, free_port};

fn server(mosquitto: &Mosquitto, login: Option<(&str, &str)>) -> Server {
    let login = login.map(|(user, password)| (user.to_owned(), password.to_owned()));
    Server { host: "localhost".to_owned(), port: mosquitto.port, secure: false, login }
}

fn secure_server(mosquitto: &Mosquitto, host: &str) -> Server {
    Server { host: host.to_owned(), port: mosquitto.tls_port, secure: true, login: None }
}

/// Trusts only what `file` holds.
fn trusting(file: &Path) -> Trust {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(builder.with_root_certificates(roots).with_no_client_auth());
    Arc::new(move || {
        let config = config.clone();
        async move { Ok(config) }.boxed()
    })
}

fn publisher(max_idle: Duration) -> Publisher {
    publisher_with(Arc::new(|| async { Err("there is no trust here".to_owned()) }.boxed()), max_idle)
}

fn publisher_with(trust: Trust, max_idle: Duration) -> Publisher {
    let resolve = |host: String, port: u16| {
        async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) }.boxed()
    };
    Publisher::new(Arc::new(resolve), trust, max_idle)
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
    let port = free_port().await;
    let closed = Server { host: "127.0.0.1".to_owned(), port, secure: false, login: None };
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
    let nowhere = Server { host: "127.0.0.1".to_owned(), port: 1, secure: false, login: None };
    for topic in ["a/+", "#", ""] {
        let refused =
            publisher(DEADLINE).publish(&nowhere, message(topic, "", Qos::AtMostOnce), DEADLINE).await;
        assert!(matches!(refused, Err(PublishError::Refused(_))), "{topic}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_go_over_tls_at_every_quality_and_size() {
    let Some(mosquitto) = Mosquitto::start(None).await else { return };
    let mut received = mosquitto.listen("#", None).await;
    let publisher = publisher_with(trusting(&mosquitto.ca_file), Duration::from_secs(60));
    let (to, large) = (secure_server(&mosquitto, "localhost"), "x".repeat(300_000));
    for (qos, payload) in [(Qos::AtMostOnce, "a"), (Qos::AtLeastOnce, &large), (Qos::ExactlyOnce, "c")] {
        publisher.publish(&to, message("t", payload, qos), DEADLINE).await.unwrap();
        let publish = tokio::time::timeout(DEADLINE, received.recv()).await.unwrap().unwrap();
        assert_eq!(publish.payload.len(), payload.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_who_it_says_or_whom_nobody_knows_is_told_nothing() {
    let Some(mosquitto) = Mosquitto::start(None).await else { return };
    let mut received = mosquitto.listen("#", None).await;
    let send = |trust: Trust, to: Server| async move {
        publisher_with(trust, DEADLINE).publish(&to, message("t", "x", Qos::AtLeastOnce), DEADLINE).await
    };
    // Its certificate is for localhost.
    let other = send(trusting(&mosquitto.ca_file), secure_server(&mosquitto, "127.0.0.1")).await;
    assert!(matches!(other, Err(PublishError::Untrusted(_))), "{other:?}");
    let empty = tempfile::NamedTempFile::new().unwrap();
    let unknown = send(trusting(empty.path()), secure_server(&mosquitto, "localhost")).await;
    assert!(matches!(unknown, Err(PublishError::Untrusted(_))), "{unknown:?}");
    let nobody: Trust = Arc::new(|| async { Err("no such file".to_owned()) }.boxed());
    let none = send(nobody, secure_server(&mosquitto, "localhost")).await;
    assert_eq!(none, Err(PublishError::Tls("no such file".to_owned())));
    assert!(received.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_nobody_uses_is_closed_and_the_next_message_makes_a_new_one() {
    let Some(mosquitto) = Mosquitto::start(None).await else { return };
    let mut received = mosquitto.listen("t", None).await;
    let (publisher, to) = (publisher(Duration::from_millis(50)), server(&mosquitto, None));
    for n in ["1", "2", "3"] {
        publisher.publish(&to, message("t", n, Qos::ExactlyOnce), DEADLINE).await.unwrap();
        assert_eq!(&*received.recv().await.unwrap().payload, n.as_bytes());
        let closed = async {
            while publisher.open_connections() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, closed).await.expect("it is closed");
    }
}

/// A server that answers the first bytes of each connection with `greeting`, reads once more, and leaves.
async fn rude_server(greeting: &'static [u8]) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = [0; 1024];
            assert!(stream.read(&mut bytes).await.unwrap() > 0, "it is greeted");
            stream.write_all(greeting).await.unwrap();
            let _rest = stream.read(&mut bytes).await;
        }
    });
    Server { host: "127.0.0.1".to_owned(), port, secure: false, login: None }
}

#[tokio::test]
async fn a_server_that_talks_nonsense_or_leaves_fails_what_is_on_its_way() {
    const LET_IN: &[u8] = &[0x20, 2, 0, 0];
    const NOT_LET_IN: &[u8] = &[0x20, 2, 0, 5];
    const ANSWER_FOR_ANOTHER: &[u8] = &[0x20, 2, 0, 0, 0x40, 2, 0, 99];
    let publisher = publisher(Duration::from_secs(60));
    for greeting in [&[b'H'; 100][..], &[0xff; 64], &[0x20, 0], LET_IN, ANSWER_FOR_ANOTHER] {
        let server = rude_server(greeting).await;
        // The second message finds a connection that is gone, and makes its own.
        for _ in 0..2 {
            let failed = publisher.publish(&server, message("t", "x", Qos::AtLeastOnce), DEADLINE).await;
            assert!(matches!(failed, Err(PublishError::Unavailable(_))), "{greeting:?}: {failed:?}");
        }
    }
    let server = rude_server(NOT_LET_IN).await;
    let failed = publisher.publish(&server, message("t", "x", Qos::AtLeastOnce), DEADLINE).await;
    assert_eq!(failed, Err(PublishError::NotAllowed("NotAuthorized".to_owned())));
}
