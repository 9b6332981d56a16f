//! What can be set, with its defaults.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};
use service_kit::http::HttpLimits;
use store::StoreConfig;

use crate::store::embedded::Options;

/// Which generation of QuantumLeap clients is served (contract section 0).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dialect {
    #[serde(rename = "0.8")]
    Old,
    #[default]
    #[serde(rename = "1.0.1")]
    New,
}

impl Dialect {
    pub fn is_old(self) -> bool {
        self == Self::Old
    }

    /// Names of the id and type fields in answers.
    pub fn id_and_type(self) -> (&'static str, &'static str) {
        match self {
            Self::Old => ("entityId", "entityType"),
            Self::New => ("id", "type"),
        }
    }
}

/// How long the rows of a tenant, or of one type of it, are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// Empty: the default tenant.
    #[serde(default)]
    pub tenant: String,
    /// Empty: all types that no other rule of the tenant names.
    #[serde(default)]
    pub entity_type: String,
    /// 0: for ever.
    pub days: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub host: IpAddr,
    /// HTTP; 0 = any free port.
    pub port: u16,
    pub grpc_port: u16,
    pub data_dir: PathBuf,
    pub store: StoreConfig,
    /// The schema that holds the tables on a PostgreSQL server.
    pub postgres_schema: String,
    pub dialect: Dialect,
    /// Largest body of a notification.
    pub max_body_bytes: u64,
    pub http: HttpLimits,
    /// How much the embedded store holds back before it seals.
    pub sealing: Options,
    /// Days after which rows of any tenant go, unless a rule says otherwise; 0 = never.
    pub retention_days: u32,
    pub retention: Vec<Retention>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 8668,
            grpc_port: 8669,
            data_dir: "data".into(),
            store: StoreConfig::Sqlite,
            postgres_schema: "time_series".into(),
            dialect: Dialect::default(),
            max_body_bytes: 8 << 20,
            http: HttpLimits::default(),
            sealing: Options::default(),
            retention_days: 0,
            retention: Vec::new(),
        }
    }
}
