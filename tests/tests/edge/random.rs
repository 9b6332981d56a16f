//! Random tokens and headers for the two engines, random paths for the two proxies.

use std::net::SocketAddr;

use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::{Map, Value, json};

use super::{
    engines::{Embedded, Headers, opa},
    table::Settings,
    tokens::{Keys, encode, now},
    wire::get,
};

const TOKENS: usize = 600;
const PATHS: usize = 400;

/// Draws from `strategy` with a seed that is printed, or taken from TEST_SEED.
fn draw<T: std::fmt::Debug>(strategy: impl Strategy<Value = T>, count: usize) -> Vec<T> {
    let seed: u64 = match std::env::var("TEST_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => rand::random(),
    };
    println!("TEST_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), random);
    (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

/// Any JSON, small.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e12..1e12).prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,4}", inner, 0..3)
                .prop_map(|members| members.into_iter().collect::<Map<_, _>>().into()),
        ]
    })
}

/// Mostly `good`, sometimes anything, sometimes missing.
fn claim(good: impl Strategy<Value = Value> + 'static) -> impl Strategy<Value = Option<Value>> {
    prop_oneof![8 => good.prop_map(Some), 2 => any_json().prop_map(Some), 1 => Just(None)]
}

fn instant() -> impl Strategy<Value = Value> {
    prop_oneof![
        (60_u64..100_000).prop_map(|ahead| (now() + ahead).into()),
        (60_u64..100_000).prop_map(|ago| (now() - ago).into()),
        (60.0..1e5).prop_map(|ahead: f64| (now() as f64 + ahead).into()),
        Just(json!(1e10)),
        Just(json!(0)),
    ]
}

fn tenant() -> impl Strategy<Value = Value> {
    prop_oneof![4 => Just("acme"), 1 => Just("other"), 1 => Just("ACME"), 1 => Just("a-b"), 1 => Just("")]
        .prop_map(Value::from)
}

fn audience() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!("thingmesh-api")),
        Just(json!(["x", "second"])),
        Just(json!(["x"])),
        Just(json!([])),
        Just(json!("x")),
    ]
}

fn payload() -> impl Strategy<Value = String> {
    let issuer = prop_oneof![3 => Just(json!("https://id/realms/mesh")), 1 => Just(json!("x"))];
    let claims = (
        claim(tenant()),
        claim(instant()),
        prop_oneof![3 => Just(None), 1 => claim(instant())],
        claim(issuer),
        claim(audience()),
        prop::collection::btree_map("[a-z]{1,6}", any_json(), 0..3),
    );
    let object = claims.prop_map(|(tenant, exp, nbf, iss, aud, others)| {
        let mut claims: Map<String, Value> = others.into_iter().collect();
        for (name, value) in [("tenant", tenant), ("exp", exp), ("nbf", nbf), ("iss", iss), ("aud", aud)] {
            claims.remove(name);
            claims.extend(value.map(|value| (name.to_owned(), value)));
        }
        Value::from(claims).to_string()
    });
    // Left to chance alone, a whole run may hold no claims that anybody lets pass.
    let good = (60_u64..100_000).prop_map(|ahead| {
        json!({"tenant": "acme", "exp": now() + ahead, "iss": "https://id/realms/mesh", "aud": "thingmesh-api"})
            .to_string()
    });
    prop_oneof![20 => object, 6 => good, 1 => any_json().prop_map(|value| value.to_string()), 1 => "\\PC{0,20}"]
}

