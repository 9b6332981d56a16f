//! Update operators: `{"value":{"$inc":2}}` (ngsi-v2.md 6).
//!
//! On an existing attribute a wrong operand or a value of the wrong kind is an error; at creation the operator acts on a
//! reference value, and a wrong operand leaves just that.

use std::cmp::Ordering;

use serde_json::{Map, Number, Value};

use crate::{Error, ErrorWord, time};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperatorName {
    Inc,
    Mul,
    Min,
    Max,
    Push,
    AddToSet,
    Pull,
    PullAll,
    Set,
    Unset,
}

#[derive(Clone, Debug, PartialEq)]
pub struct UpdateOperator {
    pub name: OperatorName,
    pub operand: Value,
}

impl OperatorName {
    pub fn parse(key: &str) -> Option<Self> {
        Some(match key {
            "$inc" => Self::Inc,
            "$mul" => Self::Mul,
            "$min" => Self::Min,
            "$max" => Self::Max,
            "$push" => Self::Push,
            "$addToSet" => Self::AddToSet,
            "$pull" => Self::Pull,
            "$pullAll" => Self::PullAll,
            "$set" => Self::Set,
            "$unset" => Self::Unset,
            _ => return None,
        })
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inc => "$inc",
            Self::Mul => "$mul",
            Self::Min => "$min",
            Self::Max => "$max",
            Self::Push => "$push",
            Self::AddToSet => "$addToSet",
            Self::Pull => "$pull",
            Self::PullAll => "$pullAll",
            Self::Set => "$set",
            Self::Unset => "$unset",
        }
    }

    fn reference(self, is_date: bool) -> Option<Value> {
        match self {
            Self::Min | Self::Max if is_date => Some(Value::String(time::format_us(0))),
            Self::Inc | Self::Mul | Self::Min | Self::Max => Some(Value::from(0)),
            Self::Push | Self::AddToSet => Some(Value::Array(Vec::new())),
            Self::Set => Some(Value::Object(Map::new())),
            Self::Pull | Self::PullAll | Self::Unset => None,
        }
    }
}

/// The value after the operators. None: the attribute is not created.
pub(super) fn evaluate(
    existing: Option<&Value>,
    operators: &[UpdateOperator],
    is_date: bool,
) -> Result<Option<Value>, Error> {
    check_set_and_unset(operators)?;
    if let Some(value) = existing {
        let mut value = value.clone();
        for operator in operators {
            value = operate(value, operator, is_date)?;
        }
        return Ok(Some(value));
    }
    let Some(reference) = operators.iter().find_map(|o| o.name.reference(is_date)) else { return Ok(None) };
    let mut value = reference;
    for operator in operators {
        value = operate(value.clone(), operator, is_date).unwrap_or(value);
    }
    Ok(Some(value))
}

fn check_set_and_unset(operators: &[UpdateOperator]) -> Result<(), Error> {
    let keys = |name| {
        operators
            .iter()
            .find(|o| o.name == name)
            .and_then(|o| o.operand.as_object())
            .into_iter()
            .flat_map(Map::keys)
    };
    match keys(OperatorName::Set).find(|key| keys(OperatorName::Unset).any(|other| other == *key)) {
        Some(key) => Err(Error::bad_request(format!("the key {key} is in both $set and $unset"))),
        None => Ok(()),
    }
}

fn operate(value: Value, operator: &UpdateOperator, is_date: bool) -> Result<Value, Error> {
    let operand = &operator.operand;
    match operator.name {
        OperatorName::Inc => arithmetic(&value, operator, i64::checked_add, |a, b| a + b),
        OperatorName::Mul => arithmetic(&value, operator, i64::checked_mul, |a, b| a * b),
        OperatorName::Min => extreme(value, operator, is_date, Ordering::Less),
        OperatorName::Max => extreme(value, operator, is_date, Ordering::Greater),
        OperatorName::Push => push(value, operator),
        OperatorName::AddToSet => {
            let mut array = array(value, operator)?;
            if !array.contains(operand) {
                array.push(operand.clone());
            }
            Ok(Value::Array(array))
        }
        OperatorName::Pull => {
            let mut array = array(value, operator)?;
            array.retain(|item| item != operand);
            Ok(Value::Array(array))
        }
        OperatorName::PullAll => {
            let unwanted = operand.as_array().ok_or_else(|| bad_operand(operator, "an array"))?;
            let mut array = array(value, operator)?;
            array.retain(|item| !unwanted.contains(item));
            Ok(Value::Array(array))
        }
        OperatorName::Set | OperatorName::Unset => sub_keys(value, operator),
    }
}

