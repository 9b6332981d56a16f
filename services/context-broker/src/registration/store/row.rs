use ::store::StoreError;
use ngsi::registration::ForwardingCounters;
use scope::{ServicePath, Tenant};

use crate::registration::{RegistrationId, StoredRegistration};

/// Columns of a registration in the order of [`RegistrationRow`].
pub(super) const COLUMNS: &str =
    "id, path, body, revision, times_sent, last_forwarding_us, last_success_us, last_failure_us";

#[derive(sqlx::FromRow)]
pub(super) struct RegistrationRow {
    id: String,
    path: String,
    body: String,
    revision: i64,
    times_sent: i64,
    last_forwarding_us: Option<i64>,
    last_success_us: Option<i64>,
    last_failure_us: Option<i64>,
}

impl RegistrationRow {
    pub(super) fn decode(self) -> Result<StoredRegistration, StoreError> {
        let corrupt = |what: String| StoreError::Internal(format!("registration row: {what}"));
        Ok(StoredRegistration {
            id: RegistrationId::parse(&self.id).map_err(|error| corrupt(error.to_string()))?,
            path: ServicePath::parse(&self.path).map_err(|error| corrupt(error.to_string()))?,
            body: self.body,
            revision: self.revision,
            counters: ForwardingCounters {
                times_sent: self.times_sent.unsigned_abs(),
                last_forwarding_us: self.last_forwarding_us,
                last_success_us: self.last_success_us,
                last_failure_us: self.last_failure_us,
            },
        })
    }
}

pub(super) fn tenants(rows: Vec<(String, i64)>) -> Vec<(Tenant, i64)> {
    rows.into_iter()
        .filter_map(|(tenant, epoch)| Some((Tenant::from_header(Some(&tenant)).ok()?, epoch)))
        .collect()
}

pub(super) fn sent(counters: &ForwardingCounters) -> i64 {
    i64::try_from(counters.times_sent).unwrap_or(i64::MAX)
}
