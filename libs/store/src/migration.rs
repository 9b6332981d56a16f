use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};

use crate::StoreError;

/// One step of a component's schema. Steps are numbered from 1 without gaps and never change once released.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    pub version: i64,
    pub name: &'static str,
    /// Scripts for SQLite, run in order in one transaction; fragments of libs ([`crate::position::SQLITE_SCHEMA`] …)
    /// stand beside the component's own text.
    pub sqlite: &'static [&'static str],
    /// The same for PostgreSQL.
    pub postgres: &'static [&'static str],
}

/// Any constant: only one migration runs at a time on a server's database.
const POSTGRES_LOCK: i64 = 0x7468_696e_676d;

/// Brings `component`'s tables up to the last of `migrations`, in one immediate transaction.
pub async fn migrate_sqlite(
    connection: &mut SqliteConnection,
    component: &str,
    migrations: &[Migration],
) -> Result<(), StoreError> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::raw_sql(
        "CREATE TABLE IF NOT EXISTS schema_version (component TEXT NOT NULL, version INTEGER NOT NULL, \
         name TEXT NOT NULL, checksum INTEGER NOT NULL, PRIMARY KEY (component, version))",
    )
    .execute(&mut *transaction)
    .await?;
    let applied: Vec<(i64, i64)> =
        sqlx::query_as("SELECT version, checksum FROM schema_version WHERE component = ? ORDER BY version")
            .bind(component)
            .fetch_all(&mut *transaction)
            .await?;
    for migration in pending(component, migrations, &applied, |m| m.sqlite)? {
        for script in migration.sqlite {
            sqlx::raw_sql(AssertSqlSafe(*script)).execute(&mut *transaction).await?;
        }
        sqlx::query("INSERT INTO schema_version (component, version, name, checksum) VALUES (?, ?, ?, ?)")
            .bind(component)
            .bind(migration.version)
            .bind(migration.name)
            .bind(checksum(migration.sqlite))
            .execute(&mut *transaction)
            .await?;
    }
    Ok(transaction.commit().await?)
}

/// Brings `component`'s tables in the connection's schema up to the last of `migrations`; replicas that start together
/// wait for each other.
pub async fn migrate_postgres(
    connection: &mut PgConnection,
    component: &str,
    migrations: &[Migration],
) -> Result<(), StoreError> {
    let mut transaction = connection.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(POSTGRES_LOCK).execute(&mut *transaction).await?;
    sqlx::raw_sql(
        "CREATE TABLE IF NOT EXISTS schema_version (component TEXT NOT NULL, version BIGINT NOT NULL, \
         name TEXT NOT NULL, checksum BIGINT NOT NULL, PRIMARY KEY (component, version))",
    )
    .execute(&mut *transaction)
    .await?;
    let applied: Vec<(i64, i64)> =
        sqlx::query_as("SELECT version, checksum FROM schema_version WHERE component = $1 ORDER BY version")
            .bind(component)
            .fetch_all(&mut *transaction)
            .await?;
    for migration in pending(component, migrations, &applied, |m| m.postgres)? {
        for script in migration.postgres {
            sqlx::raw_sql(AssertSqlSafe(*script)).execute(&mut *transaction).await?;
        }
        sqlx::query(
            "INSERT INTO schema_version (component, version, name, checksum) VALUES ($1, $2, $3, $4)",
        )
        .bind(component)
        .bind(migration.version)
        .bind(migration.name)
        .bind(checksum(migration.postgres))
        .execute(&mut *transaction)
        .await?;
    }
    Ok(transaction.commit().await?)
}

/// What is still to be applied, after a check that what was applied is what this program knows.
fn pending<'a>(
    component: &str,
    migrations: &'a [Migration],
    applied: &[(i64, i64)],
    scripts: impl Fn(&Migration) -> &'static [&'static str],
) -> Result<&'a [Migration], StoreError> {
    debug_assert!(
        migrations.iter().zip(1..).all(|(m, n)| m.version == n),
        "versions of {component} have gaps"
    );
    for (index, (version, sum)) in applied.iter().enumerate() {
        let Some(known) = migrations.get(index) else {
            return Err(StoreError::TooNew {
                component: component.to_owned(),
                found: applied.last().map_or(*version, |(last, _)| *last),
                known: migrations.last().map_or(0, |last| last.version),
            });
        };
        if known.version != *version || checksum(scripts(known)) != *sum {
            return Err(StoreError::Internal(format!(
                "migration {version} of {component} is not the one that was applied to this database"
            )));
        }
    }
    Ok(migrations.get(applied.len()..).unwrap_or_default())
}

/// FNV-1a over the texts: notices an edit, needs no dependency.
fn checksum(scripts: &[&str]) -> i64 {
    let bytes = scripts.iter().flat_map(|script| script.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash.cast_signed()
}
