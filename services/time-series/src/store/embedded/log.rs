//! The log: one row per ingest transaction, replayed at start.
//!
//! `version, (series, time difference, stream version, cells)*`

use super::codec::{Bytes, Damaged, put_bytes, put_i64, put_u64};

const VERSION: u8 = 1;

/// One row of a log batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogRow<'a> {
    /// Position in the catalogue.
    pub(crate) series: usize,
    pub(crate) at_us: i64,
    /// Of the stream record it came from.
    pub(crate) version: Option<i64>,
    pub(crate) cells: &'a [u8],
}

/// Writes the body of one batch.
pub(crate) struct LogWriter {
    body: Vec<u8>,
    last_us: i64,
}

impl LogWriter {
    pub(crate) fn new() -> Self {
        Self { body: vec![VERSION], last_us: 0 }
    }

    pub(crate) fn push(&mut self, row: LogRow<'_>) {
        put_u64(&mut self.body, row.series as u64);
        put_i64(&mut self.body, row.at_us.wrapping_sub(self.last_us));
        match row.version {
            None => self.body.push(0),
            Some(version) => {
                self.body.push(1);
                put_i64(&mut self.body, version);
            }
        }
        put_bytes(&mut self.body, row.cells);
        self.last_us = row.at_us;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.body.len() == 1
    }

    pub(crate) fn into_body(self) -> Vec<u8> {
        self.body
    }
}

/// Calls `see` with each row of a batch, in order.
pub(crate) fn read(
    body: &[u8],
    mut see: impl FnMut(LogRow<'_>) -> Result<(), Damaged>,
) -> Result<(), Damaged> {
    let mut bytes = Bytes(body);
    if bytes.u8()? != VERSION {
        return Err(Damaged);
    }
    let mut last_us = 0_i64;
    while !bytes.is_empty() {
        let series = bytes.count()?;
        last_us = last_us.wrapping_add(bytes.i64()?);
        let version = match bytes.u8()? {
            0 => None,
            1 => Some(bytes.i64()?),
            _ => return Err(Damaged),
        };
        see(LogRow { series, at_us: last_us, version, cells: bytes.bytes()? })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_batch_comes_back(rows in prop::collection::vec(
            (0usize..1000, any::<i64>(), prop::option::of(any::<i64>()), prop::collection::vec(any::<u8>(), 0..9)), 0..20,
        )) {
            let mut writer = LogWriter::new();
            for (series, at_us, version, cells) in &rows {
                writer.push(LogRow { series: *series, at_us: *at_us, version: *version, cells });
            }
            let mut back = Vec::new();
            read(&writer.into_body(), |row| {
                back.push((row.series, row.at_us, row.version, row.cells.to_vec()));
                Ok(())
            }).unwrap();
            prop_assert_eq!(back, rows);
        }

        #[test]
        fn damaged_batches_are_errors(noise in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut body = vec![VERSION];
            body.extend(noise);
            read(&body, |_| Ok(())).ok();
        }
    }
}
