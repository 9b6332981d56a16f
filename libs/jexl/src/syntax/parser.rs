//! The grammar. Spaces may stand between any two tokens.
//!
//! ```text
//! expression = binary [ "?" ( expression ":" | ":" ) expression ]
//! binary     = unary { operator unary }                    by precedence, from the left
//! unary      = { "!" | "-" } postfix
//! postfix    = primary { "." name | "[" expression "]" | "|" name [ "(" [ expression { "," expression } ] ")" ] }
//! primary    = number | text | "true" | "false" | "null" | name | "." name | array | object | "(" expression ")"
//! array      = "[" [ expression { "," expression } [ "," ] ] "]"
//! object     = "{" [ key ":" expression { "," key ":" expression } [ "," ] ] "}"       key = name | text
//! ```

use serde_json::Value;
use winnow::{
    Parser, Stateful,
    combinator::{alt, opt, repeat},
    error::ParserError,
    token::{any, literal, one_of, take_while},
};

use super::ast::{BinaryOperator, Node, UnaryOperator};
use crate::{Dialect, transform::Applied, value::Number};

/// Longest expression in bytes.
pub const MAX_EXPRESSION_LEN: usize = 8192;
/// Most operands, operators and literals in an expression.
pub const MAX_NODES: usize = 1000;
/// Most levels of the tree; a chain such as `a + b + c` has one for each operator.
pub const MAX_DEPTH: usize = 100;
/// Deepest nesting of brackets, signs and choices.
pub const MAX_NESTING: usize = 50;

/// Why a text is no expression, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem} at byte {at}")]
pub struct SyntaxError {
    /// Bytes before the place of the problem.
    pub at: usize,
    pub problem: Problem,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("{0} expected")]
    Expected(&'static str),
    #[error("a text without its closing quote")]
    OpenText,
    #[error("a number out of range")]
    Number,
    #[error("functions do not exist")]
    Function,
    #[error("a relative name outside a filter")]
    Relative,
    #[error("more than {MAX_EXPRESSION_LEN} bytes")]
    TooLong,
    #[error("more than {MAX_NODES} nodes")]
    TooManyNodes,
    #[error("nested deeper than {MAX_NESTING}, or a chain longer than {MAX_DEPTH}")]
    TooDeep,
}

impl<I: winnow::stream::Stream> ParserError<I> for Problem {
    type Inner = Self;

    fn from_input(_: &I) -> Self {
        Self::Expected("an operand")
    }

    fn into_inner(self) -> Result<Self::Inner, Self> {
        Ok(self)
    }
}

#[derive(Clone, Copy, Debug)]
struct State {
    dialect: Dialect,
    nodes: usize,
    nesting: usize,
}

type Input<'s> = Stateful<&'s str, State>;
type Parsed<T> = Result<T, Problem>;

pub(crate) fn parse(text: &str, dialect: Dialect) -> Result<Node, SyntaxError> {
    if text.len() > MAX_EXPRESSION_LEN {
        return Err(SyntaxError { at: MAX_EXPRESSION_LEN, problem: Problem::TooLong });
    }
    let state = State { dialect, nodes: 0, nesting: 0 };
    let mut input = Stateful { input: text, state };
    let node =
        whole(&mut input).map_err(|problem| SyntaxError { at: text.len() - input.input.len(), problem })?;
    let problem = match () {
        () if node.depth() > MAX_DEPTH => Problem::TooDeep,
        () if node.is_relative() => Problem::Relative,
        () => return Ok(node),
    };
    Err(SyntaxError { at: 0, problem })
}

fn whole(input: &mut Input<'_>) -> Parsed<Node> {
    let node = expression(input)?;
    spaces(input)?;
    if input.input.is_empty() { Ok(node) } else { Err(Problem::Expected("an operator or the end")) }
}

fn expression(input: &mut Input<'_>) -> Parsed<Node> {
    nested(input, |input| {
        let test = binary(input, 0)?;
        if !token(input, "?")? {
            return Ok(test);
        }
        let then = if token(input, ":")? {
            None
        } else {
            let then = expression(input)?;
            expect(input, ":")?;
            Some(Box::new(then))
        };
        let otherwise = Box::new(expression(input)?);
        node(input, Node::Conditional { test: Box::new(test), then, otherwise })
    })
}

