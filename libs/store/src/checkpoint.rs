//! Folds the write-ahead log into its file beside the writer.
//!
//! SQLite does it by itself in the commit that finds the log too long: that commit, and all behind it, then wait until
//! thousands of pages are written and synchronised. Here a connection of its own does the long part while the writer goes
//! on. The log can only begin anew when all of it is in the file, so once it is long the writer is held for the little
//! that was appended meanwhile.

use std::time::Duration;

use sqlx::SqlitePool;
use tokio::sync::watch;

/// Pause between two looks at a log that is being written to.
const EVERY: Duration = Duration::from_millis(100);
/// A log of more pages than this is made to begin anew.
const LONG: i64 = 8_000;
/// The commit that finds more pages than this does the work itself. Nobody gets there while a checkpointer runs and no
/// reader stays in an old snapshot.
pub(crate) const AT_LAST: &str = "40000";

/// What `PRAGMA wal_checkpoint` answers: whether it was kept from it, pages in the log, those of them in the file.
type Answer = (i64, i64, i64);

/// Until the pools are closed, or the last sender of `commits` is gone.
pub(crate) async fn run(own: SqlitePool, writer: SqlitePool, mut commits: watch::Receiver<()>) {
    while commits.changed().await.is_ok() {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = own.close_event() => return,
        }
        if let Err(error) = fold(&own, &writer).await {
            if own.is_closed() {
                return;
            }
            // The next commit brings us here again.
            tracing::warn!(%error, "the write-ahead log could not be folded into its file");
        }
    }
}

async fn fold(own: &SqlitePool, writer: &SqlitePool) -> Result<(), sqlx::Error> {
    let (_, pages, _) = checkpoint(own).await?;
    if pages > LONG {
        checkpoint(writer).await?;
    }
    Ok(())
}

/// Without waiting for readers or for another checkpoint.
async fn checkpoint(pool: &SqlitePool) -> Result<Answer, sqlx::Error> {
    sqlx::query_as("PRAGMA wal_checkpoint(PASSIVE)").fetch_one(pool).await
}
