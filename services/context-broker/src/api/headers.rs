//! `Accept`, `Content-Type`, tenant and service path (ngsi-v2.md 2 and 3).

use http::{HeaderMap, header};
use ngsi::{Error, ErrorWord};
use scope::{PathPattern, Tenant};

/// Which of the two media types a client takes, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Accept {
    pub(super) json: bool,
    pub(super) text: bool,
    /// Both are taken, text rather than JSON.
    pub(super) text_first: bool,
}

impl Accept {
    const ANY: Self = Self { json: true, text: true, text_first: false };

    pub(super) fn parse(headers: &HeaderMap) -> Result<Self, Error> {
        let Some(value) = headers.get(header::ACCEPT) else { return Ok(Self::ANY) };
        let text = value.to_str().unwrap_or_default().trim();
        match text {
            "*/*" | "application/json" if text.len() == 3 => Ok(Self::ANY),
            "" => Err(Error::bad_request("empty accept header")),
            _ => Self::parse_items(text),
        }
    }

    fn parse_items(text: &str) -> Result<Self, Error> {
        // Weight and (negative) position of the best item for each: greater is better.
        let mut json: Option<(f32, i64)> = None;
        let mut plain: Option<(f32, i64)> = None;
        for (at, item) in (0_i64..).zip(text.split(',')) {
            let (range, parameter) = item.split_once(';').unwrap_or((item, ""));
            let range = range.trim();
            let takes_json = matches!(range, "*/*" | "application/*" | "application/json");
            let takes_text = matches!(range, "*/*" | "text/*" | "text/plain");
            if !takes_json && !takes_text {
                // Whatever it says of its weight.
                continue;
            }
            let rank = Some((weight(parameter.trim())?, -at));
            if takes_json && rank > json {
                json = rank;
            }
            if takes_text && rank > plain {
                plain = rank;
            }
        }
        if json.is_none() && plain.is_none() {
            return Err(not_acceptable("no acceptable mime-type in accept header"));
        }
        Ok(Self { json: json.is_some(), text: plain.is_some(), text_first: plain > json })
    }
}

/// `q=0.5`, or nothing.
fn weight(parameter: &str) -> Result<f32, Error> {
    if parameter.is_empty() {
        return Ok(1.0);
    }
    let Some(value) = parameter.strip_prefix('q') else {
        return Err(Error::bad_request("q missing in accept header"));
    };
    let Some(value) = value.strip_prefix('=') else {
        return Err(Error::bad_request("missing equal-sign after q in accept header"));
    };
    // What comes after the weight is an extension that nobody uses.
    let value = value.split(';').next().unwrap_or_default();
    if value.is_empty() {
        return Err(Error::bad_request("qvalue in accept header is missing"));
    }
    // The original compares weights that are none as well.
    let weight = value.trim().parse::<f32>().ok().filter(|weight| weight.is_finite());
    weight.ok_or_else(|| Error::bad_request("qvalue in accept header is not a number"))
}

pub(super) fn not_acceptable(description: &'static str) -> Error {
    Error::new(ErrorWord::NotAcceptable, description)
}

/// What kind of body comes with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyKind {
    Json,
    Text,
}

/// Reads `Content-Type`; `text/plain` only where `text_allowed`.
pub(super) fn body_kind(headers: &HeaderMap, text_allowed: bool) -> Result<BodyKind, Error> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Err(unnamed_body()) };
    let value = value.to_str().unwrap_or_default();
    let media_type = value.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        Ok(BodyKind::Json)
    } else if text_allowed && media_type.eq_ignore_ascii_case("text/plain") {
        Ok(BodyKind::Text)
    } else {
        Err(Error::new(ErrorWord::UnsupportedMediaType, format!("not supported content type: {media_type}")))
    }
}

fn unnamed_body() -> Error {
    Error::new(
        ErrorWord::UnsupportedMediaType,
        "Content-Type header not used, default application/octet-stream is not supported",
    )
}

/// Reads `Fiware-ServicePath`. None: there is none.
pub(super) fn service_paths(headers: &HeaderMap) -> Result<Option<Vec<PathPattern>>, Error> {
    let Some(value) = headers.get("fiware-servicepath") else { return Ok(None) };
    let text = value
        .to_str()
        .map_err(|_| Error::bad_request("a component of ServicePath contains an illegal character"))?;
    PathPattern::parse_list(text).map(Some).map_err(|error| Error::bad_request(error.to_string()))
}

/// Reads `Fiware-Service`.
pub(super) fn tenant(headers: &HeaderMap) -> Result<Tenant, Error> {
    let value = headers.get("fiware-service").map(|value| value.to_str().unwrap_or("\u{fffd}"));
    Tenant::from_header(value).map_err(|error| Error::bad_request(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn accept(text: &'static str) -> Result<Accept, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static(text));
        Accept::parse(&headers)
    }

    #[test]
    fn accept_is_read_with_weights_and_order() {
        for (text, json, plain, text_first) in [
            ("*/*", true, true, false),
            ("application/json", true, false, false),
            ("text/plain", false, true, true),
            ("text/plain, application/json", true, true, true),
            ("application/json, text/plain, */*", true, true, false),
            ("text/plain;q=0.5, application/json;q=0.9", true, true, false),
            ("image/png, application/*", true, false, false),
            ("text/plain;q=0.5;level=1, */*;q=0.4", true, true, true),
        ] {
            assert_eq!(accept(text).unwrap(), Accept { json, text: plain, text_first }, "{text}");
        }
    }

    #[test]
    fn bad_accept_headers_have_the_texts_of_the_contract() {
        for (text, expected) in [
            ("", "empty accept header"),
            ("image/png", "no acceptable mime-type in accept header"),
            ("application/json;x=1", "q missing in accept header"),
            ("application/json;q=high", "qvalue in accept header is not a number"),
            ("application/json;q=", "qvalue in accept header is missing"),
            ("application/json;q0.5", "missing equal-sign after q in accept header"),
        ] {
            assert_eq!(accept(text).unwrap_err().description, expected, "{text}");
        }
    }
}
