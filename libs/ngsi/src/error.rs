//! Errors as NGSIv2 words and texts (ngsi-v2.md 2, 6 and 10).

use std::{borrow::Cow, fmt};

/// The `error` member of an error body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorWord {
    BadRequest,
    ParseError,
    NotFound,
    MethodNotAllowed,
    NotAcceptable,
    TooManyResults,
    ContentLengthRequired,
    RequestEntityTooLarge,
    NoResourcesAvailable,
    UnsupportedMediaType,
    Unprocessable,
    /// The good part was applied; the description names the rest.
    PartialUpdate,
    /// `PartialUpdate` with status 404: providers did not take all that was forwarded.
    NotAllForwarded,
    /// The tenant's rate of requests is used up.
    TooManyRequests,
    InternalServerError,
    NotImplemented,
    /// A needed server is away.
    ServiceUnavailable,
}

impl ErrorWord {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "BadRequest",
            Self::ParseError => "ParseError",
            Self::NotFound => "NotFound",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::NotAcceptable => "NotAcceptable",
            Self::TooManyResults => "TooManyResults",
            Self::ContentLengthRequired => "ContentLengthRequired",
            Self::RequestEntityTooLarge => "RequestEntityTooLarge",
            Self::NoResourcesAvailable => "NoResourcesAvailable",
            Self::UnsupportedMediaType => "UnsupportedMediaType",
            Self::Unprocessable => "Unprocessable",
            Self::PartialUpdate | Self::NotAllForwarded => "PartialUpdate",
            Self::TooManyRequests => "TooManyRequests",
            Self::InternalServerError => "InternalServerError",
            Self::NotImplemented => "NotImplemented",
            Self::ServiceUnavailable => "ServiceUnavailable",
        }
    }

    pub fn http_status(self) -> u16 {
        match self {
            Self::BadRequest | Self::ParseError => 400,
            Self::NotFound | Self::NotAllForwarded => 404,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable => 406,
            Self::TooManyResults => 409,
            Self::ContentLengthRequired => 411,
            Self::RequestEntityTooLarge | Self::NoResourcesAvailable => 413,
            Self::UnsupportedMediaType => 415,
            Self::Unprocessable | Self::PartialUpdate => 422,
            Self::TooManyRequests => 429,
            Self::InternalServerError => 500,
            Self::NotImplemented => 501,
            Self::ServiceUnavailable => 503,
        }
    }
}

/// What in an entity an update could not do: lets a batch gather its errors and an endpoint choose its own text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failed {
    /// The entity does not exist.
    Entity,
    /// It exists, and must not.
    EntityExists,
    /// These attributes do not exist.
    Missing(Vec<String>),
    /// These attributes exist, and must not.
    Existing(Vec<String>),
}

/// An error of the API: word, status, description, and what failed where that matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub word: ErrorWord,
    /// As it stands in the contract, not escaped; see [`Error::to_json`].
    pub description: Cow<'static, str>,
    pub failed: Option<Failed>,
}

const OUTCOME_UNKNOWN: &str = "the outcome of the write is not known, it may have been applied";

impl Error {
    pub fn new(word: ErrorWord, description: impl Into<Cow<'static, str>>) -> Self {
        Self { word, description: description.into(), failed: None }
    }

