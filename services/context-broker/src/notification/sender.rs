//! One try to send a notification, whatever carries it.

use std::{sync::Arc, time::Duration};

use bus::SinkRecord;
use futures::FutureExt;
use http_body_util::Full;
use mqtt::{PublishError, Publisher, Qos, Server};
use ngsi::subscription::Login;
use tokio::time::Instant;

use super::{
    client::{Answer, HttpClient, UNTRUSTED},
    kafka::Clusters,
    pending::{Message, Pending},
    target::resolve,
    tls::Trust,
};
use crate::{
    administration::{Administration, Transaction},
    subscription::Entry,
};

const MQTT_PORT: u16 = 1883;
const MQTT_TLS_PORT: u16 = 8883;

/// How the other ends are reached.
pub(crate) struct SenderOptions {
    /// Larger bodies are not sent, bytes.
    pub(crate) max_message_bytes: usize,
    pub(crate) trust: Arc<Trust>,
    pub(crate) mqtt_timeout: Duration,
    /// An idle connection is closed after this.
    pub(crate) mqtt_max_idle: Duration,
    pub(crate) kafka_timeout: Duration,
    pub(crate) kafka_max_idle: Duration,
    /// Counts what is sent over HTTP.
    pub(crate) administration: Arc<Administration>,
}

pub(super) struct Sender {
    http: HttpClient,
    mqtt: Publisher,
    mqtt_timeout: Duration,
    kafka: Clusters,
    administration: Arc<Administration>,
    max_message_bytes: usize,
}

/// In the words of libcurl.
const MALFORMED: &str = "URL using bad/illegal format or missing URL";

impl Sender {
    pub(super) fn new(options: SenderOptions) -> Self {
        let find = |host: String, port: u16| async move { resolve(&host, port).await }.boxed();
        let trust = options.trust.clone();
        let trusted = move || {
            let trust = trust.clone();
            async move { trust.config().await }.boxed()
        };
        Self {
            mqtt: Publisher::new(Arc::new(find), Arc::new(trusted), options.mqtt_max_idle),
            mqtt_timeout: options.mqtt_timeout,
            kafka: Clusters::new(options.kafka_timeout, options.kafka_max_idle, options.trust.options()),
            http: HttpClient::new(options.trust),
            administration: options.administration,
            max_message_bytes: options.max_message_bytes,
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
        if pending.body.len() > self.max_message_bytes {
            return Answer::Refused("notification larger than max_message_bytes");
        }
        match &target.message {
            None => match request(pending) {
                Some(request) => self.tell(pending, request, http_timeout).await,
                None => Answer::Refused(MALFORMED),
            },
            Some(Message::Mqtt { topic, qos, retain, .. }) => {
                let Some(server) = mqtt_server(&target.url, entry) else {
                    return Answer::Refused(MALFORMED);
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
                let record = SinkRecord {
                    topic: topic.clone(),
                    key: key.clone(),
                    headers: target.headers.clone(),
                    payload: pending.body.clone(),
                };
                self.kafka.produce(&target.url, entry, record).await
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
            Err(PublishError::Untrusted(reason)) => {
                tracing::debug!(reason, "certificate of an MQTT server refused");
                Answer::Failed(UNTRUSTED)
            }
            Err(PublishError::Tls(reason)) => {
                tracing::error!(reason, "TLS can not be used");
                Answer::Failed("Problem with the SSL CA cert")
            }
            Err(PublishError::Timeout) => Answer::Failed("Timeout was reached"),
            Err(error @ PublishError::Unavailable(_)) => {
                tracing::debug!(%error, "MQTT server away");
                Answer::Failed("Could not connect to server")
            }
        }
    }

    /// Over HTTP; what the original counts of its own requests is counted: each try, its bytes, and whether it got no answer.
    async fn tell(
        &self,
        pending: &Pending,
        request: http::Request<Full<bytes::Bytes>>,
        timeout: Duration,
    ) -> Answer {
        let started = Instant::now();
        let (answer, response_bytes) = self.http.send(request, timeout).await;
        if let Some(transactions) = &self.administration.transactions {
            let headers = &pending.target.headers;
            let path = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("fiware-servicepath"));
            let transaction = Transaction {
                request_bytes: pending.body.len() as u64,
                response_bytes,
                failed: !matches!(answer, Answer::Status(_)),
                took: started.elapsed(),
            };
            let path = path.map_or("", |(_, path)| path.as_str());
            transactions.outgoing(&pending.subscription.tenant, path, &transaction);
        }
        answer
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
    let (server, secure) = match url.strip_prefix("mqtts://") {
        Some(server) => (server, true),
        None => (url.strip_prefix("mqtt://")?, false),
    };
    let usual_port = if secure { MQTT_TLS_PORT } else { MQTT_PORT };
    let (host, port) = host_and_port(server.trim_end_matches('/'), usual_port)?;
    let login = login(entry).map(|login| (login.user.clone(), login.passwd.clone()));
    Some(Server { host, port, secure, login })
}

pub(super) fn host_and_port(server: &str, default: u16) -> Option<(String, u16)> {
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
        for (url, host, port, secure) in [
            ("mqtt://h:1", "h", 1, false),
            ("mqtt://h/", "h", 1883, false),
            ("mqtt://[::1]:5", "::1", 5, false),
            ("mqtt://[::1]", "::1", 1883, false),
            ("mqtts://h", "h", 8883, true),
            ("mqtts://h:1883/", "h", 1883, true),
        ] {
            let server = mqtt_server(url, None).unwrap();
            assert_eq!((server.host.as_str(), server.port, server.secure), (host, port, secure), "{url}");
        }
    }
}
