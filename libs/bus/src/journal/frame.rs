//! One synchronised write: some entries with what makes them recognisable.
//!
//! ```text
//! frame:  length of the body u32 │ check u64 │ body
//! body:   first offset i64 │ time i64 │ entries u32 │ entry …
//! entry:  tenant │ key │ payload │ note │ headers u32 │ (name │ value) …     each text: length u32, bytes
//! ```
//!
//! All numbers are little-endian. The check is XXH3 of the body; its seed is the segment's own random number, mixed with
//! the frame's place. So neither a frame that was moved nor one that somebody had written into a value passes for one.

use bytes::{Buf, BufMut, Bytes};
use scope::Tenant;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Entry;
use crate::Outgoing;

/// Length and check.
pub(super) const HEADER: usize = 4 + 8;
/// Offset, time and number of entries.
const BODY_HEADER: usize = 8 + 8 + 4;

/// A frame that passed its check.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) first: i64,
    pub(super) time_us: i64,
    pub(super) count: u32,
    entries: Bytes,
}

/// Room for the header, then the body; [`seal`] fills the header in.
pub(super) fn encode<'a>(
    first: i64,
    time_us: i64,
    entries: impl ExactSizeIterator<Item = (&'a Outgoing, &'a [u8])> + Clone,
) -> Vec<u8> {
    let bytes: usize = entries.clone().map(|(record, note)| size(record, note)).sum();
    let mut frame = Vec::with_capacity(HEADER + BODY_HEADER + bytes);
    frame.put_bytes(0, HEADER);
    frame.put_i64_le(first);
    frame.put_i64_le(time_us);
    frame.put_u32_le(length(entries.len()));
    for (record, note) in entries {
        put(&mut frame, record.tenant.as_str().as_bytes());
        put(&mut frame, &record.key);
        put(&mut frame, &record.payload);
        put(&mut frame, note);
        frame.put_u32_le(length(record.headers.len()));
        for (name, value) in &record.headers {
            put(&mut frame, name.as_bytes());
            put(&mut frame, value.as_bytes());
        }
    }
    frame
}

/// Bytes of an entry.
fn size(record: &Outgoing, note: &[u8]) -> usize {
    let headers: usize = record.headers.iter().map(|(name, value)| 8 + name.len() + value.len()).sum();
    20 + record.tenant.as_str().len() + record.key.len() + record.payload.len() + note.len() + headers
}

fn put(frame: &mut Vec<u8>, text: &[u8]) {
    frame.put_u32_le(length(text.len()));
    frame.put_slice(text);
}

fn length(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}

/// Makes the frame valid at its place.
pub(super) fn seal(frame: &mut [u8], seed: u64, place: u64) {
    let (mut header, body) = frame.split_at_mut(HEADER);
    let check = check(body, seed, place);
    header.put_u32_le(length(body.len()));
    header.put_u64_le(check);
}

fn check(body: &[u8], seed: u64, place: u64) -> u64 {
    xxh3_64_with_seed(body, seed ^ place)
}

/// The length of the body and its check; `None`: no frame begins like this.
pub(super) fn header(mut bytes: &[u8]) -> Option<(usize, u64)> {
    let (length, check) = (bytes.try_get_u32_le().ok()?, bytes.try_get_u64_le().ok()?);
    let length = usize::try_from(length).ok()?;
    (length >= BODY_HEADER).then_some((length, check))
}

/// Offset of the first entry in a body that nobody has checked.
pub(super) fn claimed_first(mut body: &[u8]) -> Option<i64> {
    body.try_get_i64_le().ok()
}

/// The frame of a body; `None` when it is damaged.
pub(super) fn open(mut body: Bytes, expected: u64, seed: u64, place: u64) -> Option<Frame> {
    if check(&body, seed, place) != expected {
        return None;
    }
    let first = body.try_get_i64_le().ok()?;
    let time_us = body.try_get_i64_le().ok()?;
    let count = body.try_get_u32_le().ok()?;
    Some(Frame { first, time_us, count, entries: body })
}

impl Frame {
    /// Offset after its last entry.
    pub(super) fn next(&self) -> i64 {
        self.first.saturating_add(i64::from(self.count))
    }

    /// Its entries; `None` when they are not readable.
    pub(super) fn entries(&self) -> Option<Vec<Entry>> {
        let mut rest = self.entries.clone();
        (self.first..self.next()).map(|offset| entry(&mut rest, offset, self.time_us)).collect()
    }
}

fn entry(rest: &mut Bytes, offset: i64, time_us: i64) -> Option<Entry> {
    let tenant = Tenant::from_header(Some(&text(rest)?)).ok()?;
    let (key, payload, note) = (take(rest)?, take(rest)?, take(rest)?);
    let headers = rest.try_get_u32_le().ok()?;
    let headers =
        (0..headers).map(|_| Some((text(rest)?.into(), text(rest)?.into()))).collect::<Option<_>>()?;
    Some(Entry { offset, time_us, record: Outgoing { tenant, key, payload, headers }, note })
}

fn take(rest: &mut Bytes) -> Option<Bytes> {
    let length = usize::try_from(rest.try_get_u32_le().ok()?).ok()?;
    (length <= rest.len()).then(|| rest.split_to(length))
}

fn text(rest: &mut Bytes) -> Option<String> {
    String::from_utf8(take(rest)?.into()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn outgoing() -> impl Strategy<Value = (Outgoing, Vec<u8>)> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..40);
        let headers = proptest::collection::vec((".{0,9}", ".{0,9}"), 0..4);
        ("[a-z]{0,9}", bytes(), bytes(), headers, bytes()).prop_map(
            |(tenant, key, payload, headers, note)| {
                let tenant = Tenant::from_header(Some(&tenant)).unwrap();
                let headers = headers.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
                (Outgoing { tenant, key: key.into(), payload: payload.into(), headers }, note)
            },
        )
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_at_its_place_alone(
            entries in proptest::collection::vec(outgoing(), 0..5),
            (first, time_us) in (0..i64::MAX / 2, any::<i64>()),
            (seed, place) in (any::<u64>(), any::<u64>()),
        ) {
            let mut frame = encode(first, time_us, entries.iter().map(|(record, note)| (record, &**note)));
            prop_assert_eq!(frame.len(), frame.capacity(), "room for all of it from the beginning");
            seal(&mut frame, seed, place);
            let (length, check) = header(&frame).unwrap();
            let body = Bytes::from(frame).slice(HEADER..);
            prop_assert_eq!(length, body.len());
            prop_assert!(open(body.clone(), check, seed, place ^ 1).is_none());
            let read = open(body, check, seed, place).unwrap();
            prop_assert_eq!((read.first, read.time_us), (first, time_us));
            prop_assert_eq!(read.next(), first + i64::try_from(entries.len()).unwrap());
            let read = read.entries().unwrap();
            prop_assert_eq!(read.len(), entries.len());
            for (offset, (read, (record, note))) in (first..).zip(read.iter().zip(&entries)) {
                prop_assert_eq!((read.offset, &read.note[..]), (offset, &note[..]));
                prop_assert_eq!(&read.record.tenant, &record.tenant);
                prop_assert_eq!((&read.record.key, &read.record.payload), (&record.key, &record.payload));
                prop_assert_eq!(&read.record.headers, &record.headers);
            }
        }

        #[test]
        fn any_bytes_are_refused_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let body = Bytes::from(bytes);
            let expected = check(&body, 1, 2);
            if let Some(frame) = open(body, expected, 1, 2) {
                // A count that the bytes cannot hold ends at the first entry that is not there.
                frame.entries();
            }
        }
    }
}
