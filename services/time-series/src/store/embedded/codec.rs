//! Bytes: variable-length integers, and the cells of one row.
//!
//! A row's cells are `count, (attribute, tag, value)*`. Numbers that are short decimals are held as integers with a
//! scale, so that a measurement of two decimals takes three or four bytes.

use crate::cell::Cell;

/// Stored bytes that do not decode: the file is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stored bytes do not decode")]
pub(crate) struct Damaged;

pub(crate) fn put_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Small numbers of either sign take few bytes.
pub(crate) fn put_i64(out: &mut Vec<u8>, value: i64) {
    put_u64(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[derive(Clone, Copy)]
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl<'a> Bytes<'a> {
    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, Damaged> {
        let (first, rest) = self.0.split_first().ok_or(Damaged)?;
        self.0 = rest;
        Ok(*first)
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> Result<u64, Damaged> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Damaged)
    }

    #[inline]
    pub(crate) fn i64(&mut self) -> Result<i64, Damaged> {
        let value = self.u64()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    pub(crate) fn count(&mut self) -> Result<usize, Damaged> {
        usize::try_from(self.u64()?).map_err(|_| Damaged)
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Damaged> {
        let (head, tail) = self.0.split_at_checked(count).ok_or(Damaged)?;
        self.0 = tail;
        Ok(head)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Damaged> {
        let count = self.count()?;
        self.take(count)
    }

    pub(crate) fn f64(&mut self) -> Result<f64, Damaged> {
        self.take(8)?.try_into().map(f64::from_le_bytes).map_err(|_| Damaged)
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, Damaged> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Damaged)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Most decimal places that are held as a scaled integer.
pub(crate) const MAX_PLACES: u8 = 6;
const POWERS: [f64; 7] = [1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6];
const EXACT: f64 = 9_007_199_254_740_992.0;

/// `value` as an integer of at least `places` decimal places, when that is exact, with the places it took.
#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "checked to be exact")]
#[inline]
pub(crate) fn scaled(value: f64, places: u8) -> Option<(i64, u8)> {
    for places in places..=MAX_PLACES {
        let power = POWERS[usize::from(places)];
        let shifted = (value * power).round();
        if shifted.abs() >= EXACT {
            return None;
        }
        // Through the integer, which has no negative zero.
        let mantissa = shifted as i64;
        if (mantissa as f64 / power).to_bits() == value.to_bits() {
            return Some((mantissa, places));
        }
    }
    None
}

#[allow(clippy::cast_precision_loss, reason = "scaled integers lie below 2^53")]
#[inline]
pub(crate) fn unscaled(value: i64, places: u8) -> Result<f64, Damaged> {
    Ok(value as f64 / POWERS.get(usize::from(places)).ok_or(Damaged)?)
}

const FALSE: u8 = 1;
const TRUE: u8 = 2;
const INT: u8 = 3;
const FLOAT: u8 = 4;
const TEXT: u8 = 5;
const SCALED: u8 = 16;

/// Appends one cell of a row; nulls are not written.
pub(crate) fn put_cell(out: &mut Vec<u8>, attribute: u32, cell: &Cell) {
    put_u64(out, u64::from(attribute));
    match cell {
        Cell::Null => out.push(0),
        Cell::Bool(value) => out.push(if *value { TRUE } else { FALSE }),
        Cell::Int(value) => {
            out.push(INT);
            put_i64(out, *value);
        }
        Cell::Float(value) => match scaled(*value, 0) {
            Some((mantissa, places)) => {
                out.push(SCALED + places);
                put_i64(out, mantissa);
            }
            None => {
                out.push(FLOAT);
                out.extend_from_slice(&value.to_le_bytes());
            }
        },
        Cell::Text(text) => {
            out.push(TEXT);
            put_bytes(out, text.as_bytes());
        }
    }
}

/// A cell whose text still lies in the stored bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum CellRef<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a str),
}

/// Reads what [`put_cell`] wrote.
pub(crate) fn read_cell<'a>(bytes: &mut Bytes<'a>) -> Result<(u32, CellRef<'a>), Damaged> {
    let attribute = u32::try_from(bytes.u64()?).map_err(|_| Damaged)?;
    let cell = match bytes.u8()? {
        0 => CellRef::Null,
        FALSE => CellRef::Bool(false),
        TRUE => CellRef::Bool(true),
        INT => CellRef::Int(bytes.i64()?),
        FLOAT => CellRef::Float(bytes.f64()?),
        TEXT => CellRef::Text(bytes.text()?),
        tag @ SCALED.. => CellRef::Float(unscaled(bytes.i64()?, tag - SCALED)?),
        _ => return Err(Damaged),
    };
    Ok((attribute, cell))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn integers_come_back(value in any::<i64>(), small in -200i64..200) {
            let mut out = Vec::new();
            put_i64(&mut out, value);
            put_i64(&mut out, small);
            let mut bytes = Bytes(&out);
            prop_assert_eq!((bytes.i64(), bytes.i64()), (Ok(value), Ok(small)));
            prop_assert!(bytes.is_empty());
        }

        #[test]
        fn floats_come_back_bit_by_bit(bits in any::<u64>(), cents in -1_000_000i32..1_000_000) {
            for value in [f64::from_bits(bits), f64::from(cents) / 100.0, -0.0, f64::from(cents)] {
                if value.is_nan() { continue; }
                let mut out = Vec::new();
                put_cell(&mut out, 7, &Cell::Float(value));
                let Ok((7, CellRef::Float(back))) = read_cell(&mut Bytes(&out)) else { panic!("{out:?}") };
                prop_assert_eq!(back.to_bits(), value.to_bits());
            }
        }

        #[test]
        fn damaged_bytes_are_errors(noise in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut bytes = Bytes(&noise);
            while read_cell(&mut bytes).is_ok() && !bytes.is_empty() {}
        }
    }

    #[test]
    fn a_measurement_is_short() {
        let mut out = Vec::new();
        put_cell(&mut out, 7, &Cell::Float(21.37));
        assert_eq!(out.len(), 4);
    }
}
