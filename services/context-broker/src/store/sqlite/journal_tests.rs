//! What the journal is for: a kill between the answer and the rows.

use std::{path::Path, sync::Arc};

use bus::{Outgoing, outbox};
use futures::{StreamExt, stream::FuturesUnordered};
use ngsi::{
    AttributeUpdate, EntityUpdate, UpdateAction, ValueUpdate,
    update::{OperatorName, UpdateOperator},
};
use scope::{Scope, ServicePath, Tenant};
use serde_json::{Value, json};
use service_kit::{ManualClock, RequestContext, Tasks};
use store::group_commit::GroupCommitOptions;

use super::{SqliteOptions, SqliteStore};
use crate::{
    store::{ContextStore, Selection, SystemStore, schema},
    update::{Applied, Operation, Write},
};

const FILE: &str = "context-broker.db";

struct Bench {
    store: SqliteStore,
    outbox: bus::OutboxDb,
    clock: Arc<ManualClock>,
    _tasks: Tasks,
}

impl Bench {
    async fn open(dir: &Path, reads_journal: bool) -> Self {
        let options = SqliteOptions {
            cache_bytes: 1 << 20,
            max_entity_bytes: 1 << 20,
            indexes: Vec::new(),
            group_commit: GroupCommitOptions { overlap: Some(1), ..GroupCommitOptions::default() },
            reads_journal,
        };
        let clock = Arc::new(ManualClock::at_us(1_000_000));
        let tasks = Tasks::new();
        let opened = SqliteStore::open(&dir.join(FILE), options, clock.clone(), &tasks).await.unwrap();
        Self { store: opened.store, outbox: opened.outbox, clock, _tasks: tasks }
    }

    async fn write(&self, action: UpdateAction, id: &str, attributes: &[(&str, Value)]) -> Applied {
        self.measure(action, id, attributes, None).await
    }

    async fn measure(
        &self,
        action: UpdateAction,
        id: &str,
        attributes: &[(&str, Value)],
        measure_id: Option<[u8; 16]>,
    ) -> Applied {
        let attributes = attributes.iter().map(|(name, value)| {
            let attribute_type = (*name == "dateExpires").then(|| "DateTime".to_owned());
            let value = ValueUpdate::Set(value.clone());
            ((*name).to_owned(), AttributeUpdate { attribute_type, value, metadata: None })
        });
        let update = EntityUpdate {
            id: id.to_owned(),
            entity_type: Some("T".into()),
            attributes: attributes.collect(),
        };
        let operation = Operation { measure_id, ..Operation::new(action, update) };
        let cause = RequestContext::background("test");
        self.store.apply(Write::new(scope(), operation, cause)).await.unwrap()
    }

    async fn values(&self) -> Vec<(String, Value, i64)> {
        let found = self.store.list(&scope().exactly(), &Selection::default(), 0, 100).await.unwrap();
        let value = |entity: &ngsi::EntityText| entity.decode().unwrap().attributes["a"].value.clone();
        found.iter().map(|entity| (entity.id.to_string(), value(entity), entity.version)).collect()
    }
}

