//! The development issuer: tokens for a mesh on one machine, signed by a key that is made there and never leaves it.

use std::{
    fs,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{Json, Router, routing::get};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use ring::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use scope::Tenant;
use serde_json::{Value, json};
use service_kit::Clock;

use crate::policy::ring_provider;

/// `iss` of its tokens.
pub const DEVELOPMENT_ISSUER: &str = "thingmesh-development";
/// Where [`DevelopmentIssuer::router`] serves the key set.
pub const JWKS_PATH: &str = "/.well-known/jwks.json";
/// Longest life of a token: a year.
pub const MAX_TTL: Duration = Duration::from_secs(366 * 24 * 3600);

const KEY_FILE: &str = "issuer.key";

#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    #[error("issuer key {path}: {reason}")]
    Key { path: PathBuf, reason: String },
    #[error("a token lives from 1 second to {} days", MAX_TTL.as_secs() / 86_400)]
    Ttl,
    #[error("token not signed: {0}")]
    Sign(String),
}

/// Mints tokens that the embedded gateway accepts. Cheap to clone.
#[derive(Clone)]
pub struct DevelopmentIssuer {
    key: Arc<EncodingKey>,
    jwks: Value,
    key_id: String,
    clock: Arc<dyn Clock>,
}

impl DevelopmentIssuer {
    /// Reads the key in `data_dir`, or makes it: an ES256 key (P-256, PKCS #8), readable by its owner only.
    pub fn open(data_dir: &Path, clock: Arc<dyn Clock>) -> Result<Self, IssuerError> {
        let path = data_dir.join(KEY_FILE);
        let document = match read_key(&path)? {
            Some(document) => document,
            None => create_key(data_dir, &path)
                .map_err(|reason| IssuerError::Key { path: path.clone(), reason })?,
        };
        Self::with_key(&path, &document, clock)
    }

    /// Reads the key in `data_dir`; `None` when no mesh has made one there.
    pub fn find(data_dir: &Path, clock: Arc<dyn Clock>) -> Result<Option<Self>, IssuerError> {
        let path = data_dir.join(KEY_FILE);
        read_key(&path)?.map(|document| Self::with_key(&path, &document, clock)).transpose()
    }

    fn with_key(path: &Path, document: &[u8], clock: Arc<dyn Clock>) -> Result<Self, IssuerError> {
        ring_provider::install();
        let failed = |reason: String| IssuerError::Key { path: path.to_owned(), reason };
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document, &SystemRandom::new())
            .map_err(|reason| failed(format!("not a P-256 key in PKCS #8: {reason}")))?;
        let (key_id, jwk) =
            jwk(pair.public_key().as_ref()).ok_or_else(|| failed("not a P-256 key".into()))?;
        Ok(Self {
            key: Arc::new(EncodingKey::from_ec_der(document)),
            jwks: json!({"keys": [jwk]}),
            key_id,
            clock,
        })
    }

    /// A token for `tenant` that is valid from now for `ttl`.
    pub fn mint(&self, tenant: &Tenant, ttl: Duration) -> Result<String, IssuerError> {
        if ttl < Duration::from_secs(1) || ttl > MAX_TTL {
            return Err(IssuerError::Ttl);
        }
        let now = self.clock.now_us() / 1_000_000;
        let claims = json!({
            "iss": DEVELOPMENT_ISSUER,
            "sub": format!("development:{tenant}"),
            "tenant": tenant.as_str(),
            "iat": now,
            "exp": now.saturating_add_unsigned(ttl.as_secs()),
        });
        let header = Header { kid: Some(self.key_id.clone()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, &claims, &self.key)
            .map_err(|error| IssuerError::Sign(error.to_string()))
    }

    /// The public key, as a JWKS.
    pub fn jwks(&self) -> &Value {
        &self.jwks
    }

    /// Serves the JWKS at [`JWKS_PATH`]. It belongs on the admin listener: the gateway serves what `istio/` names only.
    pub fn router(&self) -> Router {
        let jwks = self.jwks.clone();
        Router::new().route(JWKS_PATH, get(async move || Json(jwks)))
    }
}

