use std::time::Duration;

use bytes::Bytes;
use rdkafka::{
    ClientContext,
    client::Client,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};

use super::KafkaConfig;
use crate::{BusError, Record};

/// How long metadata may take: for readiness and before the first use of a topic.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Sends librdkafka's own words to the log. A cluster that is away is a warning: everything here waits for it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Logged;

impl ClientContext for Logged {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(facility, message, "kafka");
            }
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => tracing::debug!(facility, message, "kafka"),
            _ => tracing::trace!(facility, message, "kafka"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "kafka");
    }
}

pub(super) type Producer = FutureProducer<Logged>;

pub(super) fn producer(config: &KafkaConfig, give_up_after: Option<Duration>) -> Result<Producer, BusError> {
    config.producer(give_up_after).create_with_context(Logged).map_err(unusable)
}

/// A client that cannot be made: a setting is wrong.
pub(super) fn unusable(error: KafkaError) -> BusError {
    BusError::Refused(format!("Kafka settings: {error}"))
}

pub(super) fn unavailable(error: KafkaError) -> BusError {
    BusError::Unavailable(error.to_string())
}

/// Ends a client without holding up the runtime: its destructor waits for threads.
pub(super) fn drop_aside<T: Send + 'static>(client: T) {
    drop(tokio::task::spawn_blocking(move || drop(client)));
}

/// Asks any broker for `topic`'s metadata (of the cluster, without one). Blocks.
pub(super) fn metadata<C: ClientContext>(
    client: &Client<C>,
    topic: Option<&str>,
) -> Result<Vec<i32>, KafkaError> {
    let metadata = client.fetch_metadata(topic, ANSWER_WITHIN)?;
    let topics = metadata.topics().iter().filter(|found| Some(found.name()) == topic);
    Ok(topics.flat_map(|found| found.partitions()).map(rdkafka::metadata::MetadataPartition::id).collect())
}

/// Whether no later attempt can succeed: the record itself is refused.
pub(super) fn is_refused(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::MessageSizeTooLarge
                | RDKafkaErrorCode::InvalidRecord
                | RDKafkaErrorCode::InvalidMessageSize
                | RDKafkaErrorCode::PolicyViolation
                | RDKafkaErrorCode::InvalidTimestamp
        )
    )
}

pub(super) fn outgoing<'a>(
    topic: &'a str,
    key: &'a [u8],
    payload: &'a [u8],
    headers: &[crate::Header],
    time_us: Option<i64>,
) -> FutureRecord<'a, [u8], [u8]> {
    let headers = headers.iter().fold(OwnedHeaders::new_with_capacity(headers.len()), |all, (key, value)| {
        all.insert(Header { key, value: Some(&**value) })
    });
    let record = FutureRecord::to(topic).key(key).payload(payload).headers(headers);
    match time_us {
        Some(time_us) => record.timestamp(time_us / 1000),
        None => record,
    }
}

pub(super) fn incoming(message: &BorrowedMessage<'_>) -> Record {
    let headers = message.headers().into_iter().flat_map(Headers::iter).filter_map(|header| {
        let value = std::str::from_utf8(header.value?).ok()?;
        Some((header.key.to_owned().into(), value.into()))
    });
    Record {
        offset: message.offset(),
        key: message.key().map(Bytes::copy_from_slice).unwrap_or_default(),
        payload: message.payload().map(Bytes::copy_from_slice).unwrap_or_default(),
        headers: headers.collect(),
        time_us: message.timestamp().to_millis().unwrap_or(0) * 1000,
    }
}
