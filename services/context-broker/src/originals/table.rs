//! Every flag of Orion 4.7 with its environment variable and what it means here (docs/operations.md has the same table).

use std::net::IpAddr;

use service_kit::telemetry::LogLevel;

use crate::notification::FlowControl;

pub(super) struct Flag {
    /// Without its dash.
    pub(super) name: &'static str,
    pub(super) variable: &'static str,
    pub(super) kind: Kind,
    pub(super) meaning: Meaning,
}

#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// Takes no value.
    Switch,
    Port,
    Number,
    Address,
    Level,
    /// Of notifications.
    Mode,
    /// Of updates.
    Flow,
    Text,
}

impl Kind {
    /// The error says what was wanted.
    pub(super) fn check(self, value: &str) -> Result<(), &'static str> {
        let ok = |good: bool, wanted| if good { Ok(()) } else { Err(wanted) };
        match self {
            Self::Switch | Self::Text => Ok(()),
            Self::Port => ok(value.parse::<u16>().is_ok(), "a port number"),
            Self::Number => ok(value.parse::<u32>().is_ok(), "a number"),
            Self::Address => ok(value.parse::<IpAddr>().is_ok(), "an IP address"),
            Self::Level => ok(LogLevel::parse(value).is_some(), "a log level"),
            Self::Mode => ok(is_mode(value), "a notification mode"),
            Self::Flow => ok(
                FlowControl::parse(value).is_some(),
                "of the form gauge:stepDelay:maxInterval (0 to 1, ms, ms)",
            ),
        }
    }
}

