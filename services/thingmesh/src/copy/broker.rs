//! A broker as its clients see it: NGSIv2 requests with a deadline, and answers with a bound.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use scope::Tenant;
use serde::{Deserialize, de::IgnoredAny};
use url::Url;

use super::{arguments::HeaderLine, entity::SERVICE_PATH};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A page of a thousand entities at a high offset takes its time in a large database.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Most of one answer that is kept in memory.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// Tries of a request that is told to wait (429), and the longest wait it obeys.
const TRIES: u32 = 20;
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// An error text is shown in one line of a report.
const MAX_TEXT: usize = 300;

/// Why a request was not answered as it should be.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Nothing came, or not all of it: whoever asks next would wait as long.
    #[error("{0}")]
    NoAnswer(String),
    #[error("an answer of more than {} MiB", MAX_ANSWER_BYTES / (1024 * 1024))]
    TooLarge,
    /// It answered with an error.
    #[error("{status}: {description}")]
    Refused { status: StatusCode, description: String },
}

impl Failure {
    /// Whether the next request would fare the same: the broker is away, or lets us in no more.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::NoAnswer(_) => true,
            Self::TooLarge => false,
            Self::Refused { status, .. } => {
                matches!(*status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
            }
        }
    }

    pub(super) fn is_bad_request(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::BAD_REQUEST, .. })
    }
}

/// A good answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// Whose data a request is about: the headers `Fiware-Service` and `Fiware-ServicePath`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) tenant: &'a Tenant,
    /// `None`: no header, which is everything for reads.
    pub(super) path: Option<&'a str>,
}

/// What a first look at a tenant's entities shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checked {
    /// Entities at all service paths.
    pub(super) total: u64,
    /// The options of a counted list. Where `skipForwarding` is not among them, what context providers answer is in it.
    pub(super) options: &'static str,
    /// Whether builtin attribute `servicePath` is there: Orion before 3.11 has none.
    pub(super) shows_paths: bool,
}

/// One end of the copy.
pub(super) struct Broker {
    base: String,
    /// The flag that would let us in, for the error that asks for it.
    header_flag: &'static str,
    headers: HeaderMap,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Broker {
    /// `flag` is that of the URL, for errors: `from` or `to`.
    pub(super) fn new(flag: &'static str, url: &str, lines: &[HeaderLine]) -> Result<Self> {
        let base = base(url).with_context(|| format!("--{flag}"))?;
        let header_flag = if flag == "from" { "--header-from" } else { "--header-to" };
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.parse().with_context(|| header_flag)?;
            headers.append(name, value);
        }
        let client = Client::builder(TokioExecutor::new()).build(connector(base.starts_with("https"))?);
        Ok(Self { base, header_flag, headers, client })
    }

    /// Where it is, without a slash at the end.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    pub(super) async fn get(&self, place: Place<'_>, target: &str) -> Result<Answer, Failure> {
        self.send(Method::GET, place, target, None).await
    }

    pub(super) async fn post(&self, place: Place<'_>, target: &str, body: String) -> Result<Answer, Failure> {
        self.send(Method::POST, place, target, Some(Bytes::from(body))).await
    }

    /// Sends it, again after a pause when the broker says that there were too many.
    async fn send(
        &self,
        method: Method,
        place: Place<'_>,
        target: &str,
        body: Option<Bytes>,
    ) -> Result<Answer, Failure> {
        let mut tries = 1;
        loop {
            let request = self.request(&method, place, target, body.clone())?;
            let exchange = tokio::time::timeout(ANSWER_TIMEOUT, self.exchange(request));
            let (status, answer) = exchange.await.map_err(|_| {
                Failure::NoAnswer(format!("{} has not answered in {} s", self.base, ANSWER_TIMEOUT.as_secs()))
            })??;
            if status.is_success() {
                return Ok(answer);
            }
            if status == StatusCode::TOO_MANY_REQUESTS && tries < TRIES {
                tries += 1;
                tokio::time::sleep(wait(&answer)).await;
                continue;
            }
            return Err(Failure::Refused { status, description: self.description(status, &answer) });
        }
    }

    fn request(
        &self,
        method: &Method,
        place: Place<'_>,
        target: &str,
        body: Option<Bytes>,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request = Request::builder().method(method).uri(format!("{}{target}", self.base));
        if !place.tenant.is_default() {
            request = request.header("fiware-service", place.tenant.as_str());
        }
        if let Some(path) = place.path {
            request = request.header("fiware-servicepath", path);
        }
        // The original forbids it on a GET.
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        request = request.header(header::ACCEPT, "application/json");
        if let Some(headers) = request.headers_mut() {
            headers.extend(self.headers.clone());
        }
        request
            .body(Full::new(body.unwrap_or_default()))
            .map_err(|error| Failure::NoAnswer(format!("no request to {}: {error}", self.base)))
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Answer), Failure> {
        let away = |error: &dyn std::error::Error| {
            Failure::NoAnswer(format!("{} does not answer: {}", self.base, causes(error)))
        };
        let response = self.client.request(request).await.map_err(|error| away(&error))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() { Failure::TooLarge } else { away(error.as_ref()) }
        })?;
        Ok((head.status, Answer { headers: head.headers, body: body.to_bytes() }))
    }

    /// The words of an error answer, and what may help.
    fn description(&self, status: StatusCode, answer: &Answer) -> String {
        #[derive(Deserialize)]
        struct Words {
            error: Option<String>,
            description: Option<String>,
        }
        let told = serde_json::from_slice::<Words>(&answer.body).ok();
        let told = told.and_then(|words| words.description.or(words.error));
        let told = told.unwrap_or_else(|| String::from_utf8_lossy(&answer.body).into_owned());
        let mut text: String = told.chars().filter(|letter| !letter.is_control()).take(MAX_TEXT).collect();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            text = format!("{text} (a token for this tenant is given with {})", self.header_flag);
        }
        text
    }

    /// What a broker can do and how much it has of a tenant; an error says why it is no broker for us.
    pub(super) async fn check(&self, tenant: &Tenant) -> Result<Checked> {
        let place = Place { tenant, path: None };
        // Orion before 3.1 does not know the second word.
        for options in ["count,skipForwarding", "count"] {
            let target = format!("/v2/entities?limit=1&attrs={SERVICE_PATH}&options={options}");
            let answer = match self.get(place, &target).await {
                Ok(answer) => answer,
                Err(failure) if failure.is_bad_request() && options != "count" => continue,
                Err(failure @ Failure::Refused { .. }) => {
                    bail!("{} answered GET /v2/entities with {failure}", self.base)
                }
                Err(failure) => return Err(failure.into()),
            };
            let listed = serde_json::from_slice::<Vec<HashMap<String, IgnoredAny>>>(&answer.body);
            let total = answer.header("fiware-total-count").and_then(|count| count.parse().ok());
            let (Ok(listed), Some(total)) = (listed, total) else { break };
            let shows_paths = listed.iter().all(|entity| entity.contains_key(SERVICE_PATH));
            return Ok(Checked { total, options, shows_paths });
        }
        bail!("{} is not an NGSIv2 broker: GET /v2/entities gave no counted list", self.base)
    }
}

