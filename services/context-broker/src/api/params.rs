//! Query parameters (ngsi-v2.md 2 and 7).

use std::borrow::Cow;

use ngsi::{
    Error,
    geo::GeoQuery,
    query::{
        DEFAULT_LIMIT, EntityQuery, EntitySelector, Expression, MAX_LIMIT, Pattern, QueryKind, parse_order,
    },
    render::{Format, Names, Selection},
};
use percent_encoding::percent_decode_str;

/// Most parameters in one URL.
const MAX_PARAMS: usize = 100;
/// Most ids or types in one list.
const MAX_ITEMS: usize = 1000;

const OPTIONS: [&str; 18] = [
    "count",
    "normalized",
    "keyValues",
    "values",
    "unique",
    "append",
    "upsert",
    "overrideMetadata",
    "forcedUpdate",
    "flowControl",
    "skipForwarding",
    "noAttrDetail",
    "deliveryHealth",
    "dateCreated",
    "dateModified",
    "libVersions",
    "fullCounters",
    "skipInitialNotification",
];

/// The decoded parameters of a URL.
#[derive(Debug, Default)]
pub(super) struct Params {
    pairs: Vec<(Cow<'static, str>, String)>,
    options: Vec<&'static str>,
}

impl Params {
    pub(super) fn parse(query: &str) -> Result<Self, Error> {
        let mut params = Self::default();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            if params.pairs.len() >= MAX_PARAMS {
                return Err(Error::bad_request("too many URI parameters"));
            }
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (name, mut value) = (decode_name(name)?, decode(value)?);
            // Scripts leave a blank or a line break at the end of a URL.
            value.truncate(value.trim_end().len());
            if value.is_empty() {
                return Err(Error::bad_request(format!("Empty right-hand-side for URI param /{name}/")));
            }
            if has_forbidden(&name, &value) {
                return Err(Error::bad_request("invalid character in URI parameter"));
            }
            params.pairs.push((name, value));
        }
        params.options = params.parse_options()?;
        params.check_pages()?;
        Ok(params)
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn option(&self, name: &str) -> bool {
        self.options.contains(&name)
    }

    fn parse_options(&self) -> Result<Vec<&'static str>, Error> {
        let invalid = || Error::bad_request("Invalid value for URI param /options/");
        let Some(text) = self.get("options") else { return Ok(Vec::new()) };
        let mut options = Vec::new();
        for word in text.split(',').map(str::trim) {
            options.push(*OPTIONS.iter().find(|known| **known == word).ok_or_else(invalid)?);
        }
        let formats = ["keyValues", "values", "unique"].iter().filter(|name| options.contains(*name));
        if formats.count() > 1 {
            return Err(invalid());
        }
        Ok(options)
    }

    fn check_pages(&self) -> Result<(), Error> {
        self.limit()?;
        self.offset().map(|_| ())
    }