fn scope() -> Scope {
    Scope::new(Tenant::from_header(Some("t")).unwrap(), ServicePath::parse("/p").unwrap())
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A folder whose rows stopped long before its journal.
async fn killed(dir: &Path, rows_of: &Path) -> tempfile::TempDir {
    let left = tempfile::tempdir().unwrap();
    copy(rows_of, left.path());
    std::fs::remove_dir_all(left.path().join("context-broker.journal")).ok();
    copy(&dir.join("context-broker.journal"), &left.path().join("context-broker.journal"));
    left
}

#[tokio::test]
async fn what_is_only_in_the_journal_is_there_after_a_start() {
    let (dir, early) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let bench = Bench::open(dir.path(), true).await;
    bench.write(UpdateAction::Append, "changed", &[("a", json!(1))]).await;
    bench.write(UpdateAction::Append, "deleted", &[("a", json!(1))]).await;
    bench.write(UpdateAction::Append, "again", &[("a", json!(1))]).await;
    assert_eq!(bench.values().await.len(), 3, "that puts them into the rows");
    copy(dir.path(), early.path());

    bench.clock.set_us(2_000_000);
    bench.measure(UpdateAction::Append, "changed", &[("a", json!(2))], Some([1; 16])).await;
    bench
        .measure(UpdateAction::Append, "changed", &[("a", json!(3)), ("b", json!("é"))], Some([2; 16]))
        .await;
    bench.write(UpdateAction::Delete, "deleted", &[]).await;
    bench.write(UpdateAction::Delete, "again", &[]).await;
    bench.write(UpdateAction::Append, "again", &[("a", json!(7))]).await;
    let expiry = json!("1970-01-01T00:00:05.000Z");
    bench.write(UpdateAction::Append, "expiring", &[("a", json!(8)), ("dateExpires", expiry)]).await;
    let last = bench.write(UpdateAction::Append, "made", &[("a", json!(9))]).await;
    let expected = bench.values().await;
    assert_eq!(expected.len(), 4);

    // Twice: killed before the first start could put them into the rows, and after.
    let left = killed(dir.path(), early.path()).await;
    for _ in 0..2 {
        let bench = Bench::open(left.path(), true).await;
        assert_eq!(bench.values().await, expected);
        let changed = &bench.store.find(&scope().exactly(), "changed", None).await.unwrap()[0];
        assert_eq!((changed.created_us, changed.modified_us), (1_000_000, 2_000_000));
        for id in [[1; 16], [2; 16]] {
            let again = bench.measure(UpdateAction::Append, "changed", &[("a", json!(0))], Some(id)).await;
            assert!(again.repeated, "measures are remembered");
        }
    }
    let bench = Bench::open(left.path(), true).await;
    let next = bench.write(UpdateAction::Append, "made", &[("a", json!(10))]).await;
    assert!(next.version > last.version, "versions go on");
    bench.store.count(&scope().exactly(), &Selection::default()).await.unwrap();
    assert_eq!(bench.store.sweep_expired(60_000_000).await.unwrap(), 1, "its end was put into the row");
}

/// Rows are written in several transactions, the last of which moves the position: a kill between them leaves rows that are ahead.
#[tokio::test]
async fn rows_that_are_ahead_of_the_position_end_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path(), true).await;
    let id_of = |n: u8| Some([n; 16]);
    for n in 0..3 {
        bench.measure(UpdateAction::Append, "measured", &[("a", json!(n))], id_of(n)).await;
    }
    bench.write(UpdateAction::Append, "again", &[("a", json!(1))]).await;
    bench.write(UpdateAction::Delete, "again", &[]).await;
    bench.write(UpdateAction::Append, "again", &[("b", json!(1)), ("a", json!(2))]).await;
    bench.write(UpdateAction::Append, "gone", &[("a", json!(1))]).await;
    bench.write(UpdateAction::Delete, "gone", &[]).await;
    for n in 3..5 {
        bench.measure(UpdateAction::Append, "measured", &[("a", json!(n))], id_of(n)).await;
    }
    let expected = bench.values().await;
    assert_eq!(expected.len(), 2);
    let entities = |bench: &Bench| {
        let rows = sqlx::query_as::<_, (String, Vec<u8>, Vec<u8>, i64, i64)>(
            "SELECT id, attributes, measures, created_us, version FROM entity ORDER BY id",
        );
        let pools = bench.store.pools.clone();
        async move { rows.fetch_all(&pools.reader).await.unwrap() }
    };
    let rows = entities(&bench).await;
    for position in 0..=10 {
        let left = tempfile::tempdir().unwrap();
        copy(dir.path(), left.path());
        let pools =
            store::open_sqlite(&left.path().join(FILE), schema::COMPONENT, schema::MIGRATIONS).await.unwrap();
        let back = "UPDATE sequence SET value = ? WHERE name = 'journal'";
        sqlx::query(back).bind(position).execute(&pools.writer).await.unwrap();
        pools.close().await;
        let bench = Bench::open(left.path(), true).await;
        assert_eq!(bench.values().await, expected, "from {position}");
        assert_eq!(entities(&bench).await, rows, "from {position}");
    }
}

