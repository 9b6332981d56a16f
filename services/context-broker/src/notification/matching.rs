//! From changes to what they trigger: pure.

use std::{collections::HashMap, sync::Arc};

use http::HeaderMap;
use ngsi::{
    Alteration, Attributes, Entity,
    subscription::{ChangeView, CustomPayload, Envelope, Means, NotificationSpec, Status, Subscription},
};
use proto::v1::{self, ContextChange};
use scope::{ServicePath, Tenant};
use service_kit::{TraceContext, telemetry};

use super::{
    own_history::OwnHistory,
    pending::{Message, NewDelivery, SubscriptionKey, Target},
    store::{Effect, Gate, HistoryPart, Match},
};
use crate::{
    subscription::{Entry, TenantIndex},
    tokens::SealedToken,
};

const USER_AGENT: &str = concat!("orion/4.7.0 thingmesh/", env!("CARGO_PKG_VERSION"));
const TIME_INDEX_HEADER: &str = "fiware-timeindex-attribute";

pub(super) struct Matcher {
    pub(super) own_history: OwnHistory,
    /// Whether templates of custom notifications are filled.
    pub(super) custom: bool,
}

/// The changes of a batch, as far on in their traces as they now are, and what they trigger.
pub(super) struct Prepared {
    pub(super) changes: Vec<ContextChange>,
    pub(super) matches: Vec<Match>,
}

/// A change with what is parsed of it.
struct Parsed {
    entity: Entity,
    previous: Attributes,
    alteration: Alteration,
}

/// A change that is told, with all that goes into its messages.
#[derive(Clone, Copy)]
struct Told<'a> {
    /// Index of the change in the batch.
    place: usize,
    change: &'a ContextChange,
    parsed: &'a Parsed,
    trace: &'a TraceContext,
    tenant: &'a Tenant,
}

impl Matcher {
    pub(super) fn prepare(
        &self,
        mut changes: Vec<ContextChange>,
        indexes: &HashMap<String, (Tenant, Arc<TenantIndex>)>,
        tokens: &HashMap<String, SealedToken>,
    ) -> Prepared {
        let mut matches = Vec::new();
        let mut counted: HashMap<String, u32> = HashMap::new();
        for (place, change) in changes.iter_mut().enumerate() {
            let Some((tenant, index)) = indexes.get(&change.tenant) else { continue };
            let Some(parsed) = parse(change) else {
                tracing::error!(entity = change.entity_id, version = change.version, "change not readable");
                continue;
            };
            let touched = change.updated.iter().chain(&change.removed).map(String::as_str);
            let about = (change.entity_id.as_str(), change.entity_type.as_str());
            let mut triggered = index.candidates(about, touched, &parsed.entity.attributes);
            triggered.retain(|entry| triggers(entry, change, &parsed));
            if triggered.is_empty() {
                continue;
            }
            let count = counted.entry(change.correlator.clone()).or_insert(0);
            let trace = trace_of(change);
            let span = telemetry::event_span("context-broker", "notify", &trace);
            let trace = span.as_ref().map_or(trace, telemetry::ActiveSpan::trace_context);
            for entry in triggered {
                *count += 1;
                let correlator = format!("{}; cbnotif={count}", change.correlator);
                let subscription = SubscriptionKey { tenant: tenant.clone(), id: entry.id.clone() };
                let told = Told { place, change, parsed: &parsed, trace: &trace, tenant };
                let token = tokens.get(&change.token_ref);
                let effect = self.effect(&entry, &told, &correlator, token);
                matches.push(Match {
                    subscription,
                    revision: entry.revision,
                    gate: gate(&entry.subscription),
                    commit_time_us: change.commit_time_us,
                    effect,
                });
            }
            change.traceparent = trace.traceparent();
        }
        Prepared { changes, matches }
    }

