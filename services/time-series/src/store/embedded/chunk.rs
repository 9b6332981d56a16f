//! Sealed rows of one series, compressed column by column.
//!
//! ```text
//! body:  version, rows, frame(times), columns, (attribute, form, frame(presence and values))*
//! frame: 0 raw | 1 zstd, length, bytes
//! stats: columns, (attribute, form, count, [min, max, sum])*   read without the body
//! ```
//! Times are second differences; decimals are scaled integers as differences, other numbers are XORed with their
//! predecessor and transposed byte by byte, so that zstd finds what repeats.

use super::{
    block::{Block, Column, Values, Wanted},
    codec::{Bytes, Damaged, put_bytes, put_i64, put_u64, scaled, unscaled},
    head::{form_code, form_from_code},
};
use crate::cell::Form;

const VERSION: u8 = 1;
/// No frame decodes to more than this: a damaged length must not take the memory.
const MAX_FRAME: usize = 1 << 30;
const LEVEL: i32 = 3;

fn put_frame(out: &mut Vec<u8>, content: &[u8]) {
    let packed = if content.len() > 24 { zstd::bulk::compress(content, LEVEL).ok() } else { None };
    match packed {
        Some(packed) if packed.len() + 4 < content.len() => {
            out.push(1);
            put_u64(out, content.len() as u64);
            put_bytes(out, &packed);
        }
        _ => {
            out.push(0);
            put_bytes(out, content);
        }
    }
}

/// Unpacks frames into one reused buffer.
pub(crate) struct Unpacker(zstd::bulk::Decompressor<'static>);

impl Unpacker {
    pub(crate) fn new() -> Result<Self, Damaged> {
        zstd::bulk::Decompressor::new().map(Self).map_err(|_| Damaged)
    }

    fn frame<'a>(&mut self, bytes: &mut Bytes<'a>) -> Result<std::borrow::Cow<'a, [u8]>, Damaged> {
        match bytes.u8()? {
            0 => Ok(bytes.bytes()?.into()),
            1 => {
                let length = bytes.count()?;
                let packed = bytes.bytes()?;
                if length > MAX_FRAME {
                    return Err(Damaged);
                }
                let content = self.0.decompress(packed, length).map_err(|_| Damaged)?;
                if content.len() == length { Ok(content.into()) } else { Err(Damaged) }
            }
            _ => Err(Damaged),
        }
    }
}

fn skip_frame(bytes: &mut Bytes<'_>) -> Result<(), Damaged> {
    if bytes.u8()? == 1 {
        bytes.u64()?;
    }
    bytes.bytes().map(drop)
}

/// The body of a chunk with the rows of `block`.
pub(crate) fn encode(block: &Block) -> Vec<u8> {
    let mut out = vec![VERSION];
    put_u64(&mut out, block.rows() as u64);
    put_frame(&mut out, &encode_times(&block.times));
    put_u64(&mut out, block.columns.len() as u64);
    for column in &block.columns {
        put_u64(&mut out, u64::from(column.attribute));
        out.push(form_code(column.values.form()));
        put_frame(&mut out, &encode_column(column));
    }
    out
}

/// The wanted columns of a chunk; `None` = all of them.
pub(crate) fn decode(
    body: &[u8],
    wanted: Option<&Wanted>,
    unpacker: &mut Unpacker,
) -> Result<Block, Damaged> {
    let mut bytes = Bytes(body);
    if bytes.u8()? != VERSION {
        return Err(Damaged);
    }
    let rows = bytes.count()?;
    let times = decode_times(&unpacker.frame(&mut bytes)?, rows)?;
    let mut columns = Vec::new();
    for _ in 0..bytes.count()? {
        let attribute = u32::try_from(bytes.u64()?).map_err(|_| Damaged)?;
        let form = form_from_code(bytes.u8()?)?;
        if wanted.is_none_or(|wanted| wanted.iter().any(|(id, _)| *id == attribute)) {
            columns.push(decode_column(attribute, form, &unpacker.frame(&mut bytes)?, rows)?);
        } else {
            skip_frame(&mut bytes)?;
        }
    }
    Ok(Block { times, columns })
}

/// Times in whole milliseconds are held as milliseconds.
fn encode_times(times: &[i64]) -> Vec<u8> {
    let unit = if times.iter().all(|at| at % 1000 == 0) { 1000 } else { 1 };
    let mut out = Vec::with_capacity(times.len() + 16);
    put_i64(&mut out, unit);
    let (mut last, mut step) = (0_i64, 0_i64);
    for at in times {
        let next = (at / unit).wrapping_sub(last);
        put_i64(&mut out, next.wrapping_sub(step));
        // The first difference is the time itself and says nothing about the next.
        step = if last == 0 && step == 0 { 0 } else { next };
        last = at / unit;
    }
    out
}

