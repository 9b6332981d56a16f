//! Where a consumer of a topic goes on: stored with its effects, in the same transaction, and only moved from the value
//! that the reader expected. So of two processes that read one partition (a zombie and its successor) one wins.

use sqlx::{PgConnection, SqliteConnection};

use crate::StoreError;

/// For the migration of a component that consumes topics.
pub const SQLITE_SCHEMA: &str = "CREATE TABLE consumer_position (topic TEXT NOT NULL, part INTEGER NOT NULL, \
    next INTEGER NOT NULL, PRIMARY KEY (topic, part)) WITHOUT ROWID";

/// For the migration of a component that consumes topics. Small and written often: pages keep room for new versions.
pub const POSTGRES_SCHEMA: &str = "CREATE TABLE consumer_position (topic TEXT NOT NULL, part INTEGER NOT NULL, \
    next BIGINT NOT NULL, PRIMARY KEY (topic, part)) WITH (fillfactor = 50)";

/// The offset of the next record to read; `None` before the first batch.
pub async fn load_sqlite(
    connection: &mut SqliteConnection,
    topic: &str,
    partition: i32,
) -> Result<Option<i64>, StoreError> {
    Ok(sqlx::query_scalar("SELECT next FROM consumer_position WHERE topic = ? AND part = ?")
        .bind(topic)
        .bind(partition)
        .fetch_optional(connection)
        .await?)
}

/// Moves the position from `expected` to `next`; false (and nothing is changed) when it is not `expected`: the caller
/// then rolls its transaction back. Call it before the effects are written.
pub async fn advance_sqlite(
    connection: &mut SqliteConnection,
    topic: &str,
    partition: i32,
    expected: Option<i64>,
    next: i64,
) -> Result<bool, StoreError> {
    let query = match expected {
        None => sqlx::query(
            "INSERT INTO consumer_position (topic, part, next) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(topic)
        .bind(partition)
        .bind(next),
        Some(expected) => {
            sqlx::query("UPDATE consumer_position SET next = ? WHERE topic = ? AND part = ? AND next = ?")
                .bind(next)
                .bind(topic)
                .bind(partition)
                .bind(expected)
        }
    };
    Ok(query.execute(connection).await?.rows_affected() == 1)
}

/// See [`load_sqlite`].
pub async fn load_postgres(
    connection: &mut PgConnection,
    topic: &str,
    partition: i32,
) -> Result<Option<i64>, StoreError> {
    Ok(sqlx::query_scalar("SELECT next FROM consumer_position WHERE topic = $1 AND part = $2")
        .bind(topic)
        .bind(partition)
        .fetch_optional(connection)
        .await?)
}

/// See [`advance_sqlite`]. Locks the row until the transaction ends: a second process waits here, and then sees a
/// position that it did not expect.
pub async fn advance_postgres(
    connection: &mut PgConnection,
    topic: &str,
    partition: i32,
    expected: Option<i64>,
    next: i64,
) -> Result<bool, StoreError> {
    let query = match expected {
        None => sqlx::query(
            "INSERT INTO consumer_position (topic, part, next) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        )
        .bind(topic)
        .bind(partition)
        .bind(next),
        Some(expected) => {
            sqlx::query("UPDATE consumer_position SET next = $1 WHERE topic = $2 AND part = $3 AND next = $4")
                .bind(next)
                .bind(topic)
                .bind(partition)
                .bind(expected)
        }
    };
    Ok(query.execute(connection).await?.rows_affected() == 1)
}
