//! `X-Auth-Token` on its way from a request to the notifications that it causes (decision 7): never on the bus, only sealed
//! and only for a short time anywhere else.
//!
//! ```text
//! request ─ keep ─► soft state: reference → sealed ─┐
//!    └─ event: reference ─► notifier: find ─────────┴─► delivery: sealed ─ fill in, when it is sent ─► receiver
//! ```
//!
//! Until it is sent a random reference stands in the message where the token belongs.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};
use scope::Tenant;
use serde::{Deserialize, Serialize};
use soft_state::SoftState;

/// Longest token that is passed on.
pub(crate) const MAX_TOKEN: usize = 16 * 1024;
const KEY_LEN: usize = 32;
const EXPIRY_LEN: usize = 8;

/// A token that nobody can read without the key. Base64 of nonce, expiry and what AES-256-GCM makes of the token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedToken {
    /// What stands for the token in the message.
    pub reference: String,
    pub sealed: String,
}

#[derive(Debug, thiserror::Error)]
#[error("notification.token_key is no base64 text of {KEY_LEN} bytes")]
pub(crate) struct InvalidTokenKey;

/// Seals, keeps and opens tokens.
pub(crate) struct Tokens {
    key: LessSafeKey,
    random: SystemRandom,
    soft_state: Arc<dyn SoftState>,
    lifetime: Duration,
}

impl Tokens {
    /// `key`: base64 text, the same for all replicas; empty: one of its own, which ends with the process.
    pub(crate) fn new(
        key: &str,
        soft_state: Arc<dyn SoftState>,
        lifetime: Duration,
    ) -> Result<Self, InvalidTokenKey> {
        let random = SystemRandom::new();
        let mut bytes = [0; KEY_LEN];
        if key.is_empty() {
            random.fill(&mut bytes).map_err(|_| InvalidTokenKey)?;
        } else {
            let given = STANDARD.decode(key).map_err(|_| InvalidTokenKey)?;
            bytes = given.try_into().map_err(|_| InvalidTokenKey)?;
        }
        let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| InvalidTokenKey)?;
        Ok(Self { key: LessSafeKey::new(key), random, soft_state, lifetime })
    }

    /// Keeps a token for the notifications of a request; answers its reference. None: it can't be kept, which is said in
    /// the log; the request goes on without it.
    pub(crate) async fn keep(&self, tenant: &Tenant, token: &str, now_us: i64) -> Option<String> {
        let sealed = self.seal(token, now_us)?;
        let name = name(&sealed.reference);
        match self.soft_state.put(tenant, &name, &sealed.sealed, self.lifetime).await {
            Ok(()) => Some(sealed.reference),
            Err(error) => {
                tracing::warn!(%error, "X-Auth-Token not kept, notifications go without it");
                None
            }
        }
    }

    /// The token that a change names.
    pub(crate) async fn find(&self, tenant: &Tenant, reference: &str) -> Option<SealedToken> {
        match self.soft_state.get(tenant, &name(reference)).await {
            Ok(sealed) => sealed.map(|sealed| SealedToken { reference: reference.to_owned(), sealed }),
            Err(error) => {
                tracing::warn!(%error, "X-Auth-Token not found, notifications go without it");
                None
            }
        }
    }

    fn seal(&self, token: &str, now_us: i64) -> Option<SealedToken> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok()?;
        let mut reference = [0; 16];
        self.random.fill(&mut reference).ok()?;
        let reference =
            reference.iter().fold("token-".to_owned(), |text, byte| text + &format!("{byte:02x}"));
        let lifetime_us = i64::try_from(self.lifetime.as_micros()).unwrap_or(i64::MAX);
        let expiry = now_us.saturating_add(lifetime_us).to_be_bytes();
        let mut text = token.as_bytes().to_vec();
        let context = Aad::from(context(&reference, &expiry));
        self.key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), context, &mut text).ok()?;
        let sealed = STANDARD.encode([&nonce[..], &expiry[..], &text].concat());
        Some(SealedToken { reference, sealed })
    }

    /// The token, unless it is too old or was sealed with another key.
    pub(crate) fn open(&self, token: &SealedToken, now_us: i64) -> Option<String> {
        let bytes = STANDARD.decode(&token.sealed).ok()?;
        let (nonce, rest) = bytes.split_first_chunk::<NONCE_LEN>()?;
        let (expiry, text) = rest.split_first_chunk::<EXPIRY_LEN>()?;
        if i64::from_be_bytes(*expiry) <= now_us {
            return None;
        }
        let context = Aad::from(context(&token.reference, expiry));
        let mut text = text.to_vec();
        let opened = self.key.open_in_place(Nonce::assume_unique_for_key(*nonce), context, &mut text).ok()?;
        String::from_utf8(opened.to_vec()).ok()
    }
}

/// What the seal is bound to.
fn context(reference: &str, expiry: &[u8; EXPIRY_LEN]) -> Vec<u8> {
    [reference.as_bytes(), expiry].concat()
}

fn name(reference: &str) -> String {
    format!("auth-token/{reference}")
}

#[cfg(test)]
mod tests {
    use soft_state::MemorySoftState;

    use super::*;

    fn tokens(key: &str) -> Tokens {
        let soft_state = Arc::new(MemorySoftState::default());
        Tokens::new(key, soft_state, Duration::from_secs(60)).unwrap()
    }

    #[tokio::test]
    async fn a_token_is_found_and_opened_by_its_reference_for_its_time() {
        let (tokens, tenant) = (tokens(""), Tenant::default());
        let reference = tokens.keep(&tenant, "s3cret", 0).await.unwrap();
        let sealed = tokens.find(&tenant, &reference).await.unwrap();
        assert!(!format!("{sealed:?}").contains("s3cret"));
        assert_eq!(tokens.open(&sealed, 59_999_999).as_deref(), Some("s3cret"));
        assert_eq!(tokens.open(&sealed, 60_000_000), None, "too old");
        let other = Tenant::from_header(Some("other")).unwrap();
        assert_eq!(tokens.find(&other, &reference).await, None, "it belongs to a tenant");
    }

    #[test]
    fn replicas_with_one_key_open_each_others_tokens() {
        let key = STANDARD.encode([7; KEY_LEN]);
        let sealed = tokens(&key).seal("s3cret", 0).unwrap();
        assert_eq!(tokens(&key).open(&sealed, 1).as_deref(), Some("s3cret"));
        assert_eq!(tokens("").open(&sealed, 1), None);
        let moved = SealedToken { reference: "token-0".to_owned(), ..sealed };
        assert_eq!(tokens(&key).open(&moved, 1), None, "a seal is bound to its reference");
        for bad in ["short", &STANDARD.encode([7; 31])] {
            assert!(Tokens::new(bad, Arc::new(MemorySoftState::default()), Duration::ZERO).is_err());
        }
    }
}
