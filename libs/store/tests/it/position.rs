use store::{
    PostgresConfig, open_postgres, open_sqlite, position,
    testing::{fresh_schema, server},
};

use crate::ONE;

#[tokio::test]
async fn a_position_moves_only_from_the_expected_value_in_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    let file = open_sqlite(&dir.path().join("a.db"), "test", &[ONE]).await.unwrap();
    let connection = &mut *file.writer.acquire().await.unwrap();
    assert_eq!(position::load_sqlite(connection, "t", 0).await.unwrap(), None);
    assert!(
        !position::advance_sqlite(connection, "t", 0, Some(0), 5).await.unwrap(),
        "nothing is stored yet"
    );
    assert!(position::advance_sqlite(connection, "t", 0, None, 5).await.unwrap());
    assert!(!position::advance_sqlite(connection, "t", 0, None, 6).await.unwrap(), "something is stored");
    assert!(!position::advance_sqlite(connection, "t", 0, Some(4), 6).await.unwrap());
    assert!(position::advance_sqlite(connection, "t", 0, Some(5), 6).await.unwrap());
    assert_eq!(position::load_sqlite(connection, "t", 0).await.unwrap(), Some(6));
    assert_eq!(position::load_sqlite(connection, "t", 1).await.unwrap(), None, "partitions are apart");
}

#[tokio::test]
async fn of_two_processes_that_advance_together_one_wins() {
    let Some(url) = server("TEST_POSTGRES_URL") else { return };
    let pool = open_postgres(&PostgresConfig::new(url), &fresh_schema("pos"), "test", &[ONE]).await.unwrap();
    for (expected, next) in [(None, 10), (Some(10), 20), (Some(20), 30)] {
        let advance = || async {
            let mut transaction = pool.begin().await.unwrap();
            let won = position::advance_postgres(&mut transaction, "t", 3, expected, next).await.unwrap();
            transaction.commit().await.unwrap();
            u32::from(won)
        };
        let (a, b, c) = tokio::join!(advance(), advance(), advance());
        assert_eq!(a + b + c, 1, "at {next}");
    }
    let connection = &mut *pool.acquire().await.unwrap();
    assert_eq!(position::load_postgres(connection, "t", 3).await.unwrap(), Some(30));
}