/// Batches are planned upon those that are under way. Here files of the journal cannot be made for a while, so some of those fail.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_planned_upon_a_batch_that_fails_fails_too() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Arc::new(Bench::open(dir.path(), true).await);
    let increment = |id: u8| {
        let bench = bench.clone();
        let value = ValueUpdate::Operate(vec![UpdateOperator { name: OperatorName::Inc, operand: json!(1) }]);
        let add = AttributeUpdate { attribute_type: None, value, metadata: None };
        let update = EntityUpdate {
            id: format!("e{id}"),
            entity_type: Some("T".into()),
            attributes: [("count".to_owned(), add)].into_iter().collect(),
        };
        let operation = Operation::new(UpdateAction::Append, update);
        let write = Write::new(scope(), operation, RequestContext::background("test"));
        tokio::spawn(async move { (id, bench.store.apply(write).await.is_ok()) })
    };
    for id in 0..3 {
        bench.write(UpdateAction::Append, &format!("e{id}"), &[("a", json!(0)), ("count", json!(0))]).await;
    }
    let (journal, away) = (dir.path().join("context-broker.journal"), dir.path().join("away"));
    let (mut taken, mut refused) = ([0_u64; 3], 0);
    for _ in 0..3 {
        // The newest file is filled, so the next frame goes into another: ten of these are more than it takes, nine are less.
        let fill =
            async || bench.write(UpdateAction::Append, "filler", &[("a", json!("x".repeat(900_000)))]).await;
        let files = || {
            let names = std::fs::read_dir(&journal).unwrap().map(|file| file.unwrap().path());
            names.filter(|path| path.extension().is_some_and(|ending| ending == "journal")).count()
        };
        let before = files();
        let mut written = 0;
        while files() == before {
            fill().await;
            written += 1;
            assert!(written <= 11, "no other file was begun");
        }
        for _ in 0..9 {
            fill().await;
        }
        assert_eq!(files(), before + 1);
        std::fs::rename(&journal, &away).unwrap();
        let mut running: FuturesUnordered<_> = (0..150_u8).map(|n| increment(n % 3)).collect();
        while let Some(answer) = running.next().await {
            match answer.unwrap() {
                (id, true) => taken[usize::from(id)] += 1,
                (_, false) => {
                    refused += 1;
                    // What is under way now could be written.
                    std::fs::rename(&away, &journal).ok();
                }
            }
        }
        std::fs::rename(&away, &journal).ok();
        let (id, works) = increment(0).await.unwrap();
        assert!(works, "it goes on once there is room");
        taken[usize::from(id)] += 1;
    }
    assert!(refused > 0, "a file that cannot be made is noticed");
    let counts = async |bench: &Bench| {
        bench.values().await;
        let mut counts = Vec::new();
        for id in 0..3 {
            let found = bench.store.find(&scope().exactly(), &format!("e{id}"), None).await.unwrap();
            counts.push(found[0].decode().unwrap().attributes["count"].value.as_f64().unwrap() as u64);
        }
        counts
    };
    assert_eq!(counts(&bench).await, taken);
    drop(bench);
    assert_eq!(counts(&Bench::open(dir.path(), true).await).await, taken);
}

