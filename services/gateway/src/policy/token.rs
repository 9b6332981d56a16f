//! The three functions of OPA's `io.jwt` that the policy calls, for the embedded engine, with a cache: a token's signature
//! is checked once.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jsonwebtoken::Algorithm;
use parking_lot::Mutex;
use regorus::{Engine, Value};
use ring::digest::{Context, SHA256};

use super::keys::{Parts, VerifyingKeys, bytes, text};
use crate::metrics::GatewayMetrics;

/// A token that verified, decoded once.
#[derive(Clone)]
struct Verified {
    /// `[header, payload, signature in hex]`, as `io.jwt.decode` answers.
    decoded: Value,
    /// Seconds since 1970; the entry is dropped then, whatever the policy says.
    expires: u64,
}

type TokenHash = [u8; 32];

/// Tokens verified under one set of keys. Bounded; entries leave at the token's `exp`.
pub(super) struct TokenCache {
    verified: moka::sync::Cache<TokenHash, Arc<Verified>>,
    keys: Mutex<Vec<ParsedKeys>>,
    metrics: GatewayMetrics,
}

/// A key set that the policy passed in: one for each kind of key, as a rule.
struct ParsedKeys {
    text: Box<str>,
    keys: Option<VerifyingKeys>,
    /// Its place in the order of arrival; what is remembered about a token holds for one key set.
    id: u64,
}

/// A policy that makes up key sets as it goes must not fill the memory with them.
const MAX_KEY_SETS: usize = 8;

struct AtExpiry;

impl moka::Expiry<TokenHash, Arc<Verified>> for AtExpiry {
    fn expire_after_create(&self, _: &TokenHash, token: &Arc<Verified>, _: Instant) -> Option<Duration> {
        let now = jsonwebtoken::get_current_timestamp();
        Some(Duration::from_secs(token.expires.saturating_sub(now)).min(MAX_CACHED))
    }
}

/// No token stays longer, so that a key taken away stops working soon even where nobody calls for a refresh.
const MAX_CACHED: Duration = Duration::from_secs(3600);

impl TokenCache {
    pub(super) fn new(capacity: u64, metrics: GatewayMetrics) -> Arc<Self> {
        let verified = moka::sync::Cache::builder().max_capacity(capacity).expire_after(AtExpiry).build();
        Arc::new(Self { verified, keys: Mutex::default(), metrics })
    }

    fn verify(&self, algorithm: Algorithm, token: &str, jwks: &str) -> Option<bool> {
        let parts = Parts::of(token)?;
        let header = parts.header()?;
        // OPA would go by the key here; the policy refuses such a token either way.
        if header.alg.parse() != Ok(algorithm) {
            return Some(false);
        }
        let (key_set, keys) = self.parsed(jwks);
        let hash = hash(algorithm, token, key_set);
        if self.verified.contains_key(&hash) {
            self.metrics.token_cache_hits.inc();
            return Some(true);
        }
        self.metrics.token_verifications.inc();
        let signature = bytes(parts.signature)?;
        let genuine = keys?.verify(algorithm, &header, parts.message.as_bytes(), &signature);
        if genuine && let Some(decoded) = decode(token) {
            let expires = expiry(&decoded);
            self.verified.insert(hash, Arc::new(Verified { decoded: decoded.clone(), expires }));
            self.verified.insert(decoded_hash(token), Arc::new(Verified { decoded, expires }));
        }
        Some(genuine)
    }

    fn decode(&self, token: &str) -> Option<Value> {
        match self.verified.get(&decoded_hash(token)) {
            Some(verified) => Some(verified.decoded.clone()),
            None => decode(token),
        }
    }

    fn parsed(&self, jwks: &str) -> (u64, Option<VerifyingKeys>) {
        let mut known = self.keys.lock();
        if let Some(parsed) = known.iter().find(|parsed| &*parsed.text == jwks) {
            return (parsed.id, parsed.keys.clone());
        }
        let id = known.last().map_or(0, |last| last.id + 1);
        if known.len() == MAX_KEY_SETS {
            known.remove(0);
        }
        let keys = VerifyingKeys::parse(jwks);
        known.push(ParsedKeys { text: jwks.into(), keys: keys.clone(), id });
        (id, keys)
    }
}

/// A remembered answer holds for this algorithm, token and set of keys only.
fn hash(algorithm: Algorithm, token: &str, key_set: u64) -> TokenHash {
    let mut context = Context::new(&SHA256);
    context.update(&[algorithm as u8]);
    context.update(&key_set.to_le_bytes());
    context.update(token.as_bytes());
    digest(context)
}

fn decoded_hash(token: &str) -> TokenHash {
    let mut context = Context::new(&SHA256);
    context.update(&[u8::MAX]);
    context.update(token.as_bytes());
    digest(context)
}

fn digest(context: Context) -> TokenHash {
    let mut hash = TokenHash::default();
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

fn expiry(decoded: &Value) -> u64 {
    let exp = decoded.as_array().ok().and_then(|parts| parts.get(1)).map(|payload| &payload["exp"]);
    exp.and_then(|exp| exp.as_f64().ok()).map_or(0, |seconds| seconds.max(0.0) as u64)
}

/// `[header, payload, signature in hex]`; `None` where OPA's function is undefined. Of a token within a token it is the
/// inner one.
fn decode(token: &str) -> Option<Value> {
    let parts = Parts::of(token)?;
    let nested = parts.header()?.cty == "JWT";
    let header = Value::from_json_str(&text(parts.header)?).ok()?;
    let payload = text(parts.payload)?;
    if nested {
        return decode(payload.trim_matches(['"', '\'']));
    }
    let payload = Value::from_json_str(&payload).ok()?;
    let (Value::Object(_), Value::Object(_)) = (&header, &payload) else { return None };
    let signature: String = bytes(parts.signature)?.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(Value::from(vec![header, payload, Value::from(signature)]))
}

/// Gives `engine` the functions, over a shared cache.
pub(super) fn extend(engine: &mut Engine, cache: &Arc<TokenCache>) -> Result<(), String> {
    for (name, algorithm) in
        [("io.jwt.verify_rs256", Algorithm::RS256), ("io.jwt.verify_es256", Algorithm::ES256)]
    {
        let cache = cache.clone();
        let verify = move |arguments: Vec<Value>| {
            let (Some(Value::String(token)), Some(Value::String(jwks))) =
                (arguments.first(), arguments.get(1))
            else {
                return Ok(Value::Undefined);
            };
            Ok(cache.verify(algorithm, token, jwks).map_or(Value::Undefined, Value::from))
        };
        engine.add_extension(name.into(), 2, Box::new(verify)).map_err(|error| error.to_string())?;
    }
    let cache = cache.clone();
    let decode = move |arguments: Vec<Value>| match arguments.first() {
        Some(Value::String(token)) => Ok(cache.decode(token).unwrap_or(Value::Undefined)),
        _ => Ok(Value::Undefined),
    };
    engine.add_extension("io.jwt.decode".into(), 1, Box::new(decode)).map_err(|error| error.to_string())
}
