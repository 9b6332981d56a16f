use std::sync::Arc;

use http::{StatusCode, header::AUTHORIZATION, request};
use tokio::time::Instant;

use crate::{
    keyring::Keyring,
    metrics::{Asker, DecisionLabels, GatewayMetrics, Outcome},
    policy::{CheckInput, Decision, Policy},
};

/// The policy with what is round it: fresh keys for unknown ones, refusal when it fails, metrics.
#[derive(Clone)]
pub(crate) struct Guard {
    pub(crate) policy: Arc<Policy>,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) metrics: GatewayMetrics,
}

impl Guard {
    /// Judges a request that came to the gateway itself.
    pub(crate) async fn judge(&self, head: &request::Parts, path: &str) -> Decision {
        let token = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        self.ask(Asker::Http, token, CheckInput::from_request(head, path)).await
    }

    /// Judges what `input` describes. `authorization` is the header's value.
    pub(crate) async fn ask(
        &self,
        asker: Asker,
        authorization: Option<&str>,
        input: CheckInput<'_>,
    ) -> Decision {
        let mut decision = self.decide(&input);
        if decision.status == StatusCode::UNAUTHORIZED || !decision.allowed {
            let token = authorization.and_then(|value| value.strip_prefix("Bearer "));
            if let Some(token) = token
                && self.keyring.refresh_for(token).await
            {
                decision = self.decide(&input);
            }
        }
        let outcome = match decision {
            Decision { allowed: true, .. } => Outcome::Allowed,
            Decision { status: StatusCode::UNAUTHORIZED, .. } => Outcome::Unauthenticated,
            _ => Outcome::Forbidden,
        };
        self.metrics.decisions.get_or_create(&DecisionLabels { outcome, asker }).inc();
        decision
    }

    pub(crate) fn note_open(&self) {
        let labels = DecisionLabels { outcome: Outcome::Open, asker: Asker::Http };
        self.metrics.decisions.get_or_create(&labels).inc();
    }

    fn decide(&self, input: &CheckInput<'_>) -> Decision {
        let started = Instant::now();
        let decision = self.policy.decide(input).unwrap_or_else(|error| {
            tracing::error!(%error, "request not judged; refused");
            self.metrics.policy_failures.inc();
            Decision::refusal()
        });
        self.metrics.decision_seconds.observe(started.elapsed().as_secs_f64());
        decision
    }
}
