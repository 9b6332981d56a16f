//! `/v2/entities/{E}/attrs/{A}/value`.

use http::Method;
use ngsi::{
    Error, parse,
    render::{Names, shown_value, write_value},
};

use super::{
    Answer, Api, Call, attributes, entities,
    headers::{Accept, not_acceptable},
};

pub(super) async fn value(api: &Api, call: &Call) -> Result<Answer, Error> {
    if call.method == Method::PUT {
        let read = if call.body_is_text { parse::value_from_text } else { parse::value_from_json };
        return attributes::write(api, call, read(call.attribute(), &call.body)?).await;
    }
    let entity = entities::get(api, call, &Names::one(call.attribute())).await?;
    let attribute = entity.attributes.get(call.attribute()).ok_or_else(Error::attribute_not_found)?;
    let value = shown_value(attribute);
    let compound = value.is_object() || value.is_array();
    let as_json = shown_as_json(call.accept, compound)?;
    let mut body = Vec::with_capacity(64);
    write_value(&mut body, value);
    Ok(if as_json { Answer::Json(body) } else { Answer::Text(body) })
}

/// Objects and arrays are JSON or text as the client prefers; a scalar is text only.
fn shown_as_json(accept: Accept, compound: bool) -> Result<bool, Error> {
    match (compound, accept.json, accept.text) {
        (false, _, true) => Ok(false),
        (false, _, false) => Err(not_acceptable("accepted MIME types: text/plain")),
        (true, false, false) => Err(not_acceptable("accepted MIME types: application/json, text/plain")),
        (true, json, _) => Ok(json && !accept.text_first),
    }
}
