//! Which entities a query or a subscription means (ngsi-v2.md 7).

mod condition;
mod evaluate;
mod language;
mod order;
mod pattern;
mod pattern_matcher;
mod selector;
mod value;

pub use condition::{Condition, Range, Scalar, StoreTest};
pub use language::{Expression, MAX_QUERY_LEN, MAX_TERMS, QueryKind};
pub use order::{OrderKey, OrderToken, compare_values, parse_order};
pub use pattern::{Pattern, PatternError};
pub use selector::{DEFAULT_LIMIT, EntityQuery, EntitySelector, MAX_LIMIT, PushDown};
