//! How fast the disk and the store commit, with nothing of ours on top.

use std::{
    fs::OpenOptions,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, PgConnection, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

/// Rows per commit where commits are grouped.
pub const GROUP: usize = 64;
/// Bytes per row: an entity of a few attributes.
const ROW: usize = 300;

/// Commits that are safe on the disk when they return.
#[derive(Clone, Copy, Debug)]
pub struct CommitRates {
    /// fdatasync after an append of 4 KiB, per second; 0 where that is not ours to measure.
    pub syncs: f64,
    /// Commits of one row, per second.
    pub single: f64,
    /// Rows per second in commits of [`GROUP`] rows.
    pub grouped: f64,
}

/// Measures in a new folder under `folder`, each for `duration`.
pub fn commit_rates(folder: &Path, duration: Duration) -> Result<CommitRates> {
    let folder = tempfile::tempdir_in(folder)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let syncs = sync_rate(&folder.path().join("appended"), duration)?;
    let (single, grouped) = runtime.block_on(async {
        let mut connection = open(&folder.path().join("rows.db")).await?;
        let single = insert_rate(&mut connection, 1, duration).await?;
        let grouped = insert_rate(&mut connection, GROUP, duration).await?;
        connection.close().await?;
        Ok::<_, sqlx::Error>((single, grouped))
    })?;
    Ok(CommitRates { syncs, single, grouped })
}

/// The same on a PostgreSQL server, over one connection, in a database that nobody else uses.
pub fn postgres_commit_rates(url: &str, duration: Duration) -> Result<CommitRates> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut connection = PgConnection::connect(url).await?;
        sqlx::query("CREATE TABLE bench_event (n BIGSERIAL PRIMARY KEY, body BYTEA NOT NULL)")
            .execute(&mut connection)
            .await?;
        let single = postgres_insert_rate(&mut connection, 1, duration).await?;
        let grouped = postgres_insert_rate(&mut connection, GROUP, duration).await?;
        connection.close().await?;
        Ok(CommitRates { syncs: 0.0, single, grouped })
    })
}

async fn postgres_insert_rate(
    connection: &mut PgConnection,
    rows: usize,
    duration: Duration,
) -> Result<f64, sqlx::Error> {
    let bodies = vec![vec![b'x'; ROW]; rows];
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < duration {
        // One statement is one transaction.
        sqlx::query("INSERT INTO bench_event (body) SELECT * FROM unnest($1::bytea[])")
            .bind(&bodies)
            .execute(&mut *connection)
            .await?;
        count += rows;
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

fn sync_rate(path: &Path, duration: Duration) -> Result<f64> {
    let mut file = OpenOptions::new().create_new(true).append(true).open(path)?;
    let (start, mut count) = (Instant::now(), 0u32);
    while start.elapsed() < duration {
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        count += 1;
    }
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}

async fn open(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    let mut connection = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .connect()
        .await?;
    sqlx::query("create table event (n integer primary key, body blob not null)")
        .execute(&mut connection)
        .await?;
    Ok(connection)
}

/// Rows per second when `rows` are inserted by one statement in one commit.
async fn insert_rate(
    connection: &mut SqliteConnection,
    rows: usize,
    duration: Duration,
) -> Result<f64, sqlx::Error> {
    let statement = format!("insert into event (body) values {}", vec!["(?)"; rows].join(", "));
    let body = vec![b'x'; ROW];
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < duration {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        let mut insert = sqlx::query(AssertSqlSafe(statement.clone()));
        for _ in 0..rows {
            insert = insert.bind(&body);
        }
        insert.execute(&mut *transaction).await?;
        transaction.commit().await?;
        count += rows;
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grouped_rows_are_committed_faster_than_single_ones() {
        let folder = tempfile::tempdir().unwrap();
        let rates = commit_rates(folder.path(), Duration::from_millis(300)).unwrap();
        assert!(rates.syncs > 0.0, "{rates:?}");
        assert!(rates.grouped > rates.single, "{rates:?}");
    }
}
