//! Sums over the rows of a chunk, kept beside it, so that an aggregate need not decode it.

use super::{
    block::{Block, Column, Values},
    codec::{Bytes, Damaged, put_i64, put_u64},
    head::{form_code, form_from_code},
};
use crate::{
    cell::{Cell, Form, Kind},
    query::Method,
};

/// What was seen of the values of one attribute. Nulls do not count.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) count: u64,
    pub(crate) range: Range,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Range {
    Float {
        min: f64,
        max: f64,
        sum: f64,
    },
    Int {
        min: i64,
        max: i64,
        sum: i128,
    },
    Text {
        min: String,
        max: String,
    },
    /// Values without an order.
    Unordered,
}

impl Summary {
    pub(crate) fn new(form: Form) -> Self {
        let range = match form {
            Form::Float => Range::Float { min: f64::INFINITY, max: f64::NEG_INFINITY, sum: 0.0 },
            Form::Int => Range::Int { min: i64::MAX, max: i64::MIN, sum: 0 },
            Form::Text => Range::Text { min: String::new(), max: String::new() },
            Form::Bool => Range::Unordered,
        };
        Self { count: 0, range }
    }

    /// Adds the values of some rows.
    pub(crate) fn add(&mut self, column: &Column, rows: std::ops::Range<usize>) {
        let present = &column.present[rows.clone()];
        match (&mut self.range, &column.values) {
            (Range::Float { min, max, sum }, Values::Float(values)) => {
                for (value, _) in values[rows].iter().zip(present).filter(|(_, present)| **present) {
                    (*min, *max, *sum) = (min.min(*value), max.max(*value), *sum + value);
                    self.count += 1;
                }
            }
            (Range::Int { min, max, sum }, Values::Int(values)) => {
                for (value, _) in values[rows].iter().zip(present).filter(|(_, present)| **present) {
                    (*min, *max, *sum) = ((*min).min(*value), (*max).max(*value), *sum + i128::from(*value));
                    self.count += 1;
                }
            }
            (Range::Text { min, max }, Values::Text(values)) => {
                for (value, _) in values[rows].iter().zip(present).filter(|(_, present)| **present) {
                    if self.count == 0 || value < min {
                        min.clone_from(value);
                    }
                    if self.count == 0 || value > max {
                        max.clone_from(value);
                    }
                    self.count += 1;
                }
            }
            _ => self.count += present.iter().filter(|present| **present).count() as u64,
        }
    }

    /// Adds what a chunk says of all its rows.
    pub(crate) fn merge(&mut self, other: &Self) {
        match (&mut self.range, &other.range) {
            (Range::Float { min, max, sum }, Range::Float { min: low, max: high, sum: more }) => {
                (*min, *max, *sum) = (min.min(*low), max.max(*high), *sum + more);
            }
            (Range::Int { min, max, sum }, Range::Int { min: low, max: high, sum: more }) => {
                (*min, *max, *sum) = ((*min).min(*low), (*max).max(*high), *sum + more);
            }
            _ => {}
        }
        self.count += other.count;
    }

    /// The answer of an aggregation over attributes of `kind`.
    #[allow(clippy::cast_precision_loss, reason = "an average is a float")]
    pub(crate) fn answer(&self, method: Method, kind: Kind) -> Cell {
        if method == Method::Count {
            return Cell::Int(i64::try_from(self.count).unwrap_or(i64::MAX));
        }
        if self.count == 0 || !method.applies_to(kind) {
            return Cell::Null;
        }
        let count = self.count as f64;
        match (&self.range, method) {
            (Range::Float { min, .. }, Method::Min) => Cell::Float(*min),
            (Range::Float { max, .. }, Method::Max) => Cell::Float(*max),
            (Range::Float { sum, .. }, Method::Sum) => Cell::Float(*sum),
            (Range::Float { sum, .. }, _) => Cell::Float(sum / count),
            (Range::Int { min, .. }, Method::Min) => Cell::Int(*min),
            (Range::Int { max, .. }, Method::Max) => Cell::Int(*max),
            (Range::Int { sum, .. }, Method::Sum) => {
                i64::try_from(*sum).map_or(Cell::Float(*sum as f64), Cell::Int)
            }
            (Range::Int { sum, .. }, _) => Cell::Float(*sum as f64 / count),
            (Range::Text { min, .. }, Method::Min) => Cell::Text(min.clone()),
            (Range::Text { max, .. }, _) => Cell::Text(max.clone()),
            (Range::Unordered, _) => Cell::Null,
        }
    }
}

/// Whether the stats of a chunk answer the method for this kind; the ends of texts are not kept.
pub(crate) fn answers(method: Method, kind: Kind) -> bool {
    method == Method::Count || kind.form() != Form::Text
}

/// The stats of a block, as stored.
pub(crate) fn encode(block: &Block) -> Vec<u8> {
    let mut out = Vec::new();
    put_u64(&mut out, block.columns.len() as u64);
    for column in &block.columns {
        let form = column.values.form();
        // The ends of texts are not kept: count them as unordered.
        let mut summary = Summary::new(if form == Form::Text { Form::Bool } else { form });
        summary.add(column, 0..block.rows());
        put_u64(&mut out, u64::from(column.attribute));
        out.push(form_code(form));
        put_u64(&mut out, summary.count);
        match summary.range {
            Range::Float { min, max, sum } => {
                for value in [min, max, sum] {
                    out.extend_from_slice(&value.to_le_bytes());
                }
            }
            Range::Int { min, max, sum } => {
                put_i64(&mut out, min);
                put_i64(&mut out, max);
                out.extend_from_slice(&sum.to_le_bytes());
            }
            Range::Text { .. } | Range::Unordered => {}
        }
    }
    out
}

/// What stored stats say of one attribute; `None` when no row of the chunk has it.
pub(crate) fn find(stats: &[u8], attribute: u32) -> Result<Option<Summary>, Damaged> {
    let mut bytes = Bytes(stats);
    for _ in 0..bytes.count()? {
        let id = bytes.u64()?;
        let form = form_from_code(bytes.u8()?)?;
        let count = bytes.u64()?;
        let range = match form {
            Form::Float => Range::Float { min: bytes.f64()?, max: bytes.f64()?, sum: bytes.f64()? },
            Form::Int => {
                let (min, max) = (bytes.i64()?, bytes.i64()?);
                let sum = bytes.take(16)?.try_into().map(i128::from_le_bytes).map_err(|_| Damaged)?;
                Range::Int { min, max, sum }
            }
            Form::Bool | Form::Text => Range::Unordered,
        };
        if id == u64::from(attribute) {
            return Ok(Some(Summary { count, range }));
        }
    }
    Ok(None)
}
