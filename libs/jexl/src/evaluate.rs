//! Walks a tree.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::{
    Dialect, EvaluationError, Moment, Names,
    budget::Budget,
    syntax::{BinaryOperator, Node, UnaryOperator},
    transform::Call,
    value::{Number, Operand, equal, is_less, loosely_equal, number_of, same, text_of, units_of},
};

pub(crate) type Evaluated<'a> = Result<Operand<'a>, EvaluationError>;

/// One evaluation: its context, dialect and budget.
pub(crate) struct Evaluation<'a, 'b> {
    pub(crate) names: &'a dyn Names,
    pub(crate) now: Moment,
    pub(crate) dialect: Dialect,
    pub(crate) budget: &'b mut Budget,
}

impl<'a> Evaluation<'a, '_> {
    /// `element`: what relative names look into.
    pub(crate) fn node(&mut self, node: &'a Node, element: Option<&Operand<'a>>) -> Evaluated<'a> {
        self.budget.steps(1)?;
        match node {
            Node::Literal(value) => Ok(self.literal(value)),
            Node::Array(items) => self.array(items, element),
            Node::Object(members) => self.object(members, element),
            Node::Name(name) => self.name(name),
            Node::Relative(name) => self.relative(name, element),
            Node::Member { of, name } => {
                let of = self.node(of, element)?;
                self.member(of, name)
            }
            Node::Index { of, index } => {
                let of = self.node(of, element)?;
                let index = self.node(index, element)?;
                self.index(of, &index)
            }
            Node::Filter { of, test } => {
                let of = self.node(of, element)?;
                self.filter(of, test)
            }
            Node::Transform { of, applied, arguments } => {
                let subject = self.node(of, element)?;
                let arguments = arguments
                    .iter()
                    .map(|argument| self.node(argument, element))
                    .collect::<Result<_, _>>()?;
                applied.run(Call { subject, arguments, pattern: applied.pattern(), evaluation: self })
            }
            Node::Unary(operator, operand) => {
                let operand = self.node(operand, element)?;
                self.unary(*operator, &operand)
            }
            Node::Binary(operator, left, right) => self.binary(*operator, left, right, element),
            Node::Conditional { test, then, otherwise } => {
                let test = self.tested(test, element)?;
                match (test, then) {
                    (Some(value), None) => Ok(value),
                    (Some(_), Some(then)) => self.node(then, element),
                    (None, _) => self.node(otherwise, element),
                }
            }
        }
    }

    /// The result as JSON, paid for. None: undefined.
    pub(crate) fn value(&mut self, operand: Operand<'a>) -> Result<Option<Value>, EvaluationError> {
        if let Operand::Json(Cow::Borrowed(value)) = operand {
            self.budget.value(value)?;
        }
        Ok(match operand {
            Operand::Undefined => None,
            operand => Some(operand.into_value()),
        })
    }

    /// For devices `null` is but a name without a value.
    fn literal(&self, value: &'a Value) -> Operand<'a> {
        if value.is_null() && self.dialect == Dialect::Agent {
            Operand::Undefined
        } else {
            Operand::borrowed(value)
        }
    }

    fn array(&mut self, items: &'a [Node], element: Option<&Operand<'a>>) -> Evaluated<'a> {
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            self.budget.elements(1)?;
            let item = self.node(item, element)?;
            values.push(self.value(item)?.unwrap_or(Value::Null));
        }
        Ok(Operand::owned(Value::Array(values)))
    }

    fn object(&mut self, members: &'a [(String, Node)], element: Option<&Operand<'a>>) -> Evaluated<'a> {
        let mut object = Map::new();
        for (key, member) in members {
            self.budget.elements(1)?;
            self.budget.bytes(key.len())?;
            let member = self.node(member, element)?;
            object.insert(key.clone(), self.value(member)?.unwrap_or(Value::Null));
        }
        Ok(Operand::owned(Value::Object(object)))
    }

    fn name(&self, name: &str) -> Evaluated<'a> {
        match (self.names.get(name), self.dialect) {
            (Some(value), Dialect::Agent) if value.is_null() => Ok(Operand::Undefined),
            (Some(value), _) => Ok(Operand::Json(value)),
            (None, Dialect::Agent) => Ok(Operand::Undefined),
            (None, Dialect::Broker) => Err(EvaluationError::UnknownName),
        }
    }

    fn relative(&mut self, name: &str, element: Option<&Operand<'a>>) -> Evaluated<'a> {
        match element {
            Some(Operand::Json(Cow::Owned(value))) => match member_of(value, name) {
                Some(found) => {
                    self.budget.value(found)?;
                    Ok(Operand::owned(found.clone()))
                }
                None => Ok(self.missing()),
            },
            Some(element) => self.member(element.clone(), name),
            None => Ok(Operand::Undefined),
        }
    }

    /// What a structure has where it has nothing.
    fn missing(&self) -> Operand<'a> {
        match self.dialect {
            Dialect::Broker => Operand::NULL,
            Dialect::Agent => Operand::Undefined,
        }
    }

    /// `of.name`. For devices an array stands for its first element, and texts have a length.
    fn member(&mut self, of: Operand<'a>, name: &str) -> Evaluated<'a> {
        let of = match of {
            Operand::Json(of) => of,
            _ => return Ok(self.missing()),
        };
        let found = match (of, self.dialect) {
            (Cow::Borrowed(Value::Array(items)), Dialect::Agent) => {
                items.first().and_then(|first| member_of(first, name)).map(Operand::borrowed)
            }
            (Cow::Owned(Value::Array(items)), Dialect::Agent) => {
                items.into_iter().next().and_then(|first| into_member(first, name)).map(Operand::owned)
            }
            (of, Dialect::Agent) if name == "length" && of.is_string() => {
                of.as_str().map(|text| Operand::count(units_of(text)))
            }
            (Cow::Borrowed(value), _) => member_of(value, name).map(Operand::borrowed),
            (Cow::Owned(value), _) => into_member(value, name).map(Operand::owned),
        };
        Ok(found.unwrap_or_else(|| self.missing()))
    }

    /// `of[index]`.
    fn index(&mut self, of: Operand<'a>, index: &Operand<'a>) -> Evaluated<'a> {
        if let (Operand::Json(flag), Dialect::Agent) = (index, self.dialect)
            && let Some(keep) = flag.as_bool()
        {
            return Ok(if keep { of } else { Operand::Undefined });
        }
        if of.is_nothing() && self.dialect == Dialect::Agent {
            return Err(EvaluationError::WrongKind);
        }
        if let Some(number) = index.as_number() {
            let place = number.float().floor();
            return Ok(self.element(of, place));
        }
        match (index.as_text(), self.dialect) {
            (Some(name), _) if of.as_array().is_none() => self.member(of, name),
            (Some(name), Dialect::Agent) => Ok(match (of.as_array(), name) {
                (Some(items), "length") => Operand::count(items.len()),
                _ => name.parse().map_or(Operand::Undefined, |place: u32| self.element(of, f64::from(place))),
            }),
            (Some(_), Dialect::Broker) => Ok(Operand::NULL),
            (None, Dialect::Agent) => Ok(Operand::Undefined),
            (None, Dialect::Broker) => Err(EvaluationError::WrongKind),
        }
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked, and saturates")]
    fn element(&self, of: Operand<'a>, place: f64) -> Operand<'a> {
        let place = if place >= 0.0 { place as usize } else { return self.missing() };
        let found = match of {
            Operand::Json(Cow::Borrowed(Value::Array(items))) => items.get(place).map(Operand::borrowed),
            Operand::Json(Cow::Owned(Value::Array(mut items))) => {
                (place < items.len()).then(|| Operand::owned(items.swap_remove(place)))
            }
            Operand::Json(text) if self.dialect == Dialect::Agent => {
                text.as_str().and_then(|text| text.chars().nth(place)).map(Operand::text)
            }
            _ => None,
        };
        found.unwrap_or_else(|| self.missing())
    }

    /// `of[test]`: the elements for which the test is true.
    fn filter(&mut self, of: Operand<'a>, test: &'a Node) -> Evaluated<'a> {
        let elements: Vec<Operand<'a>> = match of {
            Operand::Json(Cow::Borrowed(Value::Array(items))) => {
                items.iter().map(Operand::borrowed).collect()
            }
            Operand::Json(Cow::Owned(Value::Array(items))) => items.into_iter().map(Operand::owned).collect(),
            _ if self.dialect == Dialect::Broker => return Err(EvaluationError::WrongKind),
            of if of.is_nothing() => Vec::new(),
            of => vec![of],
        };
        self.budget.elements(elements.len())?;
        let mut kept = Vec::new();
        for element in elements {
            let is_kept = match self.node(test, Some(&element)) {
                Ok(result) => result.is_true(),
                Err(EvaluationError::LimitReached) => return Err(EvaluationError::LimitReached),
                Err(_) if self.dialect == Dialect::Broker => false,
                Err(error) => return Err(error),
            };
            if is_kept {
                kept.push(self.value(element)?.unwrap_or(Value::Null));
            }
        }
        Ok(Operand::owned(Value::Array(kept)))
    }

    /// The value of a test if it is true. For the broker a failure is false.
    fn tested(
        &mut self,
        node: &'a Node,
        element: Option<&Operand<'a>>,
    ) -> Result<Option<Operand<'a>>, EvaluationError> {
        match self.node(node, element) {
            Ok(value) => Ok(value.is_true().then_some(value)),
            Err(error) if error == EvaluationError::LimitReached || self.dialect == Dialect::Agent => {
                Err(error)
            }
            Err(_) => Ok(None),
        }
    }

    fn unary(&mut self, operator: UnaryOperator, operand: &Operand<'a>) -> Evaluated<'a> {
        match (operator, self.dialect) {
            (UnaryOperator::Not, _) => Ok(Operand::bool(!operand.is_true())),
            (UnaryOperator::Minus, Dialect::Broker) => {
                let number = operand.as_number().ok_or(EvaluationError::WrongKind)?;
                Ok(Operand::Number(number.negated()))
            }
            (UnaryOperator::Minus, Dialect::Agent) => Ok(Operand::Number(number_of(operand).negated())),
        }
    }

    fn binary(
        &mut self,
        operator: BinaryOperator,
        left: &'a Node,
        right: &'a Node,
        element: Option<&Operand<'a>>,
    ) -> Evaluated<'a> {
        match operator {
            BinaryOperator::Or => match self.tested(left, element)? {
                Some(value) => Ok(value),
                None => self.node(right, element),
            },
            BinaryOperator::And => {
                let left = self.node(left, element)?;
                if left.is_true() { self.node(right, element) } else { Ok(left) }
            }
            _ => {
                let left = self.node(left, element)?;
                let right = self.node(right, element)?;
                self.combine(operator, left, right)
            }
        }
    }

    fn combine(&mut self, operator: BinaryOperator, left: Operand<'a>, right: Operand<'a>) -> Evaluated<'a> {
        if let (Some(a), Some(b)) = (left.as_number(), right.as_number())
            && let Some(number) = arithmetic(operator, a, b)
        {
            return Ok(Operand::Number(number));
        }
        self.pay_for_reading(&left)?;
        self.pay_for_reading(&right)?;
        match self.dialect {
            Dialect::Broker => self.combine_strictly(operator, &left, &right),
            Dialect::Agent => self.combine_loosely(operator, &left, &right),
        }
    }

    /// Comparing or joining walks through both operands.
    pub(crate) fn pay_for_reading(&mut self, operand: &Operand<'_>) -> Result<(), EvaluationError> {
        match operand {
            Operand::Json(value) => self.budget.value(value),
            _ => Ok(()),
        }
    }

    fn combine_strictly(
        &mut self,
        operator: BinaryOperator,
        left: &Operand<'a>,
        right: &Operand<'a>,
    ) -> Evaluated<'a> {
        let is_ordered = (left.as_number().is_some() && right.as_number().is_some())
            || (left.as_text().is_some() && right.as_text().is_some());
        match operator {
            BinaryOperator::Equal => Ok(Operand::bool(equal(left, right))),
            BinaryOperator::NotEqual => Ok(Operand::bool(!equal(left, right))),
            BinaryOperator::Less if is_ordered => Ok(Operand::bool(is_less(left, right))),
            BinaryOperator::Greater if is_ordered => Ok(Operand::bool(is_less(right, left))),
            BinaryOperator::LessOrEqual if is_ordered => Ok(Operand::bool(!is_less(right, left))),
            BinaryOperator::GreaterOrEqual if is_ordered => Ok(Operand::bool(!is_less(left, right))),
            BinaryOperator::Add if left.as_text().is_some() || right.as_text().is_some() => {
                if left.is_nothing() || right.is_nothing() {
                    return Err(EvaluationError::WrongKind);
                }
                self.join(left, right)
            }
            BinaryOperator::In => {
                let found = is_in(left, right).or_else(|| is_key(left, right));
                found.map(Operand::bool).ok_or(EvaluationError::WrongKind)
            }
            _ => Err(EvaluationError::WrongKind),
        }
    }

    fn combine_loosely(
        &mut self,
        operator: BinaryOperator,
        left: &Operand<'a>,
        right: &Operand<'a>,
    ) -> Evaluated<'a> {
        let flag = match operator {
            BinaryOperator::Equal => loosely_equal(left, right),
            BinaryOperator::NotEqual => !loosely_equal(left, right),
            BinaryOperator::Less => is_less(left, right),
            BinaryOperator::Greater => is_less(right, left),
            BinaryOperator::LessOrEqual => is_less(left, right) || loosely_equal_numbers(left, right),
            BinaryOperator::GreaterOrEqual => is_less(right, left) || loosely_equal_numbers(left, right),
            BinaryOperator::In => is_in(left, right).unwrap_or(false),
            BinaryOperator::Add => return self.add(left, right),
            _ => {
                let number = arithmetic(operator, number_of(left), number_of(right));
                return Ok(Operand::Number(number.unwrap_or(Number::NAN)));
            }
        };
        Ok(Operand::bool(flag))
    }

    /// JavaScript's `+`, but with an undefined operand the result is not a number (iot-agent.md 3: missing input is null).
    pub(crate) fn add(&mut self, left: &Operand<'a>, right: &Operand<'a>) -> Evaluated<'a> {
        let joins = |operand: &Operand<'_>| match operand {
            Operand::Json(value) => value.is_string() || value.is_array() || value.is_object(),
            _ => false,
        };
        match (left, right) {
            (Operand::Undefined, _) | (_, Operand::Undefined) => Ok(Operand::Number(Number::NAN)),
            _ if joins(left) || joins(right) => self.join(left, right),
            _ => Ok(Operand::Number(number_of(left).plus(number_of(right)))),
        }
    }

    fn join(&mut self, left: &Operand<'a>, right: &Operand<'a>) -> Evaluated<'a> {
        let (left, right) = match self.dialect {
            Dialect::Agent => (text_of(left), text_of(right)),
            Dialect::Broker => (shown(left), shown(right)),
        };
        self.budget.bytes(left.len() + right.len())?;
        Ok(Operand::text(left.into_owned() + &right))
    }
}

