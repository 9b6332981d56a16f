//! A small HTTP client for the scenario: JSON in and out, one tenant's headers.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(10);

/// What came back: status, `Location`, and the body as JSON (null when it is none).
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) location: Option<String>,
    pub(crate) body: Value,
}

/// Who asks: a token, and the headers that name tenant and service path.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caller {
    pub(crate) token: Option<String>,
    pub(crate) tenant: Option<String>,
    pub(crate) path: Option<String>,
}

impl Caller {
    pub(crate) fn with_path(&self, path: &str) -> Self {
        Self { path: Some(path.to_owned()), ..self.clone() }
    }
}

#[derive(Clone)]
pub(crate) struct Http {
    base: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Http {
    pub(crate) fn new(base: String) -> Self {
        Self { base, client: Client::builder(TokioExecutor::new()).build_http() }
    }

    pub(crate) async fn get(&self, caller: &Caller, path: &str) -> Result<Answer> {
        self.send(Method::GET, caller, path, None).await
    }

    pub(crate) async fn post(&self, caller: &Caller, path: &str, body: &Value) -> Result<Answer> {
        self.send(Method::POST, caller, path, Some(("application/json", body.to_string()))).await
    }

    pub(crate) async fn post_text(&self, caller: &Caller, path: &str, body: String) -> Result<Answer> {
        self.send(Method::POST, caller, path, Some(("text/plain", body))).await
    }

    async fn send(
        &self,
        method: Method,
        caller: &Caller,
        path: &str,
        body: Option<(&str, String)>,
    ) -> Result<Answer> {
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
        if let Some((content_type, _)) = &body {
            request = request.header(header::CONTENT_TYPE, *content_type);
        }
        let request = request.body(Full::new(Bytes::from(body.map(|(_, text)| text).unwrap_or_default())))?;
        let exchange = async {
            let response =
                self.client.request(request).await.with_context(|| format!("no answer for {path}"))?;
            let (head, body) = response.into_parts();
            let body = body.collect().await?.to_bytes();
            let location = head.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
            Ok(Answer {
                status: head.status,
                location: location.map(str::to_owned),
                body: serde_json::from_slice(&body).unwrap_or(Value::Null),
            })
        };
        tokio::time::timeout(TIMEOUT, exchange)
            .await
            .with_context(|| format!("no answer in time for {path}"))?
    }
}
