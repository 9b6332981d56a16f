use std::{str::FromStr, time::Duration};

use sqlx::{
    AssertSqlSafe, Connection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::{Migration, PostgresConfig, StoreError, migrate_postgres};

/// Opens a pool whose connections live in the database schema `schema` (made if missing: each service has its own, so
/// that several services share one database) and brings `component`'s tables up to date.
///
/// Plans are made for the values at hand: a cached generic plan, made while a table was empty, reads a whole tenant for
/// each batch and was seven times slower. `synchronous_commit` is switched on whatever the server's default is.
pub async fn open_postgres(
    config: &PostgresConfig,
    schema: &str,
    component: &str,
    migrations: &[Migration],
) -> Result<PgPool, StoreError> {
    if schema.is_empty() || !schema.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    {
        return Err(StoreError::Internal(format!("bad schema name {schema:?}")));
    }
    let timeout = Duration::from_millis(config.acquire_timeout_ms);
    let options = connect_options(config, schema)?;
    let prepare = async {
        let mut connection = sqlx::PgConnection::connect_with(&options).await?;
        make_schema(&mut connection, schema).await?;
        migrate_postgres(&mut connection, component, migrations).await?;
        warn_unless_durable(&mut connection).await?;
        connection.close().await?;
        Ok::<_, StoreError>(())
    };
    // Another replica may hold the migration lock for a while; a dead server answers sooner or never.
    tokio::time::timeout(timeout.max(Duration::from_secs(60)), prepare)
        .await
        .map_err(|_| StoreError::Unavailable("no answer while migrating".into()))??;
    Ok(PgPoolOptions::new()
        .max_connections(config.max_connections)
        .acquire_timeout(timeout)
        .max_lifetime(Duration::from_secs(30 * 60))
        .connect_with(options)
        .await?)
}

/// What only the server's administrator can set.
async fn warn_unless_durable(connection: &mut sqlx::PgConnection) -> Result<(), StoreError> {
    let (fsync, full_page_writes): (String, String) =
        sqlx::query_as("SELECT current_setting('fsync'), current_setting('full_page_writes')")
            .fetch_one(connection)
            .await?;
    if fsync != "on" || full_page_writes != "on" {
        tracing::warn!(fsync, full_page_writes, "PostgreSQL may lose committed writes in a power cut");
    }
    Ok(())
}

async fn make_schema(connection: &mut sqlx::PgConnection, schema: &str) -> Result<(), StoreError> {
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)")
        .bind(schema)
        .fetch_one(&mut *connection)
        .await?;
    if !exists {
        // Two replicas may come here together: the loser's unique violation means that the schema is there.
        let made = sqlx::raw_sql(AssertSqlSafe(format!("CREATE SCHEMA IF NOT EXISTS {schema}")))
            .execute(connection)
            .await;
        match made.map_err(StoreError::from) {
            Ok(_) | Err(StoreError::Conflict(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn connect_options(config: &PostgresConfig, schema: &str) -> Result<PgConnectOptions, StoreError> {
    let options = PgConnectOptions::from_str(&config.url)
        .map_err(|_| StoreError::Internal("the PostgreSQL URL cannot be read".into()))?;
    Ok(options.application_name(&format!("thingmesh-{schema}")).statement_cache_capacity(256).options([
        ("search_path", schema),
        ("plan_cache_mode", "force_custom_plan"),
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
        ("synchronous_commit", "on"),
        ("lock_timeout", "10s"),
        ("statement_timeout", "60s"),
        ("idle_in_transaction_session_timeout", "60s"),
        ("jit", "off"),
        ("tcp_keepalives_idle", "10"),
        ("tcp_keepalives_interval", "5"),
        ("tcp_keepalives_count", "3"),
    ]))
}
