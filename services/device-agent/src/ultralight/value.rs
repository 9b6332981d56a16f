use serde_json::Value;

/// The value that a text means: what JSON makes of it, else the text itself (`007`, `12/34`, `'x'`).
pub fn cast(text: &str) -> Value {
    // Most values are numbers or plain words; a word need not go through the JSON parser.
    let first = text.bytes().find(|byte| !byte.is_ascii_whitespace());
    let may_be_json = matches!(first, Some(b'0'..=b'9' | b'-' | b't' | b'f' | b'n' | b'{' | b'[' | b'"'));
    if may_be_json {
        serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
    } else {
        Value::from(text)
    }
}
