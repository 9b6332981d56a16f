//! One list of cases for every store.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use futures::future::join_all;
use ngsi::{
    AttributeUpdate, EntityUpdate, ErrorWord, UpdateAction, ValueUpdate,
    update::{OperatorName, UpdateOperator},
};
use scope::{PathPattern, QueryScope, Scope, ServicePath, Tenant};
use serde_json::{Value, json};
use service_kit::{Clock, ManualClock, RequestContext, Tasks};
use store::{PostgresConfig, group_commit::GroupCommitOptions, testing};

use super::{
    AttributeIndex, ContextStore, Cursor, Selection, SystemStore,
    postgres::{PostgresOptions, PostgresStore},
    sqlite::{SqliteOptions, SqliteStore},
    suite_queries::{
        places_are_found_by_their_cells_wherever_they_move, sorted_pages_are_those_of_the_whole_sort,
    },
    suite_subscriptions::{
        changes_of_subscriptions_are_read_from_where_one_is, subscriptions_keep_their_epochs,
    },
};
use crate::{
    error::WriteError,
    update::{Applied, Operation, Write},
};

/// A store under test, and what is needed to open it once more.
pub(crate) struct Bench {
    pub(crate) store: Arc<dyn ContextStore>,
    pub(crate) system: Arc<dyn SystemStore>,
    pub(crate) clock: Arc<ManualClock>,
    _tasks: Tasks,
    place: Place,
}

/// Where the state is.
#[derive(Clone)]
enum Place {
    Sqlite(Arc<tempfile::TempDir>),
    /// URL and schema.
    Postgres(String, String),
}

const START_US: i64 = 1_700_000_000_000_000;
const MAX_ENTITY_BYTES: usize = 10_000;

impl Bench {
    pub(crate) async fn sqlite() -> Option<Self> {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        Some(Self::open(Place::Sqlite(dir), Arc::new(ManualClock::at_us(START_US))).await)
    }

    pub(crate) async fn postgres() -> Option<Self> {
        let place = Place::Postgres(testing::server("TEST_POSTGRES_URL")?, testing::fresh_schema("broker"));
        Some(Self::open(place, Arc::new(ManualClock::at_us(START_US))).await)
    }

    async fn open(place: Place, clock: Arc<ManualClock>) -> Self {
        let tasks = Tasks::new();
        let group_commit = GroupCommitOptions::default();
        let (store, system): (Arc<dyn ContextStore>, Arc<dyn SystemStore>) = match &place {
            Place::Sqlite(dir) => {
                let file: PathBuf = dir.path().join("context-broker.db");
                let options = SqliteOptions {
                    cache_bytes: 1 << 20,
                    max_entity_bytes: MAX_ENTITY_BYTES,
                    indexes: indexes(),
                    group_commit,
                    reads_journal: true,
                };
                let opened = SqliteStore::open(&file, options, clock.clone(), &tasks).await.unwrap();
                let store = Arc::new(opened.store);
                (store.clone(), store)
            }
            Place::Postgres(url, schema) => {
                let options = PostgresOptions {
                    config: PostgresConfig { max_connections: 4, ..PostgresConfig::new(url) },
                    schema: schema.clone(),
                    max_entity_bytes: MAX_ENTITY_BYTES,
                    shards: 3,
                    indexes: indexes(),
                    group_commit,
                };
                let opened = PostgresStore::open(options, clock.clone(), &tasks).await.unwrap();
                let store = Arc::new(opened.store);
                (store.clone(), store)
            }
        };
        Self { store, system, clock, _tasks: tasks, place }
    }

    /// Another process over the same state, which it finds as a killed one leaves it: nothing is stopped or closed.
    pub(crate) async fn reopen(&self) -> Self {
        let place = match &self.place {
            Place::Sqlite(dir) => {
                // Nothing is written while it is copied; what a kill leaves in the journal alone is tested beside the store.
                let everything = QueryScope::whole_tenant(Tenant::default());
                self.store.count(&everything, &Selection::default()).await.unwrap();
                let copy = tempfile::tempdir().unwrap();
                let journal = Path::new("context-broker.journal");
                std::fs::create_dir(copy.path().join(journal)).unwrap();
                let entries = std::fs::read_dir(dir.path().join(journal)).unwrap();
                let segments = entries.map(|entry| journal.join(entry.unwrap().file_name()));
                for name in ["context-broker.db", "context-broker.db-wal"]
                    .map(PathBuf::from)
                    .into_iter()
                    .chain(segments)
                {
                    std::fs::copy(dir.path().join(&name), copy.path().join(&name)).unwrap();
                }
                Place::Sqlite(Arc::new(copy))
            }
            shared @ Place::Postgres(..) => shared.clone(),
        };
        Self::open(place, self.clock.clone()).await
    }

