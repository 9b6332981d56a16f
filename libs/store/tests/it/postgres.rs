use sqlx::PgPool;
use store::{
    PostgresConfig, StoreError, open_postgres,
    testing::{fresh_schema, server},
};

use crate::{EDITED, ONE, TWO};

async fn setting(pool: &PgPool, name: &str) -> String {
    sqlx::query_scalar("SELECT current_setting($1)").bind(name).fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn commits_wait_for_the_disk() {
    let Some(url) = server("TEST_POSTGRES_URL") else { return };
    let pool =
        open_postgres(&PostgresConfig::new(url), &fresh_schema("durable"), "test", &[ONE]).await.unwrap();
    for name in ["fsync", "synchronous_commit", "full_page_writes"] {
        assert_eq!(setting(&pool, name).await, "on", "{name}");
    }
    assert_eq!(setting(&pool, "plan_cache_mode").await, "force_custom_plan");
}

#[tokio::test]
async fn replicas_that_start_together_migrate_once() {
    let Some(url) = server("TEST_POSTGRES_URL") else { return };
    let (config, schema) = (PostgresConfig::new(url), fresh_schema("together"));
    let starts = (0..6).map(|_| open_postgres(&config, &schema, "test", &[ONE, TWO]));
    let pools = futures::future::join_all(starts).await;
    for pool in pools {
        let versions: i64 = sqlx::query_scalar("SELECT count(*) FROM schema_version")
            .fetch_one(&pool.unwrap())
            .await
            .unwrap();
        assert_eq!(versions, 2);
    }
    let error = open_postgres(&config, &schema, "test", &[ONE]).await.unwrap_err();
    assert!(matches!(error, StoreError::TooNew { found: 2, known: 1, .. }), "{error}");
    let error = open_postgres(&config, &schema, "test", &[EDITED, TWO]).await.unwrap_err();
    assert!(error.to_string().contains("not the one that was applied"), "{error}");
}

#[tokio::test]
async fn services_that_share_a_database_do_not_see_each_other() {
    let Some(url) = server("TEST_POSTGRES_URL") else { return };
    let config = PostgresConfig::new(url);
    let one = open_postgres(&config, &fresh_schema("one"), "test", &[ONE]).await.unwrap();
    let two = open_postgres(&config, &fresh_schema("two"), "test", &[ONE]).await.unwrap();
    sqlx::query("INSERT INTO thing VALUES (1, 'a')").execute(&one).await.unwrap();
    let seen: i64 = sqlx::query_scalar("SELECT count(*) FROM thing").fetch_one(&two).await.unwrap();
    assert_eq!(seen, 0);
}

#[tokio::test]
async fn a_server_that_is_away_is_unavailable() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = PostgresConfig::new(format!("postgres://postgres@127.0.0.1:{port}/postgres"));
    let error = open_postgres(&config, "away", "test", &[ONE]).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)) && error.is_retryable(), "{error:?}");
}

#[tokio::test]
async fn a_deadlock_asks_for_a_repeat_and_a_broken_key_is_a_conflict() {
    let Some(url) = server("TEST_POSTGRES_URL") else { return };
    let pool = open_postgres(&PostgresConfig::new(url), &fresh_schema("lock"), "test", &[ONE]).await.unwrap();
    sqlx::query("INSERT INTO thing VALUES (1, 'a'), (2, 'b')").execute(&pool).await.unwrap();
    let error = sqlx::query("INSERT INTO thing VALUES (3, 'a')").execute(&pool).await.unwrap_err();
    assert!(matches!(StoreError::from(error), StoreError::Conflict(_)));

    let meet = tokio::sync::Barrier::new(2);
    let lock = |first: i64, second: i64| {
        let (pool, meet) = (&pool, &meet);
        async move {
            let mut transaction = pool.begin().await?;
            sqlx::query("SELECT FROM thing WHERE id = $1 FOR UPDATE")
                .bind(first)
                .execute(&mut *transaction)
                .await?;
            meet.wait().await;
            sqlx::query("SELECT FROM thing WHERE id = $1 FOR UPDATE")
                .bind(second)
                .execute(&mut *transaction)
                .await?;
            Ok::<_, StoreError>(transaction.commit().await?)
        }
    };
    let outcomes = tokio::join!(lock(1, 2), lock(2, 1));
    let ((Err(error), Ok(())) | (Ok(()), Err(error))) = outcomes else { panic!("{outcomes:?}") };
    assert!(matches!(error, StoreError::Retry(_)), "{error:?}");
}
