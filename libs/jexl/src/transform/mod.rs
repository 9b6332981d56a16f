//! `value|name(arguments)`: the transforms of each dialect.

mod agent;
mod broker;

use std::{borrow::Cow, fmt};

use serde_json::Value;

use crate::{
    Dialect, EvaluationError,
    evaluate::{Evaluated, Evaluation},
    pattern::Pattern,
    syntax::Node,
    value::Operand,
};

/// What a transform works on. Reading the subject and the arguments once is paid for; what it makes beyond their size, and
/// what it reads more than once, it pays for itself.
pub(crate) struct Call<'c, 'a, 'b> {
    pub(crate) subject: Operand<'a>,
    pub(crate) arguments: Vec<Operand<'a>>,
    /// The first argument, when it is a literal and a regular expression.
    pub(crate) pattern: Option<&'a Pattern>,
    pub(crate) evaluation: &'c mut Evaluation<'a, 'b>,
}

type Run = for<'c, 'a, 'b> fn(Call<'c, 'a, 'b>) -> Evaluated<'a>;

struct Transform {
    name: &'static str,
    run: Run,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    /// Its first argument is a regular expression.
    Search,
    /// Has a result for an undefined subject too.
    Total,
}

const fn plain(name: &'static str, run: Run) -> Transform {
    Transform { name, run, kind: Kind::Plain }
}

const fn search(name: &'static str, run: Run) -> Transform {
    Transform { name, run, kind: Kind::Search }
}

const fn total(name: &'static str, run: Run) -> Transform {
    Transform { name, run, kind: Kind::Total }
}

fn table(dialect: Dialect) -> &'static [Transform] {
    match dialect {
        Dialect::Broker => broker::TRANSFORMS,
        Dialect::Agent => agent::TRANSFORMS,
    }
}

/// The names of the transforms of a dialect.
pub fn names(dialect: Dialect) -> impl Iterator<Item = &'static str> {
    table(dialect).iter().map(|transform| transform.name)
}

/// A transform as it is named in an expression; unknown names fail when they are evaluated.
#[derive(Clone)]
pub(crate) struct Applied {
    name: String,
    transform: Option<&'static Transform>,
    pattern: Option<Pattern>,
}

impl Applied {
    pub(crate) fn new(name: String, dialect: Dialect, first_argument: Option<&Node>) -> Self {
        let transform = table(dialect).iter().find(|transform| transform.name == name);
        let pattern = match (transform, first_argument) {
            (Some(transform), Some(Node::Literal(Value::String(text)))) if transform.kind == Kind::Search => {
                Pattern::compile(text)
            }
            _ => None,
        };
        Self { name, transform, pattern }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn pattern(&self) -> Option<&Pattern> {
        self.pattern.as_ref()
    }

    pub(crate) fn run<'a>(&self, call: Call<'_, 'a, '_>) -> Evaluated<'a> {
        let transform = self.transform.ok_or(EvaluationError::UnknownTransform)?;
        if matches!(call.subject, Operand::Undefined) && transform.kind != Kind::Total {
            return Err(EvaluationError::UnknownName);
        }
        call.evaluation.pay_for_reading(&call.subject)?;
        for argument in &call.arguments {
            call.evaluation.pay_for_reading(argument)?;
        }
        (transform.run)(call)
    }
}

impl PartialEq for Applied {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.pattern == other.pattern
    }
}

impl fmt::Debug for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Applied({})", self.name)
    }
}

/// Units for compiling a regular expression while evaluating.
const COMPILE: usize = 64 * 1024;

impl<'a> Call<'_, 'a, '_> {
    /// An argument; undefined when it is not there.
    fn argument(&self, at: usize) -> &Operand<'a> {
        self.arguments.get(at).unwrap_or(&Operand::Undefined)
    }

    /// The first argument as a regular expression. None: it is none. Borrowed where it can be: a copy has a cold cache.
    fn compiled(&mut self) -> Result<Option<Cow<'a, Pattern>>, EvaluationError> {
        if let Some(pattern) = self.pattern {
            return Ok(Some(Cow::Borrowed(pattern)));
        }
        self.evaluation.budget.bytes(COMPILE)?;
        Ok(self.argument(0).as_text().and_then(Pattern::compile).map(Cow::Owned))
    }

    /// The matches of the first argument in `text`, replaced by `to`, paid for before it is made.
    fn replace_all_text(&mut self, text: &str, from: &str, to: &str) -> Result<String, EvaluationError> {
        let matches = text.matches(from).count();
        self.evaluation.budget.bytes(text.len().saturating_add(matches.saturating_mul(to.len())))?;
        Ok(text.replace(from, to))
    }

    /// An array of texts, paid for.
    fn texts<'t>(&mut self, parts: impl Iterator<Item = &'t str>) -> Evaluated<'a> {
        let mut values = Vec::new();
        for part in parts {
            self.evaluation.budget.elements(1)?;
            self.evaluation.budget.bytes(part.len())?;
            values.push(Value::from(part));
        }
        Ok(Operand::owned(Value::Array(values)))
    }
}

fn null<'a>() -> Evaluated<'a> {
    Ok(Operand::NULL)
}

/// The result, or null when there is none.
fn or_null<'a>(found: Option<Operand<'a>>) -> Evaluated<'a> {
    Ok(found.unwrap_or(Operand::NULL))
}
