//! The outbox: the table into which a writer appends records in the transaction that makes them true.
//!
//! The component that owns the table puts [`SQLITE_SCHEMA`] / [`POSTGRES_SCHEMA`] into its migrations. `seq` never
//! repeats, also not after rows were deleted; in SQLite it is the offset of the embedded log.

mod moving;
mod postgres;
mod sqlite;

pub use moving::copy_to_journal;
pub use postgres::append_postgres;
pub use sqlite::append_sqlite;

pub(crate) use sqlite::{bounds, count_from, delete_below, oldest, read_from};

use bytes::Bytes;

use crate::{Header, Outgoing, header};

/// For the migration of a component that appends records.
pub const SQLITE_SCHEMA: &str = "CREATE TABLE bus_log (\
    seq INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, tenant TEXT NOT NULL, key BLOB NOT NULL, \
    payload BLOB NOT NULL, headers TEXT, \
    at_us INTEGER NOT NULL DEFAULT (CAST(unixepoch('subsec') * 1000000 AS INTEGER)));\
    CREATE TABLE bus_dead (seq INTEGER PRIMARY KEY, topic TEXT NOT NULL, tenant TEXT NOT NULL, key BLOB NOT NULL, \
    payload BLOB NOT NULL, headers TEXT, at_us INTEGER NOT NULL, reason TEXT NOT NULL);\
    CREATE TABLE bus_group (topic TEXT NOT NULL, name TEXT NOT NULL, next INTEGER NOT NULL, seen_us INTEGER NOT NULL, \
    PRIMARY KEY (topic, name)) WITHOUT ROWID;";

/// For the migration of a component that appends records. Rows live for milliseconds, so the table is vacuumed by count,
/// not by share. `bus_dead` keeps what Kafka can never take.
pub const POSTGRES_SCHEMA: &str = "CREATE TABLE bus_log (\
    seq BIGINT GENERATED ALWAYS AS IDENTITY, topic TEXT NOT NULL, shard SMALLINT NOT NULL, \
    tenant TEXT NOT NULL, key BYTEA NOT NULL, payload BYTEA NOT NULL, headers TEXT, \
    at_us BIGINT NOT NULL DEFAULT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, \
    PRIMARY KEY (topic, seq)) \
    WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, \
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 50000, \
    autovacuum_vacuum_cost_delay = 0);\
    CREATE TABLE bus_dead (LIKE bus_log, reason TEXT NOT NULL, PRIMARY KEY (topic, seq));";

/// Shards of an outbox: relays of several processes share the work by shard, records of one key share a shard.
pub const SHARDS: i16 = 4;

/// Where the outbox of a topic is.
#[derive(Clone, Debug)]
pub enum OutboxDb {
    Sqlite(store::SqlitePools),
    /// For a bus that [reads journals](crate::Bus::reads_journals); the file is its owner's, and has the table of groups.
    Journal(crate::Journal, store::SqlitePools),
    Postgres(sqlx::PgPool),
}

/// The shard of a key: FNV-1a, the same in every version of the program.
pub(crate) fn shard_of(key: &Bytes) -> i16 {
    let hash =
        key.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    i16::try_from(hash % u32::from(SHARDS.unsigned_abs())).unwrap_or_default()
}

fn headers_text(record: &Outgoing) -> Option<String> {
    if record.headers.is_empty() {
        return None;
    }
    let headers: Vec<(&str, &str)> = record.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    serde_json::to_string(&headers).ok()
}

/// The headers of a stored row, with the tenant's.
pub(crate) fn headers_of(tenant: String, text: Option<&str>) -> Vec<Header> {
    let headers: Vec<(String, String)> =
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let others = headers.into_iter().filter(|(name, _)| name != header::TENANT);
    let others = others.map(|(name, value)| (name.into(), value.into()));
    others.chain([(header::TENANT.into(), tenant.into())]).collect()
}
