//! `/admin/*`, `/log/trace`, `/statistics`, `/cache/statistics` (ngsi-v2.md 1).

use http::{Method, StatusCode};
use ngsi::Error;
use serde_json::{Map, Value, json};
use service_kit::telemetry::{self, LogLevel};

use super::{Answer, Api, Call};
use crate::administration::TraceLevels;

/// Subscriptions whose ids `/cache/statistics` lists, at most.
const MAX_LISTED_IDS: usize = 100;
/// Locks of the original that its clients look for. There are no such here: none is ever taken.
const SEMAPHORES: [&str; 13] = [
    "alarmMgr",
    "connectionContext",
    "connectionEndpoints",
    "dbConnection",
    "dbConnectionPool",
    "logMsg",
    "metrics",
    "mqttMgr",
    "kafkaMgr",
    "request",
    "subCache",
    "timeStat",
    "transaction",
];

pub(super) fn log(api: &Api, call: &Call) -> Answer {
    if call.method == Method::PUT {
        return match set_log(api, call) {
            Ok(()) => Answer::Nothing,
            Err(text) => refused(text),
        };
    }
    let settings = *api.core.administration.log.lock();
    shown(&json!({
        "level": telemetry::log_level().as_str(),
        "infoPayloadMaxSize": settings.payload_bytes,
        "lineMaxSize": settings.line_bytes,
        "deprecate": settings.deprecate,
    }))
}

/// Sets all that the parameters name, or nothing.
fn set_log(api: &Api, call: &Call) -> Result<(), &'static str> {
    let params = &call.params;
    let (level, payload, line, deprecate) = (
        params.get("level"),
        params.get("infoPayloadMaxSize"),
        params.get("lineMaxSize"),
        params.get("deprecate"),
    );
    if [level, payload, line, deprecate].iter().all(Option::is_none) {
        return Err("log config missing");
    }
    let level = level.map(|text| LogLevel::parse(text).ok_or("invalid log level")).transpose()?;
    let mut settings = *api.core.administration.log.lock();
    if let Some(text) = payload {
        settings.payload_bytes = positive(text)
            .ok_or("invalid infoPayloadMaxSize, infoPayloadMaxSize should be an integer number > 0")?;
    }
    if let Some(text) = line {
        settings.line_bytes =
            positive(text).ok_or("invalid lineMaxSize, lineMaxSize should be an integer number > 0")?;
    }
    if let Some(text) = deprecate {
        settings.deprecate = text.parse().map_err(|_| "invalid deprecate, deprecate should be a boolean")?;
    }
    *api.core.administration.log.lock() = settings;
    if let Some(level) = level {
        telemetry::set_log_level(level);
    }
    Ok(())
}

fn positive(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number| *number > 0)
}

pub(super) fn trace(api: &Api, call: &Call) -> Answer {
    let mut levels = api.core.administration.trace_levels.lock();
    if call.method == Method::DELETE {
        levels.clear();
        return shown(&json!({"tracelevels": "all trace levels off"}));
    }
    shown(&json!({"tracelevels": levels.shown()}))
}

pub(super) fn trace_levels(api: &Api, call: &Call) -> Answer {
    let text = call.parts.first.as_str();
    if !TraceLevels::is_well_formed(text) {
        return shown(&json!({"tracelevels": "poorly formatted trace level string"}));
    }
    let mut levels = api.core.administration.trace_levels.lock();
    if call.method == Method::DELETE {
        levels.switch(text, false);
        return shown(&json!({"tracelevels_removed": text}));
    }
    levels.clear();
    levels.switch(text, true);
    shown(&json!({"tracelevels": text}))
}

pub(super) fn semaphores() -> Answer {
    let all: Map<String, Value> =
        SEMAPHORES.into_iter().map(|name| (name.to_owned(), json!({"status": "free"}))).collect();
    shown(&Value::Object(all))
}

pub(super) fn metrics(api: &Api, call: &Call) -> Result<Answer, Error> {
    let transactions = &api.core.administration.transactions;
    let transactions = transactions.as_ref().ok_or_else(|| Error::bad_request("metrics desactivated"))?;
    if call.method == Method::DELETE {
        transactions.reset();
        return Ok(Answer::DONE);
    }
    let answer = shown(&transactions.shown());
    if call.params.get("reset") == Some("true") {
        transactions.reset();
    }
    Ok(answer)
}

pub(super) fn statistics(api: &Api, call: &Call) -> Answer {
    let administration = &api.core.administration;
    let (now_us, outgoing) = (api.core.now_us(), api.core.outgoing());
    if call.method == Method::DELETE {
        administration.statistics.reset(now_us, outgoing);
        return all_reset();
    }
    let full = call.params.option("fullCounters");
    shown(&administration.statistics.shown(&administration.config, full, now_us, outgoing))
}

pub(super) async fn cache_statistics(api: &Api, call: &Call) -> Result<Answer, Error> {
    let statistics = &api.core.administration.statistics;
    if call.method == Method::DELETE {
        statistics.reset_cache(api.core.outgoing());
        return Ok(all_reset());
    }
    let ids = api.core.subscription_ids().await?;
    let listed =
        if ids.len() > MAX_LISTED_IDS { "too many subscriptions".to_owned() } else { ids.join(", ") };
    Ok(shown(&statistics.cache(&listed, ids.len(), api.core.outgoing())))
}

fn all_reset() -> Answer {
    shown(&json!({"message": "All statistics counter reset"}))
}

fn shown(value: &Value) -> Answer {
    Answer::Json(value.to_string().into_bytes())
}

/// These have no description.
fn refused(text: &str) -> Answer {
    Answer::Refused(StatusCode::BAD_REQUEST, json!({"error": text}).to_string().into_bytes())
}
