use std::{
    net::{IpAddr, Ipv4Addr},
    num::NonZeroUsize,
    path::PathBuf,
};

use serde::{Deserialize, Serialize};
use service_kit::{config::Secret, http::HttpLimits};
use soft_state::Rate;

/// Settings of the device agent; the defaults are what runs without any configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address of all listeners.
    pub host: IpAddr,
    /// Port of the north (configuration) API; 0 = any.
    pub north_port: u16,
    /// Port that devices send to; 0 = any.
    pub south_port: u16,
    pub grpc_port: u16,
    /// Where `device-agent.db` is.
    pub data_dir: PathBuf,
    pub store: store::StoreConfig,
    /// Where groups with an empty resource are served, and devices with the default key.
    pub default_resource: String,
    /// Key for devices that were provisioned without a group; empty = none is accepted without a group.
    #[serde(serialize_with = "shown_if_default")]
    pub default_key: Secret,
    /// Entity type of devices for which neither they nor their group names one.
    pub default_type: String,
    pub default_transport: String,
    /// Whether `TimeInstant` is added where neither device nor group says so.
    pub timestamp: bool,
    /// Whether unmapped measures are dropped where neither device nor group says so.
    pub explicit_attrs: bool,
    /// Whether values that are JSON become numbers, booleans and so on; else all are text.
    pub autocast: bool,
    /// Whether provisioning a device creates its entity; group field `provisionEntity` says it per group.
    pub provision_entities: bool,
    /// Largest request body, bytes, north and south.
    pub body_limit: u64,
    pub measure: MeasureConfig,
    pub broker: BrokerConfig,
    pub cache: CacheConfig,
    pub http: HttpLimits,
}

/// Limits of what devices send.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MeasureConfig {
    /// Groups in one payload.
    pub max_groups: usize,
    /// Measures in one payload, over all its groups.
    pub max_measures: usize,
    /// Encoded size of what one request makes of one entity, bytes: what the broker takes.
    pub max_update_bytes: usize,
    /// Requests per second of one device; 0 = no limit.
    pub device_rate: f64,
    /// Requests of one device at once.
    pub device_burst: f64,
    /// Requests per second of one tenant; 0 = no limit.
    pub tenant_rate: f64,
    /// Requests of one tenant at once.
    pub tenant_burst: f64,
}

/// How measures go to the broker.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BrokerConfig {
    /// gRPC address of the broker when it is another process, such as `http://127.0.0.1:1027`.
    pub url: String,
    /// Longest time that a device waits for the broker before its measure goes to the bus, milliseconds.
    pub deadline_ms: u64,
    /// Calls in flight; a device's measures always go through the same one.
    pub lanes: NonZeroUsize,
    /// Entity updates in one call.
    pub max_batch: NonZeroUsize,
    /// Bytes of attributes in one call (a single larger update goes alone).
    pub max_batch_bytes: usize,
    /// Requests that wait, over all lanes; further ones are answered 503.
    pub max_queued: NonZeroUsize,
    /// Records on the bus that wait for the broker; further measures are answered 503.
    pub max_diverted: u64,
}

/// How long what was read from the store is believed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheConfig {
    /// Devices (and as many groups) kept in memory.
    pub max_devices: u64,
    /// With PostgreSQL, where other replicas may change it: the longest time until a change is seen, milliseconds.
    /// A replica sees its own changes at once.
    pub shared_ttl_ms: u64,
}

/// The originals' default: everybody knows it, so it guards nothing and need not be hidden.
const PUBLIC_KEY: &str = "TEF";

fn shown_if_default<S: serde::Serializer>(key: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    if key.expose() == PUBLIC_KEY { serializer.serialize_str(PUBLIC_KEY) } else { key.serialize(serializer) }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            north_port: 4041,
            south_port: 7896,
            grpc_port: 4042,
            data_dir: PathBuf::from("data"),
            store: store::StoreConfig::Sqlite,
            default_resource: "/iot/d".into(),
            default_key: Secret::new(PUBLIC_KEY),
            default_type: "Thing".into(),
            default_transport: "HTTP".into(),
            timestamp: true,
            explicit_attrs: false,
            autocast: true,
            provision_entities: true,
            body_limit: 1024 * 1024,
            measure: MeasureConfig::default(),
            broker: BrokerConfig::default(),
            cache: CacheConfig::default(),
            http: HttpLimits::default(),
        }
    }
}

impl Default for MeasureConfig {
    fn default() -> Self {
        Self {
            max_groups: 1_000,
            max_measures: 10_000,
            max_update_bytes: 1024 * 1024,
            device_rate: 0.0,
            device_burst: 100.0,
            tenant_rate: 0.0,
            tenant_burst: 10_000.0,
        }
    }
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:1027".into(),
            deadline_ms: 5_000,
            lanes: NonZeroUsize::MIN.saturating_add(7),
            max_batch: NonZeroUsize::MIN.saturating_add(499),
            max_batch_bytes: 2 * 1024 * 1024,
            max_queued: NonZeroUsize::MIN.saturating_add(8_191),
            max_diverted: 1_000_000,
        }
    }
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { max_devices: 100_000, shared_ttl_ms: 1_000 }
    }
}

impl MeasureConfig {
    pub fn device_limit(&self) -> Option<Rate> {
        limit(self.device_rate, self.device_burst)
    }

    pub fn tenant_limit(&self) -> Option<Rate> {
        limit(self.tenant_rate, self.tenant_burst)
    }
}

fn limit(per_second: f64, burst: f64) -> Option<Rate> {
    (per_second > 0.0).then_some(Rate { per_second, burst: burst.max(1.0) })
}

impl Config {
    /// What cannot work, in words for the person who wrote it.
    pub fn validate(&self) -> Result<(), String> {
        if !self.default_resource.starts_with('/') {
            return Err("device-agent.default_resource must begin with /".into());
        }
        if self.broker.deadline_ms == 0 {
            return Err("device-agent.broker.deadline_ms must not be 0".into());
        }
        for (name, rate) in
            [("device_rate", self.measure.device_rate), ("tenant_rate", self.measure.tenant_rate)]
        {
            if !rate.is_finite() || rate < 0.0 {
                return Err(format!("device-agent.measure.{name} must be 0 or more"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_survive_a_round_trip_but_for_secrets() {
        let defaults = Config::default();
        assert_eq!(defaults.validate(), Ok(()));
        let text = serde_json::to_string(&defaults).unwrap();
        assert!(text.contains("TEF"), "everybody knows it");
        let own = Config { default_key: Secret::new("hunter2"), ..Config::default() };
        assert!(!serde_json::to_string(&own).unwrap().contains("hunter2"));
        assert!(serde_json::from_str::<Config>(&text).is_ok());
        assert!(serde_json::from_str::<Config>(r#"{"prot": 1}"#).is_err());
    }
}
