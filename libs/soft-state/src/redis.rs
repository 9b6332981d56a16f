use std::time::Duration;

use ::redis::{
    AsyncCommands, Client, FromRedisValue, RedisError, Script,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use async_trait::async_trait;
use parking_lot::Mutex;
use scope::Tenant;
use tokio::time::{Instant, timeout};

use crate::{
    ANSWER_WITHIN, MAX_RETRY_AFTER, Rate, RedisConfig, SoftState, SoftStateError, Verdict, memory::check_size,
};

/// After this many timeouts in a row the server counts as hung …
const HUNG_AFTER: u32 = 3;
/// … and is left alone for this long: callers get their error at once.
const LEAVE_ALONE: Duration = Duration::from_millis(500);

/// Token bucket on the server's clock: all replicas share one clock and one bucket. Answers the wait in microseconds,
/// 0 when the tokens were taken.
const TAKE: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local per_us = tonumber(ARGV[1]) / 1000000
local burst = tonumber(ARGV[2])
local cost = math.min(tonumber(ARGV[3]), burst)
local max_wait = tonumber(ARGV[4])
local kept = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = tonumber(kept[1]) or burst
local at = tonumber(kept[2]) or now
tokens = math.min(burst, tokens + math.max(0, now - at) * per_us)
local wait = 0
if cost <= tokens then
  tokens = tokens - cost
elseif per_us > 0 then
  wait = math.min(max_wait, math.ceil((cost - tokens) / per_us) + 1)
else
  wait = max_wait
end
local full_ms = max_wait / 1000
if per_us > 0 then full_ms = math.min(full_ms, math.ceil((burst - tokens) / per_us / 1000) + 1000) end
redis.call('HSET', KEYS[1], 'tokens', tokens, 'at', now)
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', full_ms))
return string.format('%.0f', wait)
";

const ACQUIRE: &str = r"
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
";

const RELEASE: &str = r"
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
";

/// Soft state that all replicas share.
pub struct RedisSoftState {
    client: Client,
    prefix: String,
    connection: Mutex<Connection>,
    take: Script,
    acquire: Script,
    release: Script,
}

struct Connection {
    manager: ConnectionManager,
    timeouts: u32,
    alone_until: Option<Instant>,
}

impl RedisSoftState {
    /// Reads the settings; connects when first used, and again whenever it has to. Needs a tokio runtime.
    pub fn new(config: &RedisConfig) -> Result<Self, SoftStateError> {
        // The error may quote the URL with its password.
        let client = Client::open(config.url.as_str())
            .map_err(|_| SoftStateError("the Redis URL cannot be read".into()))?;
        let manager = connect(&client)?;
        Ok(Self {
            client,
            prefix: config.prefix.clone(),
            connection: Mutex::new(Connection { manager, timeouts: 0, alone_until: None }),
            take: Script::new(TAKE),
            acquire: Script::new(ACQUIRE),
            release: Script::new(RELEASE),
        })
    }

    /// A tenant's name has no colon, so no two keys meet.
    fn key(&self, kind: &str, tenant: &Tenant, name: &str) -> String {
        format!("{}:{kind}:{tenant}:{name}", self.prefix)
    }

    fn lease_key(&self, name: &str) -> String {
        format!("{}:lease:{name}", self.prefix)
    }

    fn connection(&self) -> Result<ConnectionManager, SoftStateError> {
        let connection = self.connection.lock();
        if connection.alone_until.is_some_and(|until| until > Instant::now()) {
            return Err(SoftStateError("Redis does not answer".into()));
        }
        Ok(connection.manager.clone())
    }

    /// Waits for an answer, but not for long.
    async fn ask<T: FromRedisValue>(
        &self,
        answer: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, SoftStateError> {
        match timeout(ANSWER_WITHIN, answer).await {
            Ok(answer) => {
                if answer.as_ref().err().is_none_or(|error| !error.is_timeout()) {
                    self.connection.lock().timeouts = 0;
                }
                answer.map_err(|error| SoftStateError(error.to_string()))
            }
            Err(_) => {
                self.note_timeout();
                Err(SoftStateError("Redis did not answer in time".into()))
            }
        }
    }

    /// A connection that never answers is given up: its other end may be gone without a word.
    fn note_timeout(&self) {
        let mut connection = self.connection.lock();
        connection.timeouts += 1;
        if connection.timeouts >= HUNG_AFTER {
            connection.timeouts = 0;
            connection.alone_until = Some(Instant::now() + LEAVE_ALONE);
            tracing::warn!("redis does not answer, connecting anew");
            match connect(&self.client) {
                Ok(manager) => connection.manager = manager,
                Err(error) => tracing::warn!(%error, "redis connection"),
            }
        }
    }
}

fn connect(client: &Client) -> Result<ConnectionManager, SoftStateError> {
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(1)))
        .set_response_timeout(Some(Duration::from_secs(1)))
        .set_number_of_retries(2)
        .set_min_delay(Duration::from_millis(20))
        .set_max_delay(Duration::from_millis(500));
    client
        .get_connection_manager_lazy(config)
        .map_err(|error| SoftStateError(format!("Redis settings: {}", error.category())))
}

fn millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[async_trait]
impl SoftState for RedisSoftState {
    async fn take(
        &self,
        tenant: &Tenant,
        name: &str,
        rate: Rate,
        cost: f64,
    ) -> Result<Verdict, SoftStateError> {
        let mut connection = self.connection()?;
        let mut call = self.take.key(self.key("bucket", tenant, name));
        call.arg(rate.per_second).arg(rate.burst).arg(cost).arg(MAX_RETRY_AFTER.as_micros().to_string());
        let wait_us: u64 = self.ask(call.invoke_async(&mut connection)).await?;
        Ok(if wait_us == 0 { Verdict::Allowed } else { Verdict::RetryAfter(Duration::from_micros(wait_us)) })
    }

    async fn acquire_lease(&self, name: &str, owner: &str, ttl: Duration) -> Result<bool, SoftStateError> {
        let mut connection = self.connection()?;
        let mut call = self.acquire.key(self.lease_key(name));
        call.arg(owner).arg(millis(ttl));
        self.ask(call.invoke_async(&mut connection)).await
    }

    async fn release_lease(&self, name: &str, owner: &str) -> Result<(), SoftStateError> {
        let mut connection = self.connection()?;
        let mut call = self.release.key(self.lease_key(name));
        call.arg(owner);
        self.ask(call.invoke_async::<()>(&mut connection)).await
    }

    async fn put(
        &self,
        tenant: &Tenant,
        key: &str,
        value: &str,
        ttl: Duration,
    ) -> Result<(), SoftStateError> {
        check_size(value)?;
        let mut connection = self.connection()?;
        self.ask(connection.pset_ex::<_, _, ()>(self.key("value", tenant, key), value, millis(ttl))).await
    }

    async fn get(&self, tenant: &Tenant, key: &str) -> Result<Option<String>, SoftStateError> {
        let mut connection = self.connection()?;
        self.ask(connection.get(self.key("value", tenant, key))).await
    }

    async fn remove(&self, tenant: &Tenant, key: &str) -> Result<(), SoftStateError> {
        let mut connection = self.connection()?;
        self.ask(connection.del::<_, ()>(self.key("value", tenant, key))).await
    }

    async fn check(&self) -> Result<(), SoftStateError> {
        let mut connection = self.connection()?;
        self.ask(connection.ping::<()>()).await
    }
}