#[derive(Clone, Copy)]
pub(super) enum Meaning {
    /// Its value is that of these settings.
    Sets(&'static [&'static str]),
    /// Switches this setting off.
    Switches(&'static str),
    /// Its value becomes `key=value` settings.
    Becomes(fn(&str) -> Vec<String>),
    /// What it asks for is so anyway.
    AsHere,
    /// There is no such thing here; why.
    Nothing(&'static str),
    /// Going on without it would not be what was asked for; why.
    Unsafe(&'static str),
}

use Kind::{Address, Flow, Level, Mode, Number, Port, Switch, Text};
use Meaning::{AsHere, Becomes, Nothing, Sets, Switches, Unsafe};

const fn flag(name: &'static str, variable: &'static str, kind: Kind, meaning: Meaning) -> Flag {
    Flag { name, variable, kind, meaning }
}

const MONGO: Meaning = Nothing("state is in SQLite files or in PostgreSQL (`backends.postgres`)");
const LOG_FILE: Meaning = Nothing("logs go to standard error");
const THREADS: Meaning = Nothing("requests are not bound to threads");
const CACHE: Meaning = Nothing("subscriptions are followed as they change");
const TLS: &str = "requests would be read in the clear; let a gateway end TLS";

fn level(text: &str) -> Vec<String> {
    let level = LogLevel::parse(text).unwrap_or(LogLevel::Info);
    vec![format!("telemetry.log_level={}", level.directives())]
}

/// 0 means for ever, which no listener here grants.
fn request_timeout(seconds: &str) -> Vec<String> {
    match seconds.parse::<u64>() {
        Ok(seconds) if seconds > 0 => {
            vec![format!("context-broker.http.request_timeout_ms={}", seconds * 1000)]
        }
        _ => Vec::new(),
    }
}

/// Minutes there, seconds here.
fn max_age(setting: &str, minutes: &str) -> Vec<String> {
    let seconds = minutes.parse::<u64>().unwrap_or_default().saturating_mul(60);
    vec![format!("context-broker.notification.{setting}={seconds}")]
}

fn mqtt_max_age(minutes: &str) -> Vec<String> {
    max_age("mqtt_max_idle_s", minutes)
}

fn kafka_max_age(minutes: &str) -> Vec<String> {
    max_age("kafka_max_idle_s", minutes)
}

/// `transient`, `persistent`, `threadpool`, `threadpool:queue:threads`, or several of the last with a service each.
fn is_mode(mode: &str) -> bool {
    let Some(pools) = mode.strip_prefix("threadpool") else {
        return matches!(mode, "transient" | "persistent");
    };
    let is_number = |text: Option<&str>| text.is_some_and(|text| text.parse::<u32>().is_ok());
    let pool = |(at, pool): (usize, &str)| {
        let mut parts = pool.split(':');
        let named = at == 0 || parts.next().is_some_and(|service| !service.is_empty());
        named && is_number(parts.next()) && is_number(parts.next()) && parts.next().is_none()
    };
    pools.is_empty() || pools.strip_prefix(':').is_some_and(|pools| pools.split(',').enumerate().all(pool))
}

/// Pools of threads and lasting connections are what durable deliveries have anyway; the length of the queue counts for flow control.
fn notification_mode(mode: &str) -> Vec<String> {
    let queue = mode.strip_prefix("threadpool:").and_then(|pools| pools.split(':').next());
    let mode = if mode == "transient" { "transient" } else { "durable" };
    let mode = format!("context-broker.notification.mode={mode}");
    let queue = queue.map(|queue| format!("context-broker.notification.flow_control_queue={queue}"));
    std::iter::once(mode).chain(queue).collect()
}

fn text_lines(_: &str) -> Vec<String> {
    vec!["telemetry.log_format=text".to_owned()]
}

#[rustfmt::skip]
pub(super) const FLAGS: &[Flag] = &[
    flag("port", "ORION_PORT", Port, Sets(&["context-broker.port"])),
    flag("localIp", "ORION_LOCALIP", Address, Sets(&["context-broker.host"])),
    flag("ipv4", "ORION_USEIPV4", Switch, Nothing("the address that is listened on decides")),
    flag("ipv6", "ORION_USEIPV6", Switch, Nothing("the address that is listened on decides")),
    flag("multiservice", "ORION_MULTI_SERVICE", Switch, Sets(&["context-broker.multiservice"])),
    flag("corsOrigin", "ORION_CORS_ALLOWED_ORIGIN", Text, Sets(&["context-broker.administration.cors_origin"])),
    flag("corsMaxAge", "ORION_CORS_MAX_AGE", Number, Sets(&["context-broker.administration.cors_max_age_s"])),
    flag("inReqPayloadMaxSize", "ORION_IN_REQ_PAYLOAD_MAX_SIZE", Number, Sets(&["context-broker.max_body_bytes"])),
    flag("outReqMsgMaxSize", "ORION_OUT_REQ_MSG_MAX_SIZE", Number, Sets(&["context-broker.forwarding.max_message_bytes", "context-broker.notification.max_message_bytes"])),
    flag("httpTimeout", "ORION_HTTP_TIMEOUT", Number, Sets(&["context-broker.notification.timeout_ms", "context-broker.forwarding.timeout_ms"])),
    flag("mqttTimeout", "ORION_MQTT_TIMEOUT", Number, Sets(&["context-broker.notification.mqtt_timeout_ms"])),
    flag("mqttMaxAge", "ORION_MQTT_MAX_AGE", Number, Becomes(mqtt_max_age)),
    flag("kafkaTimeout", "ORION_KAFKA_TIMEOUT", Number, Sets(&["context-broker.notification.kafka_timeout_ms"])),
    flag("kafkaMaxAge", "ORION_KAFKA_MAX_AGE", Number, Becomes(kafka_max_age)),
    flag("reqTimeout", "ORION_REQ_TIMEOUT", Number, Becomes(request_timeout)),
    flag("maxConnections", "ORION_MAX_CONN", Number, Sets(&["context-broker.http.max_connections"])),
    flag("connectionMemory", "ORION_CONN_MEMORY", Number, Nothing("heads of requests have a limit of their own")),
    flag("reqPoolSize", "ORION_TRQ_POOL_SIZE", Number, THREADS),
    flag("reqMutexPolicy", "ORION_MUTEX_POLICY", Text, THREADS),
    flag("cprForwardLimit", "ORION_CPR_FORWARD_LIMIT", Number, Sets(&["context-broker.forwarding.limit"])),
    flag("subCacheIval", "ORION_SUBCACHE_IVAL", Number, CACHE),
    flag("noCache", "ORION_NOCACHE", Switch, CACHE),
    flag("notificationMode", "ORION_NOTIF_MODE", Mode, Becomes(notification_mode)),
    flag("notifFlowControl", "ORION_NOTIF_FLOW_CONTROL", Flow, Sets(&["context-broker.notification.flow_control"])),
    flag("simulatedNotification", "ORION_DROP_NOTIF", Switch, Unsafe("notifications would be sent")),
    flag("disableCustomNotifications", "ORION_DISABLE_CUSTOM_NOTIF", Switch, Switches("context-broker.notification.custom")),
    flag("insecureNotif", "ORION_INSECURE_NOTIF", Switch, Sets(&["context-broker.notification.insecure_tls"])),
    flag("disableMetrics", "ORION_DISABLE_METRICS", Switch, Switches("context-broker.administration.transaction_metrics")),
    flag("statCounters", "ORION_STAT_COUNTERS", Switch, Sets(&["context-broker.administration.statistics_counters"])),
    flag("statSemWait", "ORION_STAT_SEM_WAIT", Switch, Sets(&["context-broker.administration.statistics_semaphores"])),
    flag("statTiming", "ORION_STAT_TIMING", Switch, Sets(&["context-broker.administration.statistics_timing"])),
    flag("statNotifQueue", "ORION_STAT_NOTIF_QUEUE", Switch, Sets(&["context-broker.administration.statistics_queue"])),
    flag("https", "ORION_HTTPS", Switch, Unsafe(TLS)),
    flag("key", "ORION_HTTPS_KEYFILE", Text, Nothing("TLS ends at the gateway")),
    flag("cert", "ORION_HTTPS_CERTFILE", Text, Nothing("TLS ends at the gateway")),
    flag("logLevel", "ORION_LOG_LEVEL", Level, Becomes(level)),
    flag("logDeprecate", "ORION_LOG_DEPRECATE", Switch, Sets(&["context-broker.administration.log_deprecate"])),
    flag("logInfoPayloadMaxSize", "ORION_LOG_INFO_PAYLOAD_MAX_SIZE", Number, Sets(&["context-broker.administration.log_payload_bytes"])),
    flag("logLineMaxSize", "ORION_LOG_LINE_MAX_SIZE", Number, Sets(&["context-broker.administration.log_line_bytes"])),
    flag("logForHumans", "ORION_LOG_FOR_HUMANS", Switch, Becomes(text_lines)),
    flag("logDir", "ORION_LOG_DIR", Text, LOG_FILE),
    flag("logAppend", "ORION_LOG_APPEND", Switch, LOG_FILE),
    flag("logSummary", "ORION_LOG_SUMMARY_PERIOD", Number, Nothing("metrics have it")),
    flag("relogAlarms", "ORION_RELOG_ALARMS", Switch, Nothing("there are no alarms to repeat")),
    flag("t", "ORION_TRACE", Text, Nothing("there are no trace levels; see telemetry.otlp_endpoint")),
    flag("disableFileLog", "ORION_DISABLE_FILE_LOG", Switch, AsHere),
    flag("fg", "ORION_FOREGROUND", Switch, AsHere),
    flag("pidpath", "ORION_PID_PATH", Text, Nothing("the data folder's lock names the process")),
    flag("dbURI", "ORION_MONGO_URI", Text, MONGO),
    flag("dbhost", "ORION_MONGO_HOST", Text, MONGO),
    flag("rplSet", "ORION_MONGO_REPLICA_SET", Text, MONGO),
    flag("dbuser", "ORION_MONGO_USER", Text, MONGO),
    flag("dbpwd", "ORION_MONGO_PASSWORD", Text, MONGO),
    flag("dbAuthMech", "ORION_MONGO_AUTH_MECH", Text, MONGO),
    flag("dbAuthDb", "ORION_MONGO_AUTH_SOURCE", Text, MONGO),
    flag("dbSSL", "ORION_MONGO_SSL", Switch, MONGO),
    flag("dbDisableRetryWrites", "ORION_MONGO_DISABLE_RETRY_WRITES", Switch, MONGO),
    flag("db", "ORION_MONGO_DB", Text, MONGO),
    flag("dbTimeout", "ORION_MONGO_TIMEOUT", Number, MONGO),
    flag("dbPoolSize", "ORION_MONGO_POOL_SIZE", Number, MONGO),
    flag("writeConcern", "ORION_MONGO_WRITE_CONCERN", Text, MONGO),
    flag("strictNgsiv1Ids", "ORION_CHECK_ID_V1", Switch, Nothing("NGSIv1 is not served")),
    flag("ngsiv1Autocast", "ORION_NGSIV1_AUTOCAST", Switch, Nothing("NGSIv1 is not served")),
];