/// Bounds the recursion of the parser itself.
fn nested<T>(input: &mut Input<'_>, parse: impl FnOnce(&mut Input<'_>) -> Parsed<T>) -> Parsed<T> {
    if input.state.nesting >= MAX_NESTING {
        return Err(Problem::TooDeep);
    }
    input.state.nesting += 1;
    let parsed = parse(input);
    input.state.nesting -= 1;
    parsed
}

fn node(input: &mut Input<'_>, node: Node) -> Parsed<Node> {
    input.state.nodes += 1;
    if input.state.nodes > MAX_NODES { Err(Problem::TooManyNodes) } else { Ok(node) }
}

fn binary(input: &mut Input<'_>, least: u8) -> Parsed<Node> {
    let mut left = unary(input)?;
    loop {
        spaces(input)?;
        let Some(operator) = operator(input.input).filter(|operator| operator.precedence() >= least) else {
            return Ok(left);
        };
        literal(operator.as_str()).void().parse_next(input)?;
        let right = binary(input, operator.precedence() + 1)?;
        left = node(input, Node::Binary(operator, Box::new(left), Box::new(right)))?;
    }
}

/// The operator that a text begins with.
fn operator(text: &str) -> Option<BinaryOperator> {
    let operator = BinaryOperator::ALL.into_iter().find(|operator| text.starts_with(operator.as_str()))?;
    let is_word = operator == BinaryOperator::In && text.chars().nth(2).is_some_and(in_name);
    (!is_word).then_some(operator)
}

fn unary(input: &mut Input<'_>) -> Parsed<Node> {
    if token(input, "!")? {
        return nested(input, |input| {
            let operand = Box::new(unary(input)?);
            node(input, Node::Unary(UnaryOperator::Not, operand))
        });
    }
    if !token(input, "-")? {
        return postfix(input);
    }
    spaces(input)?;
    if begins_number(input.input) {
        let negative = number(input, true)?;
        return suffixes(input, negative);
    }
    nested(input, |input| {
        let operand = Box::new(unary(input)?);
        node(input, Node::Unary(UnaryOperator::Minus, operand))
    })
}

fn postfix(input: &mut Input<'_>) -> Parsed<Node> {
    let first = primary(input)?;
    suffixes(input, first)
}

fn suffixes(input: &mut Input<'_>, first: Node) -> Parsed<Node> {
    let mut subject = first;
    loop {
        spaces(input)?;
        let of = Box::new(subject);
        subject = if input.input.starts_with("||") {
            return Ok(*of);
        } else if token(input, "|")? {
            transform(input, of)?
        } else if token(input, ".")? {
            let name = name(input)?;
            node(input, Node::Member { of, name })?
        } else if token(input, "[")? {
            let index = Box::new(expression(input)?);
            expect(input, "]")?;
            let is_filter = index.is_relative();
            node(input, if is_filter { Node::Filter { of, test: index } } else { Node::Index { of, index } })?
        } else {
            return Ok(*of);
        };
    }
}

fn transform(input: &mut Input<'_>, of: Box<Node>) -> Parsed<Node> {
    let name = name(input)?;
    let arguments = if token(input, "(")? { list(input, ")", expression)? } else { Vec::new() };
    let applied = Applied::new(name, input.state.dialect, arguments.first());
    node(input, Node::Transform { of, applied, arguments })
}

fn primary(input: &mut Input<'_>) -> Parsed<Node> {
    spaces(input)?;
    if begins_number(input.input) {
        return number(input, false);
    }
    match input.input.chars().next() {
        Some('\'' | '"') => {
            let text = quoted(input)?;
            node(input, Node::Literal(Value::String(text)))
        }
        Some('(') => {
            token(input, "(")?;
            let inner = expression(input)?;
            expect(input, ")")?;
            Ok(inner)
        }
        Some('[') => {
            token(input, "[")?;
            let items = list(input, "]", expression)?;
            node(input, Node::Array(items))
        }
        Some('{') => {
            token(input, "{")?;
            let members = list(input, "}", member)?;
            node(input, Node::Object(members))
        }
        Some('.') => {
            token(input, ".")?;
            let name = name(input)?;
            node(input, Node::Relative(name))
        }
        Some(first) if starts_name(first) => word(input),
        _ => Err(Problem::Expected("an operand")),
    }
}

