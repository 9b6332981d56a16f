//! From text to tree and back.

mod ast;
mod parser;
mod print;

pub(crate) use ast::{BinaryOperator, Node, UnaryOperator};
pub(crate) use parser::parse;
pub use parser::{MAX_DEPTH, MAX_EXPRESSION_LEN, MAX_NESTING, MAX_NODES, Problem, SyntaxError};
