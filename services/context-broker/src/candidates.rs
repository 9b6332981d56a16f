//! Queries that an index narrows down: candidates come from the index of cells or from one on an attribute, and are looked at
//! here.
//!
//! What is near is looked for in circles around the point, which grow until a page is full and shrink where there is more
//! than a page needs, so that "the next twenty" costs the same however far one is willing to go and however crowded it is.

use std::sync::Arc;

use ngsi::{Entity, EntityText, geo::GeoQuery, query::EntityQuery};
use scope::QueryScope;
use store::StoreError;

use crate::{
    query::{Found, Page},
    store::{ContextStore, Selection, decode_all},
};

/// Candidates that are looked at in memory; where there are more, the selection is read in chunks.
const MOST_CANDIDATES: u32 = 20_000;
/// The same for one circle, per entity of the page, and at least.
const CANDIDATES_PER_RESULT: usize = 6;
const FEW_CANDIDATES: usize = 200;
/// How far the first circle reaches beyond the nearest results, metres, and how much wider, or less wide, each next one is.
const FIRST_CIRCLE: f64 = 150.0;
const WIDER: f64 = 3.0;
/// Circles that differ by less are the same, metres; so many candidates may be in one.
const CLOSE: f64 = 0.5;
const MOST_AT_ONE_PLACE: u32 = 50_000;
/// Nothing is farther away than this, metres.
const WORLD: f64 = 21_000_000.0;

/// The page of a query. None: no index narrows it down enough.
pub(crate) async fn page(
    store: &dyn ContextStore,
    scope: &QueryScope,
    selection: &Selection,
    query: &EntityQuery,
) -> Result<Option<Page>, StoreError> {
    let Some(geo) = &query.geo else {
        let Some(found) = store.indexed(scope, selection, MOST_CANDIDATES).await? else { return Ok(None) };
        let found = few_enough(found, MOST_CANDIDATES, |entity| query.matches(entity)).await?;
        return Ok(found.map(|found| cut(found, query)));
    };
    // The nearest are enough when they come first and the rest need not be counted.
    if let Some(nearest) = geo.nearest().filter(|_| query.order_by.is_empty() && !query.count) {
        if let Some(found) = nearest_of(store, scope, selection, query, geo, nearest).await? {
            return Ok(Some(cut(found, query)));
        }
    }
    let found = matching(store, scope, selection, query, geo, MOST_CANDIDATES).await?;
    Ok(found.map(|found| cut(found, query)))
}

/// At least as many of the nearest as the page needs, or all that there are. None: too many are at the same place.
async fn nearest_of(
    store: &dyn ContextStore,
    scope: &QueryScope,
    selection: &Selection,
    query: &EntityQuery,
    geo: &GeoQuery,
    nearest: f64,
) -> Result<Option<Vec<Arc<Entity>>>, StoreError> {
    let wanted = query.offset.saturating_add(query.limit);
    // What only the broker can decide may leave few of many candidates.
    let has_patterns = query.selectors.iter().any(|s| s.id_pattern.is_some() || s.type_pattern.is_some());
    let is_plain = query.q.is_none() && query.mq.is_none() && !has_patterns;
    let mut most = if is_plain { few(wanted) } else { MOST_CANDIDATES };
    // Circles that hold too few, and too many.
    let (mut small, mut large) = (nearest, None);
    let mut reach = nearest + FIRST_CIRCLE;
    loop {
        let circle = geo.up_to(reach);
        let is_last = circle.is_none() || reach >= WORLD;
        match matching(store, scope, selection, query, circle.as_ref().unwrap_or(geo), most).await? {
            Some(found) if found.len() >= wanted || is_last => return Ok(Some(found)),
            Some(_) => {
                small = reach;
                large = large.filter(|large| *large > reach);
            }
            None if most >= MOST_AT_ONE_PLACE => return Ok(None),
            None => large = Some(reach),
        }
        let beyond = small - nearest;
        reach = match large {
            None => nearest + beyond * WIDER,
            Some(large) if large - small < CLOSE => {
                most = MOST_AT_ONE_PLACE;
                large
            }
            Some(large) if beyond * WIDER < large - nearest => nearest + (large - nearest) / WIDER,
            Some(large) => f64::midpoint(small, large),
        };
    }
}

/// Candidates that are enough for so many results, where most are some.
fn few(wanted: usize) -> u32 {
    let few = wanted.saturating_mul(CANDIDATES_PER_RESULT).max(FEW_CANDIDATES);
    u32::try_from(few).unwrap_or(u32::MAX).min(MOST_CANDIDATES)
}

/// All matches within `place`. None: too many candidates, or they may be anywhere.
async fn matching(
    store: &dyn ContextStore,
    scope: &QueryScope,
    selection: &Selection,
    query: &EntityQuery,
    place: &GeoQuery,
    most: u32,
) -> Result<Option<Vec<Arc<Entity>>>, StoreError> {
    let Some(cells) = place.cells() else { return Ok(None) };
    let found = store.located(scope, selection, &cells, most).await?;
    few_enough(found, most, |entity| place.matches(entity) && query.matches(entity)).await
}

/// Those of all candidates that match. None: there may be more candidates than these.
async fn few_enough(
    found: Vec<Arc<EntityText>>,
    most: u32,
    matches: impl Fn(&Entity) -> bool,
) -> Result<Option<Vec<Arc<Entity>>>, StoreError> {
    if found.len() >= most as usize {
        return Ok(None);
    }
    let mut found = decode_all(found).await?;
    found.retain(|entity| matches(entity));
    Ok(Some(found))
}

fn cut(mut found: Vec<Arc<Entity>>, query: &EntityQuery) -> Page {
    let total = query.count.then_some(found.len() as u64);
    query.sort(&mut found);
    let entities = found.into_iter().skip(query.offset).take(query.limit).map(Found::Whole).collect();
    Page { entities, total }
}
