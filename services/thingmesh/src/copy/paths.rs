//! Where subscriptions and registrations belong. No broker shows it, but a list with header `Fiware-ServicePath` has only
//! those whose path is exactly the header's; so each path that is known is asked for.

use std::collections::{BTreeSet, HashMap};

use anyhow::Result;
use scope::{ServicePath, Tenant};
use serde_json::Value;

use super::{
    broker::{Broker, Place},
    listing::Listing,
};

/// The service paths that are known of a tenant: where entities are, and all above.
#[derive(Clone, Debug)]
pub(super) struct KnownPaths(BTreeSet<String>);

impl KnownPaths {
    pub(super) fn new(named: &[ServicePath]) -> Self {
        let mut known = Self(BTreeSet::from(["/".to_owned()]));
        for path in named {
            known.add(path);
        }
        known
    }

    /// Adds a path and those above it.
    pub(super) fn add(&mut self, path: &ServicePath) {
        let mut path = path.as_str();
        // Most entities share a path with others: one look, no copy.
        while !path.is_empty() && !self.0.contains(path) {
            self.0.insert(path.to_owned());
            path = path.rsplit_once('/').map_or("", |(above, _)| above);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

/// A subscription or a registration, and where it belongs.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) item: Value,
    /// `None`: at none of the paths that were asked for.
    pub(super) path: Option<String>,
}

/// What is listed, and the paths that its items can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    Subscriptions,
    Registrations,
}

impl Resource {
    pub(super) fn target(self) -> &'static str {
        match self {
            Self::Subscriptions => "/v2/subscriptions",
            Self::Registrations => "/v2/registrations",
        }
    }

    /// The headers to ask with, given a known path. `/#` is not among them: a list with it has everything.
    fn headers(self, path: &str) -> Vec<String> {
        match self {
            Self::Subscriptions if path != "/" => vec![path.to_owned(), format!("{path}/#")],
            _ => vec![path.to_owned()],
        }
    }
}

/// All items of a tenant, each with its path.
pub(super) async fn placed(
    broker: &Broker,
    tenant: &Tenant,
    resource: Resource,
    known: &KnownPaths,
) -> Result<Vec<Placed>> {
    let target = format!("{}?options=count", resource.target());
    let all = listed(broker, Place { tenant, path: None }, &target).await?;
    let mut unplaced: HashMap<String, usize> =
        all.iter().enumerate().filter_map(|(at, item)| Some((id(item)?.to_owned(), at))).collect();
    let mut all: Vec<Placed> = all.into_iter().map(|item| Placed { item, path: None }).collect();
    for header in known.iter().flat_map(|path| resource.headers(path)) {
        if unplaced.is_empty() {
            break;
        }
        for item in listed(broker, Place { tenant, path: Some(&header) }, &target).await? {
            if let Some(at) = id(&item).and_then(|id| unplaced.remove(id)) {
                all[at].path = Some(header.clone());
            }
        }
    }
    Ok(all)
}

async fn listed(broker: &Broker, place: Place<'_>, target: &str) -> Result<Vec<Value>> {
    Listing::new(broker, place, target).all().await
}

/// The id that a broker gave an item.
pub(super) fn id(item: &Value) -> Option<&str> {
    item["id"].as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> ServicePath {
        ServicePath::parse(text).unwrap()
    }

    #[test]
    fn the_paths_above_a_known_one_are_known() {
        let mut known = KnownPaths::new(&[path("/x")]);
        known.add(&path("/a/b/c"));
        known.add(&path("/a/d"));
        known.add(&ServicePath::root());
        assert_eq!(known.iter().collect::<Vec<_>>(), ["/", "/a", "/a/b", "/a/b/c", "/a/d", "/x"]);
    }

    #[test]
    fn subscriptions_are_asked_for_at_a_path_and_below_it_and_never_for_everything() {
        assert_eq!(Resource::Subscriptions.headers("/"), ["/"]);
        assert_eq!(Resource::Subscriptions.headers("/a"), ["/a", "/a/#"]);
        assert_eq!(Resource::Registrations.headers("/a"), ["/a"]);
    }
}