    pub(super) fn limit(&self) -> Result<usize, Error> {
        let Some(text) = self.get("limit") else { return Ok(DEFAULT_LIMIT) };
        let number =
            text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<usize>().unwrap_or(usize::MAX));
        match number {
            None => Err(Error::bad_request(format!(
                "Bad pagination limit: /{text}/ [must be a positive integer number]"
            ))),
            Some(limit) if limit > MAX_LIMIT => {
                Err(Error::bad_request(format!("Bad pagination limit: /{text}/ [max: {MAX_LIMIT}]")))
            }
            Some(limit) => Ok(limit),
        }
    }

    pub(super) fn offset(&self) -> Result<usize, Error> {
        let Some(text) = self.get("offset") else { return Ok(0) };
        let wrong =
            || Error::bad_request(format!("Bad pagination offset: /{text}/ [must be a decimal number]"));
        if !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(wrong());
        }
        // Beyond what a store can count there is nothing either.
        let offset = text.parse::<u64>().unwrap_or(u64::MAX).min(i64::MAX as u64);
        usize::try_from(offset).map_err(|_| wrong())
    }

    pub(super) fn format(&self) -> Format {
        if self.option("keyValues") {
            Format::KeyValues
        } else if self.option("values") {
            Format::Values
        } else if self.option("unique") {
            Format::Unique
        } else {
            Format::Normalized
        }
    }

    pub(super) fn body_format(&self) -> ngsi::parse::BodyFormat {
        if self.option("keyValues") {
            ngsi::parse::BodyFormat::KeyValues
        } else {
            ngsi::parse::BodyFormat::Normalized
        }
    }

    pub(super) fn update_options(&self) -> ngsi::UpdateOptions {
        ngsi::UpdateOptions {
            override_metadata: self.option("overrideMetadata"),
            forced_update: self.option("forcedUpdate"),
        }
    }

    /// What `attrs`, `metadata` and the old options `dateCreated` and `dateModified` select.
    pub(super) fn selection(&self) -> Selection {
        let mut attributes = Names::parse(self.get("attrs"));
        for builtin in ["dateCreated", "dateModified"] {
            if self.option(builtin) {
                attributes = with(attributes, builtin);
            }
        }
        Selection { attributes, metadata: Names::parse(self.get("metadata")) }
    }

    /// The query of `GET /v2/entities`.
    pub(super) fn entity_query(&self) -> Result<EntityQuery, Error> {
        let (id, id_pattern) = (self.get("id"), self.get("idPattern"));
        if id.is_some() && id_pattern.is_some() {
            return Err(Error::bad_request("Incompatible parameters: id, IdPattern"));
        }
        let (entity_type, type_pattern) = (self.get("type"), self.get("typePattern"));
        if entity_type.is_some() && type_pattern.is_some() {
            return Err(Error::bad_request("Incompatible parameters: type, typePattern"));
        }
        let selector = EntitySelector {
            ids: list(id, "id")?,
            id_pattern: pattern(id_pattern, "idPattern")?,
            types: list(entity_type, "type")?,
            type_pattern: pattern(type_pattern, "typePattern")?,
        };
        let q = expression(self.get("q"), QueryKind::Attributes)?;
        let mq = expression(self.get("mq"), QueryKind::Metadata)?;
        let geo = self.geography()?;
        self.paged(EntityQuery { selectors: vec![selector], q, mq, geo, ..EntityQuery::default() })
    }

    /// Adds page, order and count to a query.
    pub(super) fn paged(&self, query: EntityQuery) -> Result<EntityQuery, Error> {
        Ok(EntityQuery {
            order_by: self.get("orderBy").map(parse_order).transpose()?.unwrap_or_default(),
            limit: self.limit()?,
            offset: self.offset()?,
            count: self.option("count"),
            ..query
        })
    }

    fn geography(&self) -> Result<Option<GeoQuery>, Error> {
        let wrong = match (self.get("georel"), self.get("geometry"), self.get("coords")) {
            (None, None, None) => return Ok(None),
            (Some(georel), Some(geometry), Some(coords)) => {
                let query = GeoQuery::parse(georel, geometry, coords);
                return query.map(Some).map_err(|error| error.prefixed("Invalid query: "));
            }
            (_, None, Some(_)) => "URI param /coords/ used without /geometry/",
            (_, Some(_), None) => "URI param /geometry/ used without /coords/",
            (Some(_), None, None) => "URI param /georel/ used without /geometry/",
            (None, Some(_), Some(_)) => "URI param /geometry/ used without /georel/",
        };
        Err(Error::bad_request(format!("Invalid query: {wrong}")))
    }
}

fn with(names: Names, builtin: &str) -> Names {
    let builtin = [builtin.to_owned()];
    match names {
        Names::All => Names::listed(["*".to_owned()].into_iter().chain(builtin)),
        Names::Listed(listed) => Names::listed(listed.into_iter().chain(builtin)),
    }
}

