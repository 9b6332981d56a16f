//! A member of a consumer group: gets partitions, starts each at the consumer's own position, and deals out the records.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{CommitMode, Consumer as _},
    error::KafkaResult,
    message::BorrowedMessage,
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use super::{
    KafkaConfig, client,
    counters::Counters,
    group::{Decision, Joined, Member, Membership},
    partition::{Partition, Progress},
};
use crate::{BusError, ConsumeError, Consumer, Record, backoff::Backoff};

/// How long a batch in hand may go on when its partition is taken away. Later its position no longer matches anyway.
const HAND_BACK_WITHIN: Duration = Duration::from_secs(10);
/// How often progress is told to Kafka. It only serves to show the lag: positions come from the consumer.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// Longest wait for a message before the loop looks round.
const LOOK_ROUND: Duration = Duration::from_secs(1);

pub(super) struct Reader {
    member: Joined,
    topic: String,
    group: String,
    consumer: Arc<dyn Consumer>,
    config: KafkaConfig,
    counters: Arc<Counters>,
    decisions: mpsc::Receiver<Decision>,
    progress: (mpsc::Sender<Progress>, mpsc::Receiver<Progress>),
    /// The partitions that are being read.
    queues: BTreeMap<i32, Queue>,
    tasks: JoinSet<()>,
    hand_back: CancellationToken,
    /// Positions to tell Kafka.
    uncommitted: BTreeMap<i32, i64>,
}

/// What goes to one partition's task.
struct Queue {
    records: mpsc::Sender<Record>,
    /// What came when the queue was full; the partition is paused until it is gone. It stays short: a pause also empties
    /// the client's own buffer.
    overflow: VecDeque<Record>,
    paused: bool,
    /// Offsets below were dealt already.
    next: i64,
}

impl Queue {
    /// Moves what waits into the queue; true when nothing waits any more.
    fn fill(&mut self) -> bool {
        while let Some(record) = self.overflow.pop_front() {
            if let Err(mpsc::error::TrySendError::Full(back)) = self.records.try_send(record) {
                self.overflow.push_front(back);
                return false;
            }
        }
        true
    }
}

type Positions = Vec<(i32, Option<i64>)>;

impl Reader {
    pub(super) fn join(
        config: &KafkaConfig,
        topic: &str,
        group: &str,
        consumer: Arc<dyn Consumer>,
        counters: Arc<Counters>,
    ) -> Result<Self, BusError> {
        let (sender, decisions) = mpsc::channel(16);
        let member: Member =
            config.consumer(group).create_with_context(Membership::new(sender)).map_err(client::unusable)?;
        member.subscribe(&[topic]).map_err(client::unusable)?;
        Ok(Self {
            member: Joined::new(member),
            topic: topic.to_owned(),
            group: group.to_owned(),
            consumer,
            config: config.clone(),
            counters,
            decisions,
            progress: mpsc::channel(256),
            queues: BTreeMap::new(),
            tasks: JoinSet::new(),
            hand_back: CancellationToken::new(),
            uncommitted: BTreeMap::new(),
        })
    }

