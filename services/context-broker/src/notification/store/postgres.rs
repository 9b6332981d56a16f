//! The notifier's tables on PostgreSQL, shared by all replicas. The outbox is the broker's.

mod bounds;

use std::{
    collections::{BTreeSet, HashMap},
    sync::OnceLock,
    time::Duration,
};

use async_trait::async_trait;
use bus::{OutboxDb, outbox};
use scope::Tenant;
use sqlx::{AssertSqlSafe, PgPool, Postgres, Transaction};
use store::{PostgresConfig, StoreError, position};

use super::{
    Backlog, Bounds, DeliveryState, Effect, Intake, Match, NotificationStore, Recorded, history_records,
    ownership::Ownership,
    row::{
        BacklogRow, CountRow, MOST_WAITING, PendingRow, StateRow, States, failing, immediate, pass, take_in,
        touched,
    },
    schema::{COMPONENT, MIGRATIONS, PENDING, STATE},
};
use crate::{
    notification::pending::{Completion, Pending, SubscriptionKey},
    subscription::SubscriptionId,
};

const WAITING: &str = "SELECT count(*) FROM \
     (SELECT 1 FROM pending_delivery WHERE tenant = $1 AND subscription = $2 LIMIT $3) AS waiting";

/// Tries of one transaction.
const TRIES: u32 = 8;

pub struct PostgresNotificationStore {
    pool: PgPool,
    ownership: Ownership,
    wake_history: OnceLock<bus::Waker>,
}

impl PostgresNotificationStore {
    /// Opens the tables in the broker's schema, which has the outbox.
    pub async fn open(config: &PostgresConfig, schema: &str) -> Result<Self, StoreError> {
        let pool = store::open_postgres(config, schema, COMPONENT, MIGRATIONS).await?;
        Ok(Self { pool, ownership: Ownership::new(), wake_history: OnceLock::new() })
    }

    /// Where the outbox of topic `history` is.
    pub fn outbox(&self) -> OutboxDb {
        OutboxDb::Postgres(self.pool.clone())
    }

    /// Called after each commit that appended to the history.
    pub fn wake_history(&self, waker: bus::Waker) {
        self.wake_history.set(waker).ok();
    }

    async fn record_once(&self, intake: &Intake<'_>) -> Result<Option<Recorded>, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let (topic, partition) = (intake.topic, intake.partition);
        let moved =
            position::advance_postgres(&mut transaction, topic, partition, intake.expected, intake.next)
                .await?;
        if !moved {
            return Ok(None);
        }
        let mut states = lock_states(&mut transaction, &touched(&intake.matches)).await?;
        let before = states.clone();
        let passed = pass(intake.matches.clone(), &mut states, intake.now_us);
        let (kept, immediate) = match intake.durable {
            true => (passed.deliveries, Vec::new()),
            false => (Vec::new(), immediate(passed.deliveries)),
        };
        let endpoints = insert(&mut transaction, &kept).await?;
        store_states(&mut transaction, &before, &states).await?;
        let records = history_records(intake.changes, passed.history);
        outbox::append_postgres(&mut transaction, bus::HISTORY, &records).await?;
        transaction.commit().await?;
        if let Some(waker) = self.wake_history.get().filter(|_| !records.is_empty()) {
            waker.wake();
        }
        Ok(Some(Recorded {
            endpoints: endpoints.into_iter().filter(|endpoint| self.ownership.owns(endpoint)).collect(),
            deliveries: (kept.len() + immediate.len()) as u64,
            history_records: records.len() as u64,
            held_back: passed.held_back,
            immediate,
        }))
    }

    async fn complete_once(
        &self,
        completions: &[Completion],
    ) -> Result<Vec<(SubscriptionKey, i64)>, StoreError> {
        let keys: BTreeSet<SubscriptionKey> =
            completions.iter().map(|one| one.subscription.clone()).collect();
        let keys: Vec<SubscriptionKey> = keys.into_iter().collect();
        let mut transaction = self.pool.begin().await?;
        let mut states = lock_states(&mut transaction, &keys).await?;
        let before = states.clone();
        let mut waiting = HashMap::new();
        for key in failing(completions) {
            let count: i64 = sqlx::query_scalar(WAITING)
                .bind(key.tenant.as_str())
                .bind(key.id.as_str())
                .bind(MOST_WAITING)
                .fetch_one(&mut *transaction)
                .await?;
            waiting.insert(key.clone(), count);
        }
        let tries = take_in(completions, &mut states, &waiting);
        for (statement, seqs) in [
            ("DELETE FROM pending_delivery WHERE seq = ANY($1)", &tries.gone),
            ("UPDATE pending_delivery SET attempts = attempts + 1 WHERE seq = ANY($1)", &tries.again),
        ] {
            if !seqs.is_empty() {
                sqlx::query(statement).bind(seqs).execute(&mut *transaction).await?;
            }
        }
        store_states(&mut transaction, &before, &states).await?;
        for (key, revision) in &tries.closed {
            cancel(&mut transaction, key, revision + 1).await?;
        }
        transaction.commit().await?;
        Ok(tries.closed)
    }
}

