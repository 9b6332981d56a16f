//! One list of cases for every notification store.

use std::sync::Arc;

use bus::CONTEXT_CHANGES;
use proto::v1::ContextChange;
use scope::Tenant;
use serde_json::json;
use service_kit::{ManualClock, Tasks};
use store::{PostgresConfig, group_commit::GroupCommitOptions, testing};

use super::{
    Backlog, Bounds, Effect, Gate, HistoryPart, Intake, Match, NotificationStore, PostgresNotificationStore,
    Recorded, SqliteNotificationStore,
};
use crate::notification::pending::{Completion, Fate, NewDelivery, Pending, SubscriptionKey, Target};
use crate::{
    store::postgres::{PostgresOptions, PostgresStore},
    subscription::SubscriptionId,
};

struct Bench {
    store: Arc<dyn NotificationStore>,
    durable: bool,
    place: Place,
}

enum Place {
    Sqlite { _dir: tempfile::TempDir },
    Postgres { url: String, schema: String, _tasks: Tasks },
}

const ENDPOINT: &str = "http://sink/in";

impl Bench {
    async fn sqlite() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteNotificationStore::open(&dir.path().join("notifier.db")).await.unwrap();
        Some(Self { store: Arc::new(store), durable: true, place: Place::Sqlite { _dir: dir } })
    }

    async fn postgres() -> Option<Self> {
        let (url, schema) = (testing::server("TEST_POSTGRES_URL")?, testing::fresh_schema("notifier"));
        let tasks = Tasks::new();
        let options = PostgresOptions {
            config: config(&url),
            schema: schema.clone(),
            max_entity_bytes: 1000,
            shards: 1,
            indexes: Vec::new(),
            group_commit: GroupCommitOptions::default(),
        };
        // It makes the outbox, which the notifier shares.
        PostgresStore::open(options, Arc::new(ManualClock::at_us(1)), &tasks).await.unwrap();
        let store = PostgresNotificationStore::open(&config(&url), &schema).await.unwrap();
        store.endpoints().await.unwrap();
        Some(Self {
            store: Arc::new(store),
            durable: true,
            place: Place::Postgres { url, schema, _tasks: tasks },
        })
    }

    async fn record(&self, expected: Option<i64>, next: i64, matches: Vec<Match>) -> Option<Recorded> {
        let changes =
            [ContextChange { entity_id: "e".into(), service_path: "/".into(), ..Default::default() }];
        let intake = Intake {
            topic: CONTEXT_CHANGES,
            partition: 0,
            expected,
            next,
            matches,
            changes: &changes,
            now_us: 5,
            durable: self.durable,
        };
        self.store.record(intake).await.unwrap()
    }

    async fn waiting(&self) -> Vec<Pending> {
        self.store.waiting(ENDPOINT, 100).await.unwrap()
    }
}

fn config(url: &str) -> PostgresConfig {
    PostgresConfig { max_connections: 3, ..PostgresConfig::new(url) }
}

fn key() -> SubscriptionKey {
    let id = SubscriptionId::parse("0123456789abcdef01234567").unwrap();
    SubscriptionKey { tenant: Tenant::from_header(Some("t")).unwrap(), id }
}

fn delivery(commit_time_us: i64, gate: Gate) -> Match {
    let target = Target {
        method: "POST".into(),
        url: format!("{ENDPOINT}?x=1"),
        headers: vec![("a".into(), "b".into())],
        timeout_ms: 7,
        message: None,
        token: None,
    };
    let effect = Effect::Deliver(NewDelivery { target, lane: "l".into(), body: "{}".into(), commit_time_us });
    Match { subscription: key(), revision: 3, gate, commit_time_us, effect }
}

fn history(attributes: &serde_json::Value) -> Match {
    let attributes = attributes.as_object().unwrap().clone();
    let effect = Effect::History(HistoryPart { change: 0, attributes, time_index_attribute: String::new() });
    Match { subscription: key(), revision: 3, gate: Gate::default(), commit_time_us: 1, effect }
}

fn completion(pending: &Pending, fate: Fate, at_us: i64) -> Completion {
    Completion {
        seq: pending.seq,
        subscription: pending.subscription.clone(),
        revision: pending.revision,
        first: pending.attempts == 0,
        fate,
        at_us,
        max_fails: Some(1),
    }
}