fn list(text: Option<&str>, name: &str) -> Result<Vec<String>, Error> {
    let items: Vec<String> = text
        .into_iter()
        .flat_map(|text| text.split(','))
        .map(|item| item.trim().to_owned())
        .filter(|item| !item.is_empty())
        .collect();
    if items.len() > MAX_ITEMS {
        return Err(Error::bad_request(format!("too many items in URI param /{name}/, max: {MAX_ITEMS}")));
    }
    Ok(items)
}

fn pattern(text: Option<&str>, name: &str) -> Result<Option<Pattern>, Error> {
    text.map(Pattern::parse)
        .transpose()
        .map_err(|_| Error::bad_request(format!("Invalid regex for entity {name}")))
}

pub(super) fn expression(text: Option<&str>, kind: QueryKind) -> Result<Option<Expression>, Error> {
    text.map(|text| Expression::parse(text, kind)).transpose()
}

/// The names that most requests have are not copied.
fn decode_name(text: &str) -> Result<Cow<'static, str>, Error> {
    const USUAL: [&str; 6] = ["type", "options", "attrs", "limit", "offset", "q"];
    match USUAL.into_iter().find(|usual| *usual == text) {
        Some(usual) => Ok(Cow::Borrowed(usual)),
        None => decode(text).map(Cow::Owned),
    }
}

fn decode(text: &str) -> Result<String, Error> {
    if !text.bytes().any(|byte| matches!(byte, b'+' | b'%')) {
        return Ok(text.to_owned());
    }
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced)
        .decode_utf8()
        .map_err(|_| Error::bad_request("invalid character in URI parameter"))?;
    Ok(decoded.into_owned())
}

fn has_forbidden(name: &str, value: &str) -> bool {
    let value_is_bad = match name {
        "q" | "mq" | "idPattern" | "typePattern" => false,
        "georel" | "geometry" => value.split([';', '=']).any(ngsi::parse::has_forbidden),
        "coords" => value.split(';').any(ngsi::parse::has_forbidden),
        _ => ngsi::parse::has_forbidden(value),
    };
    value_is_bad || ngsi::parse::has_forbidden(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_texts_of_the_contract() {
        for (query, expected) in [
            ("q=", "Empty right-hand-side for URI param /q/"),
            ("q", "Empty right-hand-side for URI param /q/"),
            ("options=foo", "Invalid value for URI param /options/"),
            ("options=keyValues,values", "Invalid value for URI param /options/"),
            ("limit=-1", "Bad pagination limit: /-1/ [must be a positive integer number]"),
            ("limit=1001", "Bad pagination limit: /1001/ [max: 1000]"),
            ("offset=x", "Bad pagination offset: /x/ [must be a decimal number]"),
            ("type=a(b", "invalid character in URI parameter"),
            ("id=a&idPattern=b", "Incompatible parameters: id, IdPattern"),
            ("type=a&typePattern=b", "Incompatible parameters: type, typePattern"),
            ("coords=1,2", "Invalid query: URI param /coords/ used without /geometry/"),
            ("geometry=point", "Invalid query: URI param /geometry/ used without /coords/"),
            ("georel=equals", "Invalid query: URI param /georel/ used without /geometry/"),
            ("georel=over&geometry=point&coords=1,2", "Invalid query: Invalid modifier in georel parameter"),
            ("idPattern=(", "Invalid regex for entity idPattern"),
            ("orderBy=a,!a", "duplicate orderBy token detected"),
            ("type=%ff", "invalid character in URI parameter"),
        ] {
            let error = Params::parse(query).and_then(|params| params.entity_query()).unwrap_err();
            assert_eq!(error.description, expected, "{query}");
        }
    }

    #[test]
    fn lists_are_decoded_before_they_are_split() {
        let params =
            Params::parse("options=count%2Cnormalized&q=a%3E1%3Bb%3C2&type=A%2CB&unknown=1").unwrap();
        assert!(params.option("count"));
        let query = params.entity_query().unwrap();
        assert_eq!(query.selectors[0].types, ["A", "B"]);
        assert_eq!(query.q.unwrap().as_str(), "a>1;b<2");
        assert!(query.count);
    }
}