    fn effect(
        &self,
        entry: &Entry,
        told: &Told<'_>,
        correlator: &str,
        token: Option<&SealedToken>,
    ) -> Effect {
        let Told { place, change, parsed, trace, tenant } = *told;
        let view = view(change, parsed);
        let subscription = &entry.subscription;
        let target = &subscription.notification.target;
        let plain = target.custom.as_ref().is_none_or(|custom| {
            custom.payload == CustomPayload::Default && custom.qs.is_empty() && custom.method.is_none()
        });
        if target.is_http() && plain && self.own_history.is_meant_by(&target.url) {
            let headers = target.custom.iter().flat_map(|custom| &custom.headers);
            let time_index = headers.filter(|(name, _)| name.eq_ignore_ascii_case(TIME_INDEX_HEADER));
            return Effect::History(HistoryPart {
                change: place,
                attributes: subscription.notified_attributes(&view),
                time_index_attribute: time_index
                    .map(|(_, value)| value.as_str().to_owned())
                    .next()
                    .unwrap_or_default(),
            });
        }
        let envelope = Envelope {
            subscription_id: entry.id.as_str(),
            tenant,
            correlator,
            user_agent: USER_AGENT,
            auth_token: token.map(|token| token.reference.as_str()),
            custom: self.custom,
        };
        let rendered = subscription.notification(&view, &envelope);
        let mut headers = rendered.headers;
        if !matches!(rendered.means, Means::Mqtt { .. }) {
            headers.extend(trace_headers(trace));
        }
        let (method, message) = carrier(&subscription.notification, rendered.means);
        Effect::Deliver(NewDelivery {
            target: Target {
                method,
                url: rendered.url,
                headers,
                timeout_ms: target.timeout_ms,
                message,
                token: token.cloned(),
            },
            lane: format!("{}{}/{}/{}", entry.id, change.service_path, change.entity_id, change.entity_type),
            body: rendered.body.into(),
            commit_time_us: change.commit_time_us,
        })
    }
}

/// The method of an HTTP request, or what its transport needs instead.
fn carrier(spec: &NotificationSpec, means: Means) -> (String, Option<Message>) {
    let user = || spec.target.login().map(|login| login.user.clone()).unwrap_or_default();
    match means {
        Means::Http { method } => (method, None),
        Means::Mqtt { topic, qos, retain } => {
            (String::new(), Some(Message::Mqtt { topic, qos, retain, user: user() }))
        }
        Means::Kafka { topic, key } => (String::new(), Some(Message::Kafka { topic, key, user: user() })),
    }
}

fn triggers(entry: &Entry, change: &ContextChange, parsed: &Parsed) -> bool {
    change.subscription_epoch >= entry.since_epoch
        && entry.path.matches(&parsed.entity.path)
        && entry.subscription.is_active(change.commit_time_us)
        && entry.subscription.matches(&view(change, parsed))
}

fn view<'a>(change: &'a ContextChange, parsed: &'a Parsed) -> ChangeView<'a> {
    ChangeView {
        entity: &parsed.entity,
        alteration: parsed.alteration,
        updated: &change.updated,
        changed: &change.changed,
        removed: &change.removed,
        previous: &parsed.previous,
        at_us: change.commit_time_us,
    }
}

fn parse(change: &ContextChange) -> Option<Parsed> {
    let alteration = match change.alteration() {
        v1::Alteration::Create => Alteration::Create,
        v1::Alteration::Change => Alteration::Change,
        v1::Alteration::Update => Alteration::Update,
        v1::Alteration::Delete => Alteration::Delete,
        v1::Alteration::Unspecified => return None,
    };
    Some(Parsed {
        entity: Entity {
            id: change.entity_id.clone(),
            entity_type: change.entity_type.clone(),
            path: ServicePath::parse(&change.service_path).ok()?,
            attributes: serde_json::from_slice(&change.attributes).ok()?,
            created_us: change.created_us,
            modified_us: change.modified_us,
            version: change.version,
        },
        previous: serde_json::from_slice(&change.previous).ok()?,
        alteration,
    })
}

fn gate(subscription: &Subscription) -> Gate {
    Gate {
        throttling_us: subscription
            .throttling_s
            .map(|s| i64::try_from(s).unwrap_or(i64::MAX).saturating_mul(1_000_000)),
        oneshot: subscription.status == Status::Oneshot,
        max_fails: subscription.notification.max_fails_limit.is_some(),
    }
}

fn trace_of(change: &ContextChange) -> TraceContext {
    let parsed = TraceContext::parse(&change.traceparent);
    let trace = parsed.unwrap_or_else(|| TraceContext::generate(false));
    TraceContext { state: change.tracestate.clone(), ..trace }
}

fn trace_headers(trace: &TraceContext) -> Vec<(String, String)> {
    let mut headers = HeaderMap::new();
    trace.inject(&mut headers);
    let text = |value: &http::HeaderValue| value.to_str().ok().map(str::to_owned);
    headers.iter().filter_map(|(name, value)| Some((name.to_string(), text(value)?))).collect()
}
