//! Entities by id, type and pattern, and whole queries.

use std::cmp::Ordering;

use super::{Expression, OrderKey, Pattern, order};
use crate::Entity;

/// Page size of a list without `limit`.
pub const DEFAULT_LIMIT: usize = 20;
/// Largest page.
pub const MAX_LIMIT: usize = 1000;

/// Ids or a pattern, and types or a pattern. What is empty or None does not restrict.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EntitySelector {
    pub ids: Vec<String>,
    pub id_pattern: Option<Pattern>,
    pub types: Vec<String>,
    pub type_pattern: Option<Pattern>,
}

impl EntitySelector {
    pub fn matches(&self, id: &str, entity_type: &str) -> bool {
        (self.ids.is_empty() || self.ids.iter().any(|own| own == id))
            && (self.types.is_empty() || self.types.iter().any(|own| own == entity_type))
            && self.id_pattern.as_ref().is_none_or(|pattern| pattern.is_match(id))
            && self.type_pattern.as_ref().is_none_or(|pattern| pattern.is_match(entity_type))
    }

    fn needs_patterns(&self) -> bool {
        let restricts = |pattern: &Option<Pattern>| pattern.as_ref().is_some_and(|p| !p.matches_all());
        restricts(&self.id_pattern) || restricts(&self.type_pattern)
    }
}

/// A query of one tenant; service paths are in the scope beside it.
#[derive(Clone, Debug)]
pub struct EntityQuery {
    /// Any of these; empty: every entity.
    pub selectors: Vec<EntitySelector>,
    pub q: Option<Expression>,
    pub mq: Option<Expression>,
    /// Empty: by creation time.
    pub order_by: Vec<OrderKey>,
    pub limit: usize,
    pub offset: usize,
    /// The total is wanted.
    pub count: bool,
}

impl Default for EntityQuery {
    fn default() -> Self {
        Self {
            selectors: Vec::new(),
            q: None,
            mq: None,
            order_by: Vec::new(),
            limit: DEFAULT_LIMIT,
            offset: 0,
            count: false,
        }
    }
}

/// What a store can check by itself, from indexed columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushDown<'a> {
    /// The entity's id is one of these.
    pub ids: Option<Vec<&'a str>>,
    /// The entity's type is one of these.
    pub types: Option<Vec<&'a str>>,
    /// With these two conditions nothing is left for [`EntityQuery::matches`]: the store may page and count by itself.
    pub complete: bool,
}

impl EntityQuery {
    pub fn matches(&self, entity: &Entity) -> bool {
        (self.selectors.is_empty()
            || self.selectors.iter().any(|s| s.matches(&entity.id, &entity.entity_type)))
            && self.q.as_ref().is_none_or(|q| q.matches(entity))
            && self.mq.as_ref().is_none_or(|mq| mq.matches(entity))
    }

    /// The order of results; a total order.
    pub fn compare(&self, a: &Entity, b: &Entity) -> Ordering {
        order::compare_entities(a, b, &self.order_by)
    }

    /// Conditions that every result meets, for a store's `WHERE`.
    pub fn push_down(&self) -> PushDown<'_> {
        let union = |part: fn(&EntitySelector) -> &Vec<String>| {
            let restricted = !self.selectors.is_empty() && self.selectors.iter().all(|s| !part(s).is_empty());
            restricted.then(|| {
                let mut all: Vec<&str> =
                    self.selectors.iter().flat_map(|s| part(s).iter().map(String::as_str)).collect();
                all.sort_unstable();
                all.dedup();
                all
            })
        };
        let one_plain = match self.selectors.as_slice() {
            [] => true,
            [one] => !one.needs_patterns(),
            _ => false,
        };
        PushDown {
            ids: union(|s| &s.ids),
            types: union(|s| &s.types),
            complete: one_plain && self.q.is_none() && self.mq.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selector(ids: &[&str], types: &[&str], pattern: Option<&str>) -> EntitySelector {
        EntitySelector {
            ids: ids.iter().map(|&s| s.to_owned()).collect(),
            types: types.iter().map(|&s| s.to_owned()).collect(),
            id_pattern: pattern.map(|p| Pattern::parse(p).unwrap()),
            type_pattern: None,
        }
    }

    #[test]
    fn one_plain_selector_is_left_to_the_store() {
        let query =
            EntityQuery { selectors: vec![selector(&["a", "b"], &["T"], None)], ..EntityQuery::default() };
        let expected = PushDown { ids: Some(vec!["a", "b"]), types: Some(vec!["T"]), complete: true };
        assert_eq!(query.push_down(), expected);
        let everything =
            EntityQuery { selectors: vec![selector(&[], &[], Some(".*"))], ..EntityQuery::default() };
        assert_eq!(everything.push_down(), PushDown { ids: None, types: None, complete: true });
    }

    #[test]
    fn several_selectors_push_only_what_all_of_them_have() {
        let query = EntityQuery {
            selectors: vec![selector(&["a"], &["T"], None), selector(&[], &["U"], Some("^b"))],
            ..EntityQuery::default()
        };
        let expected = PushDown { ids: None, types: Some(vec!["T", "U"]), complete: false };
        assert_eq!(query.push_down(), expected);
    }
}
