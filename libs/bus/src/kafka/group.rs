use std::{
    ops::Deref,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use rdkafka::{
    ClientContext, TopicPartitionList,
    client::OAuthToken,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext, StreamConsumer},
    error::KafkaError,
    types::RDKafkaRespErr,
};
use tokio::sync::mpsc;

use super::client::Logged;

/// What the group decided about this member. Each must be answered with `assign` / `unassign`.
#[derive(Debug)]
pub(super) enum Decision {
    Assigned(Vec<i32>),
    Revoked,
}

/// Passes the group's decisions on instead of acting on them at once: where a partition starts is asked of the consumer's
/// own store first, and a batch in hand is ended before its partition is given away.
pub(super) struct Membership {
    decisions: mpsc::Sender<Decision>,
    /// The member is leaving: decisions are answered at once, since nobody else will.
    leaving: AtomicBool,
}

pub(super) type Member = StreamConsumer<Membership>;

/// A member that leaves its group when it is dropped, however that comes about. librdkafka's own destructor waits for the
/// group's last decision to be answered, for ever if need be; so it is answered here, and waited for on another thread.
pub(super) struct Joined(Option<Member>);

impl Joined {
    pub(super) fn new(member: Member) -> Self {
        Self(Some(member))
    }

    /// Leaves and waits until the group knows, at most `patience`.
    pub(super) async fn leave(mut self, patience: Duration) {
        if let Some(member) = self.0.take() {
            member.context().leave();
            let left = tokio::task::spawn_blocking(move || part(member));
            tokio::time::timeout(patience, left).await.ok();
        }
    }
}

impl Deref for Joined {
    type Target = Member;

    fn deref(&self) -> &Member {
        self.0.as_ref().expect("a member is there until it leaves")
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        if let Some(member) = self.0.take() {
            member.context().leave();
            std::thread::spawn(move || part(member));
        }
    }
}

fn part(member: Member) {
    if let Err(error) = member.unassign() {
        tracing::warn!(%error, "partitions cannot be given back");
    }
    drop(member);
}

impl Membership {
    pub(super) fn new(decisions: mpsc::Sender<Decision>) -> Self {
        Self { decisions, leaving: AtomicBool::new(false) }
    }

    fn leave(&self) {
        self.leaving.store(true, Ordering::SeqCst);
    }
}

impl ClientContext for Membership {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        Logged.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        Logged.error(error, reason);
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        Err("OAUTHBEARER is not supported".into())
    }
}

impl ConsumerContext for Membership {
    fn rebalance(
        &self,
        member: &BaseConsumer<Self>,
        what: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let decision = match what {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                Decision::Assigned(partitions.elements().iter().map(|element| element.partition()).collect())
            }
            _ => Decision::Revoked,
        };
        let refused = self.leaving.load(Ordering::SeqCst) || self.decisions.try_send(decision).is_err();
        if refused && let Err(error) = member.unassign() {
            tracing::warn!(%error, "partitions cannot be given back");
        }
    }
}
