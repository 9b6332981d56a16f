use std::{fs, io::Seek, io::Write, path::Path, time::Duration};

use store::{Collation, StoreError, open_sqlite, open_sqlite_with};
use tokio::time::Instant;

use crate::{EDITED, ONE, TWO};

#[tokio::test]
async fn the_writer_waits_for_the_disk_at_each_commit() {
    let dir = tempfile::tempdir().unwrap();
    let file = open_sqlite(&dir.path().join("a.db"), "test", &[ONE]).await.unwrap();
    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&file.writer).await.unwrap();
    let journal: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&file.writer).await.unwrap();
    let foreign_keys: i64 = sqlx::query_scalar("PRAGMA foreign_keys").fetch_one(&file.writer).await.unwrap();
    assert_eq!((synchronous, journal.as_str(), foreign_keys), (2, "wal", 1), "2 is FULL");
}

#[tokio::test]
async fn the_caches_of_all_files_share_one_limit() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a.db", "b.db"] {
        let file = open_sqlite(&dir.path().join(name), "test", &[ONE]).await.unwrap();
        let limit: i64 = sqlx::query_scalar("PRAGMA soft_heap_limit").fetch_one(&file.reader).await.unwrap();
        assert_eq!(limit, 48 << 20);
    }
}

#[tokio::test]
async fn readers_see_commits_and_cannot_write() {
    let dir = tempfile::tempdir().unwrap();
    let file = open_sqlite(&dir.path().join("a.db"), "test", &[ONE]).await.unwrap();
    let mut transaction = file.begin().await.unwrap();
    sqlx::query("INSERT INTO thing VALUES (1, 'a')").execute(&mut *transaction).await.unwrap();
    let count = || async {
        sqlx::query_scalar::<_, i64>("SELECT count(*) FROM thing").fetch_one(&file.reader).await.unwrap()
    };
    assert_eq!(count().await, 0);
    transaction.commit().await.unwrap();
    assert_eq!(count().await, 1);
    let refused = sqlx::query("INSERT INTO thing VALUES (2, 'b')").execute(&file.reader).await;
    assert!(refused.unwrap_err().to_string().contains("readonly"));
}

#[tokio::test]
async fn migrations_run_once_and_a_newer_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    open_sqlite(&path, "test", &[ONE]).await.unwrap().close().await;
    let file = open_sqlite(&path, "test", &[ONE, TWO]).await.unwrap();
    sqlx::query("INSERT INTO thing (id, colour) VALUES (1, 'red')").execute(&file.writer).await.unwrap();
    file.close().await;
    open_sqlite(&path, "test", &[ONE, TWO]).await.unwrap().close().await;
    let error = open_sqlite(&path, "test", &[ONE]).await.unwrap_err();
    assert!(matches!(error, StoreError::TooNew { found: 2, known: 1, .. }), "{error}");
    assert!(error.to_string().contains("newer program"), "{error}");
}

#[tokio::test]
async fn a_migration_that_was_edited_later_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    open_sqlite(&path, "test", &[ONE]).await.unwrap().close().await;
    let error = open_sqlite(&path, "test", &[EDITED]).await.unwrap_err();
    assert!(error.to_string().contains("not the one that was applied"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_no_database_gives_a_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    fs::write(&path, vec![b'x'; 8192]).unwrap();
    assert_damaged(open_sqlite(&path, "test", &[ONE]).await.map(drop), &path);
}

#[tokio::test]
async fn a_damaged_page_gives_a_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    open_sqlite(&path, "test", &[ONE]).await.unwrap().close().await;
    let mut file = fs::File::options().write(true).open(&path).unwrap();
    file.seek(std::io::SeekFrom::Start(100)).unwrap();
    file.write_all(&[0xff; 3000]).unwrap();
    assert_damaged(open_sqlite(&path, "test", &[ONE]).await.map(drop), &path);
}

fn assert_damaged(opened: Result<(), StoreError>, path: &Path) {
    let error = opened.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&path.display().to_string()) && text.contains("restore a backup"), "{text}");
}

#[tokio::test]
async fn a_full_disk_is_an_error_of_its_own_and_later_writes_work() {
    let dir = tempfile::tempdir().unwrap();
    let file = open_sqlite(&dir.path().join("a.db"), "test", &[ONE]).await.unwrap();
    // SQLite's own limit gives the code of a full disk.
    sqlx::query("PRAGMA max_page_count = 12").execute(&file.writer).await.unwrap();
    let big = "x".repeat(200_000);
    let write = || async {
        let mut transaction = file.begin().await?;
        sqlx::query("INSERT INTO thing VALUES (1, ?)").bind(&big).execute(&mut *transaction).await?;
        Ok::<_, StoreError>(transaction.commit().await?)
    };
    let error = write().await.unwrap_err();
    assert!(matches!(error, StoreError::Full(_)) && error.is_retryable(), "{error:?}");
    sqlx::query("PRAGMA max_page_count = 100000").execute(&file.writer).await.unwrap();
    write().await.unwrap();
}

