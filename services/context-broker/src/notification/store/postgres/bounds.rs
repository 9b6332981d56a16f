//! Drops what is too old, or too much for one endpoint.

use sqlx::{Postgres, Transaction};
use store::StoreError;

use super::{
    super::{Bounds, ENFORCED_AT_ONCE, row::counted},
    PostgresNotificationStore,
};

impl PostgresNotificationStore {
    pub(super) async fn enforce_once(&self, bounds: Bounds) -> Result<u64, StoreError> {
        // They come in the order of time, but for a few: the oldest are the first.
        let oldest: Option<i64> =
            sqlx::query_scalar("SELECT commit_time_us FROM pending_delivery ORDER BY seq LIMIT 1")
                .fetch_optional(&self.pool)
                .await?;
        let crowded: Vec<String> = sqlx::query_scalar(
            "SELECT endpoint FROM pending_delivery GROUP BY endpoint HAVING count(*) > $1 ORDER BY endpoint",
        )
        .bind(bounds.max_per_endpoint)
        .fetch_all(&self.pool)
        .await?;
        let has_old = oldest.is_some_and(|oldest| oldest < bounds.not_before_us);
        if !has_old && crowded.is_empty() {
            return Ok(0);
        }
        let mut transaction = self.pool.begin().await?;
        let mut dropped: Vec<(String, String)> = Vec::new();
        if has_old {
            let old = sqlx::query_as(
                "DELETE FROM pending_delivery WHERE commit_time_us < $1 AND seq IN \
                 (SELECT seq FROM pending_delivery ORDER BY seq LIMIT $2) RETURNING tenant, subscription",
            );
            let old = old.bind(bounds.not_before_us).bind(ENFORCED_AT_ONCE);
            dropped.extend(old.fetch_all(&mut *transaction).await?);
        }
        for endpoint in crowded {
            let surplus = sqlx::query_as(
                "DELETE FROM pending_delivery WHERE endpoint = $1 AND seq IN \
                 (SELECT seq FROM pending_delivery WHERE endpoint = $1 ORDER BY seq LIMIT least($2, \
                 greatest(0, (SELECT count(*) FROM pending_delivery WHERE endpoint = $1) - $3))) \
                 RETURNING tenant, subscription",
            );
            let surplus = surplus.bind(endpoint).bind(ENFORCED_AT_ONCE).bind(bounds.max_per_endpoint);
            dropped.extend(surplus.fetch_all(&mut *transaction).await?);
        }
        let count = dropped.len() as u64;
        if count > 0 {
            count_dropped(&mut transaction, counted(dropped)).await?;
        }
        transaction.commit().await?;
        Ok(count)
    }
}

/// Adds to the counts of given up notifications, in the order in which states are locked.
async fn count_dropped(
    transaction: &mut Transaction<'_, Postgres>,
    counts: Vec<(String, String, i64)>,
) -> Result<(), StoreError> {
    let mut tenants = Vec::with_capacity(counts.len());
    let mut ids = Vec::with_capacity(counts.len());
    let mut numbers = Vec::with_capacity(counts.len());
    for (tenant, id, number) in counts {
        tenants.push(tenant);
        ids.push(id);
        numbers.push(number);
    }
    sqlx::query(
        "INSERT INTO subscription_state AS s (tenant, subscription, times_sent, fails_counter, dropped) \
         SELECT t, i, 0, 0, c FROM unnest($1::text[], $2::text[], $3::int8[]) WITH ORDINALITY AS k(t, i, c, n) \
         ORDER BY n ON CONFLICT (tenant, subscription) DO UPDATE SET dropped = s.dropped + excluded.dropped",
    )
    .bind(tenants)
    .bind(ids)
    .bind(numbers)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