    pub(crate) async fn write(&self, scope: &Scope, operation: Operation) -> Result<Applied, WriteError> {
        let cause = RequestContext::background("test");
        self.store.apply(Write::new(scope.clone(), operation, cause)).await
    }

    async fn value(&self, scope: &Scope, id: &str, name: &str) -> Value {
        let found = self.store.find(&scope.exactly(), id, None).await.unwrap();
        found[0].decode().unwrap().attributes[name].value.clone()
    }
}

/// Of type `T` of tenant `t`.
fn indexes() -> Vec<AttributeIndex> {
    let index = |attribute: &str| AttributeIndex {
        tenant: "t".to_owned(),
        entity_type: "T".to_owned(),
        attribute: attribute.to_owned(),
    };
    vec![index("v"), index("a.b")]
}

pub(crate) fn scope(tenant: &str, path: &str) -> Scope {
    Scope::new(Tenant::from_header(Some(tenant)).unwrap(), ServicePath::parse(path).unwrap())
}

pub(crate) fn update(id: &str, entity_type: Option<&str>, attributes: &[(&str, Value)]) -> EntityUpdate {
    let attributes = attributes.iter().map(|(name, value)| {
        let value = ValueUpdate::Set(value.clone());
        ((*name).to_owned(), AttributeUpdate { attribute_type: None, value, metadata: None })
    });
    EntityUpdate {
        id: id.to_owned(),
        entity_type: entity_type.map(str::to_owned),
        attributes: attributes.collect(),
    }
}

pub(crate) fn append(id: &str, attributes: &[(&str, Value)]) -> Operation {
    Operation::new(UpdateAction::Append, update(id, Some("T"), attributes))
}

fn increment(id: &str, name: &str) -> Operation {
    let operator = UpdateOperator { name: OperatorName::Inc, operand: json!(1) };
    let mut update = update(id, Some("T"), &[(name, json!(0))]);
    update.attributes[name].value = ValueUpdate::Operate(vec![operator]);
    Operation::new(UpdateAction::Append, update)
}

fn word(result: Result<Applied, WriteError>) -> ErrorWord {
    match result {
        Err(WriteError::Refused(error)) => error.word,
        other => panic!("not refused: {other:?}"),
    }
}

async fn versions_grow_for_ever(bench: Bench) {
    let s = scope("t", "/");
    let first = bench.write(&s, append("e", &[("a", json!(1))])).await.unwrap();
    assert!(first.created);
    let delete = Operation::new(UpdateAction::Delete, update("e", Some("T"), &[]));
    let deleted = bench.write(&s, delete).await.unwrap();
    let bench = bench.reopen().await;
    let again = bench.write(&s, append("e", &[("a", json!(1))])).await.unwrap();
    assert!(again.created);
    assert!(first.version < deleted.version && deleted.version < again.version);
}

async fn what_was_answered_is_there_after_a_restart(bench: Bench) {
    let s = scope("t", "/a");
    for n in 0..20 {
        bench.write(&s, append(&format!("e{n}"), &[("a", json!(n))])).await.unwrap();
    }
    let bench = bench.reopen().await;
    for n in 0..20 {
        assert_eq!(bench.value(&s, &format!("e{n}"), "a").await, json!(n));
    }
}

async fn concurrent_increments_are_all_counted(bench: Bench) {
    let s = scope("t", "/");
    let results = join_all((0..300).map(|_| bench.write(&s, increment("counter", "n")))).await;
    let mut versions: Vec<i64> = results.into_iter().map(|result| result.unwrap().version).collect();
    assert_eq!(bench.value(&s, "counter", "n").await, json!(300));
    let count = versions.len();
    versions.dedup();
    assert_eq!(versions.len(), count, "each change has a version of its own");
}

async fn operations_on_one_entity_are_applied_in_the_order_given(bench: Bench) {
    let s = scope("t", "/");
    let results = join_all((0..500).map(|n| bench.write(&s, append("e", &[("n", json!(n))])))).await;
    let versions: Vec<i64> = results.into_iter().map(|result| result.unwrap().version).collect();
    assert!(versions.is_sorted());
    assert_eq!(bench.value(&s, "e", "n").await, json!(499));
}