    pub fn bad_request(description: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorWord::BadRequest, description)
    }

    pub fn not_implemented(description: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorWord::NotImplemented, description)
    }

    /// The same with words before its description.
    pub fn prefixed(mut self, prefix: &str) -> Self {
        self.description = format!("{prefix}{}", self.description).into();
        self
    }

    /// The JSON of the request does not parse.
    pub fn json_syntax() -> Self {
        Self::new(ErrorWord::ParseError, "Errors found in incoming JSON buffer")
    }

    pub fn too_deep() -> Self {
        Self::new(
            ErrorWord::ParseError,
            "attribute or metadata value has overpassed maximum nesting limit: 50",
        )
    }

    pub fn entity_not_found() -> Self {
        Self {
            failed: Some(Failed::Entity),
            ..Self::new(ErrorWord::NotFound, "The requested entity has not been found. Check type and id")
        }
    }

    pub fn attribute_not_found() -> Self {
        Self::new(ErrorWord::NotFound, "The entity does not have such an attribute")
    }

    pub fn type_not_found() -> Self {
        Self::new(ErrorWord::NotFound, "Entity type not found")
    }

    /// What was forwarded and not taken, as `id-type` with the names of attributes (ngsi-v2.md 9).
    pub fn not_all_updated(left: &[(String, Vec<String>)]) -> Self {
        let items: Vec<String> =
            left.iter().map(|(entity, names)| format!("{entity} : [{}]", names.join(", "))).collect();
        Self::new(
            ErrorWord::NotAllForwarded,
            format!("Some of the following attributes were not updated: {{ {} }}", items.join(", ")),
        )
    }

    pub fn subscription_not_found() -> Self {
        Self::new(ErrorWord::NotFound, "The requested subscription has not been found. Check id")
    }

    /// The id alone names several entities.
    pub fn too_many_results() -> Self {
        Self::new(ErrorWord::TooManyResults, "More than one matching entity. Please refine your query")
    }

    pub fn already_exists() -> Self {
        Self { failed: Some(Failed::EntityExists), ..Self::new(ErrorWord::Unprocessable, "Already Exists") }
    }

    /// Attributes that do not exist: `PartialUpdate` when others were written.
    /// `entity_type` only if the request named it.
    pub fn missing_attributes(
        partial: bool,
        id: &str,
        entity_type: Option<&str>,
        names: Vec<String>,
    ) -> Self {
        let failed = Failed::Missing(names);
        let description = format!("do not exist: {}", part(id, entity_type, &failed, true));
        Self::refused(partial, description, failed)
    }

    /// Attributes that exist though the request wants them new.
    pub fn existing_attributes(
        partial: bool,
        id: &str,
        entity_type: Option<&str>,
        names: Vec<String>,
    ) -> Self {
        let failed = Failed::Existing(names);
        let parts = part(id, entity_type, &failed, true);
        let description = format!("one or more of the attributes in the request already exist: {parts}");
        Self::refused(partial, description, failed)
    }

    fn refused(partial: bool, description: String, failed: Failed) -> Self {
        let word = if partial { ErrorWord::PartialUpdate } else { ErrorWord::Unprocessable };
        Self { word, description: description.into(), failed: Some(failed) }
    }

    pub fn second_location() -> Self {
        Self::new(
            ErrorWord::NoResourcesAvailable,
            "You cannot use more than one geo location attribute when creating an entity. Use ignoreType metadata if \
             you want to add additional informative locations.",
        )
    }

    /// The tenant may have no more of `what`.
    pub fn quota_reached(what: &str, limit: u64) -> Self {
        Self::new(
            ErrorWord::NoResourcesAvailable,
            format!("the tenant has as many {what} as it may have: {limit}"),
        )
    }

    pub fn too_many_requests(per_second: f64) -> Self {
        Self::new(ErrorWord::TooManyRequests, format!("the tenant may make {per_second} requests a second"))
    }

    /// Reading what the query asks for took longer than `limit_ms`.
    pub fn query_too_slow(limit_ms: u64) -> Self {
        Self::new(
            ErrorWord::NoResourcesAvailable,
            format!("the query takes longer than {limit_ms} ms, restrict it by type or id"),
        )
    }

    /// The entity would grow above `limit` bytes (decision 11).
    pub fn entity_too_large(limit: usize) -> Self {
        Self::new(ErrorWord::RequestEntityTooLarge, format!("entity size, max size supported: {limit}"))
    }

    pub fn internal() -> Self {
        Self::new(ErrorWord::InternalServerError, "internal error, see the log of the broker")
    }

    /// The store broke off while it committed: repeating the request may apply it twice.
    pub fn outcome_unknown() -> Self {
        Self::new(ErrorWord::InternalServerError, OUTCOME_UNKNOWN)
    }

    pub fn is_outcome_unknown(&self) -> bool {
        self.word == ErrorWord::InternalServerError && self.description == OUTCOME_UNKNOWN
    }

    pub fn unavailable() -> Self {
        Self::new(ErrorWord::ServiceUnavailable, "the store is not available, try again later")
    }

    pub fn http_status(&self) -> u16 {
        self.word.http_status()
    }

    /// The error body. The forbidden characters inside the description are HTML-escaped (ngsi-v2.md 8, last line).
    pub fn to_json(&self) -> Vec<u8> {
        let description = escape_html(&self.description);
        let mut body = Vec::with_capacity(40 + description.len());
        body.extend_from_slice(b"{\"error\":\"");
        body.extend_from_slice(self.word.as_str().as_bytes());
        body.extend_from_slice(b"\",\"description\":");
        crate::render::write_string(&mut body, &description);
        body.push(b'}');
        body
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.word.as_str(), self.description)
    }
}

impl std::error::Error for Error {}

/// What happened to one entity of a batch.
#[derive(Clone, Debug)]
pub struct BatchItem<'a> {
    pub id: &'a str,
    /// As the request named it.
    pub entity_type: Option<&'a str>,
    /// None when all of it was written.
    pub error: Option<&'a Error>,
}

