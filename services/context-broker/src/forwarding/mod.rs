//! What is not here is asked of, and written to, registered context providers (ngsi-v2.md 9). Nothing that they answer
//! is stored.
//!
//! ```text
//! query ─► local ─► what is missing ─► providers, in parallel ─► merged: local wins, exact ids before patterns
//! update ─► local ─► what does not exist ─► providers, in parallel ─► 204, or what was not updated
//! ```
//!
//! A request goes to at most `limit` providers, each within `timeout_ms`, all within `total_ms`. A request that this
//! broker, or too many others, has forwarded already is answered from here alone ([`hops`]).

mod client;
mod hops;
mod query;
mod update;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::HeaderValue;
use ngsi::registration::RegisteredEntity;
use scope::Tenant;
use serde::{Deserialize, Serialize};
use service_kit::{
    RequestContext,
    telemetry::{SpanKind, start_span},
};
use tokio::time::Instant;

use crate::{
    administration::{Administration, Transaction},
    metrics::BrokerMetrics,
    notification::Trust,
    registration::{Entry, Registrations},
};
use client::{Failure, ProviderClient};
use hops::Hops;

/// How requests are forwarded to context providers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ForwardingConfig {
    /// Forwards because of one request, at most; 0: nothing is forwarded (`-cprForwardLimit`).
    pub limit: usize,
    /// Providers asked at once because of one request.
    pub concurrency: usize,
    /// For one provider to answer, milliseconds (`-httpTimeout`).
    pub timeout_ms: u64,
    /// For all providers of one request, milliseconds. Below the listener's own time limit.
    pub total_ms: u64,
    /// Largest request to, and answer of, a provider, bytes (`-outReqMsgMaxSize`).
    pub max_message_bytes: usize,
    /// Brokers of this kind that a request may have come through.
    pub max_hops: usize,
}

impl Default for ForwardingConfig {
    fn default() -> Self {
        Self {
            limit: 1000,
            concurrency: 32,
            timeout_ms: 5_000,
            total_ms: 20_000,
            max_message_bytes: 8 * 1024 * 1024,
            max_hops: 4,
        }
    }
}

/// What a request brings that its forwards carry on.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) tenant: Tenant,
    /// `Fiware-ServicePath` as it came.
    pub(crate) service_path: Option<HeaderValue>,
    pub(crate) auth_token: Option<HeaderValue>,
    /// `Via` as it came.
    pub(crate) via: Option<HeaderValue>,
    pub(crate) cause: RequestContext,
    /// `options=skipForwarding`.
    pub(crate) skip: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Query,
    Update,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Update => "update",
        }
    }

    fn path(self, legacy: bool) -> &'static str {
        match (self, legacy) {
            (Self::Query, false) => "/op/query",
            (Self::Update, false) => "/op/update",
            (Self::Query, true) => "/queryContext",
            (Self::Update, true) => "/updateContext",
        }
    }
}

/// Where `operation` is at a provider. A URL without path has the path `/`, as in the original: agents serve `//op/query`.
fn address(provider: &str, operation: &str) -> String {
    let authority = provider.find("://").map_or(0, |at| at + 3);
    let has_path = provider.get(authority..).is_some_and(|rest| rest.contains('/'));
    format!("{provider}{}{operation}", if has_path { "" } else { "/" })
}

/// One request to one provider.
struct Forward {
    entry: Arc<Entry>,
    body: Vec<u8>,
}

pub(crate) struct Forwarding {
    config: ForwardingConfig,
    registrations: Arc<Registrations>,
    client: ProviderClient,
    hops: Hops,
    metrics: BrokerMetrics,
    administration: Arc<Administration>,
}

impl Forwarding {
    pub(crate) fn new(
        config: &ForwardingConfig,
        registrations: Arc<Registrations>,
        metrics: BrokerMetrics,
        administration: Arc<Administration>,
        trust: Arc<Trust>,
    ) -> Self {
        Self {
            client: ProviderClient::new(config.max_message_bytes, trust),
            hops: Hops::new(config.max_hops),
            config: config.clone(),
            registrations,
            metrics,
            administration,
        }
    }

    /// Whether the request may go on to providers.
    fn serves(&self, caller: &Caller) -> bool {
        if caller.skip || self.config.limit == 0 {
            return false;
        }
        let looped = self.hops.looped(caller);
        if looped {
            self.metrics.forward("any", "looped");
            tracing::debug!(correlator = %caller.cause.correlator, "request came back, it is not forwarded again");
        }
        !looped
    }

