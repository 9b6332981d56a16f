//! Logs and traces of a process that may hold several logical services.
//!
//! ```text
//! request ─► ActiveSpan(service, name, parent) ─► OTLP, one resource (`service.name`) per logical service
//! tracing event ─► one JSON line with the trace id and correlator of the request it belongs to
//! ```
//!
//! Without an OTLP endpoint no span is made; trace context is still passed on to neighbours.

mod level;
mod logs;
mod spans;

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::{OnceLock, RwLock};

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::{
    Resource,
    trace::{SdkTracer, SdkTracerProvider},
};
use serde::{Deserialize, Serialize};
use tracing_subscriber::{Layer, layer::SubscriberExt, util::SubscriberInitExt};

pub use level::{LogLevel, log_level, set_log_level};
pub(crate) use spans::start_named;
pub use spans::{ActiveSpan, MeshTracer, SpanKind, batch_span, event_span, start_span};

/// How a process tells what it does.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// `info`, or directives such as `info,context_broker=debug`.
    pub log_level: String,
    pub log_format: LogFormat,
    /// OTLP gRPC endpoint such as `http://127.0.0.1:4317`; empty = no traces are sent.
    pub otlp_endpoint: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON lines anywhere else.
    Auto,
    Json,
    Text,
}

impl LogFormat {
    fn is_json(self, terminal: bool) -> bool {
        self == Self::Json || self == Self::Auto && !terminal
    }
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { log_level: "info".to_owned(), log_format: LogFormat::Auto, otlp_endpoint: String::new() }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error(
        "telemetry.log_level {text:?}: {reason}; wanted off, error, warn, info, debug or trace, and crates with one of their \
         own after it, such as info,context_broker=debug"
    )]
    LogLevel { text: String, reason: String },
    #[error("telemetry is set up already")]
    Twice,
}

struct Exporting {
    endpoint: String,
    providers: RwLock<HashMap<&'static str, (SdkTracerProvider, SdkTracer)>>,
}

static EXPORTING: OnceLock<Exporting> = OnceLock::new();

/// Flushes what is still to be sent when the process ends.
pub struct TelemetryGuard(());

/// Sets up logs and traces for this process. Call once, inside the runtime, before anything else.
pub fn init(config: &TelemetryConfig) -> Result<TelemetryGuard, TelemetryError> {
    let filter = level::changeable(level::filter(&config.log_level)?);
    let terminal = std::io::stderr().is_terminal();
    let lines = if config.log_format.is_json(terminal) {
        tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .event_format(logs::JsonLines)
            .fmt_fields(tracing_subscriber::fmt::format::JsonFields::new())
            .with_filter(filter)
            .boxed()
    } else {
        // Colours are for eyes, not for files.
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(terminal);
        lines.with_target(false).with_filter(filter).boxed()
    };
    let traces = (!config.otlp_endpoint.is_empty()).then(|| {
        let exporting =
            Exporting { endpoint: config.otlp_endpoint.clone(), providers: RwLock::new(HashMap::new()) };
        let first = EXPORTING.set(exporting).is_ok();
        debug_assert!(first, "init is called once");
        tracing_opentelemetry::layer()
            .with_tracer(MeshTracer)
            .with_filter(tracing_subscriber::filter::LevelFilter::INFO)
    });
    tracing_subscriber::registry().with(lines).with(traces).try_init().map_err(|_| TelemetryError::Twice)?;
    Ok(TelemetryGuard(()))
}

impl TelemetryGuard {
    /// Sends what is still in memory, at most for some seconds.
    pub async fn shutdown(self) {
        let Some(exporting) = EXPORTING.get() else { return };
        let providers: Vec<_> = {
            let providers = exporting.providers.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            providers.values().map(|(provider, _)| provider.clone()).collect()
        };
        let flushed = tokio::task::spawn_blocking(move || {
            for provider in providers {
                if let Err(error) = provider.shutdown() {
                    tracing::debug!(%error, "traces not flushed");
                }
            }
        });
        if tokio::time::timeout(std::time::Duration::from_secs(2), flushed).await.is_err() {
            tracing::warn!("traces not flushed in time");
        }
    }
}

/// The tracer of one logical service; `None` when no traces are sent.
fn tracer(service: &'static str) -> Option<SdkTracer> {
    let exporting = EXPORTING.get()?;
    {
        let providers = exporting.providers.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((_, tracer)) = providers.get(service) {
            return Some(tracer.clone());
        }
    }
    let mut providers = exporting.providers.write().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some((_, tracer)) = providers.get(service) {
        return Some(tracer.clone());
    }
    let exporter =
        opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(&exporting.endpoint).build();
    let exporter = match exporter {
        Ok(exporter) => exporter,
        Err(error) => {
            tracing::error!(%error, "no traces are sent");
            return None;
        }
    };
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(Resource::builder().with_service_name(service).build())
        .build();
    let tracer = provider.tracer("thingmesh");
    providers.insert(service, (provider, tracer.clone()));
    Some(tracer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_reads_text_and_a_program_reads_json_unless_the_configuration_says_otherwise() {
        for (format, terminal, json) in [
            (LogFormat::Auto, true, false),
            (LogFormat::Auto, false, true),
            (LogFormat::Json, true, true),
            (LogFormat::Text, false, false),
        ] {
            assert_eq!(format.is_json(terminal), json, "{format:?}");
        }
    }
}
