//! Every metric of the gateway: `thingmesh_gateway_*`.

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue},
    metrics::{counter::Counter, family::Family, histogram::Histogram},
};
use service_kit::metrics::{Metrics, seconds_histogram};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Outcome {
    /// The path is open to all.
    Open,
    Allowed,
    Unauthenticated,
    Forbidden,
}

/// Who asked: the gateway's own listener or an Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub(crate) enum Asker {
    Http,
    ExtAuthz,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct DecisionLabels {
    pub(crate) outcome: Outcome,
    pub(crate) asker: Asker,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct UpstreamLabels {
    pub(crate) route: String,
    /// The status class, such as `2xx`, or `away` and `timeout` when there was no answer.
    pub(crate) status: &'static str,
}

/// Counters of one gateway; clones share them.
#[derive(Clone)]
pub struct GatewayMetrics {
    pub(crate) decisions: Family<DecisionLabels, Counter>,
    pub(crate) decision_seconds: Histogram,
    /// Requests refused because the policy could not be evaluated.
    pub(crate) policy_failures: Counter,
    /// Decisions that were made before and still held.
    pub(crate) decisions_remembered: Counter,
    pub(crate) token_cache_hits: Counter,
    pub(crate) token_verifications: Counter,
    pub(crate) key_refreshes: Counter,
    pub(crate) key_refresh_failures: Counter,
    pub(crate) upstream_responses: Family<UpstreamLabels, Counter>,
    pub(crate) upstream_seconds: Histogram,
}

impl GatewayMetrics {
    pub fn register(metrics: &Metrics) -> Self {
        let own = Self {
            decisions: Family::default(),
            decision_seconds: Histogram::new([
                0.000_001, 0.000_002, 0.000_005, 0.000_01, 0.000_02, 0.000_05, 0.000_1, 0.000_25, 0.000_5,
                0.001, 0.01, 0.1,
            ]),
            policy_failures: Counter::default(),
            decisions_remembered: Counter::default(),
            token_cache_hits: Counter::default(),
            token_verifications: Counter::default(),
            key_refreshes: Counter::default(),
            key_refresh_failures: Counter::default(),
            upstream_responses: Family::default(),
            upstream_seconds: seconds_histogram(),
        };
        metrics.register("gateway", |registry| {
            registry.register("decisions", "Requests judged, by outcome", own.decisions.clone());
            registry.register("decision_seconds", "Time to judge a request", own.decision_seconds.clone());
            registry.register(
                "policy_failures",
                "Requests refused because the policy could not be evaluated",
                own.policy_failures.clone(),
            );
            registry.register(
                "decisions_remembered",
                "Requests allowed because the same was allowed before",
                own.decisions_remembered.clone(),
            );
            registry.register("token_cache_hits", "Tokens known to be genuine", own.token_cache_hits.clone());
            registry.register(
                "token_verifications",
                "Tokens whose signature was checked",
                own.token_verifications.clone(),
            );
            registry.register("key_refreshes", "Times the keys were read again", own.key_refreshes.clone());
            registry.register(
                "key_refresh_failures",
                "Times the keys could not be read",
                own.key_refresh_failures.clone(),
            );
            registry.register(
                "upstream_responses",
                "Answers of the services behind, by route and status class",
                own.upstream_responses.clone(),
            );
            registry.register(
                "upstream_seconds",
                "Request sent to a service until its answer began",
                own.upstream_seconds.clone(),
            );
        });
        own
    }
}
