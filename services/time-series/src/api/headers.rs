//! Tenant and service paths of a request (contract section 1).

use http::{HeaderMap, StatusCode};
use scope::{PathPattern, QueryScope, Scope, ServicePath, Tenant};

use super::error::ApiError;

pub(super) const TIME_INDEX: &str = "fiware-timeindex-attribute";
const SERVICE: &str = "fiware-service";
const LD_TENANT: &str = "ngsild-tenant";
const PATH: &str = "fiware-servicepath";

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, ApiError> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    if headers.get_all(name).iter().count() > 1 {
        return Err(ApiError::bad_request(format!("header {name} given more than once")));
    }
    value.to_str().map(Some).map_err(|_| ApiError::bad_request(format!("header {name} is not readable")))
}

/// `NGSILD-Tenant` wins over `Fiware-Service`.
pub(super) fn tenant(headers: &HeaderMap) -> Result<Tenant, ApiError> {
    let value = match text(headers, LD_TENANT)? {
        Some(value) => Some(value),
        None => text(headers, SERVICE)?,
    };
    Tenant::from_header(value).map_err(|error| ApiError::bad_request(error.to_string()))
}

/// Reads and deletes: a path stands for itself and all below it.
pub(super) fn query_scope(headers: &HeaderMap) -> Result<QueryScope, ApiError> {
    let tenant = tenant(headers)?;
    let Some(value) = text(headers, PATH)?.filter(|value| !value.trim().is_empty()) else {
        return Ok(QueryScope::whole_tenant(tenant));
    };
    let patterns =
        PathPattern::parse_list(value).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let tree = |pattern| match pattern {
        PathPattern::Exact(path) | PathPattern::Tree(path) => PathPattern::Tree(path),
    };
    Ok(QueryScope { tenant, patterns: patterns.into_iter().map(tree).collect() })
}

/// Whether the scope is the root alone: what `dropTable` needs.
pub(super) fn is_root(scope: &QueryScope) -> bool {
    scope.patterns.iter().all(|pattern| *pattern == PathPattern::Tree(ServicePath::root()))
}

/// Notifications: one path for all entities, or as many as there are entities.
pub(super) fn write_scopes(headers: &HeaderMap, entities: usize) -> Result<Vec<Scope>, ApiError> {
    let tenant = tenant(headers)?;
    let paths = match text(headers, PATH)?.filter(|value| !value.trim().is_empty()) {
        None => vec![ServicePath::root()],
        Some(value) => value
            .split(',')
            .map(|path| ServicePath::parse(path.trim()))
            .collect::<Result<_, _>>()
            .map_err(|error| ApiError::bad_request(error.to_string()))?,
    };
    let scopes: Vec<Scope> = paths.into_iter().map(|path| Scope::new(tenant.clone(), path)).collect();
    match scopes.as_slice() {
        [one] => Ok(vec![one.clone(); entities]),
        many if many.len() == entities => Ok(scopes),
        many => Err(ApiError::text(
            StatusCode::BAD_REQUEST,
            format!(
                "Notification not processed or not updated: {} service paths for {entities} entities",
                many.len()
            ),
        )),
    }
}
