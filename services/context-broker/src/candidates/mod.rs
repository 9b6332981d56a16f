//! Queries that an index narrows down: candidates come from the index of cells or from one on an attribute, and are looked at
//! here.
//!
//! What is near is looked for in circles around the point, which grow until a page is full and shrink where there is more
//! than a page needs, so that "the next twenty" costs the same however far one is willing to go and however crowded it is.

mod circles;
mod places;

use std::sync::Arc;

use ngsi::{
    Entity, EntityText,
    geo::{CellRange, GeoQuery},
    query::EntityQuery,
};
use scope::QueryScope;
use store::StoreError;

use crate::{
    query::{Found, Page},
    store::{ContextStore, Selection, decode, decode_all},
};
use circles::Circles;

/// Candidates that are looked at in memory; where there are more, the selection is read in chunks.
const MOST_CANDIDATES: u32 = 20_000;
/// The same for one circle, per entity of the page, and at least.
const CANDIDATES_PER_RESULT: usize = 6;
const FEW_CANDIDATES: usize = 200;

/// How often the cells on the border of a circle are quartered where what they hold is read.
const TO_COUNT: u32 = 3;

/// The page of a query. None: no index narrows it down enough.
pub(crate) async fn page(
    store: &dyn ContextStore,
    scope: &QueryScope,
    selection: &Selection,
    query: &EntityQuery,
) -> Result<Option<Page>, StoreError> {
    let Some(geo) = &query.geo else {
        let Some(found) = store.indexed(scope, selection, MOST_CANDIDATES).await? else { return Ok(None) };
        if found.len() >= MOST_CANDIDATES as usize {
            return Ok(None);
        }
        let mut found = decode_all(found).await?;
        found.retain(|entity| query.matches(entity));
        return Ok(Some(cut(found, query)));
    };
    if store.knows_places()
        && let Some(page) = places::page(store, scope, selection, query, geo).await?
    {
        return Ok(Some(page));
    }
    // The nearest are enough when they come first and the rest need not be read.
    if let Some(nearest) = geo.nearest().filter(|_| query.order_by.is_empty()) {
        let total = match query.count {
            true => total(store, scope, selection, query, geo).await?,
            false => None,
        };
        if total.is_some() == query.count
            && let Some(found) = nearest_of(store, scope, selection, query, geo, nearest).await?
        {
            return page_of(found, query, total).await.map(Some);
        }
    }
    match matching(store, scope, selection, query, geo, MOST_CANDIDATES).await? {
        Some(found) => {
            let total = query.count.then_some(found.len() as u64);
            page_of(found, query, total).await.map(Some)
        }
        None => Ok(None),
    }
}

/// How many are within the circle: those on its border are looked at, the others counted in the index. None: there are too
/// many, or more than a place is asked for.
async fn total(
    store: &dyn ContextStore,
    scope: &QueryScope,
    selection: &Selection,
    query: &EntityQuery,
    geo: &GeoQuery,
) -> Result<Option<u64>, StoreError> {
    let Some(cover) = geo.cover(TO_COUNT).filter(|_| query.is_plain()) else { return Ok(None) };
    let inside = store.count_located(scope, selection, &cover.inside, MOST_CANDIDATES).await?;
    if inside >= MOST_CANDIDATES.into() {
        return Ok(None);
    }
    let border = matching_in(store, scope, selection, query, (geo, cover.border), MOST_CANDIDATES).await?;
    Ok(border.map(|border| inside + border.len() as u64))
}

/// An entity that is where the query says.
struct Located {
    /// From the query's point; 0 in queries without one.
    metres: f64,
    entity: Arc<EntityText>,
}

