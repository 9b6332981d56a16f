//! The open end of a series: rows that are durable in the log but not yet in a chunk, kept encoded in memory.

use super::{
    block::{Block, Column, Wanted},
    codec::{Bytes, Damaged, put_bytes, put_i64, read_cell},
};
use crate::cell::{Form, Kind};

/// Rows in order of arrival, each `time delta, length, cells`.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    bytes: Vec<u8>,
    pub(crate) rows: u32,
    last_us: i64,
    /// Earliest and latest time index.
    pub(crate) first_us: i64,
    pub(crate) newest_us: i64,
    /// The log batch that holds the oldest row.
    pub(crate) batch: i64,
}

impl Head {
    pub(crate) fn new(batch: i64) -> Self {
        Self { bytes: Vec::new(), rows: 0, last_us: 0, first_us: i64::MAX, newest_us: i64::MIN, batch }
    }

    /// Appends a row; answers by how many bytes the head grew.
    pub(crate) fn push(&mut self, at_us: i64, cells: &[u8]) -> usize {
        let before = self.bytes.capacity();
        put_i64(&mut self.bytes, at_us.wrapping_sub(self.last_us));
        put_bytes(&mut self.bytes, cells);
        self.last_us = at_us;
        self.first_us = self.first_us.min(at_us);
        self.newest_us = self.newest_us.max(at_us);
        self.rows += 1;
        self.bytes.capacity() - before
    }

    /// Memory taken, without the struct itself.
    pub(crate) fn weight(&self) -> usize {
        self.bytes.capacity()
    }

    fn each(&self, mut see: impl FnMut(i64, Bytes<'_>) -> Result<(), Damaged>) -> Result<(), Damaged> {
        let mut bytes = Bytes(&self.bytes);
        let mut at_us = 0_i64;
        while !bytes.is_empty() {
            at_us = at_us.wrapping_add(bytes.i64()?);
            see(at_us, Bytes(bytes.bytes()?))?;
        }
        Ok(())
    }

    /// The rows with the wanted attributes.
    pub(crate) fn decode(&self, wanted: &Wanted) -> Result<Block, Damaged> {
        let rows = self.rows as usize;
        let mut block = Block {
            times: Vec::with_capacity(rows),
            columns: wanted.iter().map(|(id, kind)| Column::empty(*id, kind.form(), rows)).collect(),
        };
        self.each(|at_us, mut cells| {
            let row = block.times.len();
            block.times.push(at_us);
            for _ in 0..cells.count()? {
                let (attribute, cell) = read_cell(&mut cells)?;
                if let Some(column) = block.columns.iter_mut().find(|column| column.attribute == attribute) {
                    column.set(row, cell);
                }
            }
            Ok(())
        })?;
        Ok(block.sorted())
    }

    /// The attributes that at least one row has; `kind_of` knows all there are.
    pub(crate) fn attributes(
        &self,
        kind_of: impl Fn(u32) -> Option<Kind>,
    ) -> Result<Vec<(u32, Kind)>, Damaged> {
        let mut found: Vec<(u32, Kind)> = Vec::new();
        self.each(|_, mut cells| {
            for _ in 0..cells.count()? {
                let (attribute, _) = read_cell(&mut cells)?;
                if found.iter().all(|(known, _)| *known != attribute)
                    && let Some(kind) = kind_of(attribute)
                {
                    found.push((attribute, kind));
                }
            }
            Ok(())
        })?;
        Ok(found)
    }
}

/// The form in which a chunk holds a kind, as one byte.
pub(super) fn form_code(form: Form) -> u8 {
    match form {
        Form::Float => 0,
        Form::Int => 1,
        Form::Bool => 2,
        Form::Text => 3,
    }
}

pub(super) fn form_from_code(code: u8) -> Result<Form, Damaged> {
    [Form::Float, Form::Int, Form::Bool, Form::Text].get(usize::from(code)).copied().ok_or(Damaged)
}