    /// Sends all, as many at once as the configuration allows; what they answered, in the order of `forwards`.
    async fn send_all(
        &self,
        caller: &Caller,
        kind: Kind,
        mut forwards: Vec<Forward>,
    ) -> Vec<(Arc<Entry>, Result<Bytes, Failure>)> {
        if forwards.len() > self.config.limit {
            tracing::debug!(
                providers = forwards.len(),
                limit = self.config.limit,
                "not all providers are asked"
            );
            forwards.truncate(self.config.limit);
        }
        let deadline = Instant::now() + Duration::from_millis(self.config.total_ms);
        let sent = forwards.into_iter().enumerate().map(|(at, forward)| async move {
            let answer = self.send(caller, kind, &forward, at + 1, deadline).await;
            (forward.entry, answer)
        });
        stream::iter(sent).buffered(self.config.concurrency.max(1)).collect().await
    }

    /// Sends one, the `number`th because of its request.
    async fn send(
        &self,
        caller: &Caller,
        kind: Kind,
        forward: &Forward,
        number: usize,
        deadline: Instant,
    ) -> Result<Bytes, Failure> {
        let provider = &forward.entry.registration.provider;
        let name = if kind == Kind::Query { "forward query" } else { "forward update" };
        let span = start_span("context-broker", name, SpanKind::Client, &caller.cause.trace);
        let trace = span.as_ref().map_or_else(|| caller.cause.trace.clone(), |span| span.trace_context());
        let correlator = format!("{}; cbfwd={number}", caller.cause.correlator);
        let started = Instant::now();
        let timeout = Duration::from_millis(self.config.timeout_ms).min(deadline - started);
        let _passing = self.hops.pass(&correlator);
        let request = client::Request {
            url: address(&provider.url, kind.path(provider.legacy)),
            legacy: provider.legacy,
            caller,
            correlator: &correlator,
            via: self.hops.via(caller),
            trace: &trace,
            body: forward.body.clone(),
        };
        let answer = self.client.send(request, timeout).await;
        let outcome = answer.as_ref().map_or_else(|failure| failure.as_str(), |_| "answered");
        if let Some(span) = &span {
            span.set("registration", forward.entry.id.to_string());
            span.set("outcome", outcome);
            if answer.is_err() {
                span.fail(outcome);
            }
        }
        tracing::debug!(registration = %forward.entry.id, outcome, kind = kind.as_str(), "forwarded");
        self.metrics.forward(kind.as_str(), outcome);
        self.metrics.forward_took(started.elapsed());
        if provider.legacy {
            self.administration.statistics.legacy_forward();
        }
        if let Some(transactions) = &self.administration.transactions {
            let path = caller.service_path.as_ref().and_then(|path| path.to_str().ok()).unwrap_or_default();
            let transaction = Transaction {
                request_bytes: forward.body.len() as u64,
                response_bytes: answer.as_ref().map_or(0, |body| body.len() as u64),
                failed: answer.is_err(),
                took: started.elapsed(),
            };
            transactions.outgoing(&caller.tenant, path, &transaction);
        }
        answer
    }

    /// Counts what came of a forward, once its answer was read.
    fn count(&self, caller: &Caller, entry: &Entry, kind: Kind, good: bool) {
        if !good {
            tracing::warn!(registration = %entry.id, kind = kind.as_str(), "context provider failed");
        }
        self.registrations.count(&caller.tenant, &entry.id, good);
    }
}

/// The attributes to ask a provider for; `None`: it has none of those that are wanted. Empty: all.
fn asked(wanted: Option<&[String]>, registered: &[String]) -> Option<Vec<String>> {
    match wanted {
        None => Some(registered.to_vec()),
        Some(wanted) if registered.is_empty() => Some(wanted.to_vec()),
        Some(wanted) => {
            let both: Vec<String> = wanted.iter().filter(|name| registered.contains(name)).cloned().collect();
            (!both.is_empty()).then_some(both)
        }
    }
}

/// Narrows an entity without a type to that of the registration.
fn type_of(entities: &[RegisteredEntity]) -> Option<String> {
    entities.iter().find_map(|entity| entity.entity_type.clone())
}