/// How the broker puts a value into a text: structures as JSON.
fn shown<'b>(operand: &'b Operand<'_>) -> Cow<'b, str> {
    match operand {
        Operand::Json(value) if value.is_array() || value.is_object() => {
            Cow::Owned(crate::value::json_text(value))
        }
        _ => text_of(operand),
    }
}

fn member_of<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    value.as_object()?.get(name)
}

fn into_member(value: Value, name: &str) -> Option<Value> {
    match value {
        Value::Object(mut members) => members.swap_remove(name),
        _ => None,
    }
}

fn arithmetic(operator: BinaryOperator, a: Number, b: Number) -> Option<Number> {
    Some(match operator {
        BinaryOperator::Add => a.plus(b),
        BinaryOperator::Subtract => a.minus(b),
        BinaryOperator::Multiply => a.times(b),
        BinaryOperator::Divide => a.divided(b),
        BinaryOperator::FloorDivide => a.floor_divided(b),
        BinaryOperator::Remainder => a.remainder(b),
        BinaryOperator::Power => a.power(b),
        _ => return None,
    })
}

/// Equality as `<=` means it: undefined and null are not equal, null is zero.
fn loosely_equal_numbers(left: &Operand<'_>, right: &Operand<'_>) -> bool {
    if left.as_text().is_some() && right.as_text().is_some() {
        return left.as_text() == right.as_text();
    }
    number_of(left) == number_of(right)
}

/// `left in right`: part of a text, element of an array. None: `right` is of another kind.
fn is_in(left: &Operand<'_>, right: &Operand<'_>) -> Option<bool> {
    if let Some(whole) = right.as_text() {
        return Some(whole.contains(text_of(left).as_ref()));
    }
    let items = right.as_array()?;
    Some(items.iter().any(|item| same(&Operand::borrowed(item), left)))
}

/// For the broker also key of an object.
fn is_key(left: &Operand<'_>, right: &Operand<'_>) -> Option<bool> {
    match right {
        Operand::Json(value) => Some(value.as_object()?.contains_key(left.as_text()?)),
        _ => None,
    }
}
