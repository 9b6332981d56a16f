use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures::future::join_all;
use parking_lot::Mutex;
use store::{
    GroupCommit, GroupCommitError, GroupCommitShards,
    group_commit::{BatchExecutor, GroupCommitOptions},
};
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::sync::CancellationToken;

#[derive(Debug, PartialEq)]
enum Refused {
    Odd,
    Group(GroupCommitError),
}

impl From<GroupCommitError> for Refused {
    fn from(error: GroupCommitError) -> Self {
        Self::Group(error)
    }
}

/// Doubles even numbers, refuses odd ones, panics at 666; each batch waits for a permit.
struct Doubler {
    permits: Semaphore,
    batches: Mutex<Vec<Vec<u64>>>,
    running: AtomicUsize,
}

impl Doubler {
    fn new(permits: usize) -> Arc<Self> {
        let permits = Semaphore::new(permits);
        Arc::new(Self { permits, batches: Mutex::default(), running: AtomicUsize::new(0) })
    }

    fn sizes(&self) -> Vec<usize> {
        self.batches.lock().iter().map(Vec::len).collect()
    }
}

#[async_trait]
impl BatchExecutor for Doubler {
    type Request = u64;
    type Response = u64;
    type Error = Refused;

    async fn execute(&self, batch: Vec<u64>) -> Vec<Result<u64, Refused>> {
        self.running.fetch_add(1, Ordering::SeqCst);
        self.batches.lock().push(batch.clone());
        self.permits.acquire().await.unwrap().forget();
        assert!(!batch.contains(&666), "told to panic");
        batch.into_iter().map(|n| if n % 2 == 0 { Ok(n * 2) } else { Err(Refused::Odd) }).collect()
    }
}

fn options(max_batch: usize, queue: usize) -> GroupCommitOptions {
    GroupCommitOptions { max_batch, queue, ..GroupCommitOptions::default() }
}

async fn until(condition: impl Fn() -> bool) {
    let reached = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reached).await.expect("condition");
}

#[tokio::test]
async fn each_caller_gets_its_own_answer() {
    let (group, work) = GroupCommit::new(Doubler::new(1000), options(10, 1000));
    tokio::spawn(work.run(CancellationToken::new()));
    let answers = join_all((0..100).map(|n| group.submit(n))).await;
    for (n, answer) in (0..100).zip(answers) {
        assert_eq!(answer, if n % 2 == 0 { Ok(n * 2) } else { Err(Refused::Odd) });
    }
}

#[tokio::test]
async fn requests_gather_while_a_batch_runs() {
    let doubler = Doubler::new(0);
    let (group, work) = GroupCommit::new(doubler.clone(), options(8, 100));
    tokio::spawn(work.run(CancellationToken::new()));
    let first = tokio::spawn({
        let group = group.clone();
        async move { group.submit(2).await }
    });
    until(|| doubler.running.load(Ordering::SeqCst) == 1).await;
    let rest: Vec<_> = (0..12)
        .map(|n| {
            let group = group.clone();
            tokio::spawn(async move { group.submit(n).await })
        })
        .collect();
    until(|| group.fill().0 == 12).await;
    doubler.permits.add_permits(10);
    assert_eq!(first.await.unwrap(), Ok(4));
    join_all(rest).await;
    assert_eq!(doubler.sizes(), [1, 8, 4]);
}

#[tokio::test(start_paused = true)]
async fn batches_that_are_kept_apart_gather_unless_they_are_full_or_the_end_comes() {
    const APART: Duration = Duration::from_millis(10);
    let doubler = Doubler::new(100);
    let (group, work) =
        GroupCommit::new(doubler.clone(), GroupCommitOptions { apart: APART, ..options(4, 100) });
    let stop = CancellationToken::new();
    let running = tokio::spawn(work.run(stop.clone()));
    let start = Instant::now();
    let submit = |n| {
        let group = group.clone();
        tokio::spawn(async move { group.submit(n).await })
    };
    // Whoever comes to an idle one pays nothing; the next ones come together.
    assert_eq!(group.submit(2).await, Ok(4));
    assert_eq!(start.elapsed(), Duration::ZERO);
    let few = [4, 6, 8].map(submit);
    join_all(few).await;
    assert_eq!(start.elapsed(), APART);
    let many: Vec<_> = (0..9).map(|n| submit(2 * n)).collect();
    until(|| doubler.sizes() == [1, 3, 4, 4]).await;
    assert_eq!(start.elapsed(), APART);
    stop.cancel();
    join_all(many).await;
    running.await.unwrap();
    assert_eq!((doubler.sizes(), start.elapsed()), (vec![1, 3, 4, 4, 1], APART));
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let doubler = Doubler::new(0);
    let (group, work) = GroupCommit::new(doubler.clone(), options(1, 2));
    tokio::spawn(work.run(CancellationToken::new()));
    let submit = |n| {
        let group = group.clone();
        tokio::spawn(async move { group.submit(n).await })
    };
    let mut accepted = vec![submit(0)];
    until(|| doubler.running.load(Ordering::SeqCst) == 1).await;
    accepted.extend([submit(2), submit(4)]);
    until(|| group.fill() == (2, 2)).await;
    assert_eq!(group.submit(6).await, Err(Refused::Group(GroupCommitError::Overloaded)));
    doubler.permits.add_permits(3);
    for answer in join_all(accepted).await {
        assert!(answer.unwrap().is_ok());
    }
}

