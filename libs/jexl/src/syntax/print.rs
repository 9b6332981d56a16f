//! The canonical text of a tree: brackets only where the grammar needs them.

use std::fmt::{self, Display, Formatter, Write};

use serde_json::Value;

use super::{
    ast::{BinaryOperator, Node, UnaryOperator},
    parser::{in_name, starts_name},
};

const CONDITIONAL: u8 = 0;
const UNARY: u8 = 60;
const POSTFIX: u8 = 70;

impl Node {
    fn precedence(&self) -> u8 {
        match self {
            Self::Conditional { .. } => CONDITIONAL,
            Self::Binary(operator, ..) => operator.precedence(),
            Self::Unary(..) => UNARY,
            _ => POSTFIX,
        }
    }

    /// Whether its text begins with a digit: a minus before it would become part of the number.
    fn begins_with_digit(&self) -> bool {
        match self {
            Self::Literal(Value::Number(number)) => !number.to_string().starts_with('-'),
            Self::Member { of, .. }
            | Self::Index { of, .. }
            | Self::Filter { of, .. }
            | Self::Transform { of, .. } => of.precedence() == POSTFIX && of.begins_with_digit(),
            _ => false,
        }
    }
}

impl Display for Node {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(Value::String(text)) => quoted(f, text),
            Self::Literal(value) => write!(f, "{value}"),
            Self::Name(name) => f.write_str(name),
            Self::Relative(name) => write!(f, ".{name}"),
            Self::Array(items) => {
                f.write_char('[')?;
                separated(f, items, |f, item| write!(f, "{item}"))?;
                f.write_char(']')
            }
            Self::Object(members) => {
                f.write_char('{')?;
                separated(f, members, |f, (key, node)| {
                    self::key(f, key)?;
                    write!(f, ": {node}")
                })?;
                f.write_char('}')
            }
            Self::Member { of, name } => {
                operand(f, of, POSTFIX)?;
                write!(f, ".{name}")
            }
            Self::Index { of, index: inner } | Self::Filter { of, test: inner } => {
                operand(f, of, POSTFIX)?;
                write!(f, "[{inner}]")
            }
            Self::Transform { of, applied, arguments } => {
                operand(f, of, POSTFIX)?;
                write!(f, "|{}", applied.name())?;
                if arguments.is_empty() {
                    return Ok(());
                }
                f.write_char('(')?;
                separated(f, arguments, |f, argument| write!(f, "{argument}"))?;
                f.write_char(')')
            }
            Self::Unary(UnaryOperator::Not, inner) => {
                f.write_char('!')?;
                operand(f, inner, UNARY)
            }
            Self::Unary(UnaryOperator::Minus, inner) => {
                f.write_char('-')?;
                if inner.begins_with_digit() { write!(f, "({inner})") } else { operand(f, inner, UNARY) }
            }
            Self::Binary(operator, left, right) => binary(f, *operator, left, right),
            Self::Conditional { test, then, otherwise } => {
                operand(f, test, CONDITIONAL + 1)?;
                match then {
                    Some(then) => write!(f, " ? {then} : {otherwise}"),
                    None => write!(f, " ?: {otherwise}"),
                }
            }
        }
    }
}

fn binary(f: &mut Formatter<'_>, operator: BinaryOperator, left: &Node, right: &Node) -> fmt::Result {
    operand(f, left, operator.precedence())?;
    write!(f, " {} ", operator.as_str())?;
    operand(f, right, operator.precedence() + 1)
}

fn operand(f: &mut Formatter<'_>, node: &Node, least: u8) -> fmt::Result {
    if node.precedence() < least { write!(f, "({node})") } else { write!(f, "{node}") }
}

fn separated<T>(
    f: &mut Formatter<'_>,
    items: &[T],
    mut write: impl FnMut(&mut Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            f.write_str(", ")?;
        }
        write(f, item)?;
    }
    Ok(())
}

fn key(f: &mut Formatter<'_>, key: &str) -> fmt::Result {
    let is_name = key.starts_with(starts_name) && key.chars().all(in_name);
    if is_name { f.write_str(key) } else { quoted(f, key) }
}

fn quoted(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('\'')?;
    for c in text.chars() {
        if matches!(c, '\'' | '\\') {
            f.write_char('\\')?;
        }
        f.write_char(c)?;
    }
    f.write_char('\'')
}
