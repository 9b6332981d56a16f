//! The newest records of an embedded log in memory, so that whoever follows closely need not read them from the file.

use std::collections::VecDeque;

use crate::{Outgoing, Record};

/// Keys and payloads kept, bytes, about.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// The end of a log, without gaps.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    records: VecDeque<Record>,
    bytes: usize,
    /// Offset after the last record of the log; `None` when something may have been written that is not here.
    end: Option<i64>,
}

/// What the tail knows of the records from an offset on.
#[derive(Debug)]
pub(crate) enum Seen {
    Records(Vec<Record>),
    /// The log ends there.
    End,
    /// Only the file knows.
    Unknown,
}

impl Tail {
    /// Takes the records of one transaction, the last of which got the offset `last`.
    pub(crate) fn push(&mut self, last: i64, time_us: i64, records: Vec<Outgoing>) {
        let count = i64::try_from(records.len()).unwrap_or(i64::MAX);
        let first = last.saturating_sub(count).saturating_add(1);
        if self.end != Some(first) {
            self.clear();
        }
        for (offset, record) in (first..).zip(records) {
            self.bytes += record.key.len() + record.payload.len();
            self.records.push_back(record.into_record(offset, time_us));
        }
        self.end = Some(last.saturating_add(1));
        while self.bytes > MAX_BYTES
            && let Some(oldest) = self.records.pop_front()
        {
            self.bytes -= oldest.key.len() + oldest.payload.len();
        }
    }

    /// Something was written that is not here.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Records from offset `from` on: at most `max_records`, and no more after `max_bytes`.
    pub(crate) fn read(&self, from: i64, max_records: usize, max_bytes: usize) -> Seen {
        if self.end == Some(from) {
            return Seen::End;
        }
        let start = self.records.front().and_then(|first| usize::try_from(from - first.offset).ok());
        let Some(start) = start.filter(|start| *start < self.records.len()) else { return Seen::Unknown };
        let mut bytes = 0;
        let mut enough = false;
        let taken = self.records.range(start..).take(max_records).take_while(|record| {
            let before =
                std::mem::replace(&mut enough, bytes + record.payload.len() + record.key.len() >= max_bytes);
            bytes += record.payload.len() + record.key.len();
            !before
        });
        Seen::Records(taken.cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn some(count: usize, size: usize) -> Vec<Outgoing> {
        let one = Outgoing {
            tenant: scope::Tenant::default(),
            key: Bytes::new(),
            payload: vec![0; size].into(),
            headers: Vec::new(),
        };
        vec![one; count]
    }

    fn offsets(seen: Seen) -> Option<Vec<i64>> {
        match seen {
            Seen::Records(records) => Some(records.iter().map(|record| record.offset).collect()),
            Seen::End => Some(Vec::new()),
            Seen::Unknown => None,
        }
    }

    #[test]
    fn what_was_pushed_is_read_from_any_offset_within_the_bounds() {
        let mut tail = Tail::default();
        assert_eq!(offsets(tail.read(1, 10, 100)), None);
        tail.push(12, 0, some(3, 10));
        tail.push(14, 0, some(2, 10));
        assert_eq!(offsets(tail.read(9, 10, 100)), None);
        assert_eq!(offsets(tail.read(10, 10, 100)), Some(vec![10, 11, 12, 13, 14]));
        assert_eq!(offsets(tail.read(12, 2, 100)), Some(vec![12, 13]));
        assert_eq!(offsets(tail.read(10, 10, 20)), Some(vec![10, 11]));
        assert_eq!(offsets(tail.read(10, 10, 1)), Some(vec![10]));
        assert_eq!(offsets(tail.read(15, 10, 100)), Some(vec![]));
        assert_eq!(offsets(tail.read(16, 10, 100)), None);
    }

    #[test]
    fn a_gap_and_a_write_by_others_make_it_forget_what_it_cannot_vouch_for() {
        let mut tail = Tail::default();
        tail.push(12, 0, some(3, 10));
        tail.push(20, 0, some(2, 10));
        assert_eq!(offsets(tail.read(12, 10, 100)), None);
        assert_eq!(offsets(tail.read(13, 10, 100)), None);
        assert_eq!(offsets(tail.read(19, 10, 100)), Some(vec![19, 20]));
        tail.clear();
        assert_eq!(offsets(tail.read(21, 10, 100)), None);
    }

    #[test]
    fn it_is_bounded_by_bytes() {
        let mut tail = Tail::default();
        tail.push(10, 0, some(10, MAX_BYTES / 4));
        assert_eq!(offsets(tail.read(6, 10, usize::MAX)), None);
        assert_eq!(offsets(tail.read(7, 10, usize::MAX)), Some(vec![7, 8, 9, 10]));
    }
}