fn arithmetic(
    value: &Value,
    operator: &UpdateOperator,
    whole: fn(i64, i64) -> Option<i64>,
    real: fn(f64, f64) -> f64,
) -> Result<Value, Error> {
    let Value::Number(operand) = &operator.operand else { return Err(bad_operand(operator, "a number")) };
    let Value::Number(current) = value else { return Err(bad_target(operator, "a number")) };
    if let (Some(a), Some(b)) = (current.as_i64(), operand.as_i64())
        && let Some(result) = whole(a, b)
    {
        return Ok(Value::from(result));
    }
    let result = real(current.as_f64().unwrap_or_default(), operand.as_f64().unwrap_or_default());
    match Number::from_f64(result) {
        Some(number) => Ok(crate::parse::canonical_number(number)),
        None => Err(Error::new(
            ErrorWord::Unprocessable,
            format!("the result of {} is out of range", operator.name.as_str()),
        )),
    }
}

fn extreme(value: Value, operator: &UpdateOperator, is_date: bool, wanted: Ordering) -> Result<Value, Error> {
    let operand = match &operator.operand {
        // a stored instant is canonical text: make the operand comparable
        Value::String(text) if is_date => {
            time::canonical(text).map_or_else(|| operator.operand.clone(), Value::String)
        }
        Value::Number(_) | Value::String(_) => operator.operand.clone(),
        _ => return Err(bad_operand(operator, "a number or a string")),
    };
    match crate::query::compare_values(&operand, &value) {
        ordering if ordering == wanted => Ok(operand),
        _ => Ok(value),
    }
}

fn push(value: Value, operator: &UpdateOperator) -> Result<Value, Error> {
    let mut array = array(value, operator)?;
    let each = operator.operand.as_object().and_then(|object| object.get("$each").map(|each| (object, each)));
    let Some((modifiers, each)) = each else {
        array.push(operator.operand.clone());
        return Ok(Value::Array(array));
    };
    let items = each.as_array().ok_or_else(|| bad_operand(operator, "an array in $each"))?;
    let at = match modifiers.get("$position") {
        None => array.len(),
        Some(position) => {
            let position =
                position.as_i64().ok_or_else(|| bad_operand(operator, "an integer in $position"))?;
            let length = i64::try_from(array.len()).unwrap_or(i64::MAX);
            let index = if position < 0 { (length + position).max(0) } else { position.min(length) };
            usize::try_from(index).unwrap_or_default()
        }
    };
    array.splice(at..at, items.iter().cloned());
    Ok(Value::Array(array))
}

fn sub_keys(value: Value, operator: &UpdateOperator) -> Result<Value, Error> {
    let Value::Object(keys) = &operator.operand else { return Err(bad_operand(operator, "an object")) };
    let Value::Object(mut object) = value else { return Err(bad_target(operator, "an object")) };
    for (path, item) in keys {
        let (parents, last) = match path.rsplit_once('.') {
            Some((parents, last)) => (Some(parents), last),
            None => (None, path.as_str()),
        };
        if parents.is_some_and(|parents| parents.split('.').count() >= crate::parse::MAX_NESTING) {
            return Err(Error::too_deep());
        }
        let create = operator.name == OperatorName::Set;
        // The value would be an update when it is sent back.
        if create && path.split('.').next().is_some_and(|first| OperatorName::parse(first).is_some()) {
            return Err(bad_operand(operator, "keys that are no operators"));
        }
        match descend(&mut object, parents, create) {
            Some(target) if create => {
                target.insert(last.to_owned(), item.clone());
            }
            Some(target) => {
                target.shift_remove(last);
            }
            None if create => return Err(bad_target(operator, "an object")),
            None => {}
        }
    }
    Ok(Value::Object(object))
}

fn descend<'a>(
    object: &'a mut Map<String, Value>,
    path: Option<&str>,
    create: bool,
) -> Option<&'a mut Map<String, Value>> {
    let mut current = object;
    for key in path.into_iter().flat_map(|path| path.split('.')) {
        if create && !current.contains_key(key) {
            current.insert(key.to_owned(), Value::Object(Map::new()));
        }
        current = current.get_mut(key)?.as_object_mut()?;
    }
    Some(current)
}

fn array(value: Value, operator: &UpdateOperator) -> Result<Vec<Value>, Error> {
    match value {
        Value::Array(array) => Ok(array),
        _ => Err(bad_target(operator, "an array")),
    }
}

fn bad_operand(operator: &UpdateOperator, wanted: &str) -> Error {
    Error::bad_request(format!("{} needs {wanted}", operator.name.as_str()))
}

fn bad_target(operator: &UpdateOperator, wanted: &str) -> Error {
    Error::new(
        ErrorWord::Unprocessable,
        format!("{} needs an attribute whose value is {wanted}", operator.name.as_str()),
    )
}
