use std::{
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll},
    time::Duration,
};

use futures::{TryFutureExt, future::BoxFuture};
use parking_lot::Mutex;
use proto::v1::{EntityUpdate, UpdateRequest, UpdateResult, context_broker_client::ContextBrokerClient};
use service_kit::{Code, grpc::Neighbour};
use tokio::time::Instant;
use tonic::{Status, body::Body};
use tower::Service;

use crate::metrics::Metrics;

/// After a failed call nothing is sent for this long, so that devices do not wait for the deadline one after another.
const PAUSE: Duration = Duration::from_secs(1);

/// Longest text of the broker that is passed on.
const MAX_TEXT: usize = 1_024;

/// What the broker did with one update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Applied {
    Done,
    /// It will not take it. `code` is internal when it failed without knowing why.
    Refused {
        code: Code,
        error: String,
        description: String,
    },
    /// It may take it later.
    Later,
}

/// The broker cannot be reached, or did not answer in time: what was sent is applied or not.
#[derive(Debug, thiserror::Error)]
#[error("context broker away: {0}")]
pub(super) struct Away(pub(super) String);

/// A neighbour with an error of a plain type: futures over a boxed one are not known to be `Send`.
#[derive(Clone)]
struct Caller(Neighbour);

impl Service<http::Request<Body>> for Caller {
    type Response = http::Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Self::Response, Status>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.0.poll_ready(context).map_err(Status::from_error)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.call(request).map_err(Status::from_error))
    }
}

/// The context broker as a neighbour.
pub(crate) struct Broker {
    client: ContextBrokerClient<Caller>,
    deadline: Duration,
    away_until: Mutex<Option<Instant>>,
    answers: AtomicBool,
    metrics: Metrics,
}

impl Broker {
    pub(crate) fn new(neighbour: Neighbour, deadline: Duration, metrics: Metrics) -> Self {
        Self {
            client: ContextBrokerClient::new(Caller(neighbour)),
            deadline,
            away_until: Mutex::new(None),
            answers: AtomicBool::new(true),
            metrics,
        }
    }

    /// Whether a call failed a moment ago.
    pub(super) fn is_away(&self) -> bool {
        self.away_until.lock().is_some_and(|until| Instant::now() < until)
    }

    /// Whether the last call was answered.
    pub(super) fn answers(&self) -> bool {
        self.answers.load(Ordering::Relaxed)
    }

    /// Sends updates in order; one result for each. A call that is refused as a whole is repeated update by update, so
    /// that one bad update harms no other.
    pub(super) async fn update(&self, updates: Vec<EntityUpdate>) -> Result<Vec<Applied>, Away> {
        let result = self.update_or_split(updates).await;
        *self.away_until.lock() = match &result {
            Ok(_) => None,
            Err(_) => Some(Instant::now() + PAUSE),
        };
        self.answers.store(result.is_ok(), Ordering::Relaxed);
        Metrics::count(&self.metrics.broker_calls, if result.is_ok() { "ok" } else { "away" });
        result
    }

    async fn update_or_split(&self, updates: Vec<EntityUpdate>) -> Result<Vec<Applied>, Away> {
        let refused = match self.call(updates.clone()).await {
            Ok(applied) => return Ok(applied),
            Err(status) => judge(&status)?,
        };
        if updates.len() == 1 {
            return Ok(vec![refused]);
        }
        let mut applied = Vec::with_capacity(updates.len());
        for update in updates {
            applied.push(match self.call(vec![update]).await {
                Ok(mut one) => one.pop().unwrap_or(Applied::Later),
                Err(status) => judge(&status)?,
            });
        }
        Ok(applied)
    }

    /// Without borrows: its callers' futures would else not be known to be `Send`.
    fn call(&self, updates: Vec<EntityUpdate>) -> BoxFuture<'static, Result<Vec<Applied>, Status>> {
        let sent = updates.len();
        self.metrics.batch_updates.observe(sent as f64);
        let mut request = tonic::Request::new(UpdateRequest { updates });
        request.set_timeout(self.deadline);
        let mut client = self.client.clone();
        let deadline = self.deadline;
        Box::pin(async move {
            let reply = tokio::time::timeout(deadline, client.update(request))
                .await
                .map_err(|_| Status::deadline_exceeded("no answer in time"))??;
            let results = reply.into_inner().results;
            if results.len() != sent {
                return Err(Status::unavailable(format!("{} results for {sent} updates", results.len())));
            }
            Ok(results.into_iter().map(applied).collect())
        })
    }
}

/// A call that failed as a whole: refused for ever, or away.
fn judge(status: &Status) -> Result<Applied, Away> {
    use tonic::Code as C;
    match status.code() {
        // Not of the kind that time heals. (A message over the limit is OutOfRange.)
        C::InvalidArgument | C::OutOfRange | C::Unauthenticated | C::PermissionDenied | C::Unimplemented => {
            Ok(Applied::Refused {
                code: Code::from_grpc(status.code()),
                error: String::new(),
                description: shortened(status.message()),
            })
        }
        _ => Err(Away(format!("{:?}: {}", status.code(), shortened(status.message())))),
    }
}

fn applied(result: UpdateResult) -> Applied {
    let code = tonic::Code::from(result.code);
    match code {
        tonic::Code::Ok => Applied::Done,
        tonic::Code::Unavailable
        | tonic::Code::DeadlineExceeded
        | tonic::Code::Cancelled
        | tonic::Code::Aborted => Applied::Later,
        // One update over a limit of the broker; a limit on calls is answered for the call.
        tonic::Code::ResourceExhausted => refused(Code::TooLarge, result),
        _ => refused(Code::from_grpc(code), result),
    }
}

fn refused(code: Code, result: UpdateResult) -> Applied {
    Applied::Refused { code, error: shortened(&result.error), description: shortened(&result.description) }
}

fn shortened(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(code: tonic::Code) -> Applied {
        applied(UpdateResult { code: code as i32, ..UpdateResult::default() })
    }

    #[test]
    fn results_are_done_refused_or_for_later() {
        assert_eq!(result(tonic::Code::Ok), Applied::Done);
        assert_eq!(result(tonic::Code::Unavailable), Applied::Later);
        assert!(matches!(
            result(tonic::Code::InvalidArgument),
            Applied::Refused { code: Code::BadRequest, .. }
        ));
        assert!(matches!(
            result(tonic::Code::ResourceExhausted),
            Applied::Refused { code: Code::TooLarge, .. }
        ));
    }

    #[test]
    fn only_what_time_does_not_heal_is_refused_as_a_whole() {
        assert!(judge(&Status::unavailable("")).is_err());
        assert!(judge(&Status::unknown("transport error")).is_err());
        assert!(judge(&Status::internal("h2 protocol error")).is_err());
        assert!(judge(&Status::resource_exhausted("busy")).is_err());
        assert!(judge(&Status::invalid_argument("")).is_ok());
        assert!(judge(&Status::out_of_range("message too large")).is_ok());
    }
}
