//! JEXL, the expression language of custom notifications and of device attributes, as pure functions: no I/O, no clock.
//!
//! ```text
//! text ─ Expression::parse(text, dialect) ─► Expression ─ evaluate(names, now) ─► JSON value, null when it fails
//! "t is ${t}" ─ Template::parse ─► Template ─ text(names, now) / value(names, now)
//! ```
//!
//! One grammar, two [`Dialect`]s: they differ in their transforms and in what happens when operands do not fit.
//!
//! Invariants: the parser never panics and bounds length, depth and number of nodes; an evaluation has a budget that every
//! node, every byte it makes and every byte it searches is paid from, so none can hang or take much memory. Numbers that an
//! expression makes have one form (1.0 is 1); integers stay exact.
//!
//! ```
//! use jexl::{Dialect, Expression, Moment};
//! use serde_json::json;
//!
//! let expression = Expression::parse("(speed|split(' '))[0]|parseInt + extra", Dialect::Broker)?;
//! let names = json!({"speed": "10 m/s", "extra": 1});
//! assert_eq!(expression.evaluate(&names, Moment::from_micros(0)), json!(11));
//! # Ok::<(), jexl::SyntaxError>(())
//! ```

mod budget;
mod evaluate;
mod expression;
mod pattern;
mod syntax;
mod template;
mod time;
mod transform;
mod value;

pub use budget::{BUDGET, Budget};
pub use expression::{Dialect, EvaluationError, Expression, Moment, Names};
pub use syntax::{MAX_DEPTH, MAX_EXPRESSION_LEN, MAX_NESTING, MAX_NODES, Problem, SyntaxError};
pub use template::{JsonTemplate, MAX_MACROS, Template};
pub use transform::names as transform_names;