impl PostgresNotificationStore {
    async fn cancel_once(
        &self,
        key: &SubscriptionKey,
        revision: i64,
        forget: bool,
    ) -> Result<u64, StoreError> {
        let mut transaction = self.pool.begin().await?;
        if forget {
            sqlx::query("DELETE FROM subscription_state WHERE tenant = $1 AND subscription = $2")
                .bind(key.tenant.as_str())
                .bind(key.id.as_str())
                .execute(&mut *transaction)
                .await?;
        }
        let cancelled = cancel(&mut transaction, key, revision).await?;
        transaction.commit().await?;
        Ok(cancelled)
    }
}

/// Tries of a transaction that met another one.
#[derive(Default)]
struct Tries(u32);

impl Tries {
    /// Waits a little; false when it was tried often enough.
    async fn again(&mut self) -> bool {
        self.0 += 1;
        let pause = rand::random_range(1..=10 * u64::from(self.0));
        tokio::time::sleep(Duration::from_millis(pause)).await;
        self.0 < TRIES
    }
}

/// Evaluates to the result of a transaction that is not to be repeated.
macro_rules! repeated {
    ($attempt:expr) => {{
        let mut tries = Tries::default();
        loop {
            match $attempt.await {
                Err(StoreError::Retry(_)) if tries.again().await => {}
                done => break done,
            }
        }
    }};
}

#[async_trait]
impl NotificationStore for PostgresNotificationStore {
    async fn position(&self, topic: &str, partition: i32) -> Result<Option<i64>, StoreError> {
        position::load_postgres(&mut *self.pool.acquire().await?, topic, partition).await
    }

    async fn record(&self, intake: Intake<'_>) -> Result<Option<Recorded>, StoreError> {
        repeated!(self.record_once(&intake))
    }

    async fn state(&self, key: &SubscriptionKey) -> Result<DeliveryState, StoreError> {
        let statement =
            format!("SELECT {STATE} FROM subscription_state WHERE tenant = $1 AND subscription = $2");
        let state = sqlx::query_as(AssertSqlSafe(statement))
            .bind(key.tenant.as_str())
            .bind(key.id.as_str())
            .fetch_optional(&self.pool)
            .await?;
        Ok(state.unwrap_or_default())
    }

    async fn states(
        &self,
        tenant: &Tenant,
        ids: &[SubscriptionId],
    ) -> Result<Vec<(SubscriptionKey, DeliveryState)>, StoreError> {
        let statement = format!(
            "SELECT tenant, subscription, {STATE} FROM subscription_state \
             WHERE tenant = $1 AND subscription = ANY($2)"
        );
        let ids: Vec<&str> = ids.iter().map(SubscriptionId::as_str).collect();
        let rows: Vec<StateRow> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(tenant.as_str())
            .bind(ids)
            .fetch_all(&self.pool)
            .await?;
        rows.into_iter().map(StateRow::decode).collect()
    }

    async fn forget(&self, key: &SubscriptionKey) -> Result<u64, StoreError> {
        repeated!(self.cancel_once(key, i64::MAX, true))
    }

    async fn cancel(&self, key: &SubscriptionKey, revision: i64) -> Result<u64, StoreError> {
        repeated!(self.cancel_once(key, revision, false))
    }

    async fn endpoints(&self) -> Result<Vec<String>, StoreError> {
        self.ownership.renew(&self.pool).await?;
        let shards: Vec<i16> = self.ownership.shards().into_iter().collect();
        // One index probe per endpoint, however much waits for it.
        Ok(sqlx::query_scalar(
            "WITH RECURSIVE found AS ( \
             SELECT s.shard, (SELECT min(endpoint) FROM pending_delivery p WHERE p.shard = s.shard) AS endpoint \
             FROM unnest($1::int2[]) AS s(shard) \
             UNION ALL SELECT f.shard, (SELECT min(endpoint) FROM pending_delivery p \
             WHERE p.shard = f.shard AND p.endpoint > f.endpoint) FROM found f WHERE f.endpoint IS NOT NULL) \
             SELECT endpoint FROM found WHERE endpoint IS NOT NULL",
        )
        .bind(shards)
        .fetch_all(&self.pool)
        .await?)
    }

