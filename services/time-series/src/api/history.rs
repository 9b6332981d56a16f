//! The query routes: six shapes, each with its value form.

use std::time::Instant;

use axum::{
    extract::{Path, RawQuery, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode};
use scope::QueryScope;

use super::{
    ApiState,
    error::{ApiError, nothing_found},
    headers,
    params::{Params, Raw},
    render::{Ends, Json, Shape},
};
use crate::{
    query::{Attributes, Method, Query, TypeRows},
    time,
};

type Answer = Result<Response, ApiError>;

/// What every query route starts from.
struct Asked<'a> {
    api: &'a ApiState,
    scope: QueryScope,
    params: Params,
    bare: bool,
}

impl<'a> Asked<'a> {
    fn new(
        api: &'a ApiState,
        headers: &HeaderMap,
        query: Option<&str>,
        one_attribute: bool,
        bare: bool,
    ) -> Result<Self, ApiError> {
        let params = Params::read(&Raw::parse(query), one_attribute)?;
        Ok(Self { api, scope: headers::query_scope(headers)?, params, bare })
    }

    /// The attributes to read: the route's, else those of `attrs`.
    fn attributes(&self, attribute: Option<&str>, any: bool) -> Attributes {
        match (attribute, &self.params.attrs) {
            (Some(one), _) => Attributes::AllOf(vec![one.to_owned()]),
            (None, None) => Attributes::All,
            (None, Some(names)) if any => Attributes::AnyOf(names.clone()),
            (None, Some(names)) => Attributes::AllOf(names.clone()),
        }
    }

    async fn rows(&self, attributes: Attributes) -> Result<Vec<TypeRows>, ApiError> {
        let query = Query {
            selection: self.params.selection(self.scope.clone()),
            attributes,
            window: self.params.window,
            aggregation: self.params.aggregation,
        };
        let started = Instant::now();
        let found = self.api.store.query(&query).await?;
        self.api.metrics.query_seconds.observe(started.elapsed().as_secs_f64());
        if let Some(method) = self.params.aggregation.map(|aggregation| aggregation.method) {
            refuse_pointless(method, &found)?;
        }
        if found.is_empty() { Err(ApiError::NothingFound) } else { Ok(found) }
    }

    fn shape<'s>(&self, attribute: Option<&'s str>, ends: Ends) -> Shape<'s> {
        let (id, entity_type) = self.api.config.dialect.id_and_type();
        let total = self.params.aggregation.is_some_and(|aggregation| aggregation.period.is_none());
        Shape { id, entity_type, bare: self.bare, attribute, ends: total.then_some(ends) }
    }

    /// Both ends in the service's own format; a missing one is empty.
    fn ends_formatted(&self) -> Ends {
        let end = |at_us: Option<i64>| at_us.map(time::format_short).unwrap_or_default();
        Ends::Texts(end(self.params.from_us), end(self.params.to_us))
    }

    fn ends_as_given(&self) -> Ends {
        let end = |text: &Option<String>| text.clone().unwrap_or_default();
        Ends::Texts(end(&self.params.from_text), end(&self.params.to_text))
    }
}

/// `sum` of texts and the like (contract section 6, "Aggregation").
fn refuse_pointless(method: Method, found: &[TypeRows]) -> Result<(), ApiError> {
    let mut kinds = found.iter().flat_map(|rows| &rows.attributes).map(|info| info.kind).peekable();
    if method == Method::Count || kinds.peek().is_none() || kinds.any(|kind| method.applies_to(kind)) {
        return Ok(());
    }
    let text = "AggrMethod cannot be applied on type TEXT and BOOLEAN.";
    Err(ApiError::described(StatusCode::NOT_FOUND, "AggrMethod cannot be applied", text))
}

fn json(document: &Json<'_>) -> Answer {
    let body = serde_json::to_vec(document);
    let body = body.map_err(|error| crate::store::StoreError::Internal(error.to_string()))?;
    Ok(([(http::header::CONTENT_TYPE, "application/json")], body).into_response())
}

fn settle(api: &ApiState, answer: Answer) -> Response {
    match answer {
        Err(ApiError::NothingFound) => nothing_found(api.config.dialect.is_old()),
        other => other.into_response(),
    }
}

async fn entity(
    api: &ApiState,
    headers: &HeaderMap,
    query: Option<&str>,
    id: String,
    attribute: Option<String>,
    bare: bool,
) -> Answer {
    let mut asked = Asked::new(api, headers, query, attribute.is_some(), bare)?;
    if asked.params.types.is_none() {
        let types = api.store.types_of(&asked.scope, &id).await?;
        match types.as_slice() {
            [] => return Err(ApiError::NothingFound),
            [_] => asked.params.types = Some(types),
            _ => return Err(ApiError::ambiguous_query(&id)),
        }
    }
    asked.params.ids = Some(vec![id]);
    asked.params.id_pattern = None;
    let rows = asked.rows(asked.attributes(attribute.as_deref(), false)).await?;
    let shape = asked.shape(attribute.as_deref(), Ends::None);
    match rows.first().and_then(|rows| Some((rows, rows.entities.first()?))) {
        Some((rows, entity)) => json(&shape.one_entity(rows, entity)),
        None => Err(ApiError::NothingFound),
    }
}

