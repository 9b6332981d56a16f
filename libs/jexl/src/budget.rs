//! What an evaluation may cost.

use serde_json::Value;

use crate::EvaluationError;

/// Units that one evaluation, or one filling of a template, may use. A byte that is made or read costs one.
pub const BUDGET: usize = 4 * 1024 * 1024;

/// Units for a node that is evaluated or an element that is visited.
const STEP: usize = 16;
/// Units for an element of an array or object that is made; what it takes in memory.
const ELEMENT: usize = 64;
/// Units for a byte that a regular expression may look at.
const SEARCHED_BYTE: usize = 4;

/// What is left of [`BUDGET`], for one evaluation or for several together.
#[derive(Debug)]
pub struct Budget {
    left: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new()
    }
}

impl Budget {
    pub fn new() -> Self {
        Self { left: BUDGET }
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<(), EvaluationError> {
        match self.left.checked_sub(count) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = 0;
                Err(EvaluationError::LimitReached)
            }
        }
    }

    pub(crate) fn steps(&mut self, count: usize) -> Result<(), EvaluationError> {
        self.bytes(count.saturating_mul(STEP))
    }

    pub(crate) fn elements(&mut self, count: usize) -> Result<(), EvaluationError> {
        self.bytes(count.saturating_mul(ELEMENT))
    }

    pub(crate) fn search(&mut self, bytes: usize) -> Result<(), EvaluationError> {
        self.bytes(bytes.saturating_add(1).saturating_mul(SEARCHED_BYTE))
    }

    /// Pays for a copy of a value, or for a walk through it.
    pub(crate) fn value(&mut self, value: &Value) -> Result<(), EvaluationError> {
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => self.bytes(ELEMENT),
            Value::String(text) => self.bytes(ELEMENT + text.len()),
            Value::Array(items) => {
                self.bytes(ELEMENT)?;
                items.iter().try_for_each(|item| self.value(item))
            }
            Value::Object(members) => {
                self.bytes(ELEMENT)?;
                members.iter().try_for_each(|(key, member)| {
                    self.bytes(ELEMENT + key.len())?;
                    self.value(member)
                })
            }
        }
    }
}
