//! `/v2/types` and `/v2/types/{T}`.

use ngsi::{Error, render::write_string};

use super::{Answer, Api, Call};
use crate::query::TypeSummary;

pub(super) async fn collection(api: &Api, call: &Call) -> Result<Answer, Error> {
    let types = api.core.types(&call.query_scope()).await?;
    let total = call.params.option("count").then_some(types.len() as u64);
    let (names_only, detail) = (call.params.option("values"), !call.params.option("noAttrDetail"));
    let page = types.iter().skip(call.params.offset()?).take(call.params.limit()?);
    let mut body = vec![b'['];
    for (at, summary) in page.enumerate() {
        if at > 0 {
            body.push(b',');
        }
        if names_only {
            write_string(&mut body, &summary.name);
        } else {
            body.extend_from_slice(b"{\"type\":");
            write_string(&mut body, &summary.name);
            body.push(b',');
            write_details(&mut body, summary, detail);
            body.push(b'}');
        }
    }
    body.push(b']');
    Ok(Answer::List(body, total))
}

pub(super) async fn one(api: &Api, call: &Call) -> Result<Answer, Error> {
    let summary = api.core.get_type(&call.query_scope(), &call.parts.first).await?;
    let mut body = vec![b'{'];
    write_details(&mut body, &summary, !call.params.option("noAttrDetail"));
    body.push(b'}');
    Ok(Answer::Json(body))
}

fn write_details(body: &mut Vec<u8>, summary: &TypeSummary, detail: bool) {
    body.extend_from_slice(b"\"attrs\":{");
    for (at, (name, types)) in summary.attributes.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        write_string(body, name);
        body.extend_from_slice(b":{\"types\":[");
        for (at, attribute_type) in types.iter().filter(|_| detail).enumerate() {
            if at > 0 {
                body.push(b',');
            }
            write_string(body, attribute_type);
        }
        body.extend_from_slice(b"]}");
    }
    body.extend_from_slice(b"},\"count\":");
    body.extend_from_slice(summary.count.to_string().as_bytes());
}