async fn entity_type(
    api: &ApiState,
    headers: &HeaderMap,
    query: Option<&str>,
    name: String,
    attribute: Option<String>,
    bare: bool,
) -> Answer {
    let mut asked = Asked::new(api, headers, query, attribute.is_some(), bare)?;
    asked.params.types = Some(vec![name.clone()]);
    let mut rows = asked.rows(asked.attributes(attribute.as_deref(), false)).await?;
    let ends = match (&attribute, &asked.params.ids) {
        (None, _) => asked.ends_formatted(),
        (Some(_), Some(_)) => asked.ends_as_given(),
        (Some(_), None) => Ends::None,
    };
    let shape = asked.shape(attribute.as_deref(), ends);
    let Some(rows) = rows.first_mut() else { return Err(ApiError::NothingFound) };
    if let (Some(_), Some(ids)) = (&attribute, &asked.params.ids) {
        rows.entities.sort_by_key(|entity| ids.iter().position(|id| *id == entity.id));
    }
    json(&shape.one_type(rows, &name))
}

async fn any_type(
    api: &ApiState,
    headers: &HeaderMap,
    query: Option<&str>,
    attribute: Option<String>,
    bare: bool,
) -> Answer {
    let asked = Asked::new(api, headers, query, attribute.is_some(), bare)?;
    let rows = asked.rows(asked.attributes(attribute.as_deref(), true)).await?;
    let shape = asked.shape(attribute.as_deref(), asked.ends_formatted());
    match &attribute {
        Some(name) => json(&shape.one_attribute(&rows, name)),
        None => json(&shape.everything(&rows)),
    }
}

/// NTNE: the newest time of each entity; a page is chosen by time, then shown by id.
pub(super) async fn entities(
    State(api): State<ApiState>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let answer = async {
        let params = Params::read(&Raw::parse(query.as_deref()), true)?;
        let selection = params.selection(headers::query_scope(&headers)?);
        let window = crate::query::Window { last_n: None, ..params.window };
        let mut found = api.store.entities(&selection, window).await?;
        if found.is_empty() {
            return Err(ApiError::NothingFound);
        }
        found.sort_by(|a, b| (&a.id, &a.entity_type).cmp(&(&b.id, &b.entity_type)));
        let (id, entity_type) = api.config.dialect.id_and_type();
        let shown = found.iter().map(|entity| {
            Json::Object(vec![
                (id, Json::Text(&entity.id)),
                (entity_type, Json::Text(&entity.entity_type)),
                ("index", Json::Owned(time::format_ms(entity.newest_us))),
            ])
        });
        json(&Json::List(shown.collect()))
    };
    settle(&api, answer.await)
}

/// Declares the handlers of one shape: plain and value form.
macro_rules! routes {
    ($($plain:ident, $value:ident, ($($part:ident),*) => $work:ident($($argument:expr),*);)*) => { $(
        pub(super) async fn $plain(
            State(api): State<ApiState>, Path(($($part,)*)): Path<($(routes!(@text $part),)*)>, headers: HeaderMap,
            RawQuery(query): RawQuery,
        ) -> Response {
            settle(&api, $work(&api, &headers, query.as_deref(), $($argument,)* false).await)
        }
        pub(super) async fn $value(
            State(api): State<ApiState>, Path(($($part,)*)): Path<($(routes!(@text $part),)*)>, headers: HeaderMap,
            RawQuery(query): RawQuery,
        ) -> Response {
            settle(&api, $work(&api, &headers, query.as_deref(), $($argument,)* true).await)
        }
    )* };
    (@text $part:ident) => { String };
}

routes! {
    entity_all, entity_all_value, (id) => entity(id, None);
    entity_one, entity_one_value, (id, attribute) => entity(id, Some(attribute));
    type_all, type_all_value, (name) => entity_type(name, None);
    type_one, type_one_value, (name, attribute) => entity_type(name, Some(attribute));
    any_one, any_one_value, (attribute) => any_type(Some(attribute));
}

pub(super) async fn any_all(
    State(api): State<ApiState>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    settle(&api, any_type(&api, &headers, query.as_deref(), None, false).await)
}

pub(super) async fn any_all_value(
    State(api): State<ApiState>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    settle(&api, any_type(&api, &headers, query.as_deref(), None, true).await)
}