fn header() -> impl Strategy<Value = Map<String, Value>> {
    let name =
        prop_oneof![Just("kid"), Just("typ"), Just("cty"), Just("crit"), Just("enc"), Just("alg"), Just("x")];
    let value = prop_oneof![
        Just(json!("trusted")),
        Just(json!("trusted-es")),
        Just(json!("JWT")),
        Just(json!(["b64"])),
        Just(json!("RS256")),
        Just(json!("ES256")),
        any_json(),
    ];
    prop_oneof![
        3 => Just(Map::new()),
        2 => prop::collection::vec((name, value), 1..3)
            .prop_map(|members| members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
    ]
}

/// How a token is made and then spoilt.
#[derive(Clone, Debug)]
enum Spoilt {
    Not,
    OneByte(usize, u8),
    CutAt(usize),
    Payload(String),
    Text(String),
}

fn spoilt() -> impl Strategy<Value = Spoilt> {
    prop_oneof![
        12 => Just(Spoilt::Not),
        2 => (any::<prop::sample::Index>(), prop::char::range('!', '~'))
            .prop_map(|(at, byte)| Spoilt::OneByte(at.index(1000), byte as u8)),
        1 => (0_usize..400).prop_map(Spoilt::CutAt),
        1 => payload().prop_map(Spoilt::Payload),
        1 => "[ -~]{0,40}".prop_map(Spoilt::Text),
    ]
}

#[derive(Debug)]
struct Case {
    signer: (&'static str, &'static str),
    header: Map<String, Value>,
    payload: String,
    spoilt: Spoilt,
    scheme: &'static str,
    tenant: Option<String>,
}

fn case() -> impl Strategy<Value = Case> {
    let signer = prop_oneof![
        4 => Just(("trusted", "RS256")),
        4 => Just(("trusted-es", "ES256")),
        1 => Just(("trusted", "RS512")),
        1 => Just(("foreign", "RS256")),
        1 => Just(("trusted", "HS256")),
        1 => Just(("trusted", "none")),
    ];
    let scheme = prop_oneof![12 => Just("Bearer "), 1 => Just("bearer "), 1 => Just("Bearer"), 1 => Just("")];
    let named = prop_oneof![
        8 => Just(Some("acme".to_owned())),
        1 => Just(None),
        2 => "[ -~]{0,12}".prop_map(Some),
        1 => Just(Some("acme,acme".to_owned())),
    ];
    (signer, header(), payload(), spoilt(), scheme, named).prop_map(
        |(signer, header, payload, spoilt, scheme, tenant)| Case {
            signer,
            header,
            payload,
            spoilt,
            scheme,
            tenant,
        },
    )
}

impl Case {
    fn headers(&self, keys: &Keys) -> Headers {
        let (key, alg) = self.signer;
        let token = keys.token(key, alg, &self.header, &self.payload);
        let token = match &self.spoilt {
            Spoilt::Not => token,
            Spoilt::OneByte(at, byte) => {
                let mut bytes = token.into_bytes();
                let at = at % bytes.len();
                bytes[at] = *byte;
                String::from_utf8(bytes).unwrap()
            }
            Spoilt::CutAt(at) => token.chars().take(*at).collect(),
            Spoilt::Payload(other) => {
                let parts: Vec<&str> = token.split('.').collect();
                format!("{}.{}.{}", parts[0], encode(other.as_bytes()), parts[2])
            }
            Spoilt::Text(text) => text.clone(),
        };
        let mut headers =
            Map::from_iter([("authorization".to_owned(), format!("{}{token}", self.scheme).into())]);
        headers.extend(self.tenant.clone().map(|tenant| ("fiware-service".to_owned(), tenant.into())));
        headers
    }
}

#[test]
fn both_engines_decide_alike_about_random_tokens_and_headers() {
    let keys = Keys::load();
    for settings in Settings::ALL {
        let cases = draw(case(), TOKENS);
        let requests: Vec<Headers> = cases.iter().map(|case| case.headers(&keys)).collect();
        let Some(answers) = opa(settings, &keys.jwks(), &requests) else { return };
        let engine = Embedded::new(settings, &keys.jwks());
        for ((case, headers), answer) in cases.iter().zip(&requests).zip(&answers) {
            assert_eq!(&engine.ask(headers), answer, "{case:#?}\n{headers:#?}");
        }
        // Random cases that nobody lets pass, or all do, would prove nothing.
        let allowed = answers.iter().filter(|answer| answer["allowed"] == true).count();
        assert!(allowed > 0 && allowed < TOKENS, "{allowed} of {TOKENS} allowed");
    }
}

/// Both proxies send a random path to the same place, or refuse it alike. Some of its characters no URI may have.
pub(crate) async fn check_paths(gateway: &SocketAddr, envoy: &SocketAddr, good: &[(String, String)]) {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "/", "//", "\\", ".", "..", "/../", "/./", "%2e", "%2E%2e", "%2f", "%2F", "%5c", "%5C", "..;", ".;x", ";",
            "%252e", "%25", "%", "%zz", "orion", "version", "v2", "quantumleap", "%6frion", "?", "a=/../b", "*", "@",
            "^", "|", "[", "]", "~", "%7e", "%41", "%c3%a9",  "'", "(", "=", "&", "+", "%00", "{", "}",
        ]).prop_map(str::to_owned),
        1 => "[a-zA-Z0-9._~!$&'()*+,;=:@%-]{1,3}",
    ];
    let path = (
        prop::sample::select(vec!["/orion/", "/orion", "/quantumleap/x/", "/"]),
        prop::collection::vec(piece, 0..7),
    )
        .prop_map(|(start, pieces)| format!("{start}{}", pieces.concat()));
    for path in draw(path, PATHS) {
        for headers in [good, &[]] {
            let (ours, theirs) = (get(*gateway, &path, headers).await, get(*envoy, &path, headers).await);
            assert_eq!(ours.status, theirs.status, "{path}: {ours:?} {theirs:?}");
            let target =
                |seen: Option<Value>| seen.map(|seen| (seen["service"].clone(), seen["path"].clone()));
            assert_eq!(target(ours.seen()), target(theirs.seen()), "{path}");
        }
    }
}
