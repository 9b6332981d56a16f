//! The tenant rule of `opa/`, evaluated in this process.
//!
//! ```text
//! CheckInput ─► an idle engine of the current generation ─► data.fiware.service.allow ─► Decision
//!                    │ io.jwt.verify_rs256, verify_es256, decode
//!                    └─► token cache ─► ring
//! ```
//! A generation is the policy's text with its settings and keys; when keys change a new one takes over at once, with an
//! empty token cache. What can't be evaluated is refused.

mod input;
mod keys;
pub mod ring_provider;
mod token;

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use parking_lot::Mutex;
use regorus::{Engine, Value};
use serde_json::json;

pub use input::CheckInput;

use crate::metrics::GatewayMetrics;
use token::TokenCache;

/// The rule that decides.
const ENTRY: &str = "data.fiware.service.allow";
/// Engines kept for the next request; more are made when more requests are judged at once.
const IDLE_ENGINES: usize = 32;

/// What the policy answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    /// 200 when allowed.
    pub status: StatusCode,
    /// Allowed: headers for the request to the service. Refused: headers of the answer.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
}

impl Decision {
    /// The answer when no decision could be had: refuse, as Envoy does when its authorizer is away.
    pub fn refusal() -> Self {
        Self { allowed: false, status: StatusCode::FORBIDDEN, headers: Vec::new(), body: Bytes::new() }
    }
}

/// Settings that the policy reads as `data.fiware.config`, but for the keys.
#[derive(Clone, Debug, Default)]
pub struct PolicySettings {
    /// The only accepted `iss`; empty: not looked at.
    pub issuer: String,
    /// A token must be for one of these; empty: not looked at.
    pub audiences: Vec<String>,
    /// A bare 403 for every refusal.
    pub strict_compat: bool,
    /// Tokens remembered as genuine.
    pub token_cache_entries: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("policy {file}: {reason}")]
pub struct PolicyError {
    file: String,
    reason: String,
}

/// The policy with its current keys. Cheap to call from any thread.
pub struct Policy {
    file: String,
    text: String,
    settings: PolicySettings,
    current: ArcSwap<Generation>,
    metrics: GatewayMetrics,
}

impl Policy {
    /// Compiles `text`; `keys` is a JWKS. Evaluates it once, so that a policy that can't work is found at start.
    pub fn new(
        file: &str,
        text: &str,
        settings: PolicySettings,
        keys: &serde_json::Value,
        metrics: GatewayMetrics,
    ) -> Result<Self, PolicyError> {
        let generation = Generation::new(text, &settings, keys, &metrics);
        let named = |reason| PolicyError { file: file.to_owned(), reason };
        let generation = generation.map_err(named)?;
        generation.evaluate(CheckInput::new("GET", "/", "", "HTTP/1.1", [])).map_err(named)?;
        Ok(Self {
            file: file.to_owned(),
            text: text.to_owned(),
            settings,
            current: ArcSwap::from_pointee(generation),
            metrics,
        })
    }

    /// Replaces the keys; requests judged from now on see them.
    pub fn set_keys(&self, keys: &serde_json::Value) -> Result<(), PolicyError> {
        let generation = Generation::new(&self.text, &self.settings, keys, &self.metrics)
            .map_err(|reason| PolicyError { file: self.file.clone(), reason })?;
        self.current.store(Arc::new(generation));
        Ok(())
    }

    /// Judges one request. Takes tens of microseconds, more when the token is new.
    pub fn decide(&self, input: CheckInput) -> Result<Decision, PolicyError> {
        self.current.load().evaluate(input).map_err(|reason| PolicyError { file: self.file.clone(), reason })
    }
}

/// Engines that share policy text, settings, keys and the cache of tokens verified with those keys.
struct Generation {
    prototype: Mutex<Engine>,
    idle: Mutex<Vec<Engine>>,
}

impl Generation {
    fn new(
        text: &str,
        settings: &PolicySettings,
        keys: &serde_json::Value,
        metrics: &GatewayMetrics,
    ) -> Result<Self, String> {
        let mut engine = Engine::new();
        engine.set_strict_builtin_errors(false);
        token::extend(&mut engine, &TokenCache::new(settings.token_cache_entries, metrics.clone()))?;
        engine.add_policy("service.rego".into(), text.into()).map_err(|error| error.to_string())?;
        let data = json!({"fiware": {"config": {
            "jwks": keys,
            "issuer": settings.issuer,
            "audiences": settings.audiences,
            "strict_compat": settings.strict_compat,
        }}});
        engine.add_data(Value::from(data)).map_err(|error| error.to_string())?;
        Ok(Self { prototype: Mutex::new(engine), idle: Mutex::default() })
    }

    fn evaluate(&self, input: CheckInput) -> Result<Decision, String> {
        let idle = self.idle.lock().pop();
        let mut engine = idle.unwrap_or_else(|| self.prototype.lock().clone());
        engine.set_input(input.0);
        // An engine that failed is dropped: the next one starts clean.
        let answer = engine.eval_rule(ENTRY.into()).map_err(|error| error.to_string())?;
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_ENGINES {
            idle.push(engine);
        }
        drop(idle);
        decision(&answer)
    }
}

/// Reads the result object that OPA's Envoy plugin defines.
fn decision(answer: &Value) -> Result<Decision, String> {
    let allowed = answer["allowed"].as_bool().map_err(|_| "the rule `allow` gave no `allowed`".to_owned())?;
    let status = match (&answer["http_status"], allowed) {
        (Value::Undefined, true) => 200,
        (Value::Undefined, false) => 403,
        (status, _) => status.as_u16().map_err(|_| "`http_status` is no number".to_owned())?,
    };
    let headers = match &answer["headers"] {
        Value::Undefined => Vec::new(),
        headers => {
            let headers = headers.as_object().map_err(|_| "`headers` is no object".to_owned())?;
            headers.iter_sorted().map(|(name, value)| header(name, value)).collect::<Result<_, _>>()?
        }
    };
    let body = match &answer["body"] {
        Value::Undefined => Bytes::new(),
        Value::String(body) => Bytes::copy_from_slice(body.as_bytes()),
        _ => return Err("`body` is no text".into()),
    };
    let status = StatusCode::from_u16(status).map_err(|_| format!("`http_status` is {status}"))?;
    Ok(Decision { allowed: *allowed, status, headers, body })
}

fn header(name: &Value, value: &Value) -> Result<(HeaderName, HeaderValue), String> {
    let (Value::String(name), Value::String(value)) = (name, value) else {
        return Err("`headers` are no texts".into());
    };
    let parsed = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value));
    match parsed {
        (Ok(name), Ok(value)) => Ok((name, value)),
        _ => Err(format!("`headers` holds a bad header {name}")),
    }
}
