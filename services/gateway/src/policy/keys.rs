use std::sync::Arc;

use base64::{
    Engine,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;

use super::ring_provider::RING;

/// base64url as Go decodes it: padding is optional but not partial, trailing bits are not looked at.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Algorithms that OPA knows; a key that names another one is skipped.
const KNOWN_ALGORITHMS: [&str; 13] = [
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "HS256", "HS384",
    "HS512", "EdDSA",
];

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Key>,
}

#[derive(Deserialize)]
struct Key {
    kty: String,
    #[serde(default)]
    kid: String,
    #[serde(default)]
    alg: String,
    #[serde(default)]
    crv: String,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    d: Option<String>,
}

/// A parsed key set, ready to verify tokens with the rules of OPA's `io.jwt.verify_*`.
#[derive(Clone, Default)]
pub(super) struct VerifyingKeys(Arc<[VerifyingKey]>);

struct VerifyingKey {
    kid: String,
    alg: String,
    /// `None` for a kind of key that neither algorithm uses: it matches by `kid` and verifies nothing.
    key: Option<DecodingKey>,
}

impl VerifyingKeys {
    /// Reads a JWKS. Like OPA's, the functions are undefined when the set does not parse.
    pub(super) fn parse(jwks: &str) -> Option<Self> {
        let set: KeySet = serde_json::from_str(jwks).ok()?;
        let keys = set
            .keys
            .into_iter()
            .filter(|key| key.alg.is_empty() || KNOWN_ALGORITHMS.contains(&key.alg.as_str()));
        Some(Self(keys.map(VerifyingKey::from).collect()))
    }

    /// Whether one of the keys made this signature. A key that has the token's `kid` is the only one asked; without such
    /// a key every one is, unless its algorithm is another than the token's.
    pub(super) fn verify(
        &self,
        algorithm: Algorithm,
        header: &TokenHeader,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        let signature = signature.to_vec();
        let verifies = |key: &VerifyingKey| {
            let key = key.key.as_ref();
            let verifier = key.and_then(|key| (RING.verifier_factory)(&algorithm, key).ok());
            verifier.is_some_and(|verifier| verifier.verify(message, &signature).is_ok())
        };
        if !header.kid.is_empty()
            && let Some(named) = self.0.iter().find(|key| key.kid == header.kid)
        {
            return verifies(named);
        }
        self.0.iter().filter(|key| key.alg.is_empty() || key.alg == header.alg).any(verifies)
    }
}

impl From<Key> for VerifyingKey {
    fn from(key: Key) -> Self {
        let public = match (key.kty.as_str(), &key.n, &key.e, &key.x, &key.y, &key.d) {
            ("RSA", Some(n), Some(e), _, _, None) => DecodingKey::from_rsa_components(n, e).ok(),
            ("EC", _, _, Some(x), Some(y), None) if key.crv == "P-256" => {
                DecodingKey::from_ec_components(x, y).ok()
            }
            _ => None,
        };
        Self { kid: key.kid, alg: key.alg, key: public }
    }
}

/// What a signature check looks at in a token's header.
#[derive(Deserialize)]
pub(super) struct TokenHeader {
    #[serde(default)]
    pub(super) alg: String,
    #[serde(default)]
    pub(super) kid: String,
    #[serde(default, rename = "typ")]
    _typ: String,
    #[serde(default)]
    pub(super) cty: String,
    enc: Option<serde::de::IgnoredAny>,
    #[serde(default, rename = "crit")]
    crit: Option<Vec<serde_json::Value>>,
}

/// The three parts of a compact JWS.
pub(super) struct Parts<'a> {
    pub(super) message: &'a str,
    pub(super) header: &'a str,
    pub(super) payload: &'a str,
    pub(super) signature: &'a str,
}

impl<'a> Parts<'a> {
    pub(super) fn of(token: &'a str) -> Option<Self> {
        let (message, signature) = token.rsplit_once('.')?;
        let (header, payload) = message.split_once('.')?;
        (!payload.contains('.')).then_some(Self { message, header, payload, signature })
    }

    pub(super) fn header(&self) -> Option<TokenHeader> {
        let header: TokenHeader = serde_json::from_str(&text(self.header)?).ok()?;
        let acceptable = header.enc.is_none() && header.crit.as_ref().is_none_or(|crit| !crit.is_empty());
        acceptable.then_some(header)
    }
}

/// Decodes base64url as OPA does.
pub(super) fn bytes(part: &str) -> Option<Vec<u8>> {
    let unpadded_and_short = !part.ends_with('=') && part.len() % 4 == 1;
    let partly_padded = part.ends_with('=') && !part.len().is_multiple_of(4);
    if unpadded_and_short || partly_padded {
        return None;
    }
    BASE64URL.decode(part).ok()
}

/// Decodes base64url that holds text. Go replaces what is not UTF-8, and so do we.
pub(super) fn text(part: &str) -> Option<String> {
    Some(match String::from_utf8(bytes(part)?) {
        Ok(text) => text,
        Err(other) => String::from_utf8_lossy(other.as_bytes()).into_owned(),
    })
}