async fn one_bad_request_harms_no_other(bench: Bench) {
    let s = scope("t", "/");
    let huge = "x".repeat(20_000);
    let operations = vec![
        append("good", &[("a", json!(1))]),
        Operation::new(UpdateAction::Update, update("missing", Some("T"), &[("a", json!(1))])),
        append("huge", &[("a", json!(huge))]),
        append("good", &[("b", json!(2))]),
    ];
    let mut results = join_all(operations.into_iter().map(|operation| bench.write(&s, operation))).await;
    assert!(results.remove(3).is_ok());
    assert_eq!(word(results.remove(2)), ErrorWord::RequestEntityTooLarge);
    assert_eq!(word(results.remove(1)), ErrorWord::NotFound);
    assert!(results.remove(0).is_ok());
    assert_eq!(bench.value(&s, "good", "b").await, json!(2));
    assert!(bench.store.find(&s.exactly(), "huge", None).await.unwrap().is_empty());
}

async fn a_measure_counts_once_however_often_it_is_sent(bench: Bench) {
    let s = scope("t", "/");
    let measure = Operation { measure_id: Some([7; 16]), ..increment("e", "n") };
    let first = bench.write(&s, measure.clone()).await.unwrap();
    let results = join_all((0..5).map(|_| bench.write(&s, measure.clone()))).await;
    assert!(results.into_iter().all(|again| again.is_ok_and(|a| a.repeated && a.version == first.version)));
    let bench = bench.reopen().await;
    assert!(bench.write(&s, measure).await.unwrap().repeated, "also after a restart");
    assert_eq!(bench.value(&s, "e", "n").await, json!(1));
}

async fn an_id_alone_names_the_one_entity_that_has_it(bench: Bench) {
    let s = scope("t", "/");
    let plain = |n: i64| Operation::new(UpdateAction::Append, update("e", None, &[("a", json!(n))]));
    assert_eq!(&*bench.write(&s, plain(1)).await.unwrap().entity_type, "Thing");
    assert!(!bench.write(&s, plain(2)).await.unwrap().created);
    bench.write(&s, append("e", &[("a", json!(3))])).await.unwrap();
    assert_eq!(word(bench.write(&s, plain(4)).await), ErrorWord::TooManyResults);
    let elsewhere = bench.write(&scope("t", "/other"), plain(5)).await.unwrap();
    assert!(elsewhere.created, "the same id in another path is another entity");
}

async fn tenants_and_paths_see_only_their_own(bench: Bench) {
    bench.write(&scope("a", "/x"), append("e", &[("v", json!(1))])).await.unwrap();
    bench.write(&scope("b", "/x"), append("e", &[("v", json!(2))])).await.unwrap();
    bench.write(&scope("a", "/x/y"), append("e", &[("v", json!(3))])).await.unwrap();
    let values = |found: Vec<Arc<ngsi::EntityText>>| -> Vec<Value> {
        found.iter().map(|entity| entity.decode().unwrap().attributes["v"].value.clone()).collect()
    };
    let tenant = Tenant::from_header(Some("a")).unwrap();
    let everything = QueryScope::whole_tenant(tenant.clone());
    assert_eq!(values(bench.store.find(&everything, "e", None).await.unwrap()).len(), 2);
    assert_eq!(
        values(bench.store.list(&scope("b", "/x").exactly(), &Selection::default(), 0, 10).await.unwrap()),
        [json!(2)]
    );
    let tree = QueryScope { tenant, patterns: vec![PathPattern::parse("/x/#").unwrap()] };
    assert_eq!(bench.store.count(&tree, &Selection::default()).await.unwrap(), 2);
    assert_eq!(bench.store.count(&scope("a", "/x").exactly(), &Selection::default()).await.unwrap(), 1);
    let nowhere = QueryScope { patterns: vec![], ..tree };
    assert_eq!(bench.store.count(&nowhere, &Selection::default()).await.unwrap(), 0);
}

