//! Ultralight 2.0: `[time|]name|value|name|value…`, groups separated by `#`. Pure; contract: iot-agent 2.2.
//!
//! ```text
//! 2016-06-13T00:35:30Z|t|21.5|on|true#t|22
//! └────── time ──────┘ └─ measures ─┘ └ second group ┘
//! ```

mod value;

pub use value::cast;

use serde_json::Value;

/// How much one payload may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub groups: usize,
    /// Over all groups.
    pub measures: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { groups: 1_000, measures: 10_000 }
    }
}

/// What a device sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Payload {
    /// At least one group, unless the payload was empty.
    Measures(Vec<MeasureGroup>),
    /// `device@command|result`: how a command ended.
    CommandResult { device_id: String, command: String, result: String },
}

/// Measures taken at one time. A name given twice keeps its place and its last value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MeasureGroup {
    /// The time before the first measure, as sent; not checked here.
    pub time: Option<String>,
    pub measures: Vec<(String, Value)>,
}

/// Why a payload is not Ultralight. Groups are counted from 1; no text of the payload is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("group {group}: a field is empty")]
    EmptyField { group: usize },
    #[error("group {group}: {fields} fields are not pairs of name and value")]
    Unpaired { group: usize, fields: usize },
    #[error("more than {0} groups")]
    TooManyGroups(usize),
    #[error("more than {0} measures")]
    TooManyMeasures(usize),
}

/// Reads a payload. With `autocast`, values that are JSON become numbers, booleans, null, arrays or objects; all others
/// stay text.
pub fn parse(text: &str, autocast: bool, limits: Limits) -> Result<Payload, ParseError> {
    if text.is_empty() {
        return Ok(Payload::Measures(Vec::new()));
    }
    if let Some(result) = command_result(text) {
        return Ok(result);
    }
    let mut groups = Vec::new();
    let mut measures = 0;
    for (index, group_text) in text.split('#').enumerate() {
        if index == limits.groups {
            return Err(ParseError::TooManyGroups(limits.groups));
        }
        let allowed = limits.measures - measures;
        let group = parse_group(group_text, index + 1, autocast, allowed)?
            .ok_or(ParseError::TooManyMeasures(limits.measures))?;
        measures += group.measures.len();
        groups.push(group);
    }
    Ok(Payload::Measures(groups))
}

/// `None` when the group holds more than `allowed` measures.
fn parse_group(
    text: &str,
    group: usize,
    autocast: bool,
    allowed: usize,
) -> Result<Option<MeasureGroup>, ParseError> {
    let text = text.strip_prefix('|').unwrap_or(text);
    let fields = text.bytes().filter(|byte| *byte == b'|').count() + 1;
    if fields / 2 > allowed {
        return Ok(None);
    }
    let mut rest = text.split('|');
    if rest.clone().any(str::is_empty) {
        return Err(ParseError::EmptyField { group });
    }
    let time = match fields % 2 {
        0 => None,
        _ => Some(
            rest.next()
                .filter(|first| fields > 1 && looks_like_time(first))
                .ok_or(ParseError::Unpaired { group, fields })?,
        ),
    };
    let mut measures: Vec<(String, Value)> = Vec::with_capacity(fields / 2);
    while let (Some(name), Some(value)) = (rest.next(), rest.next()) {
        let value = if autocast { cast(value) } else { Value::from(value) };
        measures.push((name.to_owned(), value));
    }
    Ok(Some(MeasureGroup { time: time.map(str::to_owned), measures }))
}

/// An odd first field is a time if it begins with a year; whether it is a valid one is judged where it is used, with an
/// error of its own.
fn looks_like_time(field: &str) -> bool {
    field.len() >= 8 && field.bytes().take(4).all(|byte| byte.is_ascii_digit())
}

fn command_result(text: &str) -> Option<Payload> {
    let first = text.split('#').next()?;
    let (address, result) = first.split_once('|')?;
    let (device_id, command) = address.split_once('@')?;
    let complete = !device_id.is_empty() && !command.is_empty();
    complete.then(|| Payload::CommandResult {
        device_id: device_id.to_owned(),
        command: command.to_owned(),
        result: result.to_owned(),
    })
}

#[cfg(test)]
mod tests;
