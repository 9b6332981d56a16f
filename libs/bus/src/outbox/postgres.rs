use sqlx::PgConnection;
use store::StoreError;

use super::{headers_text, shard_of};
use crate::Outgoing;

/// Appends `records` in the caller's transaction by one statement; answers the `seq` of the last one (0 when there is
/// none). Records of one key are published in commit order if the caller holds a lock that its writers share (the
/// entity's row).
pub async fn append_postgres(
    connection: &mut PgConnection,
    topic: &str,
    records: &[Outgoing],
) -> Result<i64, StoreError> {
    if records.is_empty() {
        return Ok(0);
    }
    let shards: Vec<i16> = records.iter().map(|record| shard_of(&record.key)).collect();
    let tenants: Vec<&str> = records.iter().map(|record| record.tenant.as_str()).collect();
    let keys: Vec<&[u8]> = records.iter().map(|record| &*record.key).collect();
    let payloads: Vec<&[u8]> = records.iter().map(|record| &*record.payload).collect();
    let headers: Vec<Option<String>> = records.iter().map(headers_text).collect();
    Ok(sqlx::query_scalar(
        "WITH added AS (INSERT INTO bus_log (topic, shard, tenant, key, payload, headers) \
         SELECT $1, shard, tenant, key, payload, headers \
         FROM unnest($2::int2[], $3::text[], $4::bytea[], $5::bytea[], $6::text[]) \
         WITH ORDINALITY AS r(shard, tenant, key, payload, headers, n) ORDER BY n RETURNING seq) \
         SELECT coalesce(max(seq), 0) FROM added",
    )
    .bind(topic)
    .bind(shards)
    .bind(tenants)
    .bind(keys)
    .bind(payloads)
    .bind(headers)
    .fetch_one(connection)
    .await?)
}