#[tokio::test]
async fn a_broken_unique_key_is_a_conflict() {
    let dir = tempfile::tempdir().unwrap();
    let file = open_sqlite(&dir.path().join("a.db"), "test", &[ONE]).await.unwrap();
    sqlx::query("INSERT INTO thing VALUES (1, 'a')").execute(&file.writer).await.unwrap();
    let error = sqlx::query("INSERT INTO thing VALUES (2, 'a')").execute(&file.writer).await.unwrap_err();
    assert!(matches!(StoreError::from(error), StoreError::Conflict(_)));
}

#[tokio::test]
async fn a_directory_that_is_missing_is_named() {
    let error = open_sqlite(Path::new("/nowhere/at/all.db"), "test", &[ONE]).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Unavailable(text) if text.contains("/nowhere/at/all.db")),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_folded_into_the_file_while_writes_go_on_and_begins_anew() {
    const ROW: usize = 60_000;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let size = |suffix: &str| fs::metadata(path.with_extension(suffix)).map_or(0, |file| file.len());
    let file = open_sqlite(&path, "test", &[ONE]).await.unwrap();
    // Each commit writes at least its row; the log alone would hold them all.
    let (mut written, mut smaller, mut before) = (0, false, 0);
    while !smaller {
        let text = format!("{written:>ROW$}");
        let mut transaction = file.begin().await.unwrap();
        sqlx::query("INSERT INTO thing (text) VALUES (?)")
            .bind(text)
            .execute(&mut *transaction)
            .await
            .unwrap();
        transaction.commit().await.unwrap();
        written += 1;
        let log = size("db-wal");
        // SQLite cuts it to `journal_size_limit` when it begins anew; a file that stays below that is written from its start.
        smaller = log < before || (log == before && written * ROW as u64 > log + (16 << 20));
        before = log;
        assert!(written * (ROW as u64) < 1 << 30, "the log has {log} bytes and grows");
    }
    let all: u64 = written * ROW as u64;
    let settled = async {
        while size("db") < all {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), settled)
        .await
        .expect("all of it is in the file");
    file.close().await;
    assert_eq!(size("db-wal"), 0, "the last connection folds the log and removes it");
}

const ENDLESS: &str =
    "WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number) SELECT count(*) FROM number";

#[tokio::test]
async fn a_statement_that_reads_much_ends_when_its_time_is_over_or_nobody_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = open_sqlite(&dir.path().join("a.db"), "test", &[ONE]).await.unwrap();
    // More often than there are connections: each of them can be used again.
    for _ in 0..4 {
        let soon = Instant::now() + Duration::from_millis(30);
        let mut scan = file.scan(Some(soon)).await.unwrap();
        let ended = sqlx::query_scalar::<_, i64>(ENDLESS).fetch_one(&mut *scan).await.unwrap_err();
        assert!(ended.to_string().contains("interrupted"), "{ended}");
        drop(scan);

        let waiting = async {
            let mut scan = file.scan(None).await.unwrap();
            sqlx::query_scalar::<_, i64>(ENDLESS).fetch_one(&mut *scan).await
        };
        assert!(tokio::time::timeout(Duration::from_millis(30), waiting).await.is_err());
    }
    let mut scan = file.scan(None).await.unwrap();
    let one: i64 = sqlx::query_scalar("SELECT 1").fetch_one(&mut *scan).await.unwrap();
    assert_eq!(one, 1);
}

#[tokio::test]
async fn an_order_of_ones_own_can_be_named() {
    let dir = tempfile::tempdir().unwrap();
    let by_length = Collation { name: "by_length", compare: |a, b| a.len().cmp(&b.len()) };
    let file = open_sqlite_with(&dir.path().join("a.db"), "test", &[ONE], &[by_length]).await.unwrap();
    let mut scan = file.scan(None).await.unwrap();
    let order = "SELECT column1 FROM (VALUES ('ccc'), ('b'), ('aa')) ORDER BY column1 COLLATE by_length";
    let found: Vec<String> = sqlx::query_scalar(order).fetch_all(&mut *scan).await.unwrap();
    assert_eq!(found, ["b", "aa", "ccc"]);
}
