//! A small HTTP client: one tenant's headers, JSON or text in, everything that came back out.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client as HyperClient, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(15);

/// Who asks: the headers of a request.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    pub token: Option<String>,
    pub tenant: Option<String>,
    pub path: Option<String>,
    pub extra: Vec<(String, String)>,
}

impl Caller {
    pub fn nobody() -> Self {
        Self::default()
    }

    pub fn of(tenant: &str) -> Self {
        Self { tenant: Some(tenant.to_owned()), ..Self::default() }
    }

    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    #[must_use]
    pub fn at(mut self, service_path: &str) -> Self {
        self.path = Some(service_path.to_owned());
        self
    }

    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.extra.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// # Panics
    /// When the status is another one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }
}

/// Requests to one base URL. Nothing is ever sent twice.
#[derive(Clone)]
pub struct Client {
    base: String,
    client: HyperClient<HttpConnector, Full<Bytes>>,
}

impl Client {
    pub fn new(base: impl Into<String>) -> Self {
        let client = HyperClient::builder(TokioExecutor::new()).retry_canceled_requests(false).build_http();
        Self { base: base.into(), client }
    }

    pub fn base(&self) -> &str {
        &self.base
    }

    /// One exchange; an error when no whole answer came.
    pub async fn try_send(
        &self,
        method: Method,
        path: &str,
        caller: &Caller,
        body: Option<(&str, Bytes)>,
    ) -> Result<Answer, String> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(token) = &caller.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(tenant) = &caller.tenant {
            request = request.header("fiware-service", tenant);
        }
        if let Some(service_path) = &caller.path {
            request = request.header("fiware-servicepath", service_path);
        }
        for (name, value) in &caller.extra {
            request = request.header(name, value);
        }
        let (content_type, bytes) = body.unwrap_or_default();
        if !content_type.is_empty() {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        let request = request.body(Full::new(bytes)).map_err(|error| error.to_string())?;
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| format!("{error:?}"))?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
            Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
        };
        tokio::time::timeout(TIMEOUT, exchange).await.map_err(|_| format!("no answer within {TIMEOUT:?}"))?
    }

    async fn send(&self, method: Method, path: &str, caller: &Caller, body: Option<(&str, Bytes)>) -> Answer {
        let asked = format!("{method} {}{path}", self.base);
        self.try_send(method, path, caller, body).await.unwrap_or_else(|error| panic!("{asked}: {error}"))
    }

    /// # Panics
    /// Like all below: when no answer came.
    pub async fn get(&self, path: &str, caller: &Caller) -> Answer {
        self.send(Method::GET, path, caller, None).await
    }

    pub async fn delete(&self, path: &str, caller: &Caller) -> Answer {
        self.send(Method::DELETE, path, caller, None).await
    }

    pub async fn post(&self, path: &str, caller: &Caller, body: &Value) -> Answer {
        self.send(Method::POST, path, caller, Some(json(body))).await
    }

    pub async fn patch(&self, path: &str, caller: &Caller, body: &Value) -> Answer {
        self.send(Method::PATCH, path, caller, Some(json(body))).await
    }

    pub async fn post_text(&self, path: &str, caller: &Caller, text: &str) -> Answer {
        self.send(Method::POST, path, caller, Some(("text/plain", Bytes::from(text.to_owned())))).await
    }

    /// Any body of any type.
    pub async fn post_as(
        &self,
        path: &str,
        caller: &Caller,
        content_type: &str,
        body: impl Into<Bytes>,
    ) -> Answer {
        self.send(Method::POST, path, caller, Some((content_type, body.into()))).await
    }
}

fn json(body: &Value) -> (&'static str, Bytes) {
    ("application/json", Bytes::from(body.to_string()))
}
