use std::collections::BTreeMap;

use http::{HeaderMap, request};
use regorus::Value;

/// What the policy is asked about: the parts of Envoy's ext_authz v3 CheckRequest that a request has before it is routed.
pub struct CheckInput(pub(super) Value);

impl CheckInput {
    /// `path` is the normalised path with its query; header names are lower-case in `http`, as Envoy has them.
    pub fn from_request(head: &request::Parts, path: &str) -> Self {
        let host = head.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
        let host = host.or_else(|| head.uri.authority().map(|authority| authority.as_str()));
        let version = format!("{:?}", head.version);
        Self::new(
            head.method.as_str(),
            path,
            host.unwrap_or_default(),
            &version,
            header_values(&head.headers),
        )
    }

    /// `headers` have lower-case names and one value each: several are joined by a comma.
    pub fn new(
        method: &str,
        path: &str,
        host: &str,
        protocol: &str,
        headers: impl IntoIterator<Item = (Value, Value)>,
    ) -> Self {
        let mut named: BTreeMap<Value, Value> = headers.into_iter().collect();
        for (name, value) in [(":authority", host), (":method", method), (":path", path), (":scheme", "http")]
        {
            named.insert(name.into(), value.into());
        }
        let http = object([
            ("headers", Value::from(named)),
            ("host", host.into()),
            ("method", method.into()),
            ("path", path.into()),
            ("protocol", protocol.into()),
            ("scheme", "http".into()),
        ]);
        Self(object([("attributes", object([("request", object([("http", http)]))]))]))
    }
}

fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    Value::from(
        members.into_iter().map(|(name, value)| (name.into(), value)).collect::<BTreeMap<Value, Value>>(),
    )
}

/// Several headers of one name are one value, joined by a comma, as Envoy shows them to its authorizer.
fn header_values(headers: &HeaderMap) -> impl Iterator<Item = (Value, Value)> + '_ {
    headers.keys().map(|name| {
        let mut values = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        let first = values.next().unwrap_or_default();
        let joined = values.fold(first, |joined, next| format!("{joined},{next}").into());
        (name.as_str().into(), Value::from(&*joined))
    })
}
