//! Values as JSON in a row: numbers, booleans and texts; instants as microseconds; documents as their text.

use std::collections::HashMap;

use serde_json::value::RawValue;
use store::StoreError;

use crate::{
    cell::{Cell, Form, Kind},
    query::AttributeInfo,
};

/// PostgreSQL texts cannot hold the character NUL.
pub(super) fn text(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

/// The cells of a row; nulls are left out.
pub(super) fn encode(cells: impl Iterator<Item = (u32, Cell)>) -> String {
    let mut out = String::from("{");
    for (attribute, cell) in cells {
        let value = match cell {
            Cell::Null => continue,
            Cell::Bool(value) => value.to_string(),
            Cell::Int(value) => value.to_string(),
            Cell::Float(value) => serde_json::Value::from(value).to_string(),
            Cell::Text(value) => serde_json::Value::from(&*text(&value)).to_string(),
        };
        let comma = if out.len() > 1 { "," } else { "" };
        out.push_str(&format!("{comma}\"{attribute}\":{value}"));
    }
    out.push('}');
    out
}

/// The wanted cells of a stored row, in order of the attributes.
pub(super) fn decode(stored: &str, wanted: &[AttributeInfo]) -> Result<Vec<Cell>, StoreError> {
    let cells: HashMap<&str, &RawValue> = serde_json::from_str(stored).map_err(|_| damaged())?;
    let cell = |info: &AttributeInfo| match cells.get(info.id.to_string().as_str()) {
        None => Ok(Cell::Null),
        Some(raw) => read(raw.get(), info.kind).ok_or_else(damaged),
    };
    wanted.iter().map(cell).collect()
}

fn damaged() -> StoreError {
    StoreError::Internal("cells of a stored row do not decode".into())
}

fn read(raw: &str, kind: Kind) -> Option<Cell> {
    Some(match kind.form() {
        Form::Float => Cell::Float(raw.parse().ok()?),
        Form::Int => Cell::Int(raw.parse().ok()?),
        Form::Bool => Cell::Bool(raw.parse().ok()?),
        Form::Text => Cell::Text(serde_json::from_str(raw).ok()?),
    })
}

/// The text of an SQL aggregate, as a cell of the result's kind.
#[allow(clippy::cast_possible_truncation, reason = "what is no i64 becomes a float")]
pub(super) fn aggregate(text: Option<String>, kind: Kind) -> Cell {
    let Some(text) = text else { return Cell::Null };
    match kind.form() {
        Form::Int => match text.parse() {
            Ok(value) => Cell::Int(value),
            Err(_) => text.parse().map_or(Cell::Null, Cell::Float),
        },
        Form::Float => text.parse().map_or(Cell::Null, Cell::Float),
        Form::Bool | Form::Text => Cell::Text(text),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn info(id: u32, kind: Kind) -> AttributeInfo {
        AttributeInfo { id, name: id.to_string(), kind, declared: String::new() }
    }

    proptest! {
        #[test]
        fn cells_come_back(float in any::<f64>(), int in any::<i64>(), flag in any::<bool>(), word in "\\PC{0,9}") {
            prop_assume!(float.is_finite());
            let cells = [Cell::Float(float), Cell::Int(int), Cell::Bool(flag), Cell::Text(word), Cell::Null];
            let kinds = [Kind::Number, Kind::DateTime, Kind::Boolean, Kind::Array, Kind::Text];
            let wanted: Vec<AttributeInfo> = (0..).zip(kinds).map(|(id, kind)| info(id, kind)).collect();
            let stored = encode((0..).zip(cells.clone()));
            prop_assert_eq!(decode(&stored, &wanted).unwrap(), cells);
        }
    }

    #[test]
    fn a_character_that_postgres_refuses_is_replaced() {
        assert_eq!(encode([(1, Cell::Text("a\0b".into()))].into_iter()), "{\"1\":\"a\u{fffd}b\"}");
    }
}
