//! What an operator sees and sets while the broker runs (ngsi-v2.md 1): counters of transactions and requests, settings
//! of the log, trace levels.

mod statistics;
mod trace_levels;
mod transactions;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

pub(crate) use statistics::{Outgoing, Payload, Request, Statistics};
pub(crate) use trace_levels::TraceLevels;
pub(crate) use transactions::{Transaction, Transactions};

/// What of the original's administration is switched on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdministrationConfig {
    /// Origin whose pages may call the API, or `__ALL`; empty: none may (`-corsOrigin`).
    pub cors_origin: String,
    /// How long a browser may keep the answer to a preflight request, seconds (`-corsMaxAge`).
    pub cors_max_age_s: u64,
    /// Whether transactions are counted per service and sub-service for `/admin/metrics`.
    pub transaction_metrics: bool,
    /// Blocks of `/statistics` (`-statCounters`, `-statSemWait`, `-statTiming`, `-statNotifQueue`).
    pub statistics_counters: bool,
    pub statistics_semaphores: bool,
    pub statistics_timing: bool,
    pub statistics_queue: bool,
    /// Shown by `/admin/log` (`-logDeprecate`, `-logInfoPayloadMaxSize`, `-logLineMaxSize`).
    pub log_deprecate: bool,
    pub log_payload_bytes: u64,
    pub log_line_bytes: u64,
}

impl Default for AdministrationConfig {
    fn default() -> Self {
        Self {
            cors_origin: String::new(),
            cors_max_age_s: 86_400,
            transaction_metrics: true,
            statistics_counters: false,
            statistics_semaphores: false,
            statistics_timing: false,
            statistics_queue: false,
            log_deprecate: false,
            log_payload_bytes: 5 * 1024,
            log_line_bytes: 32 * 1024,
        }
    }
}

/// What `/admin/log` shows beside the level. Lines of this broker have no payload and no limit of their own: these are
/// kept for those who set and read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogSettings {
    pub(crate) payload_bytes: u64,
    pub(crate) line_bytes: u64,
    pub(crate) deprecate: bool,
}

pub(crate) struct Administration {
    pub(crate) config: AdministrationConfig,
    pub(crate) log: Mutex<LogSettings>,
    pub(crate) trace_levels: Mutex<TraceLevels>,
    /// None: switched off.
    pub(crate) transactions: Option<Transactions>,
    pub(crate) statistics: Statistics,
}

impl Administration {
    pub(crate) fn new(config: &AdministrationConfig, now_us: i64) -> Self {
        Self {
            log: Mutex::new(LogSettings {
                payload_bytes: config.log_payload_bytes,
                line_bytes: config.log_line_bytes,
                deprecate: config.log_deprecate,
            }),
            trace_levels: Mutex::default(),
            transactions: config.transaction_metrics.then(Transactions::default),
            statistics: Statistics::new(now_us),
            config: config.clone(),
        }
    }
}
