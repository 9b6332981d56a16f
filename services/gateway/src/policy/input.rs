use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

use http::{HeaderMap, request};
use regorus::Value;

/// What the policy is asked about: the parts of Envoy's ext_authz v3 CheckRequest that a request has before it is routed.
#[derive(Clone, Copy)]
pub struct CheckInput<'a> {
    pub method: &'a str,
    /// The normalised path with its query.
    pub path: &'a str,
    pub host: &'a str,
    pub protocol: &'a str,
    pub headers: &'a (dyn CheckHeaders + Sync),
}

/// The headers of a request as Envoy shows them to its authorizer: names in lower case, one value each, several joined by
/// a comma.
pub trait CheckHeaders {
    fn value(&self, name: &str) -> Option<Cow<'_, str>>;
    fn for_each(&self, each: &mut dyn FnMut(&str, Cow<'_, str>));
}

impl CheckHeaders for HeaderMap {
    fn value(&self, name: &str) -> Option<Cow<'_, str>> {
        let mut values = self.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        let first = values.next()?;
        Some(values.fold(first, |joined, next| format!("{joined},{next}").into()))
    }

    fn for_each(&self, each: &mut dyn FnMut(&str, Cow<'_, str>)) {
        for name in self.keys() {
            each(name.as_str(), self.value(name.as_str()).unwrap_or_default());
        }
    }
}

impl CheckHeaders for HashMap<String, String> {
    fn value(&self, name: &str) -> Option<Cow<'_, str>> {
        self.get(name).map(|value| Cow::Borrowed(value.as_str()))
    }

    fn for_each(&self, each: &mut dyn FnMut(&str, Cow<'_, str>)) {
        for (name, value) in self {
            each(name, Cow::Borrowed(value));
        }
    }
}

impl<'a> CheckInput<'a> {
    /// `path` is the normalised path with its query; `protocol` as in `HTTP/1.1`.
    pub fn from_request(head: &'a request::Parts, path: &'a str) -> Self {
        let host = head.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
        let host = host.or_else(|| head.uri.authority().map(|authority| authority.as_str()));
        Self {
            method: head.method.as_str(),
            path,
            host: host.unwrap_or_default(),
            protocol: if head.version == http::Version::HTTP_2 { "HTTP/2" } else { "HTTP/1.1" },
            headers: &head.headers,
        }
    }

    /// The whole request, as the policy reads it.
    pub(super) fn document(&self) -> Value {
        let mut headers = BTreeMap::new();
        self.headers.for_each(&mut |name, value| {
            headers.insert(name.into(), (&*value).into());
        });
        let pseudo =
            [(":authority", self.host), (":method", self.method), (":path", self.path), (":scheme", "http")];
        headers.extend(pseudo.map(|(name, value)| (Value::from(name), Value::from(value))));
        request_document([
            ("headers", Value::from(headers)),
            ("host", self.host.into()),
            ("method", self.method.into()),
            ("path", self.path.into()),
            ("protocol", self.protocol.into()),
            ("scheme", "http".into()),
        ])
    }
}

/// The part of a request that a policy said it reads: the named headers. A policy that reads more finds nothing there.
pub(super) struct Projection<'a>(Vec<(&'a str, Option<Cow<'a, str>>)>);

impl<'a> Projection<'a> {
    pub(super) fn of(input: &CheckInput<'a>, reads: &'a [String]) -> Self {
        Self(reads.iter().map(|name| (name.as_str(), input.headers.value(name))).collect())
    }

    /// The values in the order of their names; two requests with the same ones are the same to the policy.
    pub(super) fn values(&self) -> impl Iterator<Item = Option<&str>> {
        self.0.iter().map(|(_, value)| value.as_deref())
    }

    pub(super) fn document(&self) -> Value {
        let present = self.0.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?)));
        let headers: BTreeMap<Value, Value> =
            present.map(|(name, value)| (name.into(), value.into())).collect();
        request_document([("headers", Value::from(headers))])
    }
}

fn request_document<const N: usize>(http: [(&str, Value); N]) -> Value {
    object([("attributes", object([("request", object([("http", object(http))]))]))])
}

fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    Value::from(
        members.into_iter().map(|(name, value)| (name.into(), value)).collect::<BTreeMap<Value, Value>>(),
    )
}
