//! One request to one provider: bounded in time and size, never to a link-local address.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use service_kit::{TraceContext, context::CORRELATOR};

use super::Caller;
use crate::{
    COMPATIBLE_VERSION,
    notification::{Pool, Trust, Unsent},
};

const IDLE_CONNECTIONS_PER_HOST: usize = 16;

/// Why a provider gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Timeout,
    Unreachable,
    /// It has no certificate that is trusted, or TLS failed otherwise.
    Untrusted,
    /// Another status than 200 and 204.
    Status,
    /// The message is larger than the configuration allows.
    TooLarge,
    /// Nothing is ever sent there: a link-local address, a scheme that is not served, a URL that is none.
    Refused,
}

impl Failure {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Untrusted => "untrusted",
            Self::Status => "status",
            Self::TooLarge => "too_large",
            Self::Refused => "refused",
        }
    }
}

pub(super) struct Request<'a> {
    pub(super) url: String,
    pub(super) legacy: bool,
    pub(super) caller: &'a Caller,
    pub(super) correlator: &'a str,
    pub(super) via: String,
    pub(super) trace: &'a TraceContext,
    pub(super) body: Vec<u8>,
}

/// Asks providers, over http and https.
pub(super) struct ProviderClient {
    pool: Pool,
    max_bytes: usize,
}

impl ProviderClient {
    pub(super) fn new(max_bytes: usize, trust: Arc<Trust>) -> Self {
        Self { pool: Pool::new(trust, IDLE_CONNECTIONS_PER_HOST), max_bytes }
    }

    /// The body of the answer, at most `timeout` from now.
    pub(super) async fn send(&self, request: Request<'_>, timeout: Duration) -> Result<Bytes, Failure> {
        if request.body.len() > self.max_bytes {
            return Err(Failure::TooLarge);
        }
        let request = http_request(request).ok_or(Failure::Refused)?;
        tokio::time::timeout(timeout, self.exchange(request)).await.unwrap_or(Err(Failure::Timeout))
    }

    async fn exchange(&self, request: http::Request<Full<Bytes>>) -> Result<Bytes, Failure> {
        let answer = self.pool.send(request).await.map_err(|error| reason(&error))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, self.max_bytes).collect().await;
        let body = body.map_err(|error| {
            let too_large = error.is::<http_body_util::LengthLimitError>();
            if too_large { Failure::TooLarge } else { Failure::Unreachable }
        })?;
        match head.status {
            StatusCode::OK | StatusCode::NO_CONTENT => Ok(body.to_bytes()),
            _ => Err(Failure::Status),
        }
    }
}

fn reason(error: &Unsent) -> Failure {
    match error {
        Unsent::Scheme | Unsent::Refused => Failure::Refused,
        Unsent::Timeout => Failure::Timeout,
        Unsent::Untrusted | Unsent::Handshake | Unsent::Tls => Failure::Untrusted,
        Unsent::Unresolved | Unsent::Unreachable | Unsent::Unanswered | Unsent::Broken => {
            Failure::Unreachable
        }
    }
}

fn http_request(request: Request<'_>) -> Option<http::Request<Full<Bytes>>> {
    let Request { url, legacy, caller, correlator, via, trace, body } = request;
    let mut sent = http::Request::post(url).body(Full::new(Bytes::from(body))).ok()?;
    let headers = sent.headers_mut();
    trace.inject(headers);
    let content_type = if legacy { "application/json" } else { "application/json; charset=utf-8" };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    let mut set = |name: HeaderName, value: Option<HeaderValue>| {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    };
    let text = |text: &str| HeaderValue::from_str(text).ok();
    set(header::USER_AGENT, text(&format!("orion/{COMPATIBLE_VERSION} thingmesh")));
    set(header::VIA, text(&via));
    set(HeaderName::from_static(CORRELATOR), text(correlator));
    let tenant = caller.tenant.as_str();
    set(HeaderName::from_static("fiware-service"), text(tenant).filter(|_| !tenant.is_empty()));
    set(HeaderName::from_static("fiware-servicepath"), caller.service_path.clone());
    set(HeaderName::from_static("x-auth-token"), caller.auth_token.clone());
    Some(sent)
}
