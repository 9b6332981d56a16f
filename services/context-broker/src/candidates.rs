//! Queries that an index narrows down: candidates come from the index of cells or from one on an attribute, and are looked at
//! here.
//!
//! What is near is looked for in circles around the point that grow until a page is full, so that "the next twenty" costs
//! the same however far one is willing to go.

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
/// The first circle beyond the nearest results, metres, and how much wider each next one is.
const FIRST_CIRCLE: f64 = 250.0;
const WIDER: f64 = 4.0;
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
        let found = few_enough(found, |entity| query.matches(entity)).await?;
        return Ok(found.map(|found| cut(found, query)));
    };
    // The nearest are enough when they come first and the rest need not be counted.
    if let Some(nearest) = geo.nearest().filter(|_| query.order_by.is_empty() && !query.count) {
        let mut reach = nearest + FIRST_CIRCLE;
        while let Some(circle) = geo.up_to(reach) {
            let Some(found) = matching(store, scope, selection, query, &circle).await? else {
                return Ok(None);
            };
            if found.len() >= query.offset.saturating_add(query.limit) || reach >= WORLD {
                return Ok(Some(cut(found, query)));
            }
            reach *= WIDER;
        }
    }
    let found = matching(store, scope, selection, query, geo).await?;
    Ok(found.map(|found| cut(found, query)))
}

/// All matches within `place`. None: too many candidates, or they may be anywhere.
async fn matching(
    store: &dyn ContextStore,
    scope: &QueryScope,
    selection: &Selection,
    query: &EntityQuery,
    place: &GeoQuery,
) -> Result<Option<Vec<Arc<Entity>>>, StoreError> {
    let Some(cells) = place.cells() else { return Ok(None) };
    let found = store.located(scope, selection, &cells, MOST_CANDIDATES).await?;
    few_enough(found, |entity| place.matches(entity) && query.matches(entity)).await
}

/// Those of all candidates that match. None: there may be more candidates than these.
async fn few_enough(
    found: Vec<Arc<EntityText>>,
    matches: impl Fn(&Entity) -> bool,
) -> Result<Option<Vec<Arc<Entity>>>, StoreError> {
    if found.len() >= MOST_CANDIDATES as usize {
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
