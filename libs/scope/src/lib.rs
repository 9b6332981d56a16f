//! Who may see what: the tenant and the service path of a call, as types.
//!
//! ```text
//! Fiware-Service: Factory ─► Tenant("factory")        ┐
//! Fiware-ServicePath: /a/b ─► ServicePath("/a/b")     ├─► Scope       one place: writes
//! Fiware-ServicePath: /a/# ─► PathPattern::Tree("/a") ┴─► QueryScope  many places: queries, subscriptions
//! ```
//!
//! A [`Scope`] is parsed once at the edge of a service and is a required argument of every store and bus call, so that
//! no code path can reach entities without a tenant. Error texts are those of NGSIv2 (contracts: ngsi-v2.md 2 and 3).

mod path;
mod tenant;

pub use path::{MAX_PATH_LEVELS, MAX_PATTERNS, PathError, PathPattern, ServicePath};
pub use tenant::{MAX_TENANT_LEN, Tenant, TenantError};

/// One place in one tenant: where a write goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope {
    pub tenant: Tenant,
    pub path: ServicePath,
}

impl Scope {
    pub fn new(tenant: Tenant, path: ServicePath) -> Self {
        Self { tenant, path }
    }

    /// The query scope that sees exactly this place.
    pub fn exactly(&self) -> QueryScope {
        QueryScope { tenant: self.tenant.clone(), patterns: vec![PathPattern::Exact(self.path.clone())] }
    }
}

/// The places of one tenant that a query or a subscription may see: any of `patterns`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct QueryScope {
    pub tenant: Tenant,
    pub patterns: Vec<PathPattern>,
}

impl QueryScope {
    /// Every service path of the tenant: what a missing `Fiware-ServicePath` header means in a query.
    pub fn whole_tenant(tenant: Tenant) -> Self {
        Self { tenant, patterns: vec![PathPattern::Tree(ServicePath::root())] }
    }

    pub fn matches(&self, path: &ServicePath) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_scope_without_header_sees_every_path() {
        let scope = QueryScope::whole_tenant(Tenant::from_header(Some("t")).unwrap());
        assert!(scope.matches(&ServicePath::root()));
        assert!(scope.matches(&ServicePath::parse("/a/b").unwrap()));
    }

    #[test]
    fn exactly_sees_one_path_only() {
        let scope = Scope::new(Tenant::default(), ServicePath::parse("/a").unwrap()).exactly();
        assert!(scope.matches(&ServicePath::parse("/a").unwrap()));
        assert!(!scope.matches(&ServicePath::parse("/a/b").unwrap()));
    }
}
