//! The text body of `PUT …/value`: `"str"`, `true`, `false`, `null` or a number.

use serde_json::Value;

use super::{canonical_number, check_attribute_name, has_forbidden};
use crate::{AttributeUpdate, Error, ValueUpdate};

/// Type and metadata of the attribute stay.
pub fn value_from_text(name: &str, body: &[u8]) -> Result<AttributeUpdate, Error> {
    check_attribute_name(name)?;
    let unknown = || Error::bad_request("attribute value type not recognized");
    let text = std::str::from_utf8(body).map_err(|_| unknown())?.trim();
    Ok(AttributeUpdate { attribute_type: None, value: ValueUpdate::Set(scalar(text)?), metadata: None })
}

fn scalar(text: &str) -> Result<Value, Error> {
    if let Some(rest) = text.strip_prefix('"') {
        let Some(inner) = rest.strip_suffix('"') else {
            return Err(Error::bad_request("Missing citation-mark at end of string"));
        };
        if has_forbidden(inner) {
            return Err(Error::bad_request("Invalid characters in attribute value"));
        }
        return Ok(Value::String(inner.to_owned()));
    }
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Number(number)) => Ok(canonical_number(number)),
        Ok(value @ (Value::Null | Value::Bool(_))) => Ok(value),
        _ => Err(Error::bad_request("attribute value type not recognized")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn scalars_are_read_and_the_rest_is_named() {
        for (text, expected) in [
            ("\"new name\"", Ok(json!("new name"))),
            ("26", Ok(json!(26))),
            ("-2.50", Ok(json!(-2.5))),
            ("true", Ok(json!(true))),
            ("null", Ok(json!(null))),
            (" 7\n", Ok(json!(7))),
            ("\"\"", Ok(json!(""))),
            ("\"open", Err("Missing citation-mark at end of string")),
            ("\"", Err("Missing citation-mark at end of string")),
            ("word", Err("attribute value type not recognized")),
            ("{}", Err("attribute value type not recognized")),
            ("\"a<b\"", Err("Invalid characters in attribute value")),
            ("TRUE", Err("attribute value type not recognized")),
        ] {
            let value = scalar(text).map_err(|e| e.description);
            assert_eq!(value, expected.map_err(Into::into), "{text}");
        }
    }
}
