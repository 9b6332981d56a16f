//! The issuer's keys: read at start, from time to time, and when a token names one that isn't known.

use std::{collections::HashSet, path::PathBuf, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use parking_lot::Mutex;
use serde_json::{Value, json};
use service_kit::Readiness;
use tokio::time::Instant;

use crate::{metrics::GatewayMetrics, policy::Policy};

const MAX_KEY_SET_BYTES: usize = 256 * 1024;
const FETCH_TIMEOUT: Duration = Duration::from_secs(2);
/// How soon a failed refresh is tried again.
const RETRY: Duration = Duration::from_secs(5);
const NEED: &str = "gateway.keys";

/// Where keys come from.
#[derive(Clone, Debug)]
pub(crate) enum KeySource {
    /// Known from the start, such as the development issuer's.
    Fixed(Value),
    File(PathBuf),
    Url(http::Uri),
}

/// Keeps the policy supplied with the current keys.
pub(crate) struct Keyring {
    sources: Vec<KeySource>,
    policy: Arc<Policy>,
    state: Mutex<State>,
    /// One refresh at a time.
    refreshing: tokio::sync::Mutex<()>,
    min_interval: Duration,
    readiness: Readiness,
    metrics: GatewayMetrics,
}

#[derive(Default)]
struct State {
    keys: Vec<Value>,
    key_ids: HashSet<String>,
    refreshed: Option<Instant>,
}

/// The key set that the policy starts with.
pub(crate) fn fixed_keys(sources: &[KeySource]) -> Value {
    let fixed = sources.iter().filter_map(|source| match source {
        KeySource::Fixed(jwks) => usable(jwks).ok(),
        _ => None,
    });
    json!({"keys": fixed.flatten().collect::<Vec<_>>()})
}

impl Keyring {
    pub(crate) fn new(
        sources: Vec<KeySource>,
        policy: Arc<Policy>,
        min_interval: Duration,
        readiness: Readiness,
        metrics: GatewayMetrics,
    ) -> Self {
        Self {
            sources,
            policy,
            state: Mutex::default(),
            refreshing: tokio::sync::Mutex::default(),
            min_interval,
            readiness,
            metrics,
        }
    }

    /// Refreshes now and then every `interval`, sooner after a failure.
    pub(crate) async fn keep_fresh(&self, interval: Duration, stop: tokio_util::sync::CancellationToken) {
        loop {
            let pause = if self.refresh().await { interval } else { RETRY.min(interval) };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Reads the keys again if the token names a key that isn't known, at most once per interval. True when the keys are
    /// other ones now, so that it is worth to judge again.
    pub(crate) async fn refresh_for(&self, token: &str) -> bool {
        let Some(key_id) = key_id(token) else { return false };
        if self.knows(&key_id) {
            return false;
        }
        {
            let mut state = self.state.lock();
            if state.refreshed.is_some_and(|at| at.elapsed() < self.min_interval) {
                return false;
            }
            state.refreshed = Some(Instant::now());
        }
        self.refresh().await && self.knows(&key_id)
    }

    fn knows(&self, key_id: &str) -> bool {
        self.state.lock().key_ids.contains(key_id)
    }

    /// Reads all sources. What can't be read keeps the old keys in force. True when all went well.
    async fn refresh(&self) -> bool {
        let _one = self.refreshing.lock().await;
        self.metrics.key_refreshes.inc();
        let mut keys = Vec::new();
        for source in &self.sources {
            match read(source).await {
                Ok(found) => keys.extend(found),
                Err(reason) => {
                    self.metrics.key_refresh_failures.inc();
                    self.state.lock().refreshed = Some(Instant::now());
                    if self.state.lock().keys.is_empty() {
                        self.readiness.set(NEED, Err(reason));
                    } else {
                        tracing::warn!(%reason, "keys not refreshed; the old ones stay in force");
                    }
                    return false;
                }
            }
        }
        self.take(keys)
    }

    fn take(&self, keys: Vec<Value>) -> bool {
        let mut state = self.state.lock();
        state.refreshed = Some(Instant::now());
        if state.keys != keys {
            if let Err(error) = self.policy.set_keys(&json!({"keys": keys})) {
                self.readiness.set(NEED, Err(error.to_string()));
                return false;
            }
            let named = keys.iter().filter_map(|key| key["kid"].as_str().map(str::to_owned));
            state.key_ids = named.collect();
            tracing::info!(keys = keys.len(), "keys changed");
            state.keys = keys;
        }
        let state = if state.keys.is_empty() { Err("no usable key".to_owned()) } else { Ok(()) };
        self.readiness.set(NEED, state);
        true
    }
}

/// The `kid` that a token names; the token isn't verified.
fn key_id(token: &str) -> Option<String> {
    let header = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').next()?).ok()?;
    let header: Value = serde_json::from_slice(&header).ok()?;
    header["kid"].as_str().map(str::to_owned)
}

async fn read(source: &KeySource) -> Result<Vec<Value>, String> {
    match source {
        KeySource::Fixed(jwks) => usable(jwks),
        KeySource::File(path) => {
            let named = |error: std::io::Error| format!("{}: {error}", path.display());
            let length = tokio::fs::metadata(path).await.map_err(named)?.len();
            if length > MAX_KEY_SET_BYTES as u64 {
                return Err(format!("{}: larger than {MAX_KEY_SET_BYTES} bytes", path.display()));
            }
            parse(&tokio::fs::read(path).await.map_err(named)?)
                .map_err(|error| format!("{}: {error}", path.display()))
        }
        KeySource::Url(uri) => match tokio::time::timeout(FETCH_TIMEOUT, fetch(uri)).await {
            Ok(fetched) => fetched.and_then(|text| parse(&text)).map_err(|error| format!("{uri}: {error}")),
            Err(_) => Err(format!("{uri}: no answer in {} s", FETCH_TIMEOUT.as_secs())),
        },
    }
}

async fn fetch(uri: &http::Uri) -> Result<Bytes, String> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let response = client.get(uri.clone()).await.map_err(|error| error.to_string())?;
    if response.status() != http::StatusCode::OK {
        return Err(format!("status {}", response.status().as_u16()));
    }
    let body = Limited::new(response.into_body(), MAX_KEY_SET_BYTES).collect().await;
    Ok(body.map_err(|error| error.to_string())?.to_bytes())
}

fn parse(text: &[u8]) -> Result<Vec<Value>, String> {
    let jwks: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    usable(&jwks)
}

/// The public signature keys of a set. Private ones have no place there and are left out, with all other kinds.
fn usable(jwks: &Value) -> Result<Vec<Value>, String> {
    let keys = jwks["keys"].as_array().ok_or("not a JWKS: it has no list `keys`")?;
    let for_signatures = |key: &&Value| {
        let kind = match key["kty"].as_str() {
            Some("RSA") => key["n"].is_string() && key["e"].is_string(),
            Some("EC") => key["crv"] == "P-256" && key["x"].is_string() && key["y"].is_string(),
            _ => false,
        };
        kind && key.get("d").is_none() && key.get("use").is_none_or(|usage| usage == "sig")
    };
    Ok(keys.iter().filter(for_signatures).cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_signature_keys_are_usable() {
        let good = json!({"kty": "EC", "crv": "P-256", "x": "a", "y": "b", "kid": "1"});
        let mut private = good.clone();
        private["d"] = "secret".into();
        let mut encryption = good.clone();
        encryption["use"] = "enc".into();
        let jwks = json!({"keys": [private, encryption, {"kty": "oct", "k": "x"}, 7, good]});
        assert_eq!(usable(&jwks).unwrap(), [good]);
        assert!(usable(&json!([])).is_err());
        assert!(parse(b"{").is_err());
    }

    #[test]
    fn the_key_id_of_an_unverified_token_is_read() {
        let token = format!("{}.e30.x", BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","kid":"k1"}"#));
        assert_eq!(key_id(&token).as_deref(), Some("k1"));
        assert_eq!(key_id("e30.e30.x"), None);
        assert_eq!(key_id("%"), None);
    }
}
