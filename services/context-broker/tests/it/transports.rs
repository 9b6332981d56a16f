//! Notifications over https, MQTT and Kafka, with real peers.

use std::{sync::Arc, time::Duration};

use bus::{Batch, Bus, ConsumeError, Consumed, Consumer, KafkaBus, KafkaConfig, Record};
use context_broker::Config;
use serde_json::{Value, json};
use store::testing;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    broker::{Broker, request},
    mosquitto::{DEADLINE, Mosquitto, free_port},
    secure::SecureSink,
};

async fn subscribed(broker: &Broker, notification: &Value) -> String {
    let body = json!({"subject": {"entities": [{"idPattern": ".*"}]}, "notification": notification});
    let reply = broker.send(request("POST /v2/subscriptions").json(&body.to_string())).await;
    assert_eq!(reply.status, 201, "{}", reply.body);
    reply.header("location").unwrap().to_owned()
}

#[tokio::test]
async fn an_https_receiver_whose_authority_is_known_is_notified() {
    let sink = SecureSink::start("").await;
    for trust in [
        Box::new(|config: &mut Config| config.notification.ca_file.clone_from(&sink.ca_file))
            as Box<dyn Fn(&mut Config)>,
        Box::new(|config: &mut Config| config.notification.insecure_tls = true),
    ] {
        let broker = Broker::with(trust).await;
        let path = subscribed(&broker, &json!({"http": {"url": sink.url}})).await;
        broker.given(r#"{"id":"E1","type":"T","a":{"value":1}}"#).await;
        let shown = broker.until(&path, |body| body["notification"]["lastSuccessCode"] == 200).await;
        assert!(shown["notification"].get("lastFailure").is_none());
    }
    let mut received = sink.received;
    for _ in 0..2 {
        assert_eq!(received.recv().await.unwrap().line, "POST /in HTTP/1.1");
    }
}

#[tokio::test]
async fn an_https_receiver_that_nobody_vouches_for_is_not_told_anything() {
    let (broker, mut sink) = (Broker::start().await, SecureSink::start("").await);
    let path = subscribed(&broker, &json!({"http": {"url": sink.url}})).await;
    broker.given(r#"{"id":"E1","type":"T","a":{"value":1}}"#).await;
    let shown = broker.until(&path, |body| body["notification"]["lastFailure"].is_string()).await;
    assert_eq!(
        shown["notification"]["lastFailureReason"],
        "SSL peer certificate or SSH remote key was not OK"
    );
    assert!(sink.received.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mqtt_notifications_have_topic_body_and_counters() {
    let Some(mosquitto) = Mosquitto::start(Some(("ann", "secret"))).await else { return };
    let mut received = mosquitto.listen("#", Some(("ann", "secret"))).await;
    let broker = Broker::start().await;
    let url = format!("mqtt://localhost:{}", mosquitto.port);
    let login = |mut target: Value| {
        target["url"] = json!(url);
        target["user"] = json!("ann");
        target["passwd"] = json!("secret");
        target
    };
    let plain = json!({"mqtt": login(json!({"topic": "plain/t", "qos": 1})), "attrsFormat": "keyValues"});
    let plain = subscribed(&broker, &plain).await;
    let custom = login(
        json!({"topic": "custom/${type}/${id|lowercase}", "qos": 2, "retain": true, "payload": "a is ${a}"}),
    );
    subscribed(&broker, &json!({"mqttCustom": custom})).await;
    broker.given(r#"{"id":"E1","type":"T","a":{"value":7}}"#).await;
    let mut got = Vec::new();
    for _ in 0..2 {
        let publish = tokio::time::timeout(DEADLINE, received.recv()).await.unwrap().unwrap();
        got.push((publish.topic, String::from_utf8(publish.payload.to_vec()).unwrap()));
    }
    got.sort();
    let id = plain.rsplit('/').next().unwrap();
    let ordinary = format!(r#"{{"subscriptionId":"{id}","data":[{{"id":"E1","type":"T","a":7}}]}}"#);
    assert_eq!(got, [("custom/T/e1".to_owned(), "a is 7".to_owned()), ("plain/t".to_owned(), ordinary)]);
    let shown = broker.until(&plain, |body| body["notification"]["lastSuccess"].is_string()).await;
    assert_eq!(shown["notification"]["timesSent"], 1);
    assert!(shown["notification"].get("lastSuccessCode").is_none(), "there are no codes");
    assert_eq!(
        shown["notification"]["mqtt"],
        json!({"url": url, "topic": "plain/t", "qos": 1, "retain": false, "user": "ann", "passwd": "*****"})
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mqtt_over_tls_needs_a_certificate_that_somebody_vouches_for() {
    let Some(mosquitto) = Mosquitto::start(Some(("ann", "secret"))).await else { return };
    let mut received = mosquitto.listen("#", Some(("ann", "secret"))).await;
    let target = json!({"mqtt": {
        "url": format!("mqtts://localhost:{}", mosquitto.tls_port),
        "topic": "t", "qos": 1, "user": "ann", "passwd": "secret"
    }});
    for trust in [
        Box::new(|config: &mut Config| config.notification.ca_file.clone_from(&mosquitto.ca_file))
            as Box<dyn Fn(&mut Config)>,
        Box::new(|config: &mut Config| config.notification.insecure_tls = true),
    ] {
        let broker = Broker::with(trust).await;
        let path = subscribed(&broker, &target).await;
        broker.given(r#"{"id":"E1","type":"T","a":{"value":7}}"#).await;
        let publish = tokio::time::timeout(DEADLINE, received.recv()).await.unwrap().unwrap();
        assert_eq!(publish.topic, "t");
        assert!(String::from_utf8_lossy(&publish.payload).contains("\"E1\""), "{publish:?}");
        let shown = broker.until(&path, |body| body["notification"]["lastSuccess"].is_string()).await;
        assert_eq!(shown["notification"]["mqtt"]["url"], target["mqtt"]["url"]);
    }
    let stranger = Broker::start().await;
    let path = subscribed(&stranger, &target).await;
    stranger.given(r#"{"id":"E1","type":"T","a":{"value":7}}"#).await;
    stranger.until(&path, |body| body["notification"]["failsCounter"].is_number()).await;
    let health = stranger.until(&format!("{path}?options=deliveryHealth"), |_| true).await;
    let reason = "SSL peer certificate or SSH remote key was not OK";
    assert_eq!(health["deliveryHealth"]["lastFailureReason"], reason);
    assert!(received.try_recv().is_err(), "nothing was told to a stranger");
}

#[tokio::test]
async fn an_mqtt_server_that_is_away_gets_what_waited_once_it_is_there() {
    let Some(mut mosquitto) = Mosquitto::start(None).await else { return };
    let broker = Broker::start().await;
    let url = format!("mqtt://127.0.0.1:{}", mosquitto.port);
    mosquitto.stop();
    let path = subscribed(
        &broker,
        &json!({"mqtt": {"url": url, "topic": "t", "qos": 1}, "attrsFormat": "simplifiedKeyValues"}),
    )
    .await;
    broker.given(r#"{"id":"E1","type":"T","a":{"value":1}}"#).await;
    let shown = broker.until(&path, |body| body["notification"]["failsCounter"].is_number()).await;
    assert!(shown["notification"].get("lastFailureReason").is_none(), "reasons are for HTTP only");
    let health = broker.until(&format!("{path}?options=deliveryHealth"), |_| true).await;
    assert_eq!(health["deliveryHealth"]["lastFailureReason"], "Could not connect to server");
    mosquitto.restart().await;
    // It may have come before somebody listens; it is kept for nobody, so only the counters tell.
    let shown = broker.until(&path, |body| body["notification"]["lastSuccess"].is_string()).await;
    assert_eq!(shown["notification"]["timesSent"], 1);
}

/// Hands on the records of a topic, from its start.
struct Collector(mpsc::Sender<Record>);

#[async_trait::async_trait]
impl Consumer for Collector {
    async fn position(&self, _: &str, _: i32) -> Result<Option<i64>, ConsumeError> {
        Ok(None)
    }

    async fn consume(&self, batch: &Batch) -> Result<Consumed, ConsumeError> {
        for record in &batch.records {
            self.0.send(record.clone()).await.unwrap();
        }
        Ok(Consumed::Stored)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_notifications_have_topic_key_headers_and_body() {
    let Some(servers) = testing::server("TEST_KAFKA_BROKERS") else { return };
    let broker = Broker::start().await;
    let url = format!("kafka://{servers}");
    let topic = testing::fresh_schema("notified");
    // A cluster need not make topics by itself: this makes them and sends nothing.
    let bus = KafkaBus::new(KafkaConfig::new(servers.as_str())).unwrap();
    for name in [topic.clone(), format!("{topic}-t")] {
        bus.publish(&name, Vec::new()).await.unwrap();
    }
    let plain = json!({"kafka": {"url": url, "topic": topic}, "attrsFormat": "keyValues"});
    let plain = subscribed(&broker, &plain).await;
    let custom = json!({"kafkaCustom": {
        "url": url, "topic": format!("{topic}-${{type|lowercase}}"), "key": "${id}", "json": {"a": "${a}"},
        "headers": {"X-A": "${a+1}", "Fiware-Servicepath": ""}
    }});
    let custom = subscribed(&broker, &custom).await;
    broker.given(r#"{"id":"E1","type":"T","a":{"value":7}}"#).await;
    for path in [&plain, &custom] {
        broker.until(path, |body| body["notification"]["lastSuccess"].is_string()).await;
    }
    let record = first_record(&servers, &topic).await;
    let id = plain.rsplit('/').next().unwrap();
    let ordinary = format!(r#"{{"subscriptionId":"{id}","data":[{{"id":"E1","type":"T","a":7}}]}}"#);
    assert_eq!((&*record.payload, &*record.key), (ordinary.as_bytes(), &b""[..]));
    let header = |record: &Record, name: &str| {
        record.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone())
    };
    assert_eq!(header(&record, "Fiware-Servicepath").as_deref(), Some("/"));
    assert_eq!(header(&record, "Ngsiv2-AttrsFormat").as_deref(), Some("keyValues"));
    assert!(header(&record, "Fiware-Correlator").unwrap().ends_with("; cbnotif=1"));
    let record = first_record(&servers, &format!("{topic}-t")).await;
    assert_eq!((&*record.payload, &*record.key), (&br#"{"a":7}"#[..], &b"E1"[..]));
    assert_eq!(header(&record, "X-A").as_deref(), Some("8"));
    assert_eq!(header(&record, "Fiware-Servicepath"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kafka_record_says_whose_entity_it_is_about() {
    let Some(servers) = testing::server("TEST_KAFKA_BROKERS") else { return };
    let broker = Broker::start().await;
    let topic = testing::fresh_schema("headers");
    let bus = KafkaBus::new(KafkaConfig::new(servers.as_str())).unwrap();
    bus.publish(&topic, Vec::new()).await.unwrap();
    let of_acme = |line: &str, body: &str| {
        request(line)
            .header("Fiware-Service", "acme")
            .header("Fiware-ServicePath", "/a/b")
            .header("Fiware-Correlator", "c1")
            .json(body)
    };
    let notification =
        json!({"kafkaCustom": {"url": format!("kafka://{servers}"), "topic": topic, "json": {"n": "${a}"}}});
    let body = json!({"subject": {"entities": [{"idPattern": ".*"}]}, "notification": notification});
    let made = broker.send(of_acme("POST /v2/subscriptions", &body.to_string())).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let made = broker.send(of_acme("POST /v2/entities", r#"{"id":"E1","type":"T","a":{"value":7}}"#)).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let record = first_record(&servers, &topic).await;
    // Beside those of the trace.
    let is_traced = |name: &str| name.starts_with("x-b3-") || name.starts_with("trace");
    let headers = record.headers.iter().map(|(name, value)| (name.to_lowercase(), &**value));
    let mut headers: Vec<_> = headers.filter(|(name, _)| !is_traced(name)).collect();
    headers.sort();
    assert_eq!(
        headers,
        [
            ("fiware-correlator".to_owned(), "c1; cbnotif=1"),
            ("fiware-service".to_owned(), "acme"),
            ("fiware-servicepath".to_owned(), "/a/b"),
            ("ngsiv2-attrsformat".to_owned(), "custom"),
        ]
    );
}

async fn first_record(servers: &str, topic: &str) -> Record {
    let bus = KafkaBus::new(KafkaConfig::new(servers)).unwrap();
    let (sender, mut received) = mpsc::channel(10);
    let stop = CancellationToken::new();
    let reading = async {
        bus.consume(topic, topic, Arc::new(Collector(sender)), stop.clone()).await.unwrap();
        std::future::pending::<()>().await;
    };
    let first = async {
        tokio::select! {
            record = received.recv() => record.unwrap(),
            () = reading => unreachable!("it reads until it is stopped"),
        }
    };
    tokio::time::timeout(Duration::from_secs(60), first).await.expect("a record in time")
}

#[tokio::test]
async fn a_kafka_cluster_that_is_away_is_a_failure_that_shows() {
    let broker = Broker::with(|config| config.notification.kafka_timeout_ms = 300).await;
    let url = format!("kafka://127.0.0.1:{}", free_port().await);
    let path = subscribed(&broker, &json!({"kafka": {"url": url, "topic": "t"}})).await;
    broker.given(r#"{"id":"E1","type":"T","a":{"value":1}}"#).await;
    let shown = broker.until(&path, |body| body["notification"]["failsCounter"].is_number()).await;
    assert_eq!(shown["notification"]["timesSent"], 1);
}

/// A subscription of a user to a listener of the test's Kafka.
fn kafka_login(servers: &str, topic: &str, passwd: &str, mechanism: &str, protocol: Option<&str>) -> Value {
    let mut target = json!({
        "url": format!("kafka://{servers}"), "topic": topic, "user": "ann", "passwd": passwd, "saslMechanism": mechanism
    });
    if let Some(protocol) = protocol {
        target["securityProtocol"] = json!(protocol);
    }
    json!({"kafka": target})
}

/// A listener, and the `securityProtocol` that it is reached by.
type Way = (String, Option<&'static str>);

/// The open listener, and where to log in: in the clear and over TLS.
fn kafka_listeners() -> Option<(String, [Way; 3])> {
    let secure = testing::server("TEST_KAFKA_SECURE")?;
    let guarded = testing::server("TEST_KAFKA_LOGIN")?;
    let ways = [(guarded, Some("SASL_PLAINTEXT")), (secure.clone(), Some("SASL_SSL")), (secure, None)];
    Some((testing::server("TEST_KAFKA_BROKERS")?, ways))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_lets_in_who_knows_the_password_by_every_mechanism_with_and_without_tls() {
    let (Some((servers, ways)), Some(authority)) = (kafka_listeners(), testing::server("TEST_KAFKA_CA"))
    else {
        return;
    };
    let broker = Broker::with(|config| {
        config.notification.kafka_timeout_ms = 3_000;
        config.notification.ca_file = authority.into();
    })
    .await;
    let bus = KafkaBus::new(KafkaConfig::new(servers.as_str())).unwrap();
    let mut subscriptions = Vec::new();
    for (listener, protocol) in &ways {
        for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
            let topic = testing::fresh_schema("login");
            bus.publish(&topic, Vec::new()).await.unwrap();
            let login = |passwd| kafka_login(listener, &topic, passwd, mechanism, *protocol);
            let wrong = subscribed(&broker, &login("wrong")).await;
            let right = subscribed(&broker, &login("secret")).await;
            subscriptions.push((topic, right, wrong));
        }
    }
    broker.given(r#"{"id":"E1","type":"T","a":{"value":7}}"#).await;
    for (topic, right, wrong) in subscriptions {
        let shown = broker.until(&right, |body| body["notification"]["lastSuccess"].is_string()).await;
        assert_eq!(shown["notification"]["kafka"]["passwd"], "*****");
        let shown = broker.until(&wrong, |body| body["notification"]["failsCounter"].is_number()).await;
        assert!(shown["notification"].get("lastSuccess").is_none(), "{shown}");
        let record = first_record(&servers, &topic).await;
        let id = right.rsplit('/').next().unwrap();
        assert!(
            String::from_utf8_lossy(&record.payload).contains(id),
            "only who knows the password is heard"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kafka_cluster_whose_certificate_nobody_vouches_for_hears_nothing_unless_it_may() {
    let Some((servers, [_, (secure, _), _])) = kafka_listeners() else { return };
    let bus = KafkaBus::new(KafkaConfig::new(servers.as_str())).unwrap();
    for insecure in [false, true] {
        let broker = Broker::with(|config| {
            config.notification.kafka_timeout_ms = 3_000;
            config.notification.insecure_tls = insecure;
        })
        .await;
        let topic = testing::fresh_schema("trust");
        bus.publish(&topic, Vec::new()).await.unwrap();
        let path = subscribed(&broker, &kafka_login(&secure, &topic, "secret", "PLAIN", None)).await;
        broker.given(r#"{"id":"E1","type":"T","a":{"value":7}}"#).await;
        let told = if insecure { "lastSuccess" } else { "lastFailure" };
        let shown = broker.until(&path, |body| body["notification"][told].is_string()).await;
        assert_eq!(shown["notification"].get("lastSuccess").is_some(), insecure, "{shown}");
    }
}