async fn lists_are_in_order_of_creation_and_come_in_pages(bench: Bench) {
    let s = scope("t", "/");
    for n in (0..25).rev() {
        bench.clock.set_us(START_US + i64::from(n));
        bench.write(&s, append(&format!("e{n:02}"), &[("n", json!(n))])).await.unwrap();
    }
    let ids = |found: Vec<Arc<ngsi::EntityText>>| found.iter().map(|e| e.id.to_string()).collect::<Vec<_>>();
    let everything = s.exactly();
    let any = Selection::default();
    assert_eq!(ids(bench.store.list(&everything, &any, 10, 3).await.unwrap()), ["e10", "e11", "e12"]);
    assert!(bench.store.list(&everything, &any, 25, 3).await.unwrap().is_empty());
    let some = Selection {
        ids: vec!["e05".into(), "e03".into(), "no".into()],
        types: vec!["T".into()],
        ..Selection::default()
    };
    assert_eq!(ids(bench.store.list(&everything, &some, 0, 3).await.unwrap()), ["e03", "e05"]);
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let chunk = bench.store.scan(&everything, &any, after.as_ref(), 10).await.unwrap();
        let Some(last) = chunk.last() else { break };
        after = Some(Cursor::of(last));
        seen.extend(ids(chunk));
    }
    assert_eq!(seen, (0..25).map(|n| format!("e{n:02}")).collect::<Vec<_>>());
}

async fn a_far_page_is_as_right_as_a_near_one(bench: Bench) {
    let s = scope("t", "/");
    let written = join_all((0..1200).map(|n| bench.write(&s, append(&format!("e{n:04}"), &[])))).await;
    assert!(written.into_iter().all(|result| result.is_ok()));
    let any = Selection::default();
    let ids = async |offset, limit| -> Vec<String> {
        let page = bench.store.list(&s.exactly(), &any, offset, limit).await.unwrap();
        page.iter().map(|entity| entity.id.to_string()).collect()
    };
    let all = ids(0, 2000).await;
    assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), 1200);
    for (offset, expected) in [(998, &all[998..1001]), (1198, &all[1198..])] {
        assert_eq!(ids(offset, 3).await, expected);
    }
    assert_eq!(bench.store.count(&s.exactly(), &any).await.unwrap(), 1200);
}

async fn what_a_query_means_is_among_what_its_conditions_find(bench: Bench) {
    use ngsi::query::{Expression, QueryKind};
    let s = scope("t", "/");
    let values = json!([
        1, -1, 1.5, "1", "a", "", "Z", "\u{0}", "2026-01-31T00:00:00.000Z", true, false, null, [], [1, "a"], {}, {"k": 1}
    ]);
    for (n, value) in values.as_array().unwrap().iter().enumerate() {
        bench.clock.set_us(bench.clock.now_us() + 1);
        bench.write(&s, append(&format!("e{n}"), &[("v", value.clone())])).await.unwrap();
    }
    bench.write(&s, append("other", &[("w", json!("\u{0}"))])).await.unwrap();
    let mut queries =
        vec!["v".to_owned(), "!v".to_owned(), "v.k".to_owned(), "v~=a".to_owned(), "w".to_owned()];
    for literal in ["1", "1.5", "'1'", "a", "true", "null", "2026-01-31", "1,a", "0..2", "'A'..'z'"] {
        queries.extend(["==", "!=", ">", ">=", "<", "<="].map(|operator| format!("v{operator}{literal}")));
    }
    let mut served = 0;
    for query in queries {
        let Ok(expression) = Expression::parse(&query, QueryKind::Attributes) else { continue };
        let found = async |conditions| {
            let selection = Selection { conditions, ..Selection::default() };
            let mut found = bench.store.scan(&s.exactly(), &selection, None, 100).await.unwrap();
            found.retain(|entity| expression.matches(&entity.decode().unwrap()));
            found.iter().map(|entity| entity.id.clone()).collect::<Vec<_>>()
        };
        let all = found(Vec::new()).await;
        assert_eq!(found(expression.conditions()).await, all, "{query}");
        let selection = Selection {
            types: vec!["T".into()],
            conditions: expression.conditions(),
            ..Selection::default()
        };
        if let Some(mut indexed) = bench.store.indexed(&s.exactly(), &selection, 100).await.unwrap() {
            served += 1;
            indexed.retain(|entity| expression.matches(&entity.decode().unwrap()));
            indexed.sort_by_key(|entity| entity.created_us);
            assert_eq!(indexed.iter().map(|entity| entity.id.clone()).collect::<Vec<_>>(), all, "{query}");
        }
    }
    assert!(served >= 20, "{served} queries were served by the index");
}

