//! The route table and the open paths, read from `istio/`.

mod istio;

use std::time::Duration;

pub use istio::{EdgeFile, RouteError};

/// What `istio/` says about the edge.
#[derive(Clone, Debug)]
pub struct Edge {
    routes: Vec<Route>,
    open_paths: Vec<Pattern>,
}

/// One entry of the VirtualService.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its name in the VirtualService; in metrics and spans.
    pub name: String,
    matches: Vec<Pattern>,
    rewrite: Option<String>,
    /// `host:port` of the destination.
    pub upstream: String,
    /// From request to the whole answer; `None`: no limit.
    pub timeout: Option<Duration>,
}

/// A test on a normalised path without its query.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Exact(String),
    Prefix(String),
}

impl Pattern {
    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == exact,
            Self::Prefix(prefix) => path.starts_with(prefix),
        }
    }

    /// What of the path is behind the matched part.
    fn rest<'p>(&self, path: &'p str) -> &'p str {
        match self {
            Self::Exact(_) => "",
            Self::Prefix(prefix) => path.strip_prefix(prefix.as_str()).unwrap_or_default(),
        }
    }
}

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
pub struct Target {
    /// Path and query as the service gets them.
    pub path_and_query: String,
}

impl Edge {
    /// Reads the resources and the mesh configuration. What can't be honoured here is an error, never left out.
    pub fn read(files: &[EdgeFile], mesh_config: &EdgeFile) -> Result<Self, RouteError> {
        istio::read(files, mesh_config)
    }

    /// The first route that matches a normalised path, with the path rewritten for its service.
    pub fn route(&self, path_and_query: &str) -> Option<(&Route, Target)> {
        let (path, query) = match path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path_and_query, None),
        };
        self.routes.iter().find_map(|route| {
            let pattern = route.matches.iter().find(|pattern| pattern.matches(path))?;
            let mut rewritten = match &route.rewrite {
                Some(prefix) => format!("{prefix}{}", pattern.rest(path)),
                None => path.to_owned(),
            };
            if let Some(query) = query {
                rewritten.push('?');
                rewritten.push_str(query);
            }
            Some((route, Target { path_and_query: rewritten }))
        })
    }

    /// Whether the policy is not asked about a normalised path.
    pub fn is_open(&self, path_and_query: &str) -> bool {
        let path = path_and_query.split('?').next().unwrap_or_default();
        self.open_paths.iter().any(|pattern| pattern.matches(path))
    }

    pub fn routes(&self) -> &[Route] {
        &self.routes
    }
}