fn decode_times(content: &[u8], rows: usize) -> Result<Vec<i64>, Damaged> {
    let mut bytes = Bytes(content);
    let unit = bytes.i64()?;
    if rows > content.len() {
        return Err(Damaged);
    }
    let mut times = Vec::with_capacity(rows);
    let (mut last, mut step) = (0_i64, 0_i64);
    for _ in 0..rows {
        let next = step.wrapping_add(bytes.i64()?);
        step = if last == 0 && step == 0 { 0 } else { next };
        last = last.wrapping_add(next);
        times.push(last.wrapping_mul(unit));
    }
    Ok(times)
}

fn encode_column(column: &Column) -> Vec<u8> {
    let mut out = Vec::with_capacity(column.present.len() * 2 + 8);
    let all = column.present.iter().all(|present| *present);
    out.push(u8::from(all));
    if !all {
        for eight in column.present.chunks(8) {
            out.push(eight.iter().rev().fold(0, |bits, present| bits << 1 | u8::from(*present)));
        }
    }
    let present = |row: &usize| column.present[*row];
    match &column.values {
        Values::Float(values) => {
            let values: Vec<f64> = (0..values.len()).filter(present).map(|row| values[row]).collect();
            encode_floats(&mut out, &values);
        }
        Values::Int(values) => {
            encode_ints(&mut out, (0..values.len()).filter(present).map(|row| values[row]))
        }
        Values::Bool(values) => {
            out.extend((0..values.len()).filter(present).map(|row| u8::from(values[row])));
        }
        Values::Text(values) => {
            for row in (0..values.len()).filter(present) {
                put_u64(&mut out, values[row].len() as u64);
            }
            for row in (0..values.len()).filter(present) {
                out.extend_from_slice(values[row].as_bytes());
            }
        }
    }
    out
}

fn encode_ints(out: &mut Vec<u8>, values: impl Iterator<Item = i64>) {
    let mut last = 0_i64;
    for value in values {
        put_i64(out, value.wrapping_sub(last));
        last = value;
    }
}

/// `places` and differences, or 255 and the transposed XOR.
fn encode_floats(out: &mut Vec<u8>, values: &[f64]) {
    let places = values.iter().try_fold(0, |places, value| scaled(*value, places).map(|(_, places)| places));
    if let Some(places) = places {
        // A value that needs fewer places may not be exact with more of them: then the bits are kept.
        let mantissas: Option<Vec<i64>> = values
            .iter()
            .map(|value| {
                scaled(*value, places).filter(|(_, took)| *took == places).map(|(mantissa, _)| mantissa)
            })
            .collect();
        if let Some(mantissas) = mantissas {
            out.push(places);
            encode_ints(out, mantissas.into_iter());
            return;
        }
    }
    out.push(255);
    let mut last = 0_u64;
    let mixed: Vec<[u8; 8]> = values
        .iter()
        .map(|value| {
            let bits = value.to_bits();
            let xor = bits ^ last;
            last = bits;
            xor.to_le_bytes()
        })
        .collect();
    for byte in (0..8).rev() {
        out.extend(mixed.iter().map(|bytes| bytes[byte]));
    }
}

fn decode_column(attribute: u32, form: Form, content: &[u8], rows: usize) -> Result<Column, Damaged> {
    let mut bytes = Bytes(content);
    let present: Vec<bool> = if bytes.u8()? == 1 {
        vec![true; rows]
    } else {
        let bits = bytes.take(rows.div_ceil(8))?;
        (0..rows).map(|row| bits[row / 8] >> (row % 8) & 1 == 1).collect()
    };
    let mut column = Column { attribute, ..Column::empty(attribute, form, rows) };
    let places: Vec<usize> = (0..rows).filter(|row| present[*row]).collect();
    match &mut column.values {
        Values::Float(values) => decode_floats(&mut bytes, values, &places)?,
        Values::Int(values) => {
            let mut last = 0_i64;
            for row in places {
                last = last.wrapping_add(bytes.i64()?);
                values[row] = last;
            }
        }
        Values::Bool(values) => {
            for row in places {
                values[row] = bytes.u8()? == 1;
            }
        }
        Values::Text(values) => {
            let lengths: Vec<usize> = places.iter().map(|_| bytes.count()).collect::<Result<_, _>>()?;
            for (row, length) in places.into_iter().zip(lengths) {
                values[row] = std::str::from_utf8(bytes.take(length)?).map_err(|_| Damaged)?.to_owned();
            }
        }
    }
    column.present = present;
    Ok(column)
}