fn failed() -> Fate {
    Fate::Failed { reason: "Timeout was reached".into() }
}

async fn effects_are_stored_with_the_position_they_were_made_for(bench: Bench) {
    let open = Gate::default();
    assert_eq!(bench.store.position(CONTEXT_CHANGES, 0).await.unwrap(), None);
    let recorded = bench.record(None, 4, vec![delivery(1, open), delivery(2, open)]).await.unwrap();
    assert_eq!((recorded.deliveries, recorded.endpoints), (2, vec![ENDPOINT.to_owned()]));
    assert!(bench.record(None, 4, vec![delivery(1, open)]).await.is_none(), "the position has moved");
    assert!(bench.record(Some(3), 9, vec![delivery(1, open)]).await.is_none());
    assert_eq!(bench.store.position(CONTEXT_CHANGES, 0).await.unwrap(), Some(4));
    let waiting = bench.waiting().await;
    let times: Vec<i64> = waiting.iter().map(|pending| pending.commit_time_us).collect();
    assert_eq!(times, [1, 2], "in order, each once");
    assert_eq!((waiting[0].target.timeout_ms, &*waiting[0].body), (7, b"{}".as_slice()));
    assert_eq!(bench.store.endpoints().await.unwrap(), [ENDPOINT]);
    assert_eq!(bench.store.pending(u64::MAX).await.unwrap(), 2);
    assert_eq!(bench.store.pending(1).await.unwrap(), 1, "no more are counted than asked for");
}

async fn gates_compare_with_what_is_stored(bench: Bench) {
    let throttled = Gate { throttling_us: Some(10), ..Gate::default() };
    let recorded =
        bench.record(None, 1, vec![delivery(5, throttled), delivery(14, throttled)]).await.unwrap();
    assert_eq!((recorded.deliveries, recorded.held_back), (1, 1));
    let recorded = bench.record(Some(1), 2, vec![delivery(14, throttled), delivery(15, throttled)]).await;
    assert_eq!(recorded.unwrap().deliveries, 1);
    let oneshot = Gate { oneshot: true, ..Gate::default() };
    let recorded = bench.record(Some(2), 3, vec![delivery(20, oneshot), delivery(21, oneshot)]).await;
    assert_eq!(recorded.unwrap().deliveries, 1);
    assert_eq!(bench.record(Some(3), 4, vec![delivery(22, oneshot)]).await.unwrap().deliveries, 0);
    assert!(bench.store.state(&key()).await.unwrap().closes(3));
}

async fn one_change_makes_one_history_record_and_each_subscription_counts_it(bench: Bench) {
    let matches = vec![history(&json!({"a": 1})), history(&json!({"b": 2}))];
    assert_eq!(bench.record(None, 1, matches).await.unwrap().history_records, 1);
    let state = bench.store.state(&key()).await.unwrap();
    assert_eq!(
        (state.times_sent, state.last_success_code, state.last_notification_us),
        (2, Some(200), Some(5))
    );
    let states = bench.store.states(&key().tenant, &[key().id]).await.unwrap();
    assert_eq!(states, [(key(), state)]);
}

async fn what_is_not_kept_is_handed_back_and_counted(mut bench: Bench) {
    bench.durable = false;
    let recorded = bench.record(None, 1, vec![delivery(1, Gate::default())]).await.unwrap();
    assert_eq!((recorded.deliveries, recorded.endpoints.len()), (1, 0));
    assert_eq!(bench.store.pending(u64::MAX).await.unwrap(), 0);
    let tried = completion(&recorded.immediate[0], failed(), 9);
    bench.store.complete(vec![tried]).await.unwrap();
    let state = bench.store.state(&key()).await.unwrap();
    assert_eq!((state.times_sent, state.fails_counter, state.last_failure_us), (1, 1, Some(9)));
}

