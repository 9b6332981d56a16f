//! What `/statistics` and `/admin/metrics` count of each request.

use std::time::Duration;

use axum::{body::HttpBody, extract::Request, response::Response};
use http::{HeaderMap, Method, header};
use ngsi::Error;
use scope::Tenant;
use tokio::time::Instant;

use super::{Api, resource::Resource};
use crate::administration::{self, Payload, Transaction};

/// A request from its head to its answer.
pub(super) struct Observation {
    started: Instant,
    resource: Option<Resource>,
    method: &'static str,
    payload: Payload,
    request_bytes: u64,
    /// Whose it is; None: not counted per service.
    place: Option<(Tenant, String)>,
}

impl Observation {
    pub(super) fn begin(api: &Api, request: &Request, tenant: &Result<Tenant, Error>) -> Self {
        let headers = request.headers();
        let resource = Resource::of_path(request.uri().path());
        let counted =
            api.core.administration.transactions.is_some() && resource != Some(Resource::AdminMetrics);
        let place = counted.then(|| place(tenant, headers));
        Self {
            started: Instant::now(),
            resource,
            method: method_name(request.method()),
            payload: payload(headers),
            request_bytes: content_length(headers),
            place,
        }
    }

    pub(super) fn end(self, api: &Api, response: &Response) {
        let administration = &api.core.administration;
        let (took, status) = (self.started.elapsed(), response.status().as_u16());
        self.count(administration, took, status);
        if let (Some(transactions), Some((tenant, path))) = (&administration.transactions, &self.place) {
            let transaction = Transaction {
                request_bytes: self.request_bytes,
                response_bytes: response.body().size_hint().exact().unwrap_or(0),
                failed: status >= 400,
                took,
            };
            transactions.incoming(tenant, path, &transaction);
        }
    }

    fn count(&self, administration: &administration::Administration, took: Duration, status: u16) {
        let statistics = &administration.statistics;
        if matches!(self.resource, Some(Resource::Subscriptions | Resource::Subscription)) {
            statistics.subscription(self.method, status);
        }
        let config = &administration.config;
        if config.statistics_counters || config.statistics_timing {
            statistics.request(&administration::Request {
                template: self.resource.map(Resource::counted_as),
                method: self.method,
                payload: self.payload,
                status,
                took,
            });
        }
    }
}

/// What the headers say, or the default: a request with bad ones counts too.
fn place(tenant: &Result<Tenant, Error>, headers: &HeaderMap) -> (Tenant, String) {
    let tenant = tenant.as_ref().cloned().unwrap_or_default();
    let path = headers.get("fiware-servicepath").and_then(|value| value.to_str().ok()).unwrap_or_default();
    (tenant, path.to_owned())
}

fn payload(headers: &HeaderMap) -> Payload {
    if content_length(headers) == 0 && !headers.contains_key(header::TRANSFER_ENCODING) {
        return Payload::None;
    }
    let is_text = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.as_bytes().get(..5))
        .is_some_and(|begin| begin.eq_ignore_ascii_case(b"text/"));
    if is_text { Payload::Text } else { Payload::Json }
}

fn content_length(headers: &HeaderMap) -> u64 {
    headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0)
}

fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}