#[tokio::test]
async fn a_panic_is_told_to_its_callers_only() {
    let panics = Arc::new(AtomicUsize::new(0));
    let seen = panics.clone();
    let observer: store::group_commit::Observer = Arc::new(move |report| {
        seen.fetch_add(usize::from(report.panicked), Ordering::SeqCst);
    });
    let options = GroupCommitOptions { observer: Some(observer), ..options(10, 10) };
    let (group, work) = GroupCommit::new(Doubler::new(10), options);
    tokio::spawn(work.run(CancellationToken::new()));
    assert_eq!(group.submit(666).await, Err(Refused::Group(GroupCommitError::Unknown)));
    assert_eq!(group.submit(4).await, Ok(8));
    assert_eq!(panics.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_batch_as_large_as_the_one_under_way_begins_beside_it() {
    let doubler = Doubler::new(0);
    let options = GroupCommitOptions { overlap: Some(3), ..options(4, 100) };
    let (group, work) = GroupCommit::new(doubler.clone(), options);
    let stop = CancellationToken::new();
    let running = tokio::spawn(work.run(stop.clone()));
    let submit = |n| {
        let group = group.clone();
        tokio::spawn(async move { group.submit(n).await })
    };
    let begun = |batches: usize| {
        let doubler = doubler.clone();
        async move { until(|| doubler.running.load(Ordering::SeqCst) == batches).await }
    };
    let mut waiting = vec![submit(0)];
    begun(1).await;
    // Two are too few, three are enough; then two are under way, and a third has to wait whatever its size.
    waiting.extend([submit(2), submit(4)]);
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    assert_eq!(doubler.sizes(), [1]);
    waiting.push(submit(6));
    begun(2).await;
    waiting.extend((0..6).map(|n| submit(8 + n * 2)));
    until(|| group.fill().0 == 2).await;
    assert_eq!(doubler.sizes(), [1, 3]);
    doubler.permits.add_permits(1);
    begun(3).await;
    assert_eq!(doubler.sizes(), [1, 3, 4]);
    // What has gathered is done at the stop too.
    stop.cancel();
    doubler.permits.add_permits(10);
    for (n, answer) in (0_u64..).zip(waiting) {
        assert_eq!(answer.await.unwrap(), Ok(n * 4));
    }
    running.await.unwrap();
    assert_eq!(doubler.sizes(), [1, 3, 4, 2]);
    assert_eq!(group.submit(8).await, Err(Refused::Group(GroupCommitError::Stopped)));
}

#[tokio::test]
async fn what_is_queued_at_the_stop_is_still_done() {
    let doubler = Doubler::new(0);
    let (group, work) = GroupCommit::new(doubler.clone(), options(1, 10));
    let stop = CancellationToken::new();
    let running = tokio::spawn(work.run(stop.clone()));
    let accepted: Vec<_> = [2, 4, 6]
        .map(|n| {
            let group = group.clone();
            tokio::spawn(async move { group.submit(n).await })
        })
        .into();
    until(|| doubler.running.load(Ordering::SeqCst) == 1 && group.fill().0 == 2).await;
    stop.cancel();
    doubler.permits.add_permits(10);
    for answer in join_all(accepted).await {
        assert!(answer.unwrap().is_ok());
    }
    running.await.unwrap();
    assert_eq!(group.submit(8).await, Err(Refused::Group(GroupCommitError::Stopped)));
}

#[tokio::test]
async fn a_caller_that_went_away_before_the_batch_is_left_out() {
    let doubler = Doubler::new(0);
    let (group, work) = GroupCommit::new(doubler.clone(), options(10, 10));
    tokio::spawn(work.run(CancellationToken::new()));
    let submit = |n| {
        let group = group.clone();
        tokio::spawn(async move { group.submit(n).await })
    };
    let first = submit(0);
    until(|| doubler.running.load(Ordering::SeqCst) == 1).await;
    let (gone, stays) = (submit(2), submit(4));
    until(|| group.fill().0 == 2).await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    doubler.permits.add_permits(10);
    first.await.unwrap().unwrap();
    assert_eq!(stays.await.unwrap(), Ok(8));
    assert_eq!(*doubler.batches.lock(), [vec![0], vec![4]]);
}

#[tokio::test]
async fn requests_of_one_key_meet_in_one_shard() {
    let doubler = Doubler::new(0);
    let (group, loops) = GroupCommitShards::new(doubler.clone(), 4, options(100, 100));
    let stop = CancellationToken::new();
    for work in loops {
        tokio::spawn(work.run(stop.clone()));
    }
    let submit = |key, n| {
        let group = group.clone();
        tokio::spawn(async move { group.submit(key, n).await })
    };
    let first = [submit(0, 0), submit(1, 2), submit(2, 4), submit(3, 6)];
    until(|| doubler.running.load(Ordering::SeqCst) == 4).await;
    let second: Vec<_> = (0..10).map(|n| submit(7, 100 + n * 2)).collect();
    until(|| group.fill().0 == 10).await;
    doubler.permits.add_permits(100);
    for answer in first.into_iter().chain(second) {
        answer.await.unwrap().unwrap();
    }
    assert_eq!(doubler.sizes(), [1, 1, 1, 1, 10]);
}
