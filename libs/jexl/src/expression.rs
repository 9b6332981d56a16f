use std::{borrow::Cow, fmt};

use serde_json::{Map, Value};

use crate::{
    SyntaxError,
    budget::Budget,
    evaluate::Evaluation,
    syntax::{self, Node},
};

/// Whose expressions they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Custom notifications and conditions of subscriptions (ngsi-v2.md 8). Strict: an unknown name or operands of the wrong
    /// kind make the expression fail; a failure is false for `||` and `? :`.
    Broker,
    /// Attributes, entity names and commands of devices (iot-agent.md 3). Lenient, as JavaScript is.
    Agent,
}

/// What an expression may name.
pub trait Names {
    /// The value of a name. None: there is no such name.
    fn get(&self, name: &str) -> Option<Cow<'_, Value>>;
}

impl Names for Map<String, Value> {
    fn get(&self, name: &str) -> Option<Cow<'_, Value>> {
        Self::get(self, name).map(Cow::Borrowed)
    }
}

/// The members of an object; nothing for any other value.
impl Names for Value {
    fn get(&self, name: &str) -> Option<Cow<'_, Value>> {
        self.as_object()?.get(name).map(Cow::Borrowed)
    }
}

/// The time of an evaluation, for `now`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub(crate) micros: i64,
}

impl Moment {
    /// Microseconds since 1970.
    pub const fn from_micros(micros: i64) -> Self {
        Self { micros }
    }
}

/// Why an evaluation has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    #[error("a name is unknown")]
    UnknownName,
    #[error("a transform is unknown")]
    UnknownTransform,
    #[error("an operand or argument is of the wrong kind")]
    WrongKind,
    #[error("it takes too much time or memory")]
    LimitReached,
}

/// A parsed expression: parse once, evaluate often.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    root: Node,
    dialect: Dialect,
}

impl Expression {
    /// # Errors
    /// What is wrong with the text, and where.
    pub fn parse(text: &str, dialect: Dialect) -> Result<Self, SyntaxError> {
        Ok(Self { root: syntax::parse(text, dialect)?, dialect })
    }

    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The value; null when the evaluation fails.
    pub fn evaluate(&self, names: &dyn Names, now: Moment) -> Value {
        self.try_evaluate(names, now).unwrap_or(Value::Null)
    }

    /// The value, or why there is none. A result that is no JSON (infinite, not a number) is null.
    ///
    /// # Errors
    /// As [`EvaluationError`] says; `UnknownName` too where the whole expression is undefined.
    pub fn try_evaluate(&self, names: &dyn Names, now: Moment) -> Result<Value, EvaluationError> {
        self.evaluate_within(names, now, &mut Budget::new())
    }

    /// As [`Self::try_evaluate`], paid from a budget that other evaluations share.
    ///
    /// # Errors
    /// As there; `LimitReached` when the others have left too little.
    pub fn evaluate_within(
        &self,
        names: &dyn Names,
        now: Moment,
        budget: &mut Budget,
    ) -> Result<Value, EvaluationError> {
        let mut evaluation = Evaluation { names, now, dialect: self.dialect, budget };
        let result = evaluation.node(&self.root, None)?;
        evaluation.value(result)?.ok_or(EvaluationError::UnknownName)
    }

    /// The name, when the expression is nothing but a name of the context.
    pub fn as_name(&self) -> Option<&str> {
        match &self.root {
            Node::Name(name) => Some(name),
            _ => None,
        }
    }
}

/// The canonical text: parsing it gives the same expression.
impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.fmt(f)
    }
}
