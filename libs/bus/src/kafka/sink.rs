//! Records to Kafka clusters that are not the mesh's own: where notifications go.

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use rdkafka::{
    ClientConfig,
    message::{Header, OwnedHeaders},
    producer::FutureRecord,
};
use tokio::time::Instant;

use super::client::{Logged, Producer, drop_aside, is_refused, unavailable, unusable};
use crate::BusError;

/// Largest record, bytes.
const MAX_RECORD: usize = 16 << 20;

/// A cluster, and as whom to reach it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SinkCluster {
    /// `host:port,host:port`.
    pub servers: String,
    pub login: Option<SinkLogin>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SinkLogin {
    pub user: String,
    pub password: String,
    /// `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512`.
    pub mechanism: &'static str,
    /// `SASL_SSL`, `SASL_PLAINTEXT`.
    pub protocol: &'static str,
}

/// Whom to trust over `SASL_SSL`.
#[derive(Clone, Debug, Default)]
pub struct SinkTls {
    /// Any certificate is good.
    pub insecure: bool,
    /// PEM file of authorities, in place of the system's (those that `SSL_CERT_FILE` names, or the first of the usual files).
    pub ca_file: Option<PathBuf>,
}

impl SinkTls {
    /// The file of authorities. OpenSSL comes with the library, so that it does not know by itself where the system keeps its own.
    fn authorities(&self) -> String {
        let named = || std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
        let file = self.ca_file.clone().or_else(named);
        file.map_or_else(|| "probe".to_owned(), |file| file.display().to_string())
    }
}

impl std::fmt::Debug for SinkCluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SinkCluster").field("servers", &self.servers).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug)]
pub struct SinkRecord {
    pub topic: String,
    pub key: Option<String>,
    pub headers: Vec<(String, String)>,
    pub payload: Bytes,
}

/// Sends records to any number of clusters. A producer is made at first use and closed when nobody used it for long.
pub struct KafkaSink {
    /// How long a record may take.
    timeout: Duration,
    max_idle: Duration,
    tls: SinkTls,
    producers: Mutex<HashMap<SinkCluster, Used>>,
}

struct Used {
    producer: Arc<Producer>,
    last: Instant,
}

impl KafkaSink {
    pub fn new(timeout: Duration, max_idle: Duration, tls: SinkTls) -> Self {
        Self { timeout, max_idle, tls, producers: Mutex::default() }
    }

    /// Sends a record and waits until all in-sync replicas have it.
    ///
    /// # Errors
    /// `Unavailable`: try again later. `Refused`: this record, or these settings, can never work.
    pub async fn send(&self, cluster: &SinkCluster, record: SinkRecord) -> Result<(), BusError> {
        let producer = self.producer(cluster)?;
        let headers = record.headers.iter();
        let headers = headers
            .fold(OwnedHeaders::new_with_capacity(record.headers.len()), |all, (key, value)| {
                all.insert(Header { key, value: Some(value) })
            });
        let mut message =
            FutureRecord::<str, [u8]>::to(&record.topic).payload(&record.payload).headers(headers);
        if let Some(key) = &record.key {
            message = message.key(key);
        }
        match producer.send(message, self.timeout).await {
            Ok(_) => Ok(()),
            Err((error, _)) if is_refused(&error) => Err(BusError::Refused(error.to_string())),
            Err((error, _)) => Err(unavailable(error)),
        }
    }

    fn producer(&self, cluster: &SinkCluster) -> Result<Arc<Producer>, BusError> {
        let now = Instant::now();
        let mut producers = self.producers.lock();
        let idle = |used: &Used| now.duration_since(used.last) > self.max_idle;
        for (_, used) in producers.extract_if(|own, used| own != cluster && idle(used)) {
            drop_aside(used.producer);
        }
        if let Some(used) = producers.get_mut(cluster) {
            used.last = now;
            return Ok(used.producer.clone());
        }
        let producer: Producer = self.config(cluster).create_with_context(Logged).map_err(unusable)?;
        let producer = Arc::new(producer);
        producers.insert(cluster.clone(), Used { producer: producer.clone(), last: now });
        Ok(producer)
    }