/// At least as many of the nearest as the page needs, or all that there are. None: too many are at the same place.
async fn nearest_of(
    store: &dyn ContextStore,
    scope: &QueryScope,
    selection: &Selection,
    query: &EntityQuery,
    geo: &GeoQuery,
    nearest: f64,
) -> Result<Option<Vec<Located>>, StoreError> {
    let wanted = query.offset.saturating_add(query.limit);
    // What only the broker can decide may leave few of many candidates.
    let has_patterns = query.selectors.iter().any(|s| s.id_pattern.is_some() || s.type_pattern.is_some());
    let is_plain = query.q.is_none() && query.mq.is_none() && !has_patterns;
    let mut circles = Circles::from(nearest, if is_plain { few(wanted) } else { MOST_CANDIDATES });
    loop {
        let (circle, is_last) = circles.around(geo);
        match matching(store, scope, selection, query, &circle, circles.most).await? {
            Some(found) if found.len() >= wanted || is_last => return Ok(Some(found)),
            Some(_) => circles.grow(),
            None if !circles.shrink() => return Ok(None),
            None => {}
        }
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
) -> Result<Option<Vec<Located>>, StoreError> {
    let Some(cells) = place.cells() else { return Ok(None) };
    matching_in(store, scope, selection, query, (place, cells), most).await
}

/// Those of them that are in some cells.
async fn matching_in(
    store: &dyn ContextStore,
    scope: &QueryScope,
    selection: &Selection,
    query: &EntityQuery,
    (place, cells): (&GeoQuery, Vec<CellRange>),
    most: u32,
) -> Result<Option<Vec<Located>>, StoreError> {
    let found = store.located(scope, selection, &cells, most).await?;
    if found.len() >= most as usize {
        return Ok(None);
    }
    if found.len() <= FEW_CANDIDATES && query.q.is_none() && query.mq.is_none() {
        return located(found, query, place).map(Some);
    }
    let (query, place) = (query.clone(), place.clone());
    let found = tokio::task::spawn_blocking(move || located(found, &query, &place)).await;
    found.map_err(|error| StoreError::Internal(error.to_string()))?.map(Some)
}

/// Those that match. Only `q` and `mq` need the whole entity.
fn located(
    found: Vec<Arc<EntityText>>,
    query: &EntityQuery,
    place: &GeoQuery,
) -> Result<Vec<Located>, StoreError> {
    let asks_attributes = query.q.is_some() || query.mq.is_some();
    let mut matching = Vec::with_capacity(found.len());
    for entity in found {
        if !query.selects(&entity.id, &entity.entity_type) {
            continue;
        }
        let location = entity.location().map_err(|error| StoreError::Internal(error.to_string()))?;
        let Some(location) = location.filter(|location| place.holds(location)) else { continue };
        if asks_attributes && !query.matches(&*decode(&entity)?) {
            continue;
        }
        let metres = if place.is_near() { place.distance_to(&location) } else { 0.0 };
        matching.push(Located { metres, entity });
    }
    Ok(matching)
}

/// The page of what was found, in the order that the query asks for.
async fn page_of(
    mut found: Vec<Located>,
    query: &EntityQuery,
    total: Option<u64>,
) -> Result<Page, StoreError> {
    if !query.order_by.is_empty() {
        let found = decode_all(found.into_iter().map(|located| located.entity).collect()).await?;
        return Ok(cut(found, query));
    }
    // As `EntityQuery::sort` does.
    found.sort_unstable_by(|a, b| {
        let tie = |entity: &EntityText| (entity.created_us, entity.id.clone(), entity.entity_type.clone());
        let order = a.metres.total_cmp(&b.metres);
        order
            .then_with(|| tie(&a.entity).cmp(&tie(&b.entity)))
            .then_with(|| a.entity.path.cmp(&b.entity.path))
    });
    let page = found.into_iter().skip(query.offset).take(query.limit);
    Ok(Page { entities: page.map(|located| Found::Text(located.entity)).collect(), total })
}

fn cut(mut found: Vec<Arc<Entity>>, query: &EntityQuery) -> Page {
    let total = query.count.then_some(found.len() as u64);
    query.sort(&mut found);
    let entities = found.into_iter().skip(query.offset).take(query.limit).map(Found::Whole).collect();
    Page { entities, total }
}