fn word(input: &mut Input<'_>) -> Parsed<Node> {
    let before = *input;
    let name = name(input)?;
    let parsed = match name.as_str() {
        "true" => Node::Literal(Value::Bool(true)),
        "false" => Node::Literal(Value::Bool(false)),
        "null" | "Null" | "NULL" => Node::Literal(Value::Null),
        "in" => {
            *input = before;
            return Err(Problem::Expected("an operand"));
        }
        _ => Node::Name(name),
    };
    spaces(input)?;
    if input.input.starts_with('(') {
        return Err(Problem::Function);
    }
    node(input, parsed)
}

fn member(input: &mut Input<'_>) -> Parsed<(String, Node)> {
    spaces(input)?;
    let key = if input.input.starts_with(['\'', '"']) { quoted(input)? } else { name(input)? };
    expect(input, ":")?;
    Ok((key, expression(input)?))
}

/// Items with commas between them, up to and including `end`. A comma may come last.
fn list<T>(
    input: &mut Input<'_>,
    end: &'static str,
    mut item: impl FnMut(&mut Input<'_>) -> Parsed<T>,
) -> Parsed<Vec<T>> {
    let mut items = Vec::new();
    loop {
        if token(input, end)? {
            return Ok(items);
        }
        items.push(item(input)?);
        if !token(input, ",")? {
            expect(input, end)?;
            return Ok(items);
        }
    }
}

fn begins_number(text: &str) -> bool {
    let digits = text.strip_prefix('.').unwrap_or(text);
    digits.starts_with(|c: char| c.is_ascii_digit())
}

fn number(input: &mut Input<'_>, negative: bool) -> Parsed<Node> {
    let before = *input;
    let digits = || take_while(1.., |c: char| c.is_ascii_digit());
    let mantissa = alt(((digits(), opt(('.', digits()))).void(), ('.', digits()).void()));
    let exponent = (one_of(['e', 'E']), opt(one_of(['+', '-'])), digits());
    let text = (mantissa, opt(exponent)).take().parse_next(input)?;
    if input.input.starts_with(in_name) {
        return Err(Problem::Expected("an operator or the end"));
    }
    match read_number(text, negative) {
        Some(number) => node(input, Node::Literal(Value::Number(number))),
        None => {
            *input = before;
            Err(Problem::Number)
        }
    }
}

fn read_number(text: &str, negative: bool) -> Option<serde_json::Number> {
    let number = match text.parse() {
        Ok(whole) => Number::Int(whole),
        Err(_) => Number::from_float(text.parse().ok()?),
    };
    match (if negative { number.negated() } else { number }).into_value() {
        Value::Number(number) => Some(number),
        _ => None,
    }
}

/// A text in its quotes. A backslash protects a quote of the same kind and a backslash; before any other character it stands
/// for itself, so that `'\d+'` is the regular expression `\d+`.
fn quoted(input: &mut Input<'_>) -> Parsed<String> {
    let before = *input;
    let quote = one_of(['\'', '"']).parse_next(input)?;
    let escaped = ('\\', one_of(['\\', quote])).map(|(_, c)| c);
    let plain = any.verify(move |c: &char| *c != quote);
    let inner: String = repeat(0.., alt((escaped, plain)))
        .fold(String::new, |mut text, c: char| {
            text.push(c);
            text
        })
        .parse_next(input)?;
    if opt(literal::<_, _, Problem>(quote)).parse_next(input)?.is_none() {
        *input = before;
        return Err(Problem::OpenText);
    }
    Ok(inner)
}

pub(super) fn starts_name(c: char) -> bool {
    c.is_alphabetic() || matches!(c, '_' | '$')
}

pub(super) fn in_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$')
}

fn name(input: &mut Input<'_>) -> Parsed<String> {
    spaces(input)?;
    if !input.input.starts_with(starts_name) {
        return Err(Problem::Expected("a name"));
    }
    take_while(1.., in_name).map(str::to_owned).parse_next(input)
}

fn spaces(input: &mut Input<'_>) -> Parsed<()> {
    take_while(0.., char::is_whitespace).void().parse_next(input)
}

fn token(input: &mut Input<'_>, text: &'static str) -> Parsed<bool> {
    spaces(input)?;
    Ok(opt(literal(text)).parse_next(input)?.is_some())
}

fn expect(input: &mut Input<'_>, text: &'static str) -> Parsed<()> {
    if token(input, text)? { Ok(()) } else { Err(Problem::Expected(text)) }
}