    fn config(&self, cluster: &SinkCluster) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &cluster.servers)
            .set("client.id", "thingmesh")
            .set("acks", "all")
            .set("message.timeout.ms", self.timeout.as_millis().max(1).to_string())
            .set("message.max.bytes", MAX_RECORD.to_string())
            .set("reconnect.backoff.max.ms", "2000")
            .set("linger.ms", "1")
            .set("log.connection.close", "false");
        if let Some(login) = &cluster.login {
            config
                .set("security.protocol", login.protocol)
                .set("sasl.mechanism", login.mechanism)
                .set("sasl.username", &login.user)
                .set("sasl.password", &login.password);
            if login.protocol == "SASL_SSL" {
                config.set("enable.ssl.certificate.verification", (!self.tls.insecure).to_string());
                config.set("ssl.ca.location", self.tls.authorities());
            }
        }
        config
    }
}

impl Drop for KafkaSink {
    fn drop(&mut self) {
        // Its destructor waits for threads.
        let producers = std::mem::take(self.producers.get_mut());
        if tokio::runtime::Handle::try_current().is_ok() {
            drop_aside(producers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_printed_and_no_record_waits_for_ever() {
        let login = SinkLogin {
            user: "u".to_owned(),
            password: "hush".to_owned(),
            mechanism: "PLAIN",
            protocol: "SASL_PLAINTEXT",
        };
        let cluster = SinkCluster { servers: "a:1".to_owned(), login: Some(login) };
        assert!(!format!("{cluster:?}").contains("hush"));
        let config =
            KafkaSink::new(Duration::from_millis(70), Duration::MAX, SinkTls::default()).config(&cluster);
        assert_eq!(config.get("message.timeout.ms"), Some("70"));
        assert_eq!((config.get("acks"), config.get("sasl.password")), (Some("all"), Some("hush")));
    }

    #[test]
    fn a_certificate_is_verified_unless_the_configuration_says_otherwise() {
        let login = |protocol| SinkLogin {
            user: "u".to_owned(),
            password: "p".to_owned(),
            mechanism: "PLAIN",
            protocol,
        };
        let cluster = |protocol| SinkCluster { servers: "a:1".to_owned(), login: Some(login(protocol)) };
        let sink = |insecure| {
            let tls = SinkTls { insecure, ca_file: Some("/ca.pem".into()) };
            KafkaSink::new(Duration::from_secs(1), Duration::MAX, tls)
        };
        let verification = "enable.ssl.certificate.verification";
        let config = sink(false).config(&cluster("SASL_SSL"));
        assert_eq!(
            (config.get(verification), config.get("ssl.ca.location")),
            (Some("true"), Some("/ca.pem"))
        );
        assert_eq!(sink(true).config(&cluster("SASL_SSL")).get(verification), Some("false"));
        assert_eq!(sink(true).config(&cluster("SASL_PLAINTEXT")).get(verification), None);
    }

    #[test]
    fn the_library_knows_every_way_to_log_in() {
        for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
            for protocol in ["SASL_PLAINTEXT", "SASL_SSL"] {
                let login = SinkLogin { user: "u".to_owned(), password: "p".to_owned(), mechanism, protocol };
                let cluster = SinkCluster { servers: "127.0.0.1:1".to_owned(), login: Some(login) };
                let sink = KafkaSink::new(Duration::from_secs(1), Duration::MAX, SinkTls::default());
                assert!(sink.producer(&cluster).is_ok(), "{mechanism} over {protocol}");
            }
        }
    }

    #[tokio::test]
    async fn a_producer_that_nobody_used_for_long_is_closed_when_another_is_used() {
        let sink = KafkaSink::new(Duration::from_secs(1), Duration::ZERO, SinkTls::default());
        let cluster = |servers: &str| SinkCluster { servers: servers.to_owned(), login: None };
        for servers in ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:2"] {
            let _ = sink.producer(&cluster(servers)).unwrap();
        }
        let open: Vec<_> = sink.producers.lock().keys().map(|cluster| cluster.servers.clone()).collect();
        assert_eq!(open, ["127.0.0.1:2"]);
    }
}
