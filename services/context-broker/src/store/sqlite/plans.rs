//! How SQLite means to answer: what is quick among a few entities must not read all of a million.

use std::sync::Arc;

use ngsi::query::parse_order;
use scope::{QueryScope, Scope, ServicePath, Tenant};
use service_kit::{SystemClock, Tasks};
use sqlx::{AssertSqlSafe, QueryBuilder, Row, Sqlite};
use store::group_commit::GroupCommitOptions;

use super::{SqliteOptions, SqliteStore};
use crate::store::Selection;

async fn open(dir: &tempfile::TempDir) -> SqliteStore {
    let options = SqliteOptions {
        cache_bytes: 1 << 20,
        max_entity_bytes: 1 << 20,
        indexes: Vec::new(),
        group_commit: GroupCommitOptions::default(),
        reads_journal: true,
    };
    let clock = Arc::new(SystemClock);
    SqliteStore::open(&dir.path().join("plans.db"), options, clock, &Tasks::new()).await.unwrap().store
}

/// The steps of the plan, one a line.
async fn plan(store: &SqliteStore, query: QueryBuilder<Sqlite>) -> String {
    let statement = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {}", query.sql().as_str()));
    let mut scan = store.pools.scan(None).await.unwrap();
    let steps = sqlx::query(statement).fetch_all(&mut *scan).await.unwrap();
    steps.iter().map(|step| step.get::<String, _>(3)).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn ids_are_looked_up_and_far_pages_and_counts_stay_within_an_index() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir).await;
    let scope: QueryScope = Scope { tenant: Tenant::default(), path: ServicePath::root() }.exactly();
    let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    let any = Selection::default();
    let typed = Selection { types: texts(&["T"]), ..Selection::default() };
    let named = Selection { ids: texts(&["a"]), types: texts(&["T"]), ..Selection::default() };
    let several = Selection { ids: texts(&["a", "b"]), ..Selection::default() };
    let by_id = parse_order("id").unwrap();
    for (what, query, step) in [
        ("id", store.list_query(&scope, &named, 0, 20), "INDEX entity_key (tenant=? AND id=?"),
        ("ids", store.list_query(&scope, &several, 0, 20), "INDEX entity_key (tenant=? AND id=?"),
        ("count of an id", store.count_query(&scope, &named), "INDEX entity_key (tenant=? AND id=?"),
        ("page", store.list_query(&scope, &any, 900_000, 20), "COVERING INDEX entity_list (tenant=?)"),
        (
            "page of a type",
            store.list_query(&scope, &typed, 900_000, 20),
            "COVERING INDEX entity_type (tenant=? AND type=?)",
        ),
        (
            "count of a type",
            store.count_query(&scope, &typed),
            "COVERING INDEX entity_type (tenant=? AND type=?)",
        ),
        (
            "count of a place",
            store.count_located_query(&scope, &typed, &[(1, 3)], 20),
            "COVERING INDEX entity_cell (tenant=? AND cell>? AND cell<?)",
        ),
        (
            "places",
            store.places_query(&scope, &typed, &[(1, 3)], 20),
            "COVERING INDEX entity_cell (tenant=? AND cell>? AND cell<?)",
        ),
        (
            "rows by place",
            store.placed_query(&scope, &typed, &[1, 3]),
            "SEARCH entity USING INTEGER PRIMARY KEY",
        ),
        ("by id", store.sorted_query(&scope, &any, &by_id, (0, 20)).unwrap(), "INDEX entity_key (tenant=?)"),
    ] {
        let plan = plan(&store, query).await;
        assert!(plan.contains(step), "{what}: {step} is not in\n{plan}");
    }
}
