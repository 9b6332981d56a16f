//! Many at once, and sudden ends: nothing acknowledged is missing, nothing is there twice.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::json;
use time_series::{
    query::{Attributes, Query, Selection, Window},
    row::Row,
    store::{HistoryStore, StoreError, embedded::Options},
};

use crate::{
    model::{attribute, row, tree},
    stores,
};

const WRITERS: i64 = 8;
const NOTIFICATIONS: i64 = 60;

fn reading(series: i64, at_us: i64) -> Row {
    let attributes = vec![attribute("n", "Integer", json!(at_us))];
    Row { attributes, ..row("t", "/", "Pump", &format!("pump:{series}"), at_us) }
}

fn all_rows() -> Query {
    Query {
        selection: Selection::all(tree("t", "/")),
        attributes: Attributes::All,
        window: Window { limit: 1_000_000, offset: 0, last_n: None },
        aggregation: None,
    }
}

async fn times(store: &dyn HistoryStore) -> Vec<Vec<i64>> {
    let found = store.query(&all_rows()).await.unwrap();
    found.into_iter().flat_map(|rows| rows.entities).map(|entity| entity.times).collect()
}

/// Writes from several tasks; each task waits for the answer to each of its notifications.
async fn write_from_many(store: &Arc<dyn HistoryStore>) {
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        writers.spawn(async move {
            for at_us in 0..NOTIFICATIONS {
                let rows = (0..3).map(|series| reading(writer * 3 + series, at_us)).collect();
                store.append(rows, None).await.unwrap();
            }
        });
    }
    while let Some(written) = writers.join_next().await {
        written.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_a_growing_prefix_of_each_series_while_heads_become_chunks() {
    let dir = tempfile::tempdir().unwrap();
    let store = stores::embedded(dir.path(), stores::early()).await;
    let done = Arc::new(AtomicBool::new(false));
    let reader = tokio::spawn({
        let (store, done) = (store.clone(), done.clone());
        async move {
            let mut seen = 0;
            while !done.load(Ordering::Relaxed) {
                let series = times(&*store).await;
                for times in &series {
                    let expected: Vec<i64> = (0..times.len() as i64).collect();
                    assert_eq!(*times, expected, "neither a gap nor a row twice");
                }
                let rows = series.iter().map(Vec::len).sum::<usize>();
                assert!(rows >= seen, "{rows} rows after {seen}");
                seen = rows;
            }
        }
    });
    write_from_many(&store).await;
    done.store(true, Ordering::Relaxed);
    reader.await.unwrap();
    let series = times(&*store).await;
    assert_eq!(series.len() as i64, WRITERS * 3);
    assert!(series.iter().all(|times| times.len() as i64 == NOTIFICATIONS));
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        // The shared memory of the WAL is rebuilt: a power cut keeps none of it.
        if path.extension().is_none_or(|extension| extension != "db-shm") {
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_sudden_end() {
    for sealing in [stores::early(), Options::default()] {
        let (dir, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = stores::embedded(dir.path(), sealing).await;
        for at_us in 0..50 {
            store.append((0..5).map(|series| reading(series, at_us)).collect(), None).await.unwrap();
        }
        // The files as they are now, with the store still open: what kill -9 leaves.
        copy(dir.path(), after.path());
        let restarted = stores::embedded(after.path(), sealing).await;
        assert_eq!(times(&*restarted).await, vec![(0..50).collect::<Vec<i64>>(); 5]);
        restarted.append(vec![reading(0, 50)], None).await.unwrap();
        assert_eq!(times(&*restarted).await.first().unwrap().len(), 51);
    }
}

#[tokio::test]
async fn the_log_is_cut_even_when_one_series_never_fills_a_chunk() {
    if ::store::testing::too_long_for_quick() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let sealing = Options { head_bytes: 1 << 20, log_bytes: 4_000, chunk_rows: 64 };
    let store = stores::embedded(dir.path(), sealing).await;
    for at_us in 0..2_000 {
        let mut rows = vec![reading(0, at_us)];
        rows.extend((at_us % 500 == 0).then(|| reading(1, at_us)));
        store.append(rows, None).await.unwrap();
    }
    store.close().await;
    let pools = ::store::open_sqlite(&dir.path().join("time-series.db"), "probe", &[]).await.unwrap();
    let log: i64 = sqlx::query_scalar("SELECT coalesce(sum(length(body)), 0) FROM log")
        .fetch_one(&pools.reader)
        .await
        .unwrap();
    let slow: i64 = sqlx::query_scalar("SELECT sum(n) FROM chunk WHERE series = 2")
        .fetch_one(&pools.reader)
        .await
        .unwrap();
    assert!(log < 6_000, "{log} bytes of log");
    assert_eq!(slow, 4, "the slow series was sealed too");
}

#[tokio::test]
async fn a_damaged_file_is_named_in_the_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("time-series.db");
    std::fs::write(&file, vec![7; 20_000]).unwrap();
    let config = time_series::Config { data_dir: dir.path().to_owned(), ..Default::default() };
    let metrics = Arc::new(time_series::metrics::Metrics::unregistered());
    let opened = time_series::open(&config, &metrics, &service_kit::Tasks::new()).await;
    let Err(error @ StoreError::Corrupt { .. }) = opened.map(drop) else { panic!("opened a damaged file") };
    assert!(error.to_string().contains(&file.display().to_string()), "{error}");
}