/// The base URL, as all paths are appended to it.
fn base(url: &str) -> Result<String> {
    // The URL is not repeated in the error: it may hold a password.
    let url = Url::parse(url).context("not a URL such as http://orion:1026")?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        bail!("not an http or https URL");
    }
    if !url.username().is_empty() || url.password().is_some() {
        bail!("user and password are not taken from the URL: give a header `Authorization: Basic …`");
    }
    if url.query().is_some() || url.fragment().is_some() {
        bail!("a base URL has no query and no fragment");
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// The system's certificate authorities are read only when they are needed: that takes its time.
fn connector(secure: bool) -> Result<HttpsConnector<HttpConnector>> {
    let mut roots = rustls::RootCertStore::empty();
    if secure {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
    let mut below = HttpConnector::new();
    below.set_connect_timeout(Some(CONNECT_TIMEOUT));
    below.set_nodelay(true);
    below.enforce_http(false);
    let above = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1();
    Ok(above.wrap_connector(below))
}

fn wait(answer: &Answer) -> Duration {
    let seconds = answer.header("retry-after").and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(1).max(1)).min(LONGEST_WAIT)
}

/// An error with all that caused it: "client error (Connect)" alone helps nobody.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text
}

impl HeaderLine {
    /// Its name and value. No error repeats what was given: it is a secret.
    fn parse(&self) -> Result<(HeaderName, HeaderValue)> {
        let (name, value) = self.line().split_once(':').context("not of the form `Name: value`")?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).ok().context("not the name of a header")?;
        let ours =
            ["fiware-service", "fiware-servicepath", "content-type", "content-length", "accept", "host"];
        if ours.contains(&name.as_str()) {
            bail!("{name} is set by the copy itself; tenants are named with --service");
        }
        let mut value = HeaderValue::from_str(value.trim()).ok().context("not the value of a header")?;
        value.set_sensitive(true);
        Ok((name, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_may_have_a_path_and_no_secrets() {
        assert_eq!(base("http://orion:1026").unwrap(), "http://orion:1026");
        assert_eq!(base("https://mesh/orion/").unwrap(), "https://mesh/orion");
        for bad in ["orion:1026", "ftp://orion", "http://u:hunter2@orion", "http://orion/?a=b", "", "orion"] {
            let error = base(bad).unwrap_err();
            assert!(!format!("{error:#}").contains("hunter2"), "{error:#}");
        }
    }

    #[test]
    fn a_header_line_is_read_and_never_repeated_in_an_error() {
        let line = |text: &str| HeaderLine::from(text.to_owned());
        let (name, value) = line("Authorization: Bearer a:b").parse().unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("authorization", "Bearer a:b"));
        for bad in ["hunter2", "x y: hunter2", "Fiware-Service: hunter2", "X-Auth-Token: hunter2\n"] {
            let Err(error) = line(bad).parse() else {
                assert!(bad.ends_with('\n'), "{bad:?} was taken");
                continue;
            };
            assert!(!format!("{error:#}").contains("hunter2"), "{error:#}");
        }
        assert!(!format!("{:?}", line("X-Auth-Token: hunter2")).contains("hunter2"));
    }
}