fn decode_floats(bytes: &mut Bytes<'_>, values: &mut [f64], rows: &[usize]) -> Result<(), Damaged> {
    let places = bytes.u8()?;
    if places == 255 {
        let content = bytes.take(rows.len() * 8)?;
        let mut last = 0_u64;
        for (n, row) in rows.iter().enumerate() {
            let xor = (0..8).fold(0_u64, |bits, byte| bits << 8 | u64::from(content[byte * rows.len() + n]));
            last ^= xor;
            values[*row] = f64::from_bits(last);
        }
        return Ok(());
    }
    let mut last = 0_i64;
    for row in rows {
        last = last.wrapping_add(bytes.i64()?);
        values[*row] = unscaled(last, places)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(block: &Block) -> Block {
        decode(&encode(block), None, &mut Unpacker::new().unwrap()).unwrap()
    }

    /// Values at absent places mean nothing; they decode to the default.
    fn column(attribute: u32, cells: Vec<Option<Values>>, form: Form) -> Column {
        let mut column = Column::empty(attribute, form, cells.len());
        for (row, cell) in cells.into_iter().enumerate() {
            match (&mut column.values, cell) {
                (Values::Float(to), Some(Values::Float(from))) => to[row] = from[0],
                (Values::Int(to), Some(Values::Int(from))) => to[row] = from[0],
                (Values::Bool(to), Some(Values::Bool(from))) => to[row] = from[0],
                (Values::Text(to), Some(Values::Text(from))) => to[row] = from[0].clone(),
                _ => continue,
            }
            column.present[row] = true;
        }
        column
    }

    fn number() -> impl Strategy<Value = f64> {
        prop_oneof![
            (-100_000i32..100_000).prop_map(|n| f64::from(n) / 100.0),
            any::<f64>().prop_filter("no NaN", |n| !n.is_nan()),
            Just(0.0),
            Just(-0.0)
        ]
    }

    fn blocks() -> impl Strategy<Value = Block> {
        let row = (
            any::<i64>(),
            prop::option::of(number()),
            prop::option::of(any::<i64>()),
            prop::option::of(any::<bool>()),
            prop::option::of("\\PC{0,9}"),
        );
        prop::collection::vec(row, 0..60).prop_map(|rows| {
            let times = rows.iter().map(|row| row.0).collect();
            let floats = rows.iter().map(|row| row.1.map(|v| Values::Float(vec![v]))).collect();
            let ints = rows.iter().map(|row| row.2.map(|v| Values::Int(vec![v]))).collect();
            let bools = rows.iter().map(|row| row.3.map(|v| Values::Bool(vec![v]))).collect();
            let texts = rows.iter().map(|row| row.4.clone().map(|v| Values::Text(vec![v]))).collect();
            let columns = vec![
                column(3, floats, Form::Float),
                column(4, ints, Form::Int),
                column(5, bools, Form::Bool),
                column(900, texts, Form::Text),
            ];
            Block { times, columns }
        })
    }

    proptest! {
        #[test]
        fn a_block_comes_back(block in blocks()) {
            let back = round_trip(&block);
            // Compared as text because of negative zero.
            prop_assert_eq!(format!("{back:?}"), format!("{block:?}"));
        }

        #[test]
        fn damaged_bodies_are_errors(block in blocks(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut body = encode(&block);
            let at = at.index(body.len());
            body[at] ^= 1 << bit;
            drop(decode(&body, None, &mut Unpacker::new().unwrap()));
            drop(decode(&body[..at], None, &mut Unpacker::new().unwrap()));
        }
    }

    #[test]
    fn a_second_by_second_series_takes_two_bytes_a_point() {
        let values: Vec<f64> = (0..1024).map(|n| f64::from((n * 7919) % 50 + 2000) / 100.0).collect();
        let block = Block {
            times: (0..1024).map(|n| 1_893_456_000_000_000 + n * 1_000_000).collect(),
            columns: vec![Column { attribute: 1, present: vec![true; 1024], values: Values::Float(values) }],
        };
        assert!(encode(&block).len() < 1500, "{}", encode(&block).len());
    }

    #[test]
    fn only_wanted_columns_are_decoded() {
        let block = Block {
            times: vec![1, 2],
            columns: vec![
                column(1, vec![None, Some(Values::Int(vec![5]))], Form::Int),
                column(2, vec![None, None], Form::Bool),
            ],
        };
        let wanted = [(1, crate::cell::Kind::Integer)];
        let back = decode(&encode(&block), Some(&wanted), &mut Unpacker::new().unwrap()).unwrap();
        assert_eq!(back.columns, block.columns[..1]);
    }
}