    pub(super) async fn run(mut self, stop: &CancellationToken) -> Result<(), BusError> {
        let mut commit = tokio::time::interval_at(Instant::now() + COMMIT_EVERY, COMMIT_EVERY);
        commit.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut loading: Option<futures::future::BoxFuture<'static, Option<Positions>>> = None;
        while !stop.is_cancelled() {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                Some(decision) = self.decisions.recv() => {
                    self.hand_back().await;
                    loading = match decision {
                        Decision::Assigned(partitions) => Some(self.load(partitions)),
                        Decision::Revoked => {
                            self.give_back();
                            None
                        }
                    };
                }
                positions = async { loading.as_mut().expect("checked by the guard").await }, if loading.is_some() => {
                    loading = None;
                    if let Some(positions) = positions {
                        self.take(&positions);
                    }
                }
                Some(progress) = self.progress.1.recv() => {
                    if let Progress::Moved = progress {
                        let partitions = self.queues.keys().copied().collect();
                        self.hand_back().await;
                        self.give_back();
                        loading = Some(self.load(partitions));
                    } else {
                        self.note(&progress);
                    }
                }
                Some(ended) = self.tasks.join_next() => {
                    if let Err(error) = ended && error.is_panic() {
                        std::panic::resume_unwind(error.into_panic());
                    }
                }
                _ = commit.tick() => self.commit(CommitMode::Async),
                received = tokio::time::timeout(LOOK_ROUND, self.member.recv()) => {
                    if let Ok(message) = received {
                        deal(&self.member, &mut self.queues, message);
                    }
                }
            }
        }
        self.leave().await;
        Ok(())
    }

    /// Asks the consumer where each partition starts, until it answers. `None` when overtaken by another decision.
    fn load(&self, partitions: Vec<i32>) -> futures::future::BoxFuture<'static, Option<Positions>> {
        let (consumer, topic, group) = (self.consumer.clone(), self.topic.clone(), self.group.clone());
        let overtaken = self.hand_back.clone();
        Box::pin(async move {
            let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
            loop {
                match positions(&*consumer, &topic, &partitions).await {
                    Ok(positions) => return Some(positions),
                    Err(error) => tracing::warn!(topic, group, %error, "no positions yet"),
                }
                if !backoff.pause(&overtaken).await {
                    return None;
                }
            }
        })
    }

    /// Starts reading.
    fn take(&mut self, positions: &Positions) {
        let mut assignment = TopicPartitionList::new();
        for (number, position) in positions {
            // What retention has deleted of that is passed over: then Kafka begins with the oldest that is there.
            let recalled = i64::from(self.consumer.recalls());
            let offset = position.map_or(Offset::Beginning, |position| {
                Offset::Offset(position.saturating_sub(recalled).max(0))
            });
            if let Err(error) = assignment.add_partition_offset(&self.topic, *number, offset) {
                tracing::error!(topic = self.topic, partition = number, %error, "partition not read");
                continue;
            }
            let (sender, records) = mpsc::channel(self.config.batch_records.max(1) * 2);
            self.queues.insert(
                *number,
                Queue { records: sender, overflow: VecDeque::new(), paused: false, next: 0 },
            );
            let partition = Partition {
                topic: self.topic.clone(),
                group: self.group.clone(),
                number: *number,
                position: *position,
                consumer: self.consumer.clone(),
                records,
                progress: self.progress.0.clone(),
                config: self.config.clone(),
                counters: self.counters.clone(),
                stop: self.hand_back.clone(),
            };
            self.tasks.spawn(partition.run());
        }
        tracing::info!(topic = self.topic, group = self.group, ?positions, "partitions assigned");
        if let Err(error) = self.member.assign(&assignment) {
            // The group has decided otherwise since: its decision is on its way.
            tracing::warn!(topic = self.topic, group = self.group, %error, "assignment not taken");
        }
    }

    /// Ends the partitions' tasks, each after the batch in hand.
    async fn hand_back(&mut self) {
        std::mem::take(&mut self.hand_back).cancel();
        self.queues.clear();
        let Self { tasks, progress, uncommitted, .. } = self;
        let ended = async {
            while !tasks.is_empty() {
                tokio::select! {
                    ended = tasks.join_next() => {
                        if let Some(Err(error)) = ended && error.is_panic() {
                            std::panic::resume_unwind(error.into_panic());
                        }
                    }
                    Some(noted) = progress.1.recv() => {
                        if let Progress::Stored { partition, next } = noted {
                            uncommitted.insert(partition, next);
                        }
                    }
                }
            }
        };
        if tokio::time::timeout(HAND_BACK_WITHIN, ended).await.is_err() {
            tracing::warn!(
                topic = self.topic,
                group = self.group,
                "a batch goes on after its partition is gone"
            );
            self.tasks.abort_all();
        }
        // Words of tasks that are gone must not be taken for words of their successors.
        while let Ok(noted) = self.progress.1.try_recv() {
            if let Progress::Stored { partition, next } = noted {
                self.uncommitted.insert(partition, next);
            }
        }
        self.commit(CommitMode::Async);
    }

    fn give_back(&self) {
        if let Err(error) = self.member.unassign() {
            tracing::warn!(topic = self.topic, group = self.group, %error, "partitions cannot be given back");
        }
    }

    fn note(&mut self, progress: &Progress) {
        match progress {
            Progress::Stored { partition, next } => {
                self.uncommitted.insert(*partition, *next);
            }
            Progress::Drained { partition } => {
                if let Some(queue) = self.queues.get_mut(partition)
                    && queue.fill()
                    && std::mem::take(&mut queue.paused)
                {
                    let paused = one(&self.topic, *partition);
                    if let Err(error) = self.member.resume(&paused) {
                        tracing::warn!(topic = self.topic, partition, %error, "partition not resumed");
                    }
                }
            }
            Progress::Moved => {}
        }
    }

    fn commit(&mut self, mode: CommitMode) {
        if self.uncommitted.is_empty() {
            return;
        }
        let mut offsets = TopicPartitionList::new();
        for (partition, next) in std::mem::take(&mut self.uncommitted) {
            offsets.add_partition_offset(&self.topic, partition, Offset::Offset(next)).ok();
        }
        if let Err(error) = self.member.commit(&offsets, mode) {
            tracing::debug!(topic = self.topic, group = self.group, %error, "progress not told");
        }
    }

    /// Leaves the group, so that others get the partitions at once.
    async fn leave(mut self) {
        self.hand_back().await;
        self.member.leave(HAND_BACK_WITHIN).await;
    }
}

fn one(topic: &str, partition: i32) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, partition);
    list
}

async fn positions(
    consumer: &dyn Consumer,
    topic: &str,
    partitions: &[i32],
) -> Result<Positions, ConsumeError> {
    let mut positions = Vec::with_capacity(partitions.len());
    for partition in partitions {
        positions.push((*partition, consumer.position(topic, *partition).await?));
    }
    Ok(positions)
}

/// Puts a message into its partition's queue. A full queue pauses the partition, so that the others go on.
fn deal(member: &Member, queues: &mut BTreeMap<i32, Queue>, message: KafkaResult<BorrowedMessage<'_>>) {
    let message = match message {
        Ok(message) => message,
        Err(error) => {
            // librdkafka goes on by itself; this is for the log.
            tracing::debug!(%error, "no message");
            return;
        }
    };
    let Some(queue) = queues.get_mut(&message.partition()) else { return };
    // What was in the client's buffer when the partition was paused may come a second time.
    if message.offset() < queue.next {
        return;
    }
    queue.next = message.offset() + 1;
    queue.overflow.push_back(client::incoming(&message));
    if !queue.fill() && !std::mem::replace(&mut queue.paused, true) {
        let (topic, partition) = (message.topic(), message.partition());
        if let Err(error) = member.pause(&one(topic, partition)) {
            tracing::warn!(topic, partition, %error, "partition not paused");
        }
    }
}
