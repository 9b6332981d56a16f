use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};
use service_kit::{config::Secret, http::HttpLimits};
use store::StoreConfig;

use crate::{
    administration::AdministrationConfig, forwarding::ForwardingConfig, quota::QuotaConfig,
    store::AttributeIndex,
};

/// Settings of the broker; the defaults are what runs without any configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address of all listeners.
    pub host: IpAddr,
    /// Port of the REST API; 0 = any free port.
    pub port: u16,
    /// Port of the gRPC API; 0 = any free port.
    pub grpc_port: u16,
    /// Where `context-broker.db`, `context-broker.journal`, `notifier.db` and `registrations.db` are.
    pub data_dir: PathBuf,
    pub store: StoreConfig,
    /// Schema of the tables when the store is PostgreSQL; made if it is missing.
    pub postgres_schema: String,
    pub http: HttpLimits,
    /// Largest request body, bytes.
    pub max_body_bytes: u64,
    /// Largest entity: its attributes as JSON, bytes.
    pub max_entity_bytes: usize,
    /// Whether `Fiware-Service` separates tenants; if not, all requests are the default tenant's.
    pub multiservice: bool,
    /// Entities in memory, bytes, about (SQLite only: with PostgreSQL other replicas write too).
    pub cache_bytes: u64,
    pub commit: CommitConfig,
    pub query: QueryConfig,
    /// Indexes on attributes; made, and dropped when they are no longer listed, at the start.
    pub attribute_indexes: Vec<AttributeIndex>,
    pub notification: NotificationConfig,
    pub history: HistoryConfig,
    pub forwarding: ForwardingConfig,
    pub quotas: QuotaConfig,
    pub administration: AdministrationConfig,
}

/// Group commit of writes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CommitConfig {
    /// Operations in one transaction.
    pub max_batch: usize,
    /// Operations that may wait; further ones are answered 503.
    pub queue: usize,
    /// Transactions at once (PostgreSQL only: SQLite has one writer).
    pub shards: usize,
}

/// Queries that no index answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueryConfig {
    /// A query that reads longer is refused, milliseconds; 0 = never.
    pub max_ms: u64,
}

impl Default for QueryConfig {
    fn default() -> Self {
        Self { max_ms: 10_000 }
    }
}

/// What becomes of a notification that its receiver does not take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NotificationMode {
    /// It is kept and tried again, in order, for as long as the bounds allow.
    #[default]
    Durable,
    /// It is forgotten: each is tried once, as the original does.
    Transient,
}

/// How notifications are delivered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NotificationConfig {
    pub mode: NotificationMode,
    /// Requests to one endpoint at once in transient mode; further ones are dropped.
    pub transient_concurrency: usize,
    /// Timeout of a notification whose subscription names none, milliseconds.
    pub timeout_ms: u64,
    /// Requests to one endpoint at once.
    pub concurrency: usize,
    /// Between two tries, at most, milliseconds.
    pub longest_pause_ms: u64,
    /// A notification that waited this long is dropped, seconds.
    pub max_age_s: u64,
    /// Notifications that wait for one endpoint; the oldest beyond it are dropped.
    pub max_per_endpoint: u32,
    /// Whether any certificate of a receiver or context provider is good.
    pub insecure_tls: bool,
    /// PEM file of certificate authorities beside the system's, for `https` and `mqtts` receivers and context providers
    /// (in their place for Kafka); empty: none.
    pub ca_file: PathBuf,
    /// How long an MQTT server may take, milliseconds.
    pub mqtt_timeout_ms: u64,
    /// An MQTT connection that nobody used for this long is closed, seconds.
    pub mqtt_max_idle_s: u64,
    /// How long a Kafka cluster may take, milliseconds.
    pub kafka_timeout_ms: u64,
    /// A Kafka connection that nobody used for this long is closed, seconds.
    pub kafka_max_idle_s: u64,
    /// Largest body of a notification, bytes; a larger one fails and is not tried again.
    pub max_message_bytes: usize,
    /// How long an `X-Auth-Token` is kept, sealed, for the notifications of its request, seconds.
    pub token_lifetime_s: u64,
    /// What it is sealed with: base64 of 32 bytes, the same for all replicas. Empty: a key of the process's own, so that a
    /// notification that outlives the process goes without it.
    pub token_key: Secret,
    /// `gauge:stepDelay:maxInterval`: how updates with `options=flowControl` wait until less is due to receivers; empty: not.
    pub flow_control: String,
    /// How many notifications may wait, by the account of flow control.
    pub flow_control_queue: u32,
    /// Whether templates of custom notifications are filled; if not, they are sent as plain ones.
    pub custom: bool,
}

/// Subscriptions to the mesh's own history are served from the event stream, without HTTP.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HistoryConfig {
    /// Whether the time series runs in the same composition; if not, its addresses are ordinary URLs.
    pub enabled: bool,
    /// Hosts, or `host:port`, that mean it when a subscription notifies their path `/v2/notify`. A host without a port
    /// means port 8668.
    pub hosts: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 1026,
            grpc_port: 1027,
            data_dir: PathBuf::from("data"),
            store: StoreConfig::Sqlite,
            postgres_schema: "context_broker".to_owned(),
            http: HttpLimits::default(),
            max_body_bytes: 1024 * 1024,
            max_entity_bytes: 1024 * 1024,
            multiservice: true,
            cache_bytes: 64 * 1024 * 1024,
            commit: CommitConfig::default(),
            query: QueryConfig::default(),
            attribute_indexes: Vec::new(),
            notification: NotificationConfig::default(),
            history: HistoryConfig::default(),
            forwarding: ForwardingConfig::default(),
            quotas: QuotaConfig::default(),
            administration: AdministrationConfig::default(),
        }
    }
}

impl Default for CommitConfig {
    fn default() -> Self {
        Self { max_batch: 500, queue: 8192, shards: 4 }
    }
}

impl Default for NotificationConfig {
    fn default() -> Self {
        Self {
            mode: NotificationMode::Durable,
            transient_concurrency: 200,
            timeout_ms: 5_000,
            concurrency: 32,
            longest_pause_ms: 30_000,
            max_age_s: 86_400,
            max_per_endpoint: 100_000,
            insecure_tls: false,
            ca_file: PathBuf::new(),
            mqtt_timeout_ms: 5_000,
            mqtt_max_idle_s: 3_600,
            kafka_timeout_ms: 5_000,
            kafka_max_idle_s: 2_592_000,
            max_message_bytes: 8 * 1024 * 1024,
            token_lifetime_s: 300,
            token_key: Secret::default(),
            flow_control: String::new(),
            flow_control_queue: 1_000,
            custom: true,
        }
    }
}

impl Default for HistoryConfig {
    fn default() -> Self {
        Self { enabled: false, hosts: vec!["quantumleap".to_owned()] }
    }
}
