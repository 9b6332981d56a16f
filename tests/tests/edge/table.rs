use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    repository,
    tokens::{Keys, now},
};

/// `tests/data/policy.yaml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    pub(crate) decisions: Vec<Row>,
    pub(crate) paths: Vec<PathRow>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Row {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) settings: Settings,
    token: Option<TokenSpec>,
    authorization: Option<String>,
    scheme: Option<String>,
    headers: Vec<(String, String)>,
    pub(crate) status: u16,
    on_the_wire: Option<u16>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenSpec {
    #[serde(default = "trusted")]
    key: String,
    alg: Option<String>,
    #[serde(default)]
    header: Map<String, Value>,
    #[serde(default)]
    claims: Map<String, Value>,
    payload: Option<String>,
    #[serde(default)]
    suffix: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PathRow {
    pub(crate) path: String,
    pub(crate) without: u16,
    pub(crate) with: u16,
    pub(crate) service: Option<String>,
    pub(crate) behind: Option<String>,
}

/// How the policy is set up for a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Settings {
    #[default]
    Default,
    /// An issuer and two audiences are asked for.
    Configured,
    Strict,
}

impl Settings {
    pub(crate) const ALL: [Self; 3] = [Self::Default, Self::Configured, Self::Strict];

    pub(crate) fn issuer(self) -> String {
        if self == Self::Configured { "https://id/realms/mesh".into() } else { String::new() }
    }

    pub(crate) fn audiences(self) -> Vec<String> {
        if self == Self::Configured { vec!["thingmesh-api".into(), "second".into()] } else { Vec::new() }
    }

    pub(crate) fn strict_compat(self) -> bool {
        self == Self::Strict
    }

    /// `data.fiware.config`.
    pub(crate) fn config(self, jwks: &Value) -> Value {
        json!({
            "jwks": jwks,
            "issuer": self.issuer(),
            "audiences": self.audiences(),
            "strict_compat": self.strict_compat(),
        })
    }
}

fn trusted() -> String {
    "trusted".into()
}

impl Table {
    pub(crate) fn load() -> Self {
        let text = std::fs::read_to_string(repository().join("tests/data/policy.yaml")).unwrap();
        yaml_serde::from_str(&text).unwrap()
    }

    pub(crate) fn of(&self, settings: Settings) -> impl Iterator<Item = &Row> {
        self.decisions.iter().filter(move |row| row.settings == settings)
    }
}

impl Row {
    /// The client's status, where the request goes over HTTP.
    pub(crate) fn status_on_the_wire(&self) -> u16 {
        self.on_the_wire.unwrap_or(self.status)
    }

    /// The headers as a client sends them.
    pub(crate) fn headers(&self, keys: &Keys) -> Vec<(String, String)> {
        let token = self.token.as_ref().map(|spec| {
            let scheme = self.scheme.as_deref().unwrap_or("Bearer ");
            format!("{scheme}{}{}", spec.token(keys), spec.suffix)
        });
        let authorization = token.or_else(|| self.authorization.clone());
        let authorization = authorization.map(|value| ("authorization".to_owned(), value));
        authorization.into_iter().chain(self.headers.clone()).collect()
    }
}

impl TokenSpec {
    fn token(&self, keys: &Keys) -> String {
        let usual = if self.key == "trusted-es" { "ES256" } else { "RS256" };
        let claims: Map<String, Value> =
            self.claims.iter().map(|(name, value)| (name.clone(), in_time(value))).collect();
        let payload = self.payload.clone().unwrap_or_else(|| Value::from(claims).to_string());
        keys.token(&self.key, self.alg.as_deref().unwrap_or(usual), &self.header, &payload)
    }
}

fn in_time(value: &Value) -> Value {
    match value.as_str() {
        Some("@later") => (now() + 3600).into(),
        Some("@earlier") => (now() - 3600).into(),
        _ => value.clone(),
    }
}

/// The headers as an authorizer sees them: names in lower case, several of one name joined.
pub(crate) fn joined(headers: &[(String, String)]) -> Map<String, Value> {
    let mut seen: Map<String, Value> = Map::new();
    for (name, value) in headers {
        let name = name.to_ascii_lowercase();
        let joined = match seen.get(&name).and_then(Value::as_str) {
            Some(first) => format!("{first},{value}"),
            None => value.clone(),
        };
        seen.insert(name, joined.into());
    }
    seen
}
