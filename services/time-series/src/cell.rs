//! Values as they are stored: five plain forms, and the kinds of attributes that map onto them (contract section 5).

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::time;

/// A stored value.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum Cell {
    #[default]
    Null,
    Bool(bool),
    /// An integer, or an instant in microseconds.
    Int(i64),
    Float(f64),
    /// Text, or the text of a JSON document.
    Text(String),
}

/// What an attribute of a type holds, fixed by its first value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Number,
    Integer,
    Boolean,
    DateTime,
    Text,
    Structured,
    Array,
    GeoJson,
    GeoPoint,
    /// Line, polygon or box in the simple format: an array of `"lat, lon"` texts.
    GeoShape,
}

/// Which of the plain forms a kind is stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Float,
    Int,
    Bool,
    Text,
}

const CODES: [Kind; 10] = [
    Kind::Number,
    Kind::Integer,
    Kind::Boolean,
    Kind::DateTime,
    Kind::Text,
    Kind::Structured,
    Kind::Array,
    Kind::GeoJson,
    Kind::GeoPoint,
    Kind::GeoShape,
];

impl Kind {
    /// The number under which the catalogue holds it.
    pub fn code(self) -> i64 {
        CODES.iter().position(|kind| *kind == self).and_then(|n| i64::try_from(n).ok()).unwrap_or_default()
    }

    pub fn from_code(code: i64) -> Option<Self> {
        usize::try_from(code).ok().and_then(|n| CODES.get(n)).copied()
    }

    pub fn form(self) -> Form {
        match self {
            Self::Number => Form::Float,
            Self::Integer | Self::DateTime => Form::Int,
            Self::Boolean => Form::Bool,
            _ => Form::Text,
        }
    }

    /// The NGSI type of an attribute that came without one.
    pub fn ngsi_type(self) -> &'static str {
        match self {
            Self::Number => "Number",
            Self::Integer => "Integer",
            Self::Boolean => "Boolean",
            Self::DateTime => "DateTime",
            Self::Text => "Text",
            Self::Structured => "StructuredValue",
            Self::Array => "Array",
            Self::GeoJson => "geo:json",
            Self::GeoPoint => "geo:point",
            Self::GeoShape => "geo:line",
        }
    }

    /// Whether values of this kind are JSON documents.
    pub fn is_json(self) -> bool {
        matches!(self, Self::Structured | Self::Array | Self::GeoJson | Self::GeoShape)
    }

    /// Whether `sum` and `avg` have a meaning.
    pub fn is_numeric(self) -> bool {
        matches!(self, Self::Number | Self::Integer)
    }
}

impl Cell {
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

/// A value as an answer shows it.
pub struct Shown<'a>(pub Kind, pub &'a Cell);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.1 {
            Cell::Null => serializer.serialize_unit(),
            Cell::Bool(value) => serializer.serialize_bool(*value),
            Cell::Int(at_us) if self.0 == Kind::DateTime => {
                serializer.serialize_str(&time::format_ms(*at_us))
            }
            Cell::Int(value) => serializer.serialize_i64(*value),
            Cell::Float(value) => serializer.serialize_f64(*value),
            Cell::Text(text) if self.0.is_json() => match serde_json::from_str::<&RawValue>(text) {
                Ok(json) => json.serialize(serializer),
                Err(_) => serializer.serialize_str(text),
            },
            Cell::Text(text) => serializer.serialize_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_floats_show_their_point_and_instants_their_zone() {
        let shown = |kind, cell| serde_json::to_string(&Shown(kind, &cell)).unwrap();
        assert_eq!(shown(Kind::Number, Cell::Float(10.0)), "10.0");
        assert_eq!(shown(Kind::Integer, Cell::Int(10)), "10");
        assert_eq!(shown(Kind::DateTime, Cell::Int(0)), "\"1970-01-01T00:00:00.000+00:00\"");
        assert_eq!(shown(Kind::Structured, Cell::Text("{\"b\":1,\"a\":[]}".into())), "{\"b\":1,\"a\":[]}");
        assert_eq!(shown(Kind::Text, Cell::Text("{}".into())), "\"{}\"");
        assert_eq!(shown(Kind::Boolean, Cell::Null), "null");
    }

    #[test]
    fn codes_are_stable() {
        assert_eq!(Kind::Number.code(), 0);
        assert_eq!(Kind::GeoShape.code(), 9);
        for (code, kind) in CODES.iter().enumerate() {
            assert_eq!(Kind::from_code(code as i64), Some(*kind));
        }
        assert_eq!(Kind::from_code(10), None);
    }
}
