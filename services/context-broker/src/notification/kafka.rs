//! Notifications as records of Kafka clusters.

use std::{collections::HashMap, time::Duration};

use bus::{BusError, KafkaSink, SinkCluster, SinkLogin, SinkRecord, SinkTls};
use ngsi::subscription::{KafkaTarget, SaslMechanism, SecurityProtocol, Target, Transport};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    client::Answer,
    sender::host_and_port,
    target::{check_host, is_refused_host},
    tls::TlsOptions,
};
use crate::subscription::Entry;

/// How long the addresses of a cluster's names are believed to be allowed.
const CHECK_EVERY: Duration = Duration::from_secs(30);
const REFUSED: Answer = Answer::Refused("Link-local address refused");

/// The clusters that are notified.
pub(super) struct Clusters {
    sink: KafkaSink,
    /// When the names of a cluster were last looked up and found to be allowed.
    allowed: Mutex<HashMap<String, Instant>>,
}

impl Clusters {
    pub(super) fn new(timeout: Duration, max_idle: Duration, tls: &TlsOptions) -> Self {
        let tls = SinkTls { insecure: tls.insecure, ca_file: tls.ca_file.clone() };
        Self { sink: KafkaSink::new(timeout, max_idle, tls), allowed: Mutex::default() }
    }

    /// Sends a record to the cluster of `url`; `entry` is the subscription, which has the password.
    pub(super) async fn produce(&self, url: &str, entry: Option<&Entry>, record: SinkRecord) -> Answer {
        let target = entry.map(|entry| &entry.subscription.notification.target);
        let Some(cluster) = cluster(url, target) else { return Answer::Refused("URL malformed") };
        if !self.is_allowed(&cluster.servers).await {
            return REFUSED;
        }
        match self.sink.send(&cluster, record).await {
            Ok(()) => Answer::Accepted,
            Err(BusError::Refused(reason)) => {
                tracing::warn!(reason, "Kafka notification refused");
                Answer::Refused("Kafka record or settings refused")
            }
            Err(error @ BusError::Unavailable(_)) => {
                tracing::debug!(%error, "Kafka cluster away");
                Answer::Failed("Could not connect to server")
            }
        }
    }

    /// Whether none of the servers is, or resolves to, an address that is refused. The Kafka library resolves names by
    /// itself and takes any of their addresses, so one that is refused refuses the cluster.
    async fn is_allowed(&self, servers: &str) -> bool {
        let fresh = |checked: &Instant| checked.elapsed() < CHECK_EVERY;
        if self.allowed.lock().get(servers).is_some_and(fresh) {
            return true;
        }
        for server in servers.split(',') {
            let Some((host, _)) = host_and_port(server, 0) else { return false };
            if check_host(&host).is_err() || is_refused_host(&host).await {
                return false;
            }
        }
        let mut allowed = self.allowed.lock();
        allowed.retain(|_, checked| fresh(checked));
        allowed.insert(servers.to_owned(), Instant::now());
        true
    }
}

fn cluster(url: &str, target: Option<&Target>) -> Option<SinkCluster> {
    let servers = url.strip_prefix("kafka://")?.trim_end_matches('/').to_owned();
    let login = target.and_then(kafka).and_then(|kafka| {
        let login = kafka.login.as_ref()?;
        let (mechanism, protocol) = ways(kafka)?;
        Some(SinkLogin {
            user: login.user.clone(),
            password: login.passwd.clone(),
            mechanism: mechanism.as_str(),
            protocol: protocol.as_str(),
        })
    });
    Some(SinkCluster { servers, login })
}

fn kafka(target: &Target) -> Option<&KafkaTarget> {
    match &target.transport {
        Transport::Kafka(kafka) => Some(kafka),
        _ => None,
    }
}

/// How a login is made; as with the original over TLS, unless the subscription says otherwise.
fn ways(kafka: &KafkaTarget) -> Option<(SaslMechanism, SecurityProtocol)> {
    kafka.login.as_ref()?;
    Some((kafka.sasl_mechanism?, kafka.security_protocol.unwrap_or(SecurityProtocol::SaslSsl)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clusters() -> Clusters {
        Clusters::new(Duration::from_secs(1), Duration::from_secs(1), &TlsOptions::default())
    }

    #[test]
    fn servers_are_read_from_urls() {
        assert_eq!(cluster("kafka://a:1,b:2/", None).unwrap().servers, "a:1,b:2");
        assert!(cluster("mqtt://a:1", None).is_none());
    }

    #[tokio::test]
    async fn addresses_and_names_of_link_local_addresses_are_refused_wherever_they_stand() {
        let clusters = clusters();
        // The resolver of the C library reads a bare number as an address: 2851995649 is 169.254.0.1.
        for servers in
            ["169.254.169.254:1", "127.0.0.1:1,[fe80::1]:2", "2851995649:1", "127.0.0.1:1,2851995649:1"]
        {
            assert!(!clusters.is_allowed(servers).await, "{servers}");
        }
        for servers in ["127.0.0.1:1", "localhost:9092,[::1]:1", "there-is-none.invalid:1"] {
            assert!(clusters.is_allowed(servers).await, "{servers}");
        }
    }

    #[tokio::test]
    async fn nothing_is_sent_to_a_name_of_a_link_local_address() {
        let record = SinkRecord { topic: "t".to_owned(), key: None, headers: vec![], payload: "x".into() };
        let answer = clusters().produce("kafka://2851995649:9092", None, record).await;
        assert_eq!(answer, REFUSED);
        assert!(!answer.is_retryable());
    }
}