fn read_key(path: &Path) -> Result<Option<Vec<u8>>, IssuerError> {
    let failed = |reason: String| IssuerError::Key { path: path.to_owned(), reason };
    match fs::read(path) {
        Ok(document) => {
            check_mode(path).map_err(failed)?;
            Ok(Some(document))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error.to_string())),
    }
}

fn create_key(data_dir: &Path, path: &Path) -> Result<Vec<u8>, String> {
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
        .map_err(|_| "no random numbers".to_owned())?;
    let write = || -> std::io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir)?;
        // Whole or not at all: a crash must not leave half a key, and two processes must not hold different ones.
        let unfinished = path.with_extension(format!("key.{}", uuid::Uuid::new_v4().simple()));
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        file.write_all(document.as_ref())?;
        file.sync_all()?;
        let linked = fs::hard_link(&unfinished, path);
        fs::remove_file(&unfinished)?;
        match linked {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
            _ => fs::File::open(data_dir)?.sync_all(),
        }
    };
    write().map_err(|error| error.to_string())?;
    fs::read(path).map_err(|error| error.to_string())
}

fn check_mode(path: &Path) -> Result<(), String> {
    let mode = fs::metadata(path).map_err(|error| error.to_string())?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(format!(
            "mode {:03o} lets others read it; run: chmod 600 {}",
            mode & 0o777,
            path.display()
        ));
    }
    Ok(())
}

/// The JWK of an uncompressed P-256 point, with its RFC 7638 thumbprint as key id.
fn jwk(point: &[u8]) -> Option<(String, Value)> {
    let (4, coordinates) = point.split_first().map(|(first, rest)| (*first, rest))? else { return None };
    let (x, y) = coordinates.split_at_checked(32)?;
    let (x, y) = (BASE64_URL_SAFE_NO_PAD.encode(x), BASE64_URL_SAFE_NO_PAD.encode(y));
    let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
    let key_id = BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical.as_bytes()));
    let jwk =
        json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": key_id, "x": x, "y": y});
    Some((key_id, jwk))
}

#[cfg(test)]
mod tests {
    use service_kit::ManualClock;

    use super::*;

    fn open(dir: &Path) -> Result<DevelopmentIssuer, IssuerError> {
        DevelopmentIssuer::open(dir, Arc::new(ManualClock::at_us(1_000_000_000_000_000)))
    }

    #[test]
    fn the_key_is_made_once_and_only_its_owner_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(&dir.path().join("new")).unwrap();
        let second = open(&dir.path().join("new")).unwrap();
        assert_eq!(first.jwks(), second.jwks());
        let path = dir.path().join("new").join(KEY_FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(open(&dir.path().join("new")).err().unwrap().to_string().contains("chmod 600"));
    }

    #[test]
    fn to_look_for_a_key_makes_none() {
        let dir = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at_us(0));
        assert!(DevelopmentIssuer::find(dir.path(), clock.clone()).unwrap().is_none());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let made = open(dir.path()).unwrap();
        let found = DevelopmentIssuer::find(dir.path(), clock).unwrap().unwrap();
        assert_eq!(found.jwks(), made.jwks());
    }

    #[test]
    fn a_broken_key_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(KEY_FILE);
        fs::write(&path, b"nonsense").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let error = open(dir.path()).err().unwrap().to_string();
        assert!(error.contains(KEY_FILE) && error.contains("PKCS #8"), "{error}");
    }

    #[test]
    fn a_token_lives_between_a_second_and_a_year() {
        let dir = tempfile::tempdir().unwrap();
        let issuer = open(dir.path()).unwrap();
        let tenant = Tenant::canonical("acme").unwrap();
        assert!(issuer.mint(&tenant, Duration::ZERO).is_err());
        assert!(issuer.mint(&tenant, MAX_TTL + Duration::from_secs(1)).is_err());
        assert_eq!(issuer.mint(&tenant, MAX_TTL).unwrap().split('.').count(), 3);
    }
}
