//! Entities by id, type and pattern, and whole queries.

use std::ops::Deref;

use super::{Condition, Expression, OrderKey, OrderToken, Pattern, order};
use crate::{Entity, geo::GeoQuery};

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
    pub geo: Option<GeoQuery>,
    /// Empty: by distance when the query is about what is near, else by creation time.
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
            geo: None,
            order_by: Vec::new(),
            limit: DEFAULT_LIMIT,
            offset: 0,
            count: false,
        }
    }
}

/// What a store can check by itself, from indexed columns.
#[derive(Clone, Debug, PartialEq)]
pub struct PushDown<'a> {
    /// The entity's id is one of these.
    pub ids: Option<Vec<&'a str>>,
    /// The entity's type is one of these.
    pub types: Option<Vec<&'a str>>,
    /// Weaker than `q` and `mq`.
    pub conditions: Vec<Condition>,
    /// With the conditions on id and type nothing is left for [`EntityQuery::matches`]: the store may page and count by itself.
    pub complete: bool,
}

impl EntityQuery {
    pub fn matches(&self, entity: &Entity) -> bool {
        self.selects(&entity.id, &entity.entity_type)
            && self.q.as_ref().is_none_or(|q| q.matches(entity))
            && self.mq.as_ref().is_none_or(|mq| mq.matches(entity))
            && self.geo.as_ref().is_none_or(|geo| geo.matches(entity))
    }

    /// Whether it is about entities of this id and type.
    pub fn selects(&self, id: &str, entity_type: &str) -> bool {
        self.selectors.is_empty() || self.selectors.iter().any(|s| s.matches(id, entity_type))
    }

    /// Whether results have another order than that of creation.
    pub fn is_sorted(&self) -> bool {
        !self.order_by.is_empty() || self.geo.as_ref().is_some_and(GeoQuery::is_near)
    }

    /// Sorts results: by what is asked for or by distance; ties by creation time, then id. A total order.
    pub fn sort<E: Deref<Target = Entity>>(&self, entities: &mut Vec<E>) {
        let by_distance = [OrderKey { token: OrderToken::Distance, descending: false }];
        let near = self.geo.as_ref().filter(|geo| geo.is_near());
        let keys = match (self.order_by.as_slice(), near) {
            ([], Some(_)) => &by_distance,
            (keys, _) => keys,
        };
        if !keys.iter().any(|key| key.token == OrderToken::Distance) {
            return entities.sort_by(|a, b| order::compare_entities(a, b, keys, (0.0, 0.0)));
        }
        let distance = |entity: &Entity| near.and_then(|geo| geo.distance(entity)).unwrap_or_default();
        let mut measured: Vec<(f64, E)> =
            entities.drain(..).map(|entity| (distance(&entity), entity)).collect();
        measured.sort_by(|a, b| order::compare_entities(&a.1, &b.1, keys, (a.0, b.0)));
        entities.extend(measured.into_iter().map(|(_, entity)| entity));
    }

    /// Whether the ids and types of [`EntityQuery::push_down`] and the place say it all.
    pub fn is_plain(&self) -> bool {
        let one_plain = match self.selectors.as_slice() {
            [] => true,
            [one] => !one.needs_patterns(),
            _ => false,
        };
        one_plain && self.q.is_none() && self.mq.is_none()
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
        PushDown {
            ids: union(|s| &s.ids),
            types: union(|s| &s.types),
            conditions: self.q.iter().chain(&self.mq).flat_map(Expression::conditions).collect(),
            complete: self.is_plain() && self.geo.is_none(),
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
        let expected = PushDown {
            ids: Some(vec!["a", "b"]),
            types: Some(vec!["T"]),
            conditions: Vec::new(),
            complete: true,
        };
        assert_eq!(query.push_down(), expected);
        let everything =
            EntityQuery { selectors: vec![selector(&[], &[], Some(".*"))], ..EntityQuery::default() };
        assert_eq!(
            everything.push_down(),
            PushDown { ids: None, types: None, conditions: Vec::new(), complete: true }
        );
    }

    #[test]
    fn several_selectors_push_only_what_all_of_them_have() {
        let query = EntityQuery {
            selectors: vec![selector(&["a"], &["T"], None), selector(&[], &["U"], Some("^b"))],
            ..EntityQuery::default()
        };
        let expected =
            PushDown { ids: None, types: Some(vec!["T", "U"]), conditions: Vec::new(), complete: false };
        assert_eq!(query.push_down(), expected);
    }
}
