//! Reads topic `history`: what subscriptions to the mesh's own time series ask for, straight from the event stream.

use std::sync::Arc;

use async_trait::async_trait;
use bus::{Batch, ConsumeError, Consumed, Consumer, Record};
use prost::Message;
use proto::v1::HistoryRecord;
use scope::{Scope, ServicePath, Tenant};
use serde_json::Value;
use service_kit::{
    TraceContext,
    telemetry::{batch_span, event_span},
};

use crate::{
    ingest::entity_row,
    metrics::Metrics,
    row::{Position, Row},
    store::{Appended, HistoryStore, StoreError},
};

pub(crate) const SERVICE: &str = "time-series";

pub(crate) struct HistoryConsumer {
    pub(crate) store: Arc<dyn HistoryStore>,
    pub(crate) metrics: Arc<Metrics>,
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn later(error: StoreError) -> ConsumeError {
    ConsumeError(error.to_string())
}

#[async_trait]
impl Consumer for HistoryConsumer {
    async fn position(&self, topic: &str, partition: i32) -> Result<Option<i64>, ConsumeError> {
        self.store.position(topic, partition).await.map_err(later)
    }

    async fn consume(&self, batch: &Batch) -> Result<Consumed, ConsumeError> {
        let position = Position {
            topic: batch.topic.clone(),
            partition: batch.partition,
            expected: batch.expected,
            next: batch.next,
        };
        let records = batch.records.clone();
        let read = tokio::task::spawn_blocking(move || read_all(&records)).await;
        let Read { rows, traces, refused } = read.map_err(|error| ConsumeError(error.to_string()))?;
        self.metrics.records_refused.inc_by(refused);
        let span = batch_span(SERVICE, "history consume", traces.iter().cloned());
        // One span per event, in the trace of the request that caused it.
        let spans: Vec<_> =
            traces.iter().filter_map(|trace| event_span(SERVICE, "history append", trace)).collect();
        let stored = self.store.append(rows, Some(position)).await;
        if let Err(error) = &stored {
            span.iter().chain(&spans).for_each(|span| span.fail(&error.to_string()));
        }
        match stored.map_err(later)? {
            Appended::Moved => Ok(Consumed::Moved),
            Appended::Stored { repeated, nulled, .. } => {
                self.metrics.rows_repeated.inc_by(repeated);
                self.metrics.values_nulled.inc_by(nulled);
                Ok(Consumed::Stored)
            }
        }
    }
}

#[derive(Default)]
struct Read {
    rows: Vec<Row>,
    traces: Vec<TraceContext>,
    refused: u64,
}

/// A record that cannot be read would stop the stream for ever: it is counted and passed over.
fn read_all(records: &[Record]) -> Read {
    let mut read = Read::default();
    for record in records {
        match read_record(record) {
            Ok((row, trace)) => {
                read.rows.extend(row);
                read.traces.extend(trace);
            }
            Err(reason) => {
                tracing::error!(offset = record.offset, reason, "history record refused");
                read.refused += 1;
            }
        }
    }
    read
}

fn read_record(record: &Record) -> Result<(Option<Row>, Option<TraceContext>), String> {
    let record = HistoryRecord::decode(record.payload.clone()).map_err(|error| error.to_string())?;
    let tenant = Tenant::from_header(Some(&record.tenant)).map_err(|error| error.to_string())?;
    let path = if record.service_path.is_empty() { "/" } else { &record.service_path };
    let path = ServicePath::parse(path).map_err(|error| error.to_string())?;
    let attributes: Value = serde_json::from_slice(&record.attributes).map_err(|error| error.to_string())?;
    let Value::Object(mut entity) = attributes else { return Err("attributes are no object".into()) };
    entity.insert("id".into(), record.entity_id.into());
    entity.insert("type".into(), record.entity_type.into());
    let time_index = Some(record.time_index_attribute.as_str()).filter(|name| !name.is_empty());
    // The time of the change takes the place of the time of arrival, so that a late consumer stores the same rows.
    let row =
        entity_row(&Value::Object(entity), 0, Scope::new(tenant, path), time_index, record.commit_time_us)
            .map_err(|error| error.to_string())?;
    let row = row.map(|row| Row { version: Some(record.version), ..row });
    let mut trace = TraceContext::parse(&record.traceparent);
    if let Some(trace) = &mut trace {
        trace.state = record.tracestate;
    }
    Ok((row, trace))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn record(payload: Vec<u8>) -> Record {
        Record { offset: 0, key: Bytes::new(), payload: payload.into(), headers: [].into(), time_us: 0 }
    }

    fn history_record(attributes: &str) -> HistoryRecord {
        HistoryRecord {
            tenant: "t".into(),
            service_path: "/a".into(),
            entity_id: "e".into(),
            entity_type: "T".into(),
            version: 5,
            commit_time_us: 1_234,
            attributes: attributes.to_owned().into(),
            ..HistoryRecord::default()
        }
    }

    #[test]
    fn a_change_takes_the_time_of_its_commit_unless_its_attributes_name_one() {
        let plain = history_record(r#"{"n":{"type":"Number","value":1,"dateModified":99}}"#);
        let (row, _) = read_record(&record(plain.encode_to_vec())).unwrap();
        let row = row.unwrap();
        assert_eq!((row.time_us, row.version), (1_234, Some(5)));
        let timed = history_record(
            r#"{"n":{"type":"Number","value":1},"TimeInstant":{"type":"DateTime","value":"1970-01-01T00:00:01Z"}}"#,
        );
        let (row, _) = read_record(&record(timed.encode_to_vec())).unwrap();
        assert_eq!(row.unwrap().time_us, 1_000_000);
    }

    #[test]
    fn unreadable_records_are_counted_and_passed_over() {
        let good = history_record(r#"{"n":{"type":"Number","value":1}}"#).encode_to_vec();
        let bad = history_record("[]").encode_to_vec();
        let read = read_all(&[record(good), record(bad), record(vec![255; 7])]);
        assert_eq!((read.rows.len(), read.refused), (1, 2));
    }

    proptest! {
        #[test]
        fn any_payload_is_read_or_refused(noise in prop::collection::vec(any::<u8>(), 0..60)) {
            drop(read_record(&record(noise)));
        }
    }
}
