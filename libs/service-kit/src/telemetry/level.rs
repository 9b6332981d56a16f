//! The level of the log, changed while the process runs: one for the whole process, whatever services it holds.

use std::sync::{
    OnceLock,
    atomic::{AtomicU8, Ordering},
};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{EnvFilter, Registry, reload};

use super::TelemetryError;

/// Crates that a raised level is for: those of others write what is sent and received.
const OWN: [&str; 15] = [
    "bus",
    "context_broker",
    "device_agent",
    "gateway",
    "jexl",
    "launch",
    "ngsi",
    "proto",
    "scope",
    "service_kit",
    "soft_state",
    "store",
    "thingmesh",
    "time_series",
    "wamp",
];

/// The levels that Orion and the IoT agents know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    None,
    Fatal,
    Error,
    Warn,
    Info,
    Debug,
}

impl LogLevel {
    const ALL: [Self; 6] = [Self::None, Self::Fatal, Self::Error, Self::Warn, Self::Info, Self::Debug];

    /// Reads a level in any case; `WARNING` is `WARN`.
    pub fn parse(text: &str) -> Option<Self> {
        if text.eq_ignore_ascii_case("warning") {
            return Some(Self::Warn);
        }
        Self::ALL.into_iter().find(|level| text.eq_ignore_ascii_case(level.as_str()))
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Fatal => "FATAL",
            Self::Error => "ERROR",
            Self::Warn => "WARN",
            Self::Info => "INFO",
            Self::Debug => "DEBUG",
        }
    }

    /// What `telemetry.log_level` says for it. Nothing here is fatal without an error before it.
    pub fn directives(self) -> String {
        match self {
            Self::None => "off".to_owned(),
            Self::Fatal | Self::Error => "error".to_owned(),
            Self::Warn => "warn".to_owned(),
            Self::Info => "info".to_owned(),
            Self::Debug => OWN.iter().fold("info".to_owned(), |all, own| format!("{all},{own}=debug")),
        }
    }

    fn of(filter: &EnvFilter) -> Self {
        match filter.max_level_hint() {
            Some(LevelFilter::OFF) => Self::None,
            Some(LevelFilter::ERROR) => Self::Error,
            Some(LevelFilter::WARN) => Self::Warn,
            Some(LevelFilter::INFO) => Self::Info,
            _ => Self::Debug,
        }
    }
}

static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();
static LEVEL: AtomicU8 = AtomicU8::new(LogLevel::Info as u8);

/// Reads directives. A word alone that is no level would mean all that the crate of that name logs, and nothing of the
/// others: a misspelt level would silence the log, so it is refused.
pub(super) fn filter(text: &str) -> Result<EnvFilter, TelemetryError> {
    let refused = |reason: String| TelemetryError::LogLevel { text: text.to_owned(), reason };
    if text.trim().is_empty() {
        return Err(refused("it is empty".to_owned()));
    }
    // Directives of spans are left to the filter's own reader: theirs is a richer language.
    if !text.contains('[') {
        for directive in text.split(',').map(str::trim).filter(|directive| !directive.is_empty()) {
            let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level);
            if level.is_empty() || level.parse::<LevelFilter>().is_err() {
                return Err(refused(format!("{level:?} is not a level")));
            }
        }
    }
    EnvFilter::try_new(text).map_err(|error| refused(error.to_string()))
}

/// Makes `filter` one that [`set_log_level`] replaces.
pub(super) fn changeable(filter: EnvFilter) -> reload::Layer<EnvFilter, Registry> {
    LEVEL.store(LogLevel::of(&filter) as u8, Ordering::Relaxed);
    let (layer, handle) = reload::Layer::new(filter);
    let first = FILTER.set(handle).is_ok();
    debug_assert!(first, "telemetry is set up once");
    layer
}

/// The level in force.
pub fn log_level() -> LogLevel {
    let level = usize::from(LEVEL.load(Ordering::Relaxed));
    LogLevel::ALL.get(level).copied().unwrap_or(LogLevel::Info)
}

/// Applies `level` from the next line on. Finer directives of the configuration no longer hold.
pub fn set_log_level(level: LogLevel) {
    LEVEL.store(level as u8, Ordering::Relaxed);
    let Some(handle) = FILTER.get() else { return };
    let changed = handle.reload(EnvFilter::new(level.directives()));
    if let Err(error) = changed {
        tracing::error!(%error, "log level not changed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_in_any_case_and_by_their_other_name() {
        for (text, expected) in [
            ("DEBUG", Some(LogLevel::Debug)),
            ("warning", Some(LogLevel::Warn)),
            ("Warn", Some(LogLevel::Warn)),
            ("none", Some(LogLevel::None)),
            ("", None),
            ("verbose", None),
        ] {
            assert_eq!(LogLevel::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn a_misspelt_level_is_refused_and_directives_are_taken() {
        for good in ["info", "WARN", "off", "info,context_broker=debug", "error,bus=trace", "bus[{a=1}]=info"]
        {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["", " ", "loud", "info,loud", "bus=loud", "bus=", "context_broker"] {
            let error = filter(bad).map(|_| ()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("telemetry.log_level {bad:?}: ")), "{error}");
        }
    }

    #[test]
    fn every_level_is_what_its_directives_say() {
        for level in LogLevel::ALL {
            let filter = EnvFilter::try_new(level.directives()).unwrap();
            let expected = if level == LogLevel::Fatal { LogLevel::Error } else { level };
            assert_eq!(LogLevel::of(&filter), expected);
        }
    }
}
