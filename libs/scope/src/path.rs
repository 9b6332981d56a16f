use std::{fmt, sync::Arc};

/// Most levels in a service path (ngsi-v2.md 3).
pub const MAX_PATH_LEVELS: usize = 10;
/// Most service paths in one query.
pub const MAX_PATTERNS: usize = 10;
const MAX_LEVEL_LEN: usize = 50;

/// A service path: `/`, or levels of 1-50 alphanumeric or `_` characters, at most 10. Never ends in a slash but at the
/// root. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServicePath(
    /// `None`: the root. Most entities have it, and one counter for all of them would be written by every core.
    Option<Arc<str>>,
);

/// Which service paths a query sees.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathPattern {
    /// This path only.
    Exact(ServicePath),
    /// This path and all below: written `/a/#`.
    Tree(ServicePath),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("Only /absolute/ Service Paths allowed [a service path must begin with /]")]
    NotAbsolute,
    #[error("empty component in ServicePath")]
    EmptyComponent,
    #[error("too many components in ServicePath")]
    TooManyComponents,
    #[error("component-name too long in ServicePath")]
    ComponentTooLong,
    #[error("a component of ServicePath contains an illegal character")]
    IllegalCharacter,
    #[error("empty service path")]
    Empty,
    #[error("too many service paths - a maximum of ten service paths is allowed")]
    TooManyPaths,
}

impl ServicePath {
    pub fn root() -> Self {
        Self(None)
    }

    /// Reads one path without wildcard; a trailing slash is dropped.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        if text.is_empty() {
            return Err(PathError::Empty);
        }
        let Some(rest) = text.strip_prefix('/') else { return Err(PathError::NotAbsolute) };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.is_empty() {
            return Ok(Self::root());
        }
        for (level, component) in rest.split('/').enumerate() {
            if level >= MAX_PATH_LEVELS {
                return Err(PathError::TooManyComponents);
            }
            if component.is_empty() {
                return Err(PathError::EmptyComponent);
            }
            if component.len() > MAX_LEVEL_LEN {
                return Err(PathError::ComponentTooLong);
            }
            if !component.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                return Err(PathError::IllegalCharacter);
            }
        }
        Ok(Self(Some(text.strip_suffix('/').unwrap_or(text).into())))
    }

    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or("/")
    }

    /// Whether `self` is `other` or lies below it.
    pub fn is_within(&self, other: &ServicePath) -> bool {
        let Some(other) = &other.0 else { return true };
        let rest = self.as_str().strip_prefix(&**other);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl PathPattern {
    /// Reads `/a/b` or `/a/b/#`.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        match text.strip_suffix("/#") {
            Some("") => Ok(Self::Tree(ServicePath::root())),
            Some(parent) => Ok(Self::Tree(ServicePath::parse(parent)?)),
            None => Ok(Self::Exact(ServicePath::parse(text)?)),
        }
    }

    /// Reads a header value: patterns separated by commas, blanks around them allowed, at most ten.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, PathError> {
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        if parts.len() > MAX_PATTERNS {
            return Err(PathError::TooManyPaths);
        }
        parts.into_iter().map(Self::parse).collect()
    }

    pub fn matches(&self, path: &ServicePath) -> bool {
        match self {
            Self::Exact(own) => own == path,
            Self::Tree(parent) => path.is_within(parent),
        }
    }
}

impl Default for ServicePath {
    fn default() -> Self {
        Self::root()
    }
}

impl fmt::Display for ServicePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ServicePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServicePath({:?})", self.as_str())
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => path.fmt(f),
            Self::Tree(path) if path.as_str() == "/" => f.write_str("/#"),
            Self::Tree(path) => write!(f, "{path}/#"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> ServicePath {
        ServicePath::parse(text).unwrap()
    }

    #[test]
    fn paths_are_checked_with_the_texts_of_the_contract() {
        assert_eq!(path("/a/b/").as_str(), "/a/b");
        assert_eq!(path("/"), ServicePath::root());
        for (text, error) in [
            ("a", PathError::NotAbsolute),
            ("", PathError::Empty),
            ("/a//b", PathError::EmptyComponent),
            ("/a/b/c/d/e/f/g/h/i/j/k", PathError::TooManyComponents),
            ("/a-b", PathError::IllegalCharacter),
            ("/a/#", PathError::IllegalCharacter),
        ] {
            assert_eq!(ServicePath::parse(text), Err(error), "{text}");
        }
        assert_eq!(ServicePath::parse(&format!("/{}", "a".repeat(51))), Err(PathError::ComponentTooLong));
    }

    #[test]
    fn a_tree_holds_its_node_and_all_below_but_no_neighbour() {
        let tree = PathPattern::parse("/a/#").unwrap();
        assert!(tree.matches(&path("/a")));
        assert!(tree.matches(&path("/a/b/c")));
        assert!(!tree.matches(&path("/ab")));
        assert!(!tree.matches(&path("/")));
        assert!(PathPattern::parse("/#").unwrap().matches(&path("/x")));
        assert!(PathPattern::parse("/#").unwrap().matches(&path("/")));
    }

    #[test]
    fn lists_hold_at_most_ten() {
        assert_eq!(PathPattern::parse_list("/a, /b/#").unwrap().len(), 2);
        assert_eq!(PathPattern::parse_list(&["/a"; 11].join(",")), Err(PathError::TooManyPaths));
        assert_eq!(PathPattern::parse_list("/a,,/b"), Err(PathError::Empty));
    }
}
