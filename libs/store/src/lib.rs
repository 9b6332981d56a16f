//! Durable state: SQLite for one process, PostgreSQL for many, with one set of guarantees.
//!
//! ```text
//!            ┌─ open_sqlite ──► SqlitePools { writer: one connection, reader: many, read-only }
//! StoreConfig┤                                                        migrations run under a lock, checked
//!            └─ open_postgres ► PgPool (own schema, plans fixed)
//! requests ──► GroupCommit ──► execute(batch): one transaction ──► answers
//! ```
//!
//! Invariants
//! - What a transaction committed survives a power cut: SQLite `synchronous=FULL` on a WAL, PostgreSQL
//!   `synchronous_commit=on` (decision 15; asserted by tests).
//! - One process owns a data directory ([`lock_data_dir`]); SQLite has one writer connection.
//! - A database newer than the program, a damaged file and a full disk are errors of their own ([`StoreError`]).
//! - A consumer's position moves only from the value that its reader expected ([`position`]).

mod checkpoint;
mod config;
mod dir_lock;
mod error;
pub mod group_commit;
mod migration;
pub mod position;
mod postgres;
mod sqlite;
pub mod testing;

pub use config::{PostgresConfig, StoreConfig};
pub use dir_lock::{DirLock, lock_data_dir};
pub use error::StoreError;
pub use group_commit::{GroupCommit, GroupCommitError, GroupCommitShards};
pub use migration::{Migration, migrate_postgres, migrate_sqlite};
pub use postgres::open_postgres;
pub use sqlite::{Collation, Scan, SqlitePools, open_sqlite, open_sqlite_with};