    fn owns(&self, endpoint: &str) -> bool {
        self.ownership.owns(endpoint)
    }

    fn look_every(&self) -> Duration {
        // Other replicas insert deliveries for endpoints that this one owns.
        Duration::from_millis(200)
    }

    async fn release(&self) -> Result<(), StoreError> {
        self.ownership.release(&self.pool).await
    }

    async fn waiting(&self, endpoint: &str, limit: u32) -> Result<Vec<Pending>, StoreError> {
        if !self.owns(endpoint) {
            return Ok(Vec::new());
        }
        let statement =
            format!("SELECT {PENDING} FROM pending_delivery WHERE endpoint = $1 ORDER BY seq LIMIT $2");
        let rows: Vec<PendingRow> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(endpoint)
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
        rows.into_iter().map(PendingRow::decode).collect()
    }

    async fn complete(
        &self,
        completions: Vec<Completion>,
    ) -> Result<Vec<(SubscriptionKey, i64)>, StoreError> {
        repeated!(self.complete_once(&completions))
    }

    async fn backlog(
        &self,
        tenant: &Tenant,
        only: Option<&SubscriptionId>,
    ) -> Result<Vec<(SubscriptionKey, Backlog)>, StoreError> {
        let rows: Vec<BacklogRow> = sqlx::query_as(
            "SELECT tenant, subscription, count(*) AS pending, min(commit_time_us) AS oldest_us, \
             max(attempts) AS attempts FROM pending_delivery \
             WHERE tenant = $1 AND ($2::text IS NULL OR subscription = $2) GROUP BY tenant, subscription",
        )
        .bind(tenant.as_str())
        .bind(only.map(SubscriptionId::as_str))
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(BacklogRow::decode).collect()
    }

    async fn longest(&self, limit: u32) -> Result<Vec<(SubscriptionKey, i64)>, StoreError> {
        let rows: Vec<CountRow> = sqlx::query_as(
            "SELECT tenant, subscription, count(*) AS count FROM pending_delivery GROUP BY tenant, subscription \
             ORDER BY count DESC, tenant, subscription LIMIT $1",
        )
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(CountRow::decode).collect()
    }

    async fn enforce(&self, bounds: Bounds) -> Result<u64, StoreError> {
        repeated!(self.enforce_once(bounds))
    }

    async fn pending(&self, at_most: u64) -> Result<u64, StoreError> {
        let count: i64 =
            sqlx::query_scalar("SELECT count(*) FROM (SELECT 1 FROM pending_delivery LIMIT $1) AS counted")
                .bind(i64::try_from(at_most).unwrap_or(i64::MAX))
                .fetch_one(&self.pool)
                .await?;
        Ok(count.unsigned_abs())
    }

    async fn check(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.pool).await?;
        Ok(())
    }
}

fn names<'a>(keys: impl Iterator<Item = &'a SubscriptionKey>) -> (Vec<&'a str>, Vec<&'a str>) {
    keys.map(|key| (key.tenant.as_str(), key.id.as_str())).unzip()
}

/// Locks the states of `keys`, which are sorted; missing ones are made first.
async fn lock_states(
    transaction: &mut Transaction<'_, Postgres>,
    keys: &[SubscriptionKey],
) -> Result<States, StoreError> {
    if keys.is_empty() {
        return Ok(States::new());
    }
    let (tenants, ids) = names(keys.iter());
    sqlx::query(
        "INSERT INTO subscription_state (tenant, subscription, times_sent, fails_counter) \
         SELECT t, s, 0, 0 FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS k(t, s, n) ORDER BY n \
         ON CONFLICT DO NOTHING",
    )
    .bind(&tenants)
    .bind(&ids)
    .execute(&mut **transaction)
    .await?;
    let statement = format!(
        "SELECT tenant, subscription, {STATE} FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS k(t, s, n) \
         JOIN subscription_state ON tenant = k.t AND subscription = k.s ORDER BY k.n \
         FOR UPDATE OF subscription_state"
    );
    let rows: Vec<StateRow> = sqlx::query_as(AssertSqlSafe(statement))
        .bind(&tenants)
        .bind(&ids)
        .fetch_all(&mut **transaction)
        .await?;
    rows.into_iter().map(StateRow::decode).collect()
}

