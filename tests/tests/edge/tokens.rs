use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::EncodingKey;
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512,
        RsaEncoding, RsaKeyPair, RsaPublicKeyComponents,
    },
};
use serde_json::{Map, Value, json};
use service_kit::{Clock, SystemClock};

use super::repository;

/// The keys that sign the tokens of the tests: what is trusted, what is not, and what nobody should accept.
pub(crate) struct Keys {
    trusted: RsaKeyPair,
    foreign: RsaKeyPair,
    trusted_es: EcdsaKeyPair,
}

impl Keys {
    pub(crate) fn load() -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let es = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self {
            trusted: rsa("trusted"),
            foreign: rsa("foreign"),
            trusted_es: EcdsaKeyPair::from_pkcs8(algorithm, es.as_ref(), &random).unwrap(),
        }
    }

    /// The public halves of the trusted keys.
    pub(crate) fn jwks(&self) -> Value {
        let rsa = RsaPublicKeyComponents::<Vec<u8>>::from(self.trusted.public());
        let point = self.trusted_es.public_key().as_ref();
        json!({"keys": [
            {
                "kty": "RSA", "alg": "RS256", "use": "sig", "kid": "trusted",
                "n": encode(&rsa.n),
                "e": encode(&rsa.e),
            },
            {
                "kty": "EC", "alg": "ES256", "use": "sig", "kid": "trusted-es", "crv": "P-256",
                "x": encode(&point[1..33]), "y": encode(&point[33..]),
            },
        ]})
    }

    /// Makes a compact token. `alg` is both said and used, unless `header` says otherwise.
    pub(crate) fn token(&self, key: &str, alg: &str, header: &Map<String, Value>, payload: &str) -> String {
        let mut said = Map::from_iter([("alg".to_owned(), Value::from(alg))]);
        for (name, value) in header {
            match value {
                Value::Null => said.remove(name),
                value => said.insert(name.clone(), value.clone()),
            };
        }
        let message =
            format!("{}.{}", encode(Value::from(said).to_string().as_bytes()), encode(payload.as_bytes()));
        format!("{message}.{}", encode(&self.sign(key, alg, message.as_bytes())))
    }

    fn sign(&self, key: &str, alg: &str, message: &[u8]) -> Vec<u8> {
        match (key, alg) {
            ("trusted", "RS256") => rsa_signature(&self.trusted, &RSA_PKCS1_SHA256, message),
            ("trusted", "RS512") => rsa_signature(&self.trusted, &RSA_PKCS1_SHA512, message),
            ("foreign", "RS256") => rsa_signature(&self.foreign, &RSA_PKCS1_SHA256, message),
            ("trusted-es", "ES256") => {
                self.trusted_es.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
            }
            (_, "none") => Vec::new(),
            ("trusted", "HS256") => {
                let secret = hmac::Key::new(hmac::HMAC_SHA256, self.trusted.public().as_ref());
                hmac::sign(&secret, message).as_ref().to_vec()
            }
            _ => panic!("no way to sign {alg} with {key}"),
        }
    }
}

fn rsa(name: &str) -> RsaKeyPair {
    let pem = std::fs::read(repository().join(format!("tests/data/keys/{name}.pem"))).unwrap();
    RsaKeyPair::from_der(EncodingKey::from_rsa_pem(&pem).unwrap().as_bytes()).unwrap()
}

fn rsa_signature(key: &RsaKeyPair, encoding: &'static dyn RsaEncoding, message: &[u8]) -> Vec<u8> {
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(encoding, &SystemRandom::new(), message, &mut signature).unwrap();
    signature
}

pub(crate) fn encode(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// Seconds since 1970. The engines go by the machine's clock, and so must the tokens.
pub(crate) fn now() -> u64 {
    u64::try_from(SystemClock.now_us()).unwrap() / 1_000_000
}
