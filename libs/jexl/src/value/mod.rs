//! Values while an expression is evaluated, and what JavaScript makes of them.

mod compare;
mod convert;
mod number;

use std::borrow::Cow;

use serde_json::Value;

pub(crate) use compare::{equal, is_less, loosely_equal, same};
pub(crate) use convert::{joined, json_text, number_of, text_of, units_of};
pub(crate) use number::Number;

/// A value on its way. Borrowed from the context or the expression where it can be.
#[derive(Clone, Debug)]
pub(crate) enum Operand<'a> {
    /// A name without a value.
    Undefined,
    /// A computed number; may be infinite or not a number at all.
    Number(Number),
    Json(Cow<'a, Value>),
}

impl<'a> Operand<'a> {
    pub(crate) const NULL: Self = Self::Json(Cow::Owned(Value::Null));

    pub(crate) fn borrowed(value: &'a Value) -> Self {
        Self::Json(Cow::Borrowed(value))
    }

    pub(crate) fn owned(value: Value) -> Self {
        Self::Json(Cow::Owned(value))
    }

    pub(crate) fn bool(flag: bool) -> Self {
        Self::owned(Value::Bool(flag))
    }

    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::owned(Value::String(text.into()))
    }

    pub(crate) fn float(value: f64) -> Self {
        Self::Number(Number::from_float(value))
    }

    pub(crate) fn int(value: i64) -> Self {
        Self::Number(Number::Int(value))
    }

    pub(crate) fn count(value: usize) -> Self {
        Self::int(i64::try_from(value).unwrap_or(i64::MAX))
    }

    /// The number it is; None for every other kind.
    pub(crate) fn as_number(&self) -> Option<Number> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Json(value) => Number::of(value),
            Self::Undefined => None,
        }
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Json(value) => value.as_str(),
            _ => None,
        }
    }

    pub(crate) fn as_array(&self) -> Option<&[Value]> {
        match self {
            Self::Json(value) => value.as_array().map(Vec::as_slice),
            _ => None,
        }
    }

    /// Neither there nor null.
    pub(crate) fn is_nothing(&self) -> bool {
        match self {
            Self::Undefined => true,
            Self::Number(_) => false,
            Self::Json(value) => value.is_null(),
        }
    }

    pub(crate) fn is_true(&self) -> bool {
        match self {
            Self::Undefined => false,
            Self::Number(number) => number.is_true(),
            Self::Json(value) => match value.as_ref() {
                Value::Null => false,
                Value::Bool(flag) => *flag,
                Value::Number(number) => number.as_f64() != Some(0.0),
                Value::String(text) => !text.is_empty(),
                Value::Array(_) | Value::Object(_) => true,
            },
        }
    }

    /// As JSON; the caller has paid for the copy. Undefined and numbers that JSON lacks are null.
    pub(crate) fn into_value(self) -> Value {
        match self {
            Self::Undefined => Value::Null,
            Self::Number(number) => number.into_value(),
            Self::Json(value) => value.into_owned(),
        }
    }
}
