//! The relay's end of an outbox: rows in order, and how they leave.

use std::time::Duration;

use sqlx::{Connection, PgConnection, PgPool, Row, postgres::PgRow};
use store::{SqlitePools, StoreError};
use tokio::time::Instant;

use crate::{
    OutboxDb, Record,
    outbox::{SHARDS, headers_of, read_from},
};

/// How often a relay tries to get the shards that others hold.
const LEASE_EVERY: Duration = Duration::from_secs(1);
/// How long one statement may take: a server that hangs is left.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

pub(super) enum Source {
    /// One process owns the file: nobody else relays it.
    Sqlite(SqlitePools),
    Postgres(Box<Leased>),
}

/// A connection that holds the advisory locks of some shards. Rows are read and deleted over this very connection: when
/// it is lost, so are the locks, and this relay can neither read nor delete any more.
pub(super) struct Leased {
    connection: PgConnection,
    shards: Vec<i16>,
    next_try: Instant,
}

impl Source {
    pub(super) async fn open(outbox: &OutboxDb) -> Result<Self, StoreError> {
        Ok(match outbox {
            OutboxDb::Sqlite(pools) => Self::Sqlite(pools.clone()),
            OutboxDb::Journal(..) => {
                return Err(StoreError::Internal("a relay to Kafka reads tables, not journals".into()));
            }
            OutboxDb::Postgres(pool) => Self::Postgres(Box::new(within(Leased::open(pool)).await?)),
        })
    }

    /// The oldest rows of `topic` that this relay may publish, in order.
    pub(super) async fn read(
        &mut self,
        topic: &str,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<Record>, StoreError> {
        match self {
            Self::Sqlite(pools) => read_from(&pools.reader, topic, 0, max_records, max_bytes).await,
            Self::Postgres(leased) => within(leased.read(topic, max_records, max_bytes)).await,
        }
    }

    /// Whether it would be of use to look again soon: false while another process holds every shard.
    pub(super) fn holds_lease(&self) -> bool {
        match self {
            Self::Sqlite(_) => true,
            Self::Postgres(leased) => !leased.shards.is_empty(),
        }
    }

    /// Deletes rows that were read and published.
    pub(super) async fn remove(&mut self, topic: &str, rows: &[Record]) -> Result<(), StoreError> {
        let offsets: Vec<i64> = rows.iter().map(|row| row.offset).collect();
        match self {
            Self::Sqlite(pools) => {
                sqlx::query(
                    "DELETE FROM bus_log WHERE seq IN (SELECT value FROM json_each(?)) AND topic = ?",
                )
                .bind(serde_json::to_string(&offsets).unwrap_or_default())
                .bind(topic)
                .execute(&pools.writer)
                .await?;
            }
            Self::Postgres(leased) => {
                let delete = sqlx::query("DELETE FROM bus_log WHERE topic = $1 AND seq = ANY($2)")
                    .bind(topic)
                    .bind(offsets)
                    .execute(&mut leased.connection);
                within(async { Ok(delete.await?) }).await?;
            }
        }
        Ok(())
    }

    /// Keeps a copy of a row that Kafka never takes in the table `bus_dead`.
    pub(super) async fn bury(&mut self, topic: &str, row: &Record, reason: &str) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(pools) => {
                sqlx::query(
                    "INSERT OR IGNORE INTO bus_dead SELECT *, ?1 FROM bus_log WHERE topic = ?2 AND seq = ?3",
                )
                .bind(reason)
                .bind(topic)
                .bind(row.offset)
                .execute(&pools.writer)
                .await?;
            }
            Self::Postgres(leased) => {
                sqlx::query(
                    "INSERT INTO bus_dead SELECT *, $1 FROM bus_log WHERE topic = $2 AND seq = $3 \
                     ON CONFLICT DO NOTHING",
                )
                .bind(reason)
                .bind(topic)
                .bind(row.offset)
                .execute(&mut leased.connection)
                .await?;
            }
        }
        Ok(())
    }
}

impl Leased {
    async fn open(pool: &PgPool) -> Result<Self, StoreError> {
        let mut connection = PgConnection::connect_with(&pool.connect_options()).await?;
        // A deletion that a crash forgets only publishes a row again.
        sqlx::query("SET synchronous_commit = off").execute(&mut connection).await?;
        Ok(Self { connection, shards: Vec::new(), next_try: Instant::now() })
    }

    async fn read(
        &mut self,
        topic: &str,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<Record>, StoreError> {
        self.take_leases(topic).await?;
        if self.shards.is_empty() {
            return Ok(Vec::new());
        }
        let rows = sqlx::query(
            "WITH page AS (SELECT seq, octet_length(payload) AS size FROM bus_log \
             WHERE topic = $1 AND shard = ANY($2) ORDER BY seq LIMIT $3), \
             cut AS (SELECT seq, sum(size) OVER (ORDER BY seq) - size AS before FROM page) \
             SELECT l.seq, l.tenant, l.key, l.payload, l.headers, l.at_us FROM cut \
             JOIN bus_log l ON l.topic = $1 AND l.seq = cut.seq WHERE cut.before < $4 ORDER BY l.seq",
        )
        .bind(topic)
        .bind(&self.shards)
        .bind(i64::try_from(max_records).unwrap_or(i64::MAX))
        .bind(i64::try_from(max_bytes).unwrap_or(i64::MAX))
        .fetch_all(&mut self.connection)
        .await?;
        Ok(rows.iter().map(record).collect::<Result<_, _>>()?)
    }

    /// Tries for the shards that this relay does not hold yet.
    async fn take_leases(&mut self, topic: &str) -> Result<(), StoreError> {
        let missing: Vec<i16> = (0..SHARDS).filter(|shard| !self.shards.contains(shard)).collect();
        if missing.is_empty() || Instant::now() < self.next_try {
            return Ok(());
        }
        self.next_try = Instant::now() + LEASE_EVERY;
        let taken: Vec<i16> = sqlx::query_scalar(
            "SELECT shard FROM unnest($2::int2[]) AS shard \
             WHERE pg_try_advisory_lock(hashtext(current_schema() || '/' || $1), shard::int4)",
        )
        .bind(topic)
        .bind(missing)
        .fetch_all(&mut self.connection)
        .await?;
        if !taken.is_empty() {
            tracing::info!(topic, shards = ?taken, "relay leases taken");
            self.shards.extend(taken);
        }
        Ok(())
    }
}

fn record(row: &PgRow) -> Result<Record, sqlx::Error> {
    Ok(Record {
        offset: row.try_get(0)?,
        headers: headers_of(row.try_get(1)?, row.try_get(4)?).into(),
        key: row.try_get::<Vec<u8>, _>(2)?.into(),
        payload: row.try_get::<Vec<u8>, _>(3)?.into(),
        time_us: row.try_get(5)?,
    })
}

async fn within<T>(answer: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    tokio::time::timeout(ANSWER_WITHIN, answer)
        .await
        .map_err(|_| StoreError::Unavailable("the database does not answer the relay".into()))?
}
