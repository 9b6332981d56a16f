//! Where a notification goes: the six transports of ngsi-v2.md 8.

use super::{
    macros::{MacroJson, MacroText},
    ngsi_patch::NgsiPatch,
};

/// How a password is shown.
pub(super) const HIDDEN: &str = "*****";

/// One of `http`, `httpCustom`, `mqtt`, `mqttCustom`, `kafka`, `kafkaCustom`.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    pub url: String,
    /// Only HTTP: milliseconds; 0 is the default of the broker.
    pub timeout_ms: u64,
    pub transport: Transport,
    /// Set for the custom forms.
    pub custom: Option<Box<Custom>>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Transport {
    Http,
    Mqtt(Box<MqttTarget>),
    Kafka(Box<KafkaTarget>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct MqttTarget {
    pub topic: MacroText,
    /// 0, 1 or 2.
    pub qos: u8,
    pub retain: bool,
    pub login: Option<Login>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct KafkaTarget {
    pub topic: MacroText,
    pub key: KafkaKey,
    pub login: Option<Login>,
    /// There with a login.
    pub sasl_mechanism: Option<SaslMechanism>,
    pub security_protocol: Option<SecurityProtocol>,
}

/// The key of a record.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum KafkaKey {
    #[default]
    Absent,
    /// `"key": null`: none, said so.
    Null,
    Text(MacroText),
}

/// User and password. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub user: String,
    pub passwd: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaslMechanism {
    Plain,
    ScramSha256,
    ScramSha512,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityProtocol {
    SaslSsl,
    SaslPlaintext,
}

impl SaslMechanism {
    pub(super) const ALL: [Self; 3] = [Self::Plain, Self::ScramSha256, Self::ScramSha512];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

impl SecurityProtocol {
    pub(super) const ALL: [Self; 2] = [Self::SaslSsl, Self::SaslPlaintext];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::SaslSsl => "SASL_SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
        }
    }
}

/// The templates of a custom notification.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Custom {
    pub url: MacroText,
    /// HTTP and Kafka, in the order of the request.
    pub headers: Vec<(String, MacroText)>,
    /// HTTP only.
    pub qs: Vec<(MacroText, MacroText)>,
    /// HTTP only. None: POST.
    pub method: Option<String>,
    pub payload: CustomPayload,
}

/// The template of a custom body.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum CustomPayload {
    /// The body of an ordinary notification.
    #[default]
    Default,
    /// No body (`"payload": null`).
    Nothing,
    Text(MacroText),
    Json(MacroJson),
    /// Merged over the notified entity.
    Ngsi(Box<NgsiPatch>),
}

impl Target {
    /// As its member of `notification` is called.
    pub fn name(&self) -> &'static str {
        match (&self.transport, self.custom.is_some()) {
            (Transport::Http, false) => "http",
            (Transport::Http, true) => "httpCustom",
            (Transport::Mqtt(_), false) => "mqtt",
            (Transport::Mqtt(_), true) => "mqttCustom",
            (Transport::Kafka(_), false) => "kafka",
            (Transport::Kafka(_), true) => "kafkaCustom",
        }
    }

    pub fn is_http(&self) -> bool {
        self.transport == Transport::Http
    }

    pub fn login(&self) -> Option<&Login> {
        match &self.transport {
            Transport::Http => None,
            Transport::Mqtt(mqtt) => mqtt.login.as_ref(),
            Transport::Kafka(kafka) => kafka.login.as_ref(),
        }
    }

    /// A client that sends back what it was shown does not mean to change the password.
    pub(super) fn keep_hidden_secret(&mut self, before: &Self) {
        let known = before.login().cloned();
        let own = match &mut self.transport {
            Transport::Http => None,
            Transport::Mqtt(mqtt) => mqtt.login.as_mut(),
            Transport::Kafka(kafka) => kafka.login.as_mut(),
        };
        if let (Some(own), Some(known)) = (own, known)
            && own.passwd == HIDDEN
            && own.user == known.user
            && self.url == before.url
        {
            own.passwd = known.passwd;
        }
    }
}
