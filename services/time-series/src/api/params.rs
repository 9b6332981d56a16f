//! Query parameters (contract section 6). Types and ranges are checked first, then what goes with what.

use std::collections::HashMap;

use http::StatusCode;
use scope::QueryScope;

use super::error::ApiError;
use crate::{
    query::{Aggregation, Method, Selection, Window},
    time::{self, Period},
};

/// Largest number of rows, and the default.
pub(super) const MAX_ROWS: usize = 10_000;
/// Most ids, types or attributes in one list.
const MAX_LIST: usize = 1_000;
const MAX_PATTERN: usize = 1_024;

/// The raw parameters; of a repeated one the first counts, unknown ones are ignored.
pub(super) struct Raw(HashMap<String, String>);

/// A date as given, and the instant it names.
pub(super) type Date = (Option<String>, Option<i64>);

#[derive(Debug)]
pub(super) struct Params {
    pub(super) types: Option<Vec<String>>,
    pub(super) ids: Option<Vec<String>>,
    pub(super) id_pattern: Option<regex::Regex>,
    pub(super) attrs: Option<Vec<String>>,
    pub(super) window: Window,
    pub(super) aggregation: Option<Aggregation>,
    /// As given, without quotes.
    pub(super) from_text: Option<String>,
    pub(super) to_text: Option<String>,
    pub(super) from_us: Option<i64>,
    pub(super) to_us: Option<i64>,
}

impl Raw {
    pub(super) fn parse(query: Option<&str>) -> Self {
        let mut raw = HashMap::new();
        for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            raw.entry(name.into_owned()).or_insert_with(|| value.into_owned());
        }
        Self(raw)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn list(&self, name: &str) -> Result<Option<Vec<String>>, ApiError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let list: Vec<String> =
            text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect();
        if list.len() > MAX_LIST {
            return Err(ApiError::bad_request(format!(
                "more than {MAX_LIST} items in query parameter '{name}'"
            )));
        }
        Ok((!list.is_empty()).then_some(list))
    }

    fn integer(&self, name: &str, minimum: u64) -> Result<Option<usize>, ApiError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let wrong =
            || ApiError::bad_request(format!("Wrong type, expected 'integer' for query parameter '{name}'"));
        let number: i128 = text.trim().parse().map_err(|_| wrong())?;
        if number < i128::from(minimum) {
            return Err(ApiError::bad_request(format!("{number} is less than the minimum of {minimum}")));
        }
        Ok(Some(usize::try_from(number).unwrap_or(usize::MAX)))
    }

    pub(super) fn boolean(&self, name: &str) -> Result<bool, ApiError> {
        match self.text(name) {
            None => Ok(false),
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            Some(text) if text.eq_ignore_ascii_case("false") => Ok(false),
            Some(_) => Err(ApiError::bad_request(format!(
                "Wrong type, expected 'boolean' for query parameter '{name}'"
            ))),
        }
    }

    fn one_of<T>(
        &self,
        name: &str,
        allowed: &[&str],
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let list = allowed.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(", ");
        let refused = || ApiError::bad_request(format!("'{text}' is not one of [{list}]"));
        parse(text).map(Some).ok_or_else(refused)
    }

    /// The two dates: as given, and as instants.
    pub(super) fn dates(&self) -> Result<(Date, Date), ApiError> {
        Ok((self.date("fromDate")?, self.date("toDate")?))
    }

    fn date(&self, name: &str) -> Result<Date, ApiError> {
        let Some(text) = self.text(name) else { return Ok((None, None)) };
        let text = text.trim().trim_matches(['"', '\'']);
        let at_us = time::parse_iso(text).ok_or_else(|| ApiError::bad_date(text))?;
        Ok((Some(text.to_owned()), Some(at_us)))
    }
}

impl Params {
    /// `one_attribute`: the route names the attribute, so that an aggregation needs no `attrs`.
    pub(super) fn read(raw: &Raw, one_attribute: bool) -> Result<Self, ApiError> {
        let limit = raw.integer("limit", 1)?.unwrap_or(MAX_ROWS).min(MAX_ROWS);
        let window = Window {
            limit,
            offset: raw.integer("offset", 0)?.unwrap_or(0),
            last_n: raw.integer("lastN", 1)?,
        };
        let method = raw.one_of("aggrMethod", &["count", "sum", "avg", "min", "max"], Method::parse)?;
        let periods = ["year", "month", "day", "hour", "minute", "second"];
        let period = raw.one_of("aggrPeriod", &periods, Period::parse)?;
        let global = raw.one_of("aggrScope", &["entity", "global"], |text| match text {
            "entity" => Some(false),
            "global" => Some(true),
            _ => None,
        })?;
        let options = raw.one_of("options", &["keyValues", "values"], |text| {
            matches!(text, "keyValues" | "values").then_some(())
        })?;
        refuse_geo(raw)?;
        let id_pattern = raw.text("idPattern").map(pattern).transpose()?;
        let (types, ids, attrs) = (raw.list("type")?, raw.list("id")?, raw.list("attrs")?);
        if options.is_some() || global == Some(true) {
            return Err(ApiError::described(
                StatusCode::NOT_IMPLEMENTED,
                "Not implemented option",
                "aggrScope and options are not yet implemented.",
            ));
        }
        let aggregation = match (method, period) {
            (Some(method), period) => Some(Aggregation { method, period }),
            (None, None) => None,
            (None, Some(_)) => {
                return Err(ApiError::bad_use("aggrMethod is compulsory when using aggrPeriod."));
            }
        };
        if aggregation.is_some() && attrs.is_none() && !one_attribute {
            let method = raw.text("aggrMethod").unwrap_or_default();
            let text = format!("Specified aggrMethod = {method} but missing attrs parameter.");
            return Err(ApiError::bad_use(text));
        }
        let ((from_text, from_us), (to_text, to_us)) = raw.dates()?;
        Ok(Self { types, ids, id_pattern, attrs, window, aggregation, from_text, to_text, from_us, to_us })
    }

    /// What the parameters select within the scope.
    pub(super) fn selection(&self, scope: QueryScope) -> Selection {
        Selection {
            scope,
            types: self.types.clone(),
            ids: self.ids.clone(),
            id_pattern: self.id_pattern.clone(),
            from_us: self.from_us,
            to_us: self.to_us,
        }
    }
}

/// Searched anywhere in the id, case ignored. The engine is linear in the id's length; the program's size is bounded.
fn pattern(text: &str) -> Result<regex::Regex, ApiError> {
    let refused = || ApiError::bad_request("query parameter 'idPattern' is not a usable regular expression");
    if text.len() > MAX_PATTERN {
        return Err(refused());
    }
    regex::RegexBuilder::new(text).case_insensitive(true).size_limit(1 << 20).build().map_err(|_| refused())
}

/// Places are stored but cannot be searched yet: a query that asks for it must not get unfiltered rows.
fn refuse_geo(raw: &Raw) -> Result<(), ApiError> {
    if ["georel", "geometry", "coords"].iter().all(|name| raw.text(name).is_none()) {
        return Ok(());
    }
    let text = "Geographical queries are not yet implemented.";
    Err(ApiError::described(StatusCode::NOT_IMPLEMENTED, "Not Implemented", text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_query_is_read_or_refused(query in "((type|id|idPattern|attrs|limit|lastN|offset|fromDate|toDate|aggrMethod|aggrPeriod)=\\PC{0,12}&){0,5}") {
            drop(Params::read(&Raw::parse(Some(&query)), true));
        }
    }
}
