//! A broker as its clients see it: NGSIv2 requests with a deadline, and answers with a bound.

use std::{collections::HashMap, time::Duration};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use scope::Tenant;
use serde::{Deserialize, de::IgnoredAny};

use super::{arguments::HeaderLine, connection, entity::SERVICE_PATH};

/// A page of a thousand entities at a high offset takes its time in a large database.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// The request that writes entities; what it sets it sets as well twice.
pub(super) const UPDATE: &str = "/v2/op/update";
/// Most of one answer that is kept in memory.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// Tries of a request that is told to wait (429), and the longest wait it obeys.
const TRIES: u32 = 20;
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Before a request that got no answer is sent once more.
const PAUSE: Duration = Duration::from_millis(500);
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
    client: connection::Client,
}

impl Broker {
    /// `flag` is that of the URL, for errors: `from` or `to`.
    pub(super) fn new(flag: &'static str, url: &str, lines: &[HeaderLine]) -> Result<Self> {
        let base = connection::base(url).with_context(|| format!("--{flag}"))?;
        let header_flag = if flag == "from" { "--header-from" } else { "--header-to" };
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.parse().with_context(|| header_flag)?;
            headers.append(name, value);
        }
        let client = connection::client(base.starts_with("https"))?;
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

    /// Sends it: again after a pause when the broker says that there were too many, and once more when no answer came and
    /// it does no harm to ask twice.
    async fn send(
        &self,
        method: Method,
        place: Place<'_>,
        target: &str,
        body: Option<Bytes>,
    ) -> Result<Answer, Failure> {
        let mut may_repeat = method == Method::GET || target.starts_with(UPDATE);
        let mut tries = 1;
        loop {
            let request = self.request(&method, place, target, body.clone())?;
            let (status, answer) = match self.exchange(request).await {
                Ok(answered) => answered,
                Err(Failure::NoAnswer(_)) if may_repeat => {
                    may_repeat = false;
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Err(failure) => return Err(failure),
            };
            if status.is_success() {
                return Ok(answer);
            }
            if status != StatusCode::TOO_MANY_REQUESTS || tries == TRIES {
                return Err(Failure::Refused { status, description: self.description(status, &answer) });
            }
            tries += 1;
            tokio::time::sleep(wait(&answer)).await;
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
            Failure::NoAnswer(format!("{} does not answer: {}", self.base, connection::causes(error)))
        };
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| away(&error))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() { Failure::TooLarge } else { away(error.as_ref()) }
            })?;
            Ok((head.status, Answer { headers: head.headers, body: body.to_bytes() }))
        };
        tokio::time::timeout(ANSWER_TIMEOUT, exchange).await.unwrap_or_else(|_| {
            Err(Failure::NoAnswer(format!(
                "{} has not answered in {} s",
                self.base,
                ANSWER_TIMEOUT.as_secs()
            )))
        })
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

fn wait(answer: &Answer) -> Duration {
    let seconds = answer.header("retry-after").and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(1).max(1)).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A server that gives one of these answers to each connection, or closes it, and says how many there were.
    async fn server(answers: &'static [Option<&'static str>]) -> (Broker, tokio::task::JoinHandle<usize>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let served = tokio::spawn(async move {
            for answer in answers {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut request = [0; 4096];
                assert!(socket.read(&mut request).await.unwrap() > 0);
                if let Some(answer) = answer {
                    let text = format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                    socket.write_all(text.as_bytes()).await.unwrap();
                }
            }
            answers.len()
        });
        (Broker::new("from", &url, &[]).unwrap(), served)
    }

    fn place(tenant: &Tenant) -> Place<'_> {
        Place { tenant, path: None }
    }

    #[tokio::test]
    async fn a_request_that_does_no_harm_twice_is_sent_twice_and_no_other() {
        let tenant = Tenant::from_header(None).unwrap();
        let (broker, served) = server(&[None, Some("200 OK"), None, Some("204 No Content"), None]).await;
        broker.get(place(&tenant), "/v2/entities").await.unwrap();
        broker.post(place(&tenant), UPDATE, "{}".to_owned()).await.unwrap();
        let failure = broker.post(place(&tenant), "/v2/subscriptions", "{}".to_owned()).await.unwrap_err();
        assert!(matches!(failure, Failure::NoAnswer(_)), "{failure}");
        assert_eq!(served.await.unwrap(), 5);
    }

    #[tokio::test]
    async fn a_broker_that_is_asked_too_often_gets_the_time_that_it_wants() {
        let tenant = Tenant::from_header(None).unwrap();
        let (broker, served) =
            server(&[Some("429 Too Many Requests\r\nRetry-After: 1"), Some("201 Created")]).await;
        let started = std::time::Instant::now();
        broker.post(place(&tenant), "/v2/subscriptions", "{}".to_owned()).await.unwrap();
        assert!(started.elapsed() >= Duration::from_secs(1));
        assert_eq!(served.await.unwrap(), 2);
    }
}