#[tokio::test]
async fn events_keep_their_offsets_and_come_once() {
    let (dir, early) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let bench = Bench::open(dir.path(), true).await;
    copy(dir.path(), early.path());
    for n in 0..5 {
        bench.write(UpdateAction::Append, "e", &[("a", json!(n))]).await;
    }
    let left = killed(dir.path(), early.path()).await;
    for _ in 0..2 {
        let bench = Bench::open(left.path(), true).await;
        let bus::OutboxDb::Journal(journal, _) = &bench.outbox else { panic!("no journal") };
        let entries = journal.read(1, 100, usize::MAX).unwrap();
        assert_eq!(entries.iter().map(|entry| entry.offset).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    }
    // The same for a relay, which reads the table and deletes what it has published.
    let left = killed(dir.path(), early.path()).await;
    for _ in 0..2 {
        let bench = Bench::open(left.path(), false).await;
        let bus::OutboxDb::Sqlite(pools) = &bench.outbox else { panic!("no table") };
        let rows: i64 =
            sqlx::query_scalar("SELECT count(*) FROM bus_log").fetch_one(&pools.reader).await.unwrap();
        assert_eq!(rows, 5);
    }
}

#[tokio::test]
async fn a_journal_of_another_time_than_the_rows_is_refused() {
    let (dir, early) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let bench = Bench::open(dir.path(), true).await;
    copy(dir.path(), early.path());
    let large = "x".repeat(900_000);
    for n in 0..20 {
        bench.write(UpdateAction::Append, &format!("e{n}"), &[("a", json!(large))]).await;
    }
    assert_eq!(bench.values().await.len(), 20);
    let bus::OutboxDb::Journal(journal, _) = &bench.outbox else { panic!("no journal") };
    journal.forget_below_floor().unwrap();
    assert!(journal.first() > 1);
    let left = killed(dir.path(), early.path()).await;
    let options = SqliteOptions {
        cache_bytes: 1 << 20,
        max_entity_bytes: 1 << 20,
        indexes: Vec::new(),
        group_commit: GroupCommitOptions::default(),
        reads_journal: true,
    };
    let opened =
        SqliteStore::open(&left.path().join(FILE), options, bench.clock.clone(), &Tasks::new()).await;
    let Err(error) = opened else { panic!("opened") };
    assert!(error.to_string().contains("same backup"), "{error}");
}

#[tokio::test]
async fn the_log_of_an_older_program_moves_into_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::open(dir.path(), true).await;
    let record = |n: u8| Outgoing {
        tenant: scope().tenant,
        key: vec![n].into(),
        payload: vec![n; 3].into(),
        headers: vec![("name".into(), "value".into())],
    };
    let records: Vec<Outgoing> = (0..7).map(record).collect();
    let mut transaction = bench.store.pools.begin().await.unwrap();
    outbox::append_sqlite(&mut transaction, bus::CONTEXT_CHANGES, &records).await.unwrap();
    sqlx::query("DELETE FROM bus_log WHERE seq < 4").execute(&mut *transaction).await.unwrap();
    transaction.commit().await.unwrap();

    let left = tempfile::tempdir().unwrap();
    copy(dir.path(), left.path());
    for _ in 0..2 {
        let bench = Bench::open(left.path(), true).await;
        let bus::OutboxDb::Journal(journal, pools) = &bench.outbox else { panic!("no journal") };
        let entries = journal.read(0, 100, usize::MAX).unwrap();
        let seen: Vec<(i64, u8)> = entries.iter().map(|entry| (entry.offset, entry.record.key[0])).collect();
        assert_eq!(seen, [(4, 3), (5, 4), (6, 5), (7, 6)]);
        assert_eq!(entries[0].record.headers, records[3].headers);
        assert_eq!(journal.next(), 8);
        let rows: i64 =
            sqlx::query_scalar("SELECT count(*) FROM bus_log").fetch_one(&pools.reader).await.unwrap();
        assert_eq!(rows, 0);
    }
    let bench = Bench::open(left.path(), true).await;
    assert!(bench.write(UpdateAction::Append, "e", &[("a", json!(1))]).await.created);
}
