use bus::AppendError;
use ngsi::ErrorWord;
use store::{GroupCommitError, StoreError};

/// Why an operation was not applied.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// The request and the entity do not go together; texts are those of the API.
    #[error(transparent)]
    Refused(#[from] ngsi::Error),
    /// Nothing was written; the same request may succeed later.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// It may have been written or not.
    #[error("the outcome is not known: {0}")]
    Unknown(String),
    #[error("{0}")]
    Internal(String),
}

impl From<GroupCommitError> for WriteError {
    fn from(error: GroupCommitError) -> Self {
        match error {
            GroupCommitError::Overloaded | GroupCommitError::Stopped => Self::Unavailable(error.to_string()),
            GroupCommitError::Unknown => Self::Unknown(error.to_string()),
        }
    }
}

impl From<StoreError> for WriteError {
    fn from(error: StoreError) -> Self {
        if error.is_retryable() {
            Self::Unavailable(error.to_string())
        } else {
            Self::Internal(error.to_string())
        }
    }
}

impl From<AppendError> for WriteError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::NotWritten(error) => error.into(),
            AppendError::Unknown(error) => Self::Unknown(error.to_string()),
        }
    }
}

/// Why a query was not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QueryError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("a query was given up after {limit_ms} ms")]
    TooSlow { limit_ms: u64 },
}

pub(crate) fn answer_of_query(error: QueryError) -> ngsi::Error {
    match error {
        QueryError::Store(error) => answer_of_store(error),
        QueryError::TooSlow { limit_ms } => {
            tracing::warn!(%error, "query refused");
            ngsi::Error::query_too_slow(limit_ms)
        }
    }
}

/// The answer of the API; the cause is logged here, once, and does not leave.
pub(crate) fn answer_of(error: WriteError) -> ngsi::Error {
    match error {
        WriteError::Refused(refused) => refused,
        WriteError::Unavailable(_) => {
            tracing::warn!(%error, "write not taken");
            ngsi::Error::unavailable()
        }
        WriteError::Unknown(_) => {
            tracing::warn!(%error, "write broken off");
            ngsi::Error::outcome_unknown()
        }
        WriteError::Internal(_) => {
            tracing::error!(%error, "write failed");
            ngsi::Error::internal()
        }
    }
}

pub(crate) fn answer_of_store(error: StoreError) -> ngsi::Error {
    answer_of(error.into())
}

/// Whether the sender may try again without any change.
pub fn is_retryable(error: &ngsi::Error) -> bool {
    matches!(error.word, ErrorWord::ServiceUnavailable | ErrorWord::TooManyRequests)
}

/// Why the service did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {address}")]
    Listen { address: std::net::SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Bus(#[from] bus::BusError),
    #[error("configuration: {0}")]
    Config(String),
}
