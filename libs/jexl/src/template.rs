//! `${expression}` in texts and in JSON.

use serde_json::{Map, Value};

use crate::{Dialect, EvaluationError, Expression, Moment, Names, budget::Budget, value::json_text};

/// Most macros in a template. What follows stands as it is.
pub const MAX_MACROS: usize = 200;

/// A text with macros: parse once, fill often. A macro whose expression is wrong or fails is null.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    /// None: no expression.
    Macro(Option<Expression>),
}

/// A JSON value whose texts (and names of members) are templates. A text that is one macro takes the value with its type.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonTemplate {
    root: JsonNode,
}

#[derive(Clone, Debug, PartialEq)]
enum JsonNode {
    Fixed(Value),
    Text(Template),
    Array(Vec<JsonNode>),
    Object(Vec<(Template, JsonNode)>),
}

impl Template {
    pub fn parse(text: &str, dialect: Dialect) -> Self {
        let mut macros_left = MAX_MACROS;
        Self::parse_within(text, dialect, &mut macros_left)
    }

    fn parse_within(text: &str, dialect: Dialect, macros_left: &mut usize) -> Self {
        let mut parts = Vec::new();
        let mut rest = text;
        while *macros_left > 0 {
            let Some((before, inner, after)) = next_macro(rest) else { break };
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(Part::Macro(Expression::parse(inner, dialect).ok()));
            rest = after;
            *macros_left -= 1;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Self { parts }
    }

    /// What stands between the macros.
    pub fn literals(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Macro(_) => None,
        })
    }

    /// Whether there is a macro in it.
    pub fn has_macros(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Macro(_)))
    }

    /// The text with its macros filled: texts as they are, other values as JSON, what fails as `null`.
    pub fn text(&self, names: &dyn Names, now: Moment) -> String {
        self.text_within(names, now, &mut Budget::new())
    }

    fn text_within(&self, names: &dyn Names, now: Moment, budget: &mut Budget) -> String {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Macro(expression) => match filled(expression.as_ref(), names, now, budget) {
                    Value::String(text) => out.push_str(&text),
                    other => out.push_str(&json_text(&other)),
                },
            }
        }
        out
    }

    /// The value of its macro if it is but one, otherwise its text.
    pub fn value(&self, names: &dyn Names, now: Moment) -> Value {
        self.value_within(names, now, &mut Budget::new())
    }

    fn value_within(&self, names: &dyn Names, now: Moment, budget: &mut Budget) -> Value {
        match self.parts.as_slice() {
            [Part::Macro(expression)] => filled(expression.as_ref(), names, now, budget),
            _ => Value::String(self.text_within(names, now, budget)),
        }
    }
}

fn filled(expression: Option<&Expression>, names: &dyn Names, now: Moment, budget: &mut Budget) -> Value {
    let filled = expression.map_or(Ok(Value::Null), |expression| {
        let value = expression.evaluate_within(names, now, budget)?;
        budget.value(&value)?;
        Ok::<_, EvaluationError>(value)
    });
    filled.unwrap_or(Value::Null)
}

/// What is before the next macro, in it and after it.
fn next_macro(text: &str) -> Option<(&str, &str, &str)> {
    let (before, inside) = text.split_once("${")?;
    let end = closing_brace(inside).or_else(|| inside.find('}'))?;
    let (inner, after) = inside.split_at_checked(end)?;
    Some((before, inner, after.strip_prefix('}')?))
}

/// Where the brace is that closes a macro: braces in pairs and in quotes belong to the expression.
fn closing_brace(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut quote = None;
    let mut is_escaped = false;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            _ if is_escaped => is_escaped = false,
            (Some(_), '\\') => is_escaped = true,
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '{') => depth += 1,
            (None, '}') if depth == 0 => return Some(at),
            (None, '}') => depth -= 1,
            (None, _) => {}
        }
    }
    None
}

impl JsonTemplate {
    pub fn parse(value: &Value, dialect: Dialect) -> Self {
        let mut macros_left = MAX_MACROS;
        Self { root: JsonNode::parse(value, dialect, &mut macros_left) }
    }

    pub fn value(&self, names: &dyn Names, now: Moment) -> Value {
        self.root.value(names, now, &mut Budget::new())
    }
}

impl JsonNode {
    fn parse(value: &Value, dialect: Dialect, macros_left: &mut usize) -> Self {
        let node = match value {
            Value::String(text) => Self::Text(Template::parse_within(text, dialect, macros_left)),
            Value::Array(items) => {
                Self::Array(items.iter().map(|item| Self::parse(item, dialect, macros_left)).collect())
            }
            Value::Object(members) => Self::Object(
                members
                    .iter()
                    .map(|(key, member)| {
                        let key = Template::parse_within(key, dialect, macros_left);
                        (key, Self::parse(member, dialect, macros_left))
                    })
                    .collect(),
            ),
            _ => Self::Fixed(value.clone()),
        };
        if node.has_macros() { node } else { Self::Fixed(value.clone()) }
    }

    /// Whether a macro is in it; its children are known.
    fn has_macros(&self) -> bool {
        match self {
            Self::Fixed(_) => false,
            Self::Text(template) => template.has_macros(),
            Self::Array(items) => items.iter().any(|item| !matches!(item, Self::Fixed(_))),
            Self::Object(members) => {
                members.iter().any(|(key, member)| key.has_macros() || !matches!(member, Self::Fixed(_)))
            }
        }
    }

    fn value(&self, names: &dyn Names, now: Moment, budget: &mut Budget) -> Value {
        match self {
            Self::Fixed(value) => value.clone(),
            Self::Text(template) => template.value_within(names, now, budget),
            Self::Array(items) => items.iter().map(|item| item.value(names, now, budget)).collect(),
            Self::Object(members) => {
                let mut object = Map::new();
                for (key, member) in members {
                    let key = key.text_within(names, now, budget);
                    object.insert(key, member.value(names, now, budget));
                }
                Value::Object(object)
            }
        }
    }
}