async fn what_has_expired_is_invisible_at_once_and_swept_later(bench: Bench) {
    let s = scope("t", "/");
    let end = ngsi::time::format_us(START_US + 1_000_000);
    let mut operation = append("e", &[("a", json!(1)), ("dateExpires", json!(end))]);
    operation.update.attributes["dateExpires"].attribute_type = Some("DateTime".to_owned());
    bench.write(&s, operation).await.unwrap();
    let visible = async || {
        let found = bench.store.find(&s.exactly(), "e", None).await.unwrap().len();
        (found, bench.store.count(&s.exactly(), &Selection::default()).await.unwrap())
    };
    assert_eq!(visible().await, (1, 1));
    bench.clock.set_us(START_US + 1_000_000);
    assert_eq!(visible().await, (0, 0));
    let patch = Operation::new(UpdateAction::Update, update("e", Some("T"), &[("a", json!(2))]));
    assert_eq!(word(bench.write(&s, patch).await), ErrorWord::NotFound);
    assert_eq!(bench.system.sweep_expired(START_US + 1_000_000).await.unwrap(), 1);
    assert_eq!(bench.system.sweep_expired(START_US + 1_000_000).await.unwrap(), 0);
    assert!(bench.write(&s, append("e", &[("a", json!(3))])).await.unwrap().created);
}

async fn an_expiry_that_was_moved_counts_whatever_was_written_between(bench: Bench) {
    let s = scope("t", "/");
    let expiring = |after_us: i64| {
        let end = ngsi::time::format_us(START_US + after_us);
        let mut operation = append("e", &[("dateExpires", json!(end))]);
        operation.update.attributes["dateExpires"].attribute_type = Some("DateTime".to_owned());
        operation
    };
    bench.write(&s, expiring(1_000_000)).await.unwrap();
    bench.write(&s, append("e", &[("a", json!(1))])).await.unwrap();
    bench.write(&s, expiring(3_000_000)).await.unwrap();
    bench.write(&s, append("e", &[("a", json!(2))])).await.unwrap();
    assert_eq!(bench.system.sweep_expired(START_US + 2_000_000).await.unwrap(), 0);
    assert_eq!(bench.value(&s, "e", "a").await, json!(2));
    // What waits to be written into its row is left to a later sweep; a count waits for it.
    assert_eq!(bench.store.count(&s.exactly(), &Selection::default()).await.unwrap(), 1);
    assert_eq!(bench.system.sweep_expired(START_US + 3_000_000).await.unwrap(), 1);
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

/// Two replicas over one database: only with PostgreSQL.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn increments_through_two_replicas_are_all_counted() {
    let Some(first) = Bench::postgres().await else { return };
    let second = first.reopen().await;
    let s = scope("t", "/");
    let rounds = (0..200).map(|n| {
        let bench = if n % 2 == 0 { &first } else { &second };
        let s = &s;
        async move {
            // Deletes and others' rows in between, so that replicas meet while rows come and go.
            bench.write(s, increment("counter", "n")).await.unwrap();
            bench.write(s, append("passing", &[("a", json!(n))])).await.unwrap();
            let delete = Operation::new(UpdateAction::Delete, update("passing", Some("T"), &[]));
            if let Err(error) = bench.write(s, delete).await {
                assert!(matches!(error, WriteError::Refused(_)), "{error}");
            }
            bench.write(s, increment("counter", "n")).await.unwrap().version
        }
    });
    let mut versions = join_all(rounds).await;
    assert_eq!(first.value(&s, "counter", "n").await, json!(400));
    versions.sort_unstable();
    versions.dedup();
    assert_eq!(versions.len(), 200);
}

suite!(
    versions_grow_for_ever,
    sorted_pages_are_those_of_the_whole_sort,
    what_was_answered_is_there_after_a_restart,
    concurrent_increments_are_all_counted,
    operations_on_one_entity_are_applied_in_the_order_given,
    one_bad_request_harms_no_other,
    a_measure_counts_once_however_often_it_is_sent,
    an_id_alone_names_the_one_entity_that_has_it,
    tenants_and_paths_see_only_their_own,
    lists_are_in_order_of_creation_and_come_in_pages,
    a_far_page_is_as_right_as_a_near_one,
    places_are_found_by_their_cells_wherever_they_move,
    what_a_query_means_is_among_what_its_conditions_find,
    what_has_expired_is_invisible_at_once_and_swept_later,
    an_expiry_that_was_moved_counts_whatever_was_written_between,
    subscriptions_keep_their_epochs,
    changes_of_subscriptions_are_read_from_where_one_is,
);