async fn tries_change_the_state_and_the_queue(bench: Bench) {
    let open = Gate::default();
    bench.record(None, 1, (0..5).map(|n| delivery(n, open)).collect()).await.unwrap();
    let waiting = bench.waiting().await;
    let closed = bench
        .store
        .complete(vec![
            completion(&waiting[0], failed(), 10),
            completion(&waiting[1], Fate::Delivered { code: Some(404) }, 11),
            completion(&waiting[2], Fate::Cancelled, 12),
        ])
        .await
        .unwrap();
    assert!(closed.is_empty());
    let state = bench.store.state(&key()).await.unwrap();
    assert_eq!((state.times_sent, state.fails_counter, state.last_success_code), (2, 0, Some(404)));
    assert_eq!(state.last_failure_reason.as_deref(), Some("Timeout was reached"));
    let left = bench.waiting().await;
    assert_eq!(left.iter().map(|pending| pending.attempts).collect::<Vec<_>>(), [1, 0, 0]);
    // Three wait, one of them is tried again: more than the limit would have failed.
    let failure = vec![completion(&left[0], failed(), 13)];
    assert_eq!(bench.store.complete(failure).await.unwrap(), [(key(), 3)]);
    assert_eq!(bench.store.state(&key()).await.unwrap().fails_counter, 3);
    assert!(bench.waiting().await.is_empty(), "what waits for an inactive subscription is cancelled");
}

async fn what_waits_is_cancelled_by_revision_and_bounded(bench: Bench) {
    let open = Gate::default();
    bench.record(None, 1, (0..10).map(|n| delivery(n, open)).collect()).await.unwrap();
    assert_eq!(bench.store.cancel(&key(), 3).await.unwrap(), 0);
    let bounds = Bounds { not_before_us: 2, max_per_endpoint: 3 };
    assert_eq!(bench.store.enforce(bounds).await.unwrap(), 7);
    let kept: Vec<i64> = bench.waiting().await.iter().map(|pending| pending.commit_time_us).collect();
    assert_eq!(kept, [7, 8, 9], "the newest");
    assert_eq!(bench.store.state(&key()).await.unwrap().dropped, 7);
    let backlog = Backlog { pending: 3, oldest_us: 7, attempts: 0 };
    assert_eq!(bench.store.backlog(&key().tenant, None).await.unwrap(), [(key(), backlog)]);
    assert_eq!(bench.store.backlog(&key().tenant, Some(&key().id)).await.unwrap(), [(key(), backlog)]);
    assert!(bench.store.backlog(&Tenant::default(), None).await.unwrap().is_empty());
    assert_eq!(bench.store.longest(10).await.unwrap(), [(key(), 3)]);
    assert_eq!(bench.store.cancel(&key(), 4).await.unwrap(), 3);
    bench.record(Some(1), 2, vec![history(&json!({"a": 1})), delivery(1, open)]).await.unwrap();
    assert_eq!(bench.store.forget(&key()).await.unwrap(), 1);
    assert_eq!(bench.store.state(&key()).await.unwrap(), Default::default());
}

/// Replicas share the endpoints, and one that leaves hands over its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_belongs_to_one_replica_at_a_time() {
    let Some(bench) = Bench::postgres().await else { return };
    let Place::Postgres { url, schema, .. } = &bench.place else { unreachable!("opened above") };
    let second = PostgresNotificationStore::open(&config(url), schema).await.unwrap();
    second.endpoints().await.unwrap();
    let urls: Vec<String> = (0..100).map(|n| format!("http://sink{n}/")).collect();
    assert!(urls.iter().all(|url| bench.store.owns(url)), "the first one has all");
    assert!(!urls.iter().any(|url| second.owns(url)));
    bench.store.release().await.unwrap();
    assert!(!urls.iter().any(|url| bench.store.owns(url)));
    let taken = async {
        while !urls.iter().all(|url| second.owns(url)) {
            second.endpoints().await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), taken).await.expect("handed over");
}

macro_rules! suite {
    ($($case:ident),* $(,)?) => {
        suite!(sqlite: $($case),*);
        suite!(postgres: $($case),*);
    };
    ($store:ident: $($case:ident),*) => {
        mod $store {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                if let Some(bench) = super::Bench::$store().await {
                    super::$case(bench).await;
                }
            })*
        }
    };
}

suite!(
    effects_are_stored_with_the_position_they_were_made_for,
    gates_compare_with_what_is_stored,
    one_change_makes_one_history_record_and_each_subscription_counts_it,
    tries_change_the_state_and_the_queue,
    what_is_not_kept_is_handed_back_and_counted,
    what_waits_is_cancelled_by_revision_and_bounded,
);
