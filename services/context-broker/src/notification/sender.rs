//! One try to send a notification, whatever carries it.

use std::{sync::Arc, time::Duration};

use bus::{BusError, KafkaSink, SinkCluster, SinkLogin, SinkRecord};
use futures::FutureExt;
use http_body_util::Full;
use mqtt::{PublishError, Publisher, Qos, Server};
use ngsi::subscription::{Login, SecurityProtocol, Transport};

use super::{
    client::{Answer, HttpClient},
    pending::{Message, Pending},
    target::{check_host, resolve},
    tls::TlsOptions,
};
use crate::subscription::Entry;

const MQTT_PORT: u16 = 1883;

/// How the other ends are reached.
#[derive(Clone, Debug)]
pub struct SenderOptions {
    pub tls: TlsOptions,
    pub mqtt_timeout: Duration,
    /// An idle connection is closed after this.
    pub mqtt_max_idle: Duration,
    pub kafka_timeout: Duration,
    pub kafka_max_idle: Duration,
}

pub(super) struct Sender {
    http: HttpClient,
    mqtt: Publisher,
    mqtt_timeout: Duration,
    kafka: KafkaSink,
}

impl Sender {
    pub(super) fn new(options: SenderOptions) -> Self {
        let find = |host: String, port: u16| async move { resolve(&host, port).await }.boxed();
        Self {
            http: HttpClient::new(options.tls),
            mqtt: Publisher::new(Arc::new(find), options.mqtt_max_idle),
            mqtt_timeout: options.mqtt_timeout,
            kafka: KafkaSink::new(options.kafka_timeout, options.kafka_max_idle),
        }
    }

    /// Sends it. `http_timeout` is for HTTP; `entry` is the subscription, which has the password.
    pub(super) async fn send(
        &self,
        pending: &Pending,
        entry: Option<&Entry>,
        http_timeout: Duration,
    ) -> Answer {
        let target = &pending.target;
        match &target.message {
            None => match request(pending) {
                Some(request) => self.http.send(request, http_timeout).await,
                None => Answer::Refused("URL malformed"),
            },
            Some(Message::Mqtt { topic, qos, retain, .. }) => {
                let Some(server) = mqtt_server(&target.url, entry) else {
                    return Answer::Refused("URL malformed");
                };
                let message = mqtt::Message {
                    topic: topic.clone(),
                    payload: pending.body.clone(),
                    qos: match qos {
                        0 => Qos::AtMostOnce,
                        1 => Qos::AtLeastOnce,
                        _ => Qos::ExactlyOnce,
                    },
                    retain: *retain,
                };
                self.publish(&server, message).await
            }
            Some(Message::Kafka { topic, key, .. }) => {
                let Some(cluster) = kafka_cluster(&target.url, entry) else {
                    return Answer::Refused("URL malformed");
                };
                let record = SinkRecord {
                    topic: topic.clone(),
                    key: key.clone(),
                    headers: target.headers.clone(),
                    payload: pending.body.clone(),
                };
                self.produce(&cluster, record).await
            }
        }
    }

    async fn publish(&self, server: &Server, message: mqtt::Message) -> Answer {
        match self.mqtt.publish(server, message, self.mqtt_timeout).await {
            Ok(()) => Answer::Accepted,
            Err(PublishError::Refused(reason)) => {
                tracing::debug!(reason, "MQTT notification refused");
                Answer::Refused("MQTT message can not be published")
            }
            Err(PublishError::NotAllowed(_)) => Answer::Failed("MQTT connection refused"),
            Err(PublishError::Timeout) => Answer::Failed("Timeout was reached"),
            Err(error @ PublishError::Unavailable(_)) => {
                tracing::debug!(%error, "MQTT server away");
                Answer::Failed("Could not connect to server")
            }
        }
    }

    async fn produce(&self, cluster: &SinkCluster, record: SinkRecord) -> Answer {
        match self.kafka.send(cluster, record).await {
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
}

fn request(pending: &Pending) -> Option<http::Request<Full<bytes::Bytes>>> {
    let target = &pending.target;
    let mut request = http::Request::builder().method(target.method.as_str()).uri(&target.url);
    for (name, value) in &target.headers {
        request = request.header(name, value);
    }
    request.body(Full::new(pending.body.clone())).ok()
}

fn login(entry: Option<&Entry>) -> Option<&Login> {
    entry?.subscription.notification.target.login()
}

fn mqtt_server(url: &str, entry: Option<&Entry>) -> Option<Server> {
    let (host, port) = host_and_port(url.strip_prefix("mqtt://")?.trim_end_matches('/'), MQTT_PORT)?;
    let login = login(entry).map(|login| (login.user.clone(), login.passwd.clone()));
    Some(Server { host, port, login })
}

/// The servers of the URL; none of them may be written as an address that is refused.
fn kafka_cluster(url: &str, entry: Option<&Entry>) -> Option<SinkCluster> {
    let servers = url.strip_prefix("kafka://")?.trim_end_matches('/');
    for server in servers.split(',') {
        check_host(&host_and_port(server, 0)?.0).ok()?;
    }
    let kafka = entry.and_then(|entry| match &entry.subscription.notification.target.transport {
        Transport::Kafka(kafka) => Some(kafka),
        _ => None,
    });
    let login = kafka.and_then(|kafka| {
        let login = kafka.login.as_ref()?;
        let protocol = kafka.security_protocol.unwrap_or(SecurityProtocol::SaslSsl);
        Some(SinkLogin {
            user: login.user.clone(),
            password: login.passwd.clone(),
            mechanism: kafka.sasl_mechanism?.as_str(),
            protocol: protocol.as_str(),
        })
    });
    Some(SinkCluster { servers: servers.to_owned(), login })
}

fn host_and_port(server: &str, default: u16) -> Option<(String, u16)> {
    match server.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
        Some((host, port)) => Some((bare(host), port.parse().ok()?)),
        None => Some((bare(server), default)),
    }
}

fn bare(host: &str) -> String {
    host.trim_start_matches('[').trim_end_matches(']').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_read_from_urls() {
        for (url, host, port) in [
            ("mqtt://h:1", "h", 1),
            ("mqtt://h/", "h", 1883),
            ("mqtt://[::1]:5", "::1", 5),
            ("mqtt://[::1]", "::1", 1883),
        ] {
            let server = mqtt_server(url, None).unwrap();
            assert_eq!((server.host.as_str(), server.port), (host, port), "{url}");
        }
        assert_eq!(kafka_cluster("kafka://a:1,b:2", None).unwrap().servers, "a:1,b:2");
        assert!(kafka_cluster("kafka://a:1,169.254.169.254:2", None).is_none());
    }
}
