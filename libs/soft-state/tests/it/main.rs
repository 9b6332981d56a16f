//! What every soft state does, in memory and in Redis; and what happens when Redis is away or hangs.

#![allow(clippy::unwrap_used, reason = "tests")]

mod faults;

use std::{sync::Arc, time::Duration};

use scope::Tenant;
use soft_state::{MAX_VALUE_BYTES, MemorySoftState, Rate, RedisConfig, RedisSoftState, SoftState, Verdict};
use store::testing::{fresh_schema, server};

const SOON: Duration = Duration::from_secs(10);

fn tenant(name: &str) -> Tenant {
    Tenant::canonical(name).unwrap()
}

fn memory() -> Option<Arc<dyn SoftState>> {
    Some(Arc::new(MemorySoftState::new()))
}

fn redis() -> Option<Arc<dyn SoftState>> {
    let config = RedisConfig { prefix: fresh_schema("test"), ..RedisConfig::new(server("TEST_REDIS_URL")?) };
    Some(Arc::new(RedisSoftState::new(&config).unwrap()))
}

async fn a_bucket_gives_its_burst_and_then_its_rate(state: &dyn SoftState) {
    let rate = Rate { per_second: 20.0, burst: 10.0 };
    let take = |cost| async move { state.take(&tenant("a"), "bucket", rate, cost).await.unwrap() };
    assert_eq!(take(4.0).await, Verdict::Allowed);
    assert_eq!(take(6.0).await, Verdict::Allowed);
    let Verdict::RetryAfter(wait) = take(10.0).await else { panic!("the bucket is empty") };
    assert!(wait <= Duration::from_millis(501) && wait > Duration::from_millis(300), "{wait:?}");
    let started = tokio::time::Instant::now();
    tokio::time::sleep(wait).await;
    assert_eq!(take(10.0).await, Verdict::Allowed, "after what it told, {:?}", started.elapsed());
    assert_ne!(take(10.0).await, Verdict::Allowed);
}

async fn many_callers_get_no_more_than_the_burst(state: Arc<dyn SoftState>) {
    let rate = Rate { per_second: 0.01, burst: 25.0 };
    let callers: Vec<_> = (0..100)
        .map(|_| {
            let state = state.clone();
            tokio::spawn(async move { state.take(&tenant("a"), "many", rate, 1.0).await.unwrap() })
        })
        .collect();
    let mut allowed = 0;
    for caller in callers {
        allowed += u32::from(caller.await.unwrap() == Verdict::Allowed);
    }
    assert_eq!(allowed, 25);
}

async fn odd_rates_do_no_harm(state: &dyn SoftState) {
    let (t, never) = (tenant("a"), Rate { per_second: 0.0, burst: 1.0 });
    assert_eq!(state.take(&t, "never", never, 1.0).await.unwrap(), Verdict::Allowed);
    let Verdict::RetryAfter(wait) = state.take(&t, "never", never, 1.0).await.unwrap() else { panic!() };
    assert_eq!(wait, soft_state::MAX_RETRY_AFTER);
    let small = Rate { per_second: 1.0, burst: 2.0 };
    assert_eq!(state.take(&t, "small", small, 100.0).await.unwrap(), Verdict::Allowed, "the whole burst");
    assert_ne!(state.take(&t, "small", small, 1.0).await.unwrap(), Verdict::Allowed);
}

async fn tenants_are_apart(state: &dyn SoftState) {
    let rate = Rate { per_second: 0.01, burst: 1.0 };
    assert_eq!(state.take(&tenant("a"), "b", rate, 1.0).await.unwrap(), Verdict::Allowed);
    assert_eq!(state.take(&tenant("b"), "b", rate, 1.0).await.unwrap(), Verdict::Allowed);
    assert_eq!(state.take(&Tenant::default(), "a:b", rate, 1.0).await.unwrap(), Verdict::Allowed);
    state.put(&tenant("a"), "k", "1", SOON).await.unwrap();
    assert_eq!(state.get(&tenant("b"), "k").await.unwrap(), None);
    assert_eq!(state.get(&Tenant::default(), "a:k").await.unwrap(), None);
    state.remove(&tenant("b"), "k").await.unwrap();
    assert_eq!(state.get(&tenant("a"), "k").await.unwrap().as_deref(), Some("1"));
}

async fn a_lease_has_one_owner_until_it_is_released_or_runs_out(state: &dyn SoftState) {
    assert!(state.acquire_lease("l", "one", SOON).await.unwrap());
    assert!(state.acquire_lease("l", "one", SOON).await.unwrap(), "renewed");
    assert!(!state.acquire_lease("l", "two", SOON).await.unwrap());
    state.release_lease("l", "two").await.unwrap();
    assert!(!state.acquire_lease("l", "two", SOON).await.unwrap(), "only the owner releases");
    state.release_lease("l", "one").await.unwrap();
    assert!(state.acquire_lease("l", "two", Duration::from_millis(50)).await.unwrap());
    let taken = async {
        while !state.acquire_lease("l", "one", SOON).await.unwrap() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, taken).await.expect("the lease runs out");
}

async fn a_value_lives_until_it_is_removed_or_its_time_is_over(state: &dyn SoftState) {
    let t = tenant("a");
    assert_eq!(state.get(&t, "k").await.unwrap(), None);
    state.put(&t, "k", "one", SOON).await.unwrap();
    state.put(&t, "k", "zwei ü", SOON).await.unwrap();
    assert_eq!(state.get(&t, "k").await.unwrap().as_deref(), Some("zwei ü"));
    state.remove(&t, "k").await.unwrap();
    assert_eq!(state.get(&t, "k").await.unwrap(), None);
    state.put(&t, "short", "v", Duration::from_millis(50)).await.unwrap();
    let gone = async {
        while state.get(&t, "short").await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, gone).await.expect("the value runs out");
    let large = "x".repeat(MAX_VALUE_BYTES + 1);
    assert!(state.put(&t, "large", &large, SOON).await.is_err());
    state.check().await.unwrap();
}

macro_rules! suite {
    ($($case:ident($($reference:tt)?)),* $(,)?) => {
        mod in_memory { $(#[tokio::test] async fn $case() {
            let Some(state) = super::memory() else { return };
            super::$case($($reference *)? state).await;
        })* }
        mod in_redis { $(#[tokio::test] async fn $case() {
            let Some(state) = super::redis() else { return };
            super::$case($($reference *)? state).await;
        })* }
    };
}

suite!(
    a_bucket_gives_its_burst_and_then_its_rate(&),
    many_callers_get_no_more_than_the_burst(),
    odd_rates_do_no_harm(&),
    tenants_are_apart(&),
    a_lease_has_one_owner_until_it_is_released_or_runs_out(&),
    a_value_lives_until_it_is_removed_or_its_time_is_over(&),
);
