use std::path::PathBuf;

use crate::GroupCommitError;

/// Why the store did not do it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached or did not answer in time: try again later.
    #[error("store unavailable: {0}")]
    Unavailable(String),
    /// The disk is full (or a quota is reached): nothing was written.
    #[error("no space left for the store: {0}")]
    Full(String),
    /// A file of the store is not what it should be.
    #[error("{file} is damaged ({reason}): restore a backup, or move it away to start without what it holds")]
    Corrupt { file: String, reason: String },
    /// Another process uses the data directory.
    #[error("data directory {} is in use by another process{}: stop it or choose another directory",
        dir.display(), if owner.is_empty() { String::new() } else { format!(" ({owner})") })]
    Locked { dir: PathBuf, owner: String },
    /// The database was written by a newer program.
    #[error(
        "database of {component} has version {found}, this program knows up to {known}: use the newer program"
    )]
    TooNew { component: String, found: i64, known: i64 },
    /// A deadlock or a serialization failure: the same transaction may succeed at once.
    #[error("transaction has to be repeated: {0}")]
    Retry(String),
    /// A unique key or another constraint forbids it.
    #[error("conflict: {0}")]
    Conflict(String),
    #[error("store error: {0}")]
    Internal(String),
}

impl StoreError {
    /// Whether the same transaction may succeed later without any change.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Retry(_) | Self::Full(_))
    }

    /// The same error about a file that is known only to the caller.
    pub(crate) fn in_file(self, path: &std::path::Path) -> Self {
        match self {
            Self::Corrupt { reason, .. } => Self::Corrupt { file: path.display().to_string(), reason },
            Self::Full(text) => Self::Full(format!("{}: {text}", path.display())),
            Self::Unavailable(text) => Self::Unavailable(format!("{}: {text}", path.display())),
            other => other,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(database) => {
                if database.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some() {
                    from_postgres(&*database)
                } else {
                    from_sqlite(&*database)
                }
            }
            sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                Self::Full(error.to_string())
            }
            sqlx::Error::Io(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed
            | sqlx::Error::Tls(_) => Self::Unavailable(error.to_string()),
            // A server that goes away in the middle of an answer.
            sqlx::Error::Protocol(text) => Self::Unavailable(text),
            other => Self::Internal(other.to_string()),
        }
    }
}

impl From<GroupCommitError> for StoreError {
    fn from(error: GroupCommitError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// SQLite result codes: <https://www.sqlite.org/rescode.html>. The low byte is the primary code.
fn from_sqlite(error: &dyn sqlx::error::DatabaseError) -> StoreError {
    let text = error.message().to_owned();
    let code = error.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or_default();
    match code & 0xff {
        5 | 6 => StoreError::Retry(text),             // BUSY, LOCKED
        8 | 14 | 23 => StoreError::Unavailable(text), // READONLY, CANTOPEN, AUTH
        10 => StoreError::Unavailable(text),          // IOERR
        11 | 26 => StoreError::Corrupt { file: "file".into(), reason: text }, // CORRUPT, NOTADB
        13 => StoreError::Full(text),                 // FULL
        19 => StoreError::Conflict(text),             // CONSTRAINT
        _ => StoreError::Internal(text),
    }
}

/// SQLSTATE classes: <https://www.postgresql.org/docs/15/errcodes-appendix.html>.
fn from_postgres(error: &dyn sqlx::error::DatabaseError) -> StoreError {
    let text = error.message().to_owned();
    let code = error.code().unwrap_or_default().into_owned();
    match code.as_str() {
        "40001" | "40P01" | "55P03" => StoreError::Retry(text),
        "53100" => StoreError::Full(text),
        "XX001" | "XX002" => StoreError::Corrupt { file: "of the server".into(), reason: text },
        // Failover: the connection ended at a server that became read-only.
        "25006" => StoreError::Unavailable(text),
        _ => match code.get(..2) {
            Some("08" | "53" | "57" | "58") => StoreError::Unavailable(text),
            Some("28" | "3D") => StoreError::Unavailable(text),
            Some("23") => StoreError::Conflict(text),
            _ => StoreError::Internal(format!("{code}: {text}")),
        },
    }
}
