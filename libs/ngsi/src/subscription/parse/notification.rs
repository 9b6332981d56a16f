use serde_json::{Map, Value};

use super::{boolean, members, string, strings, transport};
use crate::{
    Error,
    subscription::model::{AttrsFormat, NotificationSpec},
};

pub(super) fn notification(value: &Value) -> Result<NotificationSpec, Error> {
    let object = members(value, "notification")?;
    let target = transport::target(object)?;
    let attrs = strings(object, "attrs")?;
    let except_attrs = strings(object, "exceptAttrs")?;
    if attrs.is_some() && except_attrs.is_some() {
        return Err(Error::bad_request("http notification has attrs and exceptAttrs"));
    }
    if except_attrs.as_ref().is_some_and(Vec::is_empty) {
        return Err(Error::bad_request("http notification has exceptAttrs is empty"));
    }
    let spec = NotificationSpec {
        target,
        attrs: attrs.unwrap_or_default(),
        except_attrs: except_attrs.unwrap_or_default(),
        metadata: strings(object, "metadata")?.unwrap_or_default(),
        attrs_format: attrs_format(object)?,
        only_changed_attrs: boolean(object, "onlyChangedAttrs", false)?,
        covered: boolean(object, "covered", false)?,
        max_fails_limit: max_fails_limit(object)?,
    };
    if spec.covered && spec.attrs.is_empty() {
        return Err(Error::bad_request(
            "covered true cannot be used if notification attributes list is empty",
        ));
    }
    Ok(spec)
}

fn attrs_format(object: &Map<String, Value>) -> Result<AttrsFormat, Error> {
    let Some(value) = object.get("attrsFormat") else { return Ok(AttrsFormat::Normalized) };
    match string(value, "attrsFormat")? {
        "normalized" => Ok(AttrsFormat::Normalized),
        "keyValues" => Ok(AttrsFormat::KeyValues),
        "values" => Ok(AttrsFormat::Values),
        "simplifiedNormalized" => Ok(AttrsFormat::SimplifiedNormalized),
        "simplifiedKeyValues" => Ok(AttrsFormat::SimplifiedKeyValues),
        _ => Err(Error::bad_request(
            "invalid attrsFormat, accepted values: normalized, simplifiedNormalized, keyValues, simplifiedkeyValues, values",
        )),
    }
}

fn max_fails_limit(object: &Map<String, Value>) -> Result<Option<u64>, Error> {
    match object.get("maxFailsLimit") {
        None => Ok(None),
        Some(value) => match value.as_i64() {
            None => Err(Error::bad_request("maxFailsLimit is not an int")),
            Some(limit) => match u64::try_from(limit) {
                Ok(limit) if limit > 0 => Ok(Some(limit)),
                _ => Err(Error::bad_request("maxFailsLimit must be greater than zero")),
            },
        },
    }
}
