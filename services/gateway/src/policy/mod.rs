//! The tenant rule of `opa/`, evaluated in this process.
//!
//! ```text
//! CheckInput ─► the headers that the policy reads ─► remembered? ─► Decision
//!                    │ no
//!                    └─► an idle engine of the current generation ─► data.fiware.service.allow ─► Decision
//!                              │ io.jwt.verify_rs256, verify_es256, decode
//!                              └─► token cache ─► ring
//! ```
//! A generation is the policy's text with its settings and keys; when keys change a new one takes over at once, with
//! nothing remembered. What can't be evaluated is refused.
//!
//! Invariant: a policy that names what it reads (`data.fiware.service.reads`) is shown nothing else, whether the decision
//! is remembered or not. So a remembered decision is the one that it would make again, for as long as it says
//! (`data.fiware.service.holds_until`).

mod input;
mod keys;
mod memory;
pub mod ring_provider;
#[cfg(test)]
mod tests;
mod token;

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use parking_lot::Mutex;
use regorus::{Engine, Value};
use serde_json::json;

pub use input::{CheckHeaders, CheckInput};

use crate::metrics::GatewayMetrics;
use input::Projection;
use memory::DecisionMemory;
use token::TokenCache;

/// The rule that decides.
const ENTRY: &str = "data.fiware.service.allow";
/// Names of the headers that decide, in lower case; undefined in a policy that looks at more.
const READS: &str = "data.fiware.service.reads";
/// Until when what was allowed stays allowed, in seconds since 1970.
const HOLDS_UNTIL: &str = "data.fiware.service.holds_until";
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
    /// Tokens remembered as genuine, and requests remembered as allowed.
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
        let headers = http::HeaderMap::new();
        let nothing =
            CheckInput { method: "GET", path: "/", host: "", protocol: "HTTP/1.1", headers: &headers };
        generation.decide(&nothing, &metrics).map_err(named)?;
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

    /// Judges one request. Takes a microsecond or two when it is remembered, tens when not, more when the token is new.
    pub fn decide(&self, input: &CheckInput<'_>) -> Result<Decision, PolicyError> {
        let decided = self.current.load().decide(input, &self.metrics);
        decided.map_err(|reason| PolicyError { file: self.file.clone(), reason })
    }
}

/// Engines that share policy text, settings, keys and what is remembered under them.
struct Generation {
    prototype: Mutex<Engine>,
    idle: Mutex<Vec<Engine>>,
    /// What the policy says it reads, with the memory that this allows.
    memory: Option<(Vec<String>, DecisionMemory)>,
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
        let memory =
            reads(&mut engine)?.map(|reads| (reads, DecisionMemory::new(settings.token_cache_entries)));
        Ok(Self { prototype: Mutex::new(engine), idle: Mutex::default(), memory })
    }

    fn decide(&self, input: &CheckInput<'_>, metrics: &GatewayMetrics) -> Result<Decision, String> {
        let Some((reads, memory)) = &self.memory else {
            return Ok(self.evaluate(input.document())?.0);
        };
        let projection = Projection::of(input, reads);
        let request = memory::hash(&projection);
        if let Some(decision) = memory.recall(&request) {
            metrics.decisions_remembered.inc();
            return Ok(decision);
        }
        let (decision, holds_until) = self.evaluate(projection.document())?;
        if let Some(until) = holds_until {
            memory.keep(request, &decision, until);
        }
        Ok(decision)
    }

    /// The decision, and until when it holds if it is to be remembered.
    fn evaluate(&self, input: Value) -> Result<(Decision, Option<f64>), String> {
        let idle = self.idle.lock().pop();
        let mut engine = idle.unwrap_or_else(|| self.prototype.lock().clone());
        engine.set_input(input);
        // An engine that failed is dropped: the next one starts clean.
        let decision = decision(&rule(&mut engine, ENTRY)?)?;
        let holds_until = match self.memory {
            Some(_) if decision.allowed => rule(&mut engine, HOLDS_UNTIL)?.as_f64().ok(),
            _ => None,
        };
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_ENGINES {
            idle.push(engine);
        }
        Ok((decision, holds_until))
    }
}

fn rule(engine: &mut Engine, name: &str) -> Result<Value, String> {
    engine.eval_rule(name.into()).map_err(|error| error.to_string())
}

/// What the policy says it reads; `None` when it does not say.
fn reads(engine: &mut Engine) -> Result<Option<Vec<String>>, String> {
    let names = match engine.eval_rule(READS.into()) {
        Ok(Value::Set(names)) => names,
        // A policy without the rule.
        Ok(Value::Undefined) | Err(_) => return Ok(None),
        Ok(_) => return Err(format!("{READS} is no set")),
    };
    let text = |name: &Value| match name {
        Value::String(name) if **name == *name.to_ascii_lowercase() => Ok(name.to_string()),
        _ => Err(format!("{READS} holds {name}; it is a set of header names in lower case")),
    };
    names.iter().map(text).collect::<Result<_, _>>().map(Some)
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
