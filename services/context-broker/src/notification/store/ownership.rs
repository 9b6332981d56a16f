//! Which replica delivers to which endpoints: endpoints fall into shards, a shard is leased to one replica.
//!
//! Each replica renews its membership and its leases; members share the shards evenly. A shard that is given up is first
//! left to rest, still leased, until what is in flight has ended; so that its next owner does not overtake it. Times are
//! those of the database server.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use sqlx::PgPool;
use store::StoreError;
use tokio::time::Instant;

/// Endpoints are spread over this many shards.
pub(super) const SHARDS: i16 = 16;
/// A replica that does not renew for this long has lost its shards.
const LEASE: Duration = Duration::from_secs(10);
const RENEW_EVERY: Duration = Duration::from_secs(2);
/// How long a shard rests before another replica gets it.
const REST: Duration = Duration::from_secs(6);

#[derive(Clone)]
pub(super) struct Ownership {
    owner: Arc<str>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    shards: BTreeSet<i16>,
    /// Shards on their way to another replica, and since when.
    resting: BTreeMap<i16, Instant>,
    /// The leases are good until then.
    until: Option<Instant>,
    renewed: Option<Instant>,
}

impl Ownership {
    pub(super) fn new() -> Self {
        Self { owner: uuid::Uuid::new_v4().to_string().into(), state: Arc::default() }
    }

    pub(super) fn shard_of(endpoint: &str) -> i16 {
        let fnv = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        let hash = endpoint.bytes().fold(0x811c_9dc5, fnv);
        i16::try_from(hash % u32::from(SHARDS.unsigned_abs())).unwrap_or_default()
    }

    /// Whether this replica delivers to the endpoint now.
    pub(super) fn owns(&self, endpoint: &str) -> bool {
        self.shards().contains(&Self::shard_of(endpoint))
    }

    /// The shards of this replica.
    pub(super) fn shards(&self) -> BTreeSet<i16> {
        let state = self.state.lock();
        match state.until {
            Some(until) if Instant::now() < until => {
                state.shards.iter().filter(|shard| !state.resting.contains_key(shard)).copied().collect()
            }
            _ => BTreeSet::new(),
        }
    }

    /// Renews when it is time, and takes or gives up shards for an even share.
    pub(super) async fn renew(&self, pool: &PgPool) -> Result<(), StoreError> {
        let (due, given_up) = {
            let state = self.state.lock();
            let due = state.renewed.is_none_or(|renewed| renewed.elapsed() >= RENEW_EVERY);
            let rested = state.resting.iter().filter(|(_, since)| since.elapsed() >= REST);
            (due, rested.map(|(shard, _)| *shard).collect::<Vec<_>>())
        };
        if !due {
            return Ok(());
        }
        let asked = Instant::now();
        let (shards, share) = self.exchange(pool, &given_up).await?;
        let mut state = self.state.lock();
        state.resting.retain(|shard, _| shards.contains(shard));
        let surplus = shards.len().saturating_sub(share);
        let resting = state.resting.len();
        for shard in shards.iter().rev().take(surplus.saturating_sub(resting)) {
            state.resting.entry(*shard).or_insert(asked);
        }
        state.shards = shards;
        // A little less than the server grants, and counted from before it was asked.
        state.until = Some(asked + LEASE - Duration::from_secs(1));
        state.renewed = Some(asked);
        Ok(())
    }

    /// One round with the database: the shards that are leased now, and how many there shall be.
    async fn exchange(&self, pool: &PgPool, given_up: &[i16]) -> Result<(BTreeSet<i16>, usize), StoreError> {
        let lease_s = LEASE.as_secs_f64();
        let mut transaction = pool.begin().await?;
        sqlx::query("SELECT pg_advisory_xact_lock(hashtext('thingmesh delivery'))")
            .execute(&mut *transaction)
            .await?;
        sqlx::query("DELETE FROM delivery_member WHERE until < now()").execute(&mut *transaction).await?;
        sqlx::query(
            "INSERT INTO delivery_member VALUES ($1, now() + make_interval(secs => $2)) \
             ON CONFLICT (owner) DO UPDATE SET until = excluded.until",
        )
        .bind(&*self.owner)
        .bind(lease_s)
        .execute(&mut *transaction)
        .await?;
        sqlx::query("DELETE FROM delivery_shard WHERE until < now() OR (owner = $1 AND shard = ANY($2))")
            .bind(&*self.owner)
            .bind(given_up)
            .execute(&mut *transaction)
            .await?;
        let members: i64 =
            sqlx::query_scalar("SELECT count(*) FROM delivery_member").fetch_one(&mut *transaction).await?;
        let members = members.max(1).unsigned_abs();
        let share = usize::try_from(u64::from(SHARDS.unsigned_abs()).div_ceil(members)).unwrap_or(1);
        sqlx::query(
            "INSERT INTO delivery_shard SELECT shard, $1, now() FROM generate_series(0, $2 - 1) AS shard \
             WHERE shard NOT IN (SELECT shard FROM delivery_shard) ORDER BY shard \
             LIMIT greatest(0, $3 - (SELECT count(*) FROM delivery_shard WHERE owner = $1))",
        )
        .bind(&*self.owner)
        .bind(i32::from(SHARDS))
        .bind(i64::try_from(share).unwrap_or(i64::MAX))
        .execute(&mut *transaction)
        .await?;
        let shards: Vec<i16> = sqlx::query_scalar(
            "UPDATE delivery_shard SET until = now() + make_interval(secs => $2) WHERE owner = $1 RETURNING shard",
        )
        .bind(&*self.owner)
        .bind(lease_s)
        .fetch_all(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok((shards.into_iter().collect(), share))
    }

    /// Gives everything back, so that others need not wait.
    pub(super) async fn release(&self, pool: &PgPool) -> Result<(), StoreError> {
        *self.state.lock() = State::default();
        sqlx::query("DELETE FROM delivery_shard WHERE owner = $1").bind(&*self.owner).execute(pool).await?;
        sqlx::query("DELETE FROM delivery_member WHERE owner = $1").bind(&*self.owner).execute(pool).await?;
        Ok(())
    }
}