/// Writes the states that differ from what they were; their rows are locked.
async fn store_states(
    transaction: &mut Transaction<'_, Postgres>,
    before: &States,
    states: &States,
) -> Result<(), StoreError> {
    let changed: Vec<_> = states.iter().filter(|(key, state)| before.get(*key) != Some(*state)).collect();
    if changed.is_empty() {
        return Ok(());
    }
    let (tenants, ids) = names(changed.iter().map(|(key, _)| *key));
    macro_rules! column {
        ($field:ident) => {
            changed.iter().map(|(_, state)| state.$field.clone()).collect::<Vec<_>>()
        };
    }
    sqlx::query(
        "UPDATE subscription_state s SET times_sent = k.a, last_notification_us = k.b, last_success_us = k.c, \
         last_success_code = k.d, last_failure_us = k.e, last_failure_reason = k.f, fails_counter = k.g, \
         accepted_us = k.h, closed_revision = k.j, dropped = k.l FROM unnest($1::text[], $2::text[], $3::int8[], $4::int8[], \
         $5::int8[], $6::int8[], $7::int8[], $8::text[], $9::int8[], $10::int8[], $11::int8[], $12::int8[]) \
         AS k(t, i, a, b, c, d, e, f, g, h, j, l) WHERE s.tenant = k.t AND s.subscription = k.i",
    )
    .bind(tenants)
    .bind(ids)
    .bind(column!(times_sent))
    .bind(column!(last_notification_us))
    .bind(column!(last_success_us))
    .bind(column!(last_success_code))
    .bind(column!(last_failure_us))
    .bind(column!(last_failure_reason))
    .bind(column!(fails_counter))
    .bind(column!(accepted_us))
    .bind(column!(closed_revision))
    .bind(column!(dropped))
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Inserts deliveries; answers their endpoints, each once.
async fn insert(
    transaction: &mut Transaction<'_, Postgres>,
    deliveries: &[Match],
) -> Result<BTreeSet<String>, StoreError> {
    let rows: Vec<_> = deliveries
        .iter()
        .filter_map(|one| match &one.effect {
            Effect::Deliver(delivery) => Some((one, delivery)),
            Effect::History(_) => None,
        })
        .collect();
    if rows.is_empty() {
        return Ok(BTreeSet::new());
    }
    let endpoints: Vec<_> =
        rows.iter().map(|(_, delivery)| delivery.target.endpoint().into_owned()).collect();
    let (tenants, ids) = names(rows.iter().map(|(one, _)| &one.subscription));
    let targets: Vec<String> = rows
        .iter()
        .map(|(_, delivery)| serde_json::to_string(&delivery.target).unwrap_or_default())
        .collect();
    sqlx::query(
        "INSERT INTO pending_delivery (shard, endpoint, tenant, subscription, revision, lane, target, body, \
         commit_time_us) SELECT shard, endpoint, tenant, subscription, revision, lane, target, body, at \
         FROM unnest($1::int2[], $2::text[], $3::text[], $4::text[], $5::int8[], $6::text[], $7::text[], \
         $8::bytea[], $9::int8[]) WITH ORDINALITY \
         AS r(shard, endpoint, tenant, subscription, revision, lane, target, body, at, n) ORDER BY n",
    )
    .bind(endpoints.iter().map(|endpoint| Ownership::shard_of(endpoint)).collect::<Vec<_>>())
    .bind(&endpoints)
    .bind(tenants)
    .bind(ids)
    .bind(rows.iter().map(|(one, _)| one.revision).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, delivery)| delivery.lane.as_str()).collect::<Vec<_>>())
    .bind(targets)
    .bind(rows.iter().map(|(_, delivery)| &*delivery.body).collect::<Vec<_>>())
    .bind(rows.iter().map(|(_, delivery)| delivery.commit_time_us).collect::<Vec<_>>())
    .execute(&mut **transaction)
    .await?;
    Ok(endpoints.into_iter().collect())
}

/// Deletes what waits for a subscription under a revision below `revision`.
async fn cancel(
    transaction: &mut Transaction<'_, Postgres>,
    key: &SubscriptionKey,
    revision: i64,
) -> Result<u64, StoreError> {
    let cancelled =
        sqlx::query("DELETE FROM pending_delivery WHERE tenant = $1 AND subscription = $2 AND revision < $3")
            .bind(key.tenant.as_str())
            .bind(key.id.as_str())
            .bind(revision)
            .execute(&mut **transaction)
            .await?;
    Ok(cancelled.rows_affected())
}
