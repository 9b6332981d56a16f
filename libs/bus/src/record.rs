use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use scope::Tenant;

/// Names of record headers.
pub mod header {
    pub const TENANT: &str = "tenant";
    pub const TRACEPARENT: &str = "traceparent";
    pub const TRACESTATE: &str = "tracestate";
    pub const CORRELATOR: &str = "fiware-correlator";
}

/// Name and value of a header. Most names are among those of [`header`], and many values are shared.
pub type Header = (Cow<'static, str>, Arc<str>);

/// A record on its way to a topic.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub tenant: Tenant,
    /// Records with one key keep their order.
    pub key: Bytes,
    pub payload: Bytes,
    /// Further headers; the tenant header is added by the bus.
    pub headers: Vec<Header>,
}

impl Outgoing {
    /// The headers with the tenant's.
    pub(crate) fn all_headers(&self) -> Vec<Header> {
        self.with_tenant(self.headers.clone())
    }

    fn with_tenant(&self, mut headers: Vec<Header>) -> Vec<Header> {
        headers.retain(|(name, _)| name != header::TENANT);
        headers.push((Cow::Borrowed(header::TENANT), self.tenant.shared()));
        headers
    }

    /// The record that a reader of the log gets.
    pub(crate) fn into_record(mut self, offset: i64, time_us: i64) -> Record {
        let headers = std::mem::take(&mut self.headers);
        let headers = self.with_tenant(headers).into();
        Record { offset, key: self.key, payload: self.payload, headers, time_us }
    }
}

/// A record read from a topic.
#[derive(Clone, Debug)]
pub struct Record {
    pub offset: i64,
    pub key: Bytes,
    pub payload: Bytes,
    pub headers: Arc<[Header]>,
    /// When it was written, microseconds since 1970.
    pub time_us: i64,
}

impl Record {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| &**value)
    }
}

/// Some records of one partition, in order.
#[derive(Clone, Debug)]
pub struct Batch {
    pub topic: String,
    pub partition: i32,
    /// The position that must still be stored for the batch to count: what [`crate::Consumer::position`] answered, or
    /// `next` of the batch before.
    pub expected: Option<i64>,
    /// The position to store: one after the last record.
    pub next: i64,
    pub records: Vec<Record>,
}