/// The one answer of `op/update` to what its items answered (ngsi-v2.md 6, Batch). An error that is no refusal (a bad
/// operand, a database failure) is the answer of the whole.
pub fn batch_answer(items: &[BatchItem<'_>]) -> Result<(), Error> {
    let mut parts = String::new();
    let mut any_written = false;
    let mut only_missing_entities = true;
    let mut exists = false;
    for item in items {
        let Some(error) = item.error else {
            any_written = true;
            continue;
        };
        let Some(failed) = &error.failed else { return Err(error.clone()) };
        any_written |= error.word == ErrorWord::PartialUpdate;
        only_missing_entities &= *failed == Failed::Entity;
        exists |= matches!(failed, Failed::Existing(_) | Failed::EntityExists);
        let first = parts.is_empty();
        if !first {
            parts.push_str(", ");
        }
        parts.push_str(&part(item.id, item.entity_type, failed, first));
    }
    if parts.is_empty() {
        return Ok(());
    }
    let prefix =
        if exists { "one or more of the attributes in the request already exist" } else { "do not exist" };
    let word = match (any_written, only_missing_entities) {
        (true, _) => ErrorWord::PartialUpdate,
        (false, true) => ErrorWord::NotFound,
        (false, false) => ErrorWord::Unprocessable,
    };
    Err(Error::new(word, format!("{prefix}: {parts}")))
}

/// `E/T - [ A, B ]`. Of missing entities only the first has the dash: a quirk that clients' tests pin.
fn part(id: &str, entity_type: Option<&str>, failed: &Failed, first: bool) -> String {
    let mut text = id.to_owned();
    if let Some(entity_type) = entity_type {
        text.push('/');
        text.push_str(entity_type);
    }
    match failed {
        Failed::Entity | Failed::EntityExists => {
            text.push_str(if first { " - [entity itself]" } else { " [entity itself]" });
        }
        Failed::Missing(names) | Failed::Existing(names) => {
            text.push_str(" - [ ");
            text.push_str(&names.join(", "));
            text.push_str(" ]");
        }
    }
    text
}

fn escape_html(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|b| matches!(b, b'<' | b'>' | b'(' | b')' | b'=' | b'\'' | b'"' | b';')) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '(' => escaped.push_str("&#40;"),
            ')' => escaped.push_str("&#41;"),
            '=' => escaped.push_str("&#61;"),
            '\'' => escaped.push_str("&#39;"),
            '"' => escaped.push_str("&quot;"),
            ';' => escaped.push_str("&#59;"),
            other => escaped.push(other),
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(items: &[(&str, Option<Error>)]) -> String {
        let items: Vec<_> = items
            .iter()
            .map(|(id, error)| BatchItem { id, entity_type: Some("T"), error: error.as_ref() })
            .collect();
        match batch_answer(&items) {
            Ok(()) => "ok".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_batch_gathers_its_refusals_as_the_contract_writes_them() {
        let missing =
            |id| Some(Error::missing_attributes(false, id, Some("T"), vec!["C".to_owned(), "D".to_owned()]));
        let existing = |id| Some(Error::existing_attributes(false, id, Some("T"), vec!["A".to_owned()]));
        let gone = || Some(Error::entity_not_found());
        for (items, expected) in [
            (vec![("E", None)], "ok"),
            (
                vec![("F", gone()), ("G", gone())],
                "NotFound: do not exist: F/T - [entity itself], G/T [entity itself]",
            ),
            (
                vec![("E", missing("E")), ("G", gone())],
                "Unprocessable: do not exist: E/T - [ C, D ], G/T [entity itself]",
            ),
            (vec![("E", None), ("F", gone())], "PartialUpdate: do not exist: F/T - [entity itself]"),
            (
                vec![("E1", existing("E1")), ("E2", existing("E2"))],
                "Unprocessable: one or more of the attributes in the request already exist: E1/T - [ A ], E2/T - [ A ]",
            ),
            (
                vec![("E1", existing("E1")), ("E2", None)],
                "PartialUpdate: one or more of the attributes in the request already exist: E1/T - [ A ]",
            ),
        ] {
            assert_eq!(answer(&items), expected);
        }
    }

    #[test]
    fn descriptions_are_html_escaped_in_bodies_only() {
        let error = Error::bad_request("invalid input, 'id' as attribute (=;)");
        assert_eq!(error.to_string(), "BadRequest: invalid input, 'id' as attribute (=;)");
        assert_eq!(
            String::from_utf8(error.to_json()).unwrap(),
            r#"{"error":"BadRequest","description":"invalid input, &#39;id&#39; as attribute &#40;&#61;&#59;&#41;"}"#
        );
    }
}
