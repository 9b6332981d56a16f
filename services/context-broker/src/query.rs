//! Queries: ids, types and places are answered by the store's indexes; the rest is decided here, in bounded chunks.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use ngsi::{
    Entity, EntityText, Error,
    query::EntityQuery,
    render::{Format, Selection as Shown, write_entity},
};
use scope::QueryScope;
use store::StoreError;
use tokio::time::Instant;

use crate::{
    candidates,
    error::{QueryError, answer_of_store},
    store::{ContextStore, Cursor, Selection, decode, decode_all},
};

/// Entities read at once while filtering.
const CHUNK: u32 = 500;
/// The same for the first time, at least.
const FIRST_CHUNK: u32 = 20;

/// How long the store may take, when the time is over, to say that it has ended its statement: whoever goes before that leaves
/// a connection behind that can't be used again.
const LAST_WORD: Duration = Duration::from_secs(1);

/// When a query that reads entity by entity is given up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    at: Option<Instant>,
    limit_ms: u64,
}

impl Deadline {
    /// 0: never.
    pub(crate) fn after(limit_ms: u64) -> Self {
        let at = (limit_ms > 0).then(|| Instant::now() + Duration::from_millis(limit_ms));
        Self { at, limit_ms }
    }

    /// Waits for a part of the answer, until the time is over.
    async fn keep<T>(&self, part: impl Future<Output = Result<T, StoreError>>) -> Result<T, QueryError> {
        match self.at {
            None => Ok(part.await?),
            Some(at) => match tokio::time::timeout_at(at + LAST_WORD, part).await {
                Ok(Err(_)) if Instant::now() >= at => Err(QueryError::TooSlow { limit_ms: self.limit_ms }),
                Ok(part) => Ok(part?),
                Err(_) => Err(QueryError::TooSlow { limit_ms: self.limit_ms }),
            },
        }
    }
}

/// Part of a list.
#[derive(Clone, Debug, Default)]
pub struct Page {
    pub entities: Vec<Found>,
    /// Of all pages; only when the query asks for it.
    pub total: Option<u64>,
}

/// An entity that was asked for: decoded only where that is needed.
#[derive(Clone, Debug)]
pub enum Found {
    Text(Arc<EntityText>),
    Whole(Arc<Entity>),
}

impl Found {
    /// Appends its representation.
    pub(crate) fn write(&self, out: &mut Vec<u8>, shown: &Shown, format: Format) -> Result<(), Error> {
        match self {
            Self::Text(text) if *shown == Shown::default() && text.write(out, format) => {}
            other => write_entity(out, &*other.entity()?, shown, format),
        }
        Ok(())
    }

    pub fn entity(&self) -> Result<Arc<Entity>, Error> {
        match self {
            Self::Text(text) => decode(text).map_err(answer_of_store),
            Self::Whole(entity) => Ok(entity.clone()),
        }
    }
}

/// What is known of the entities of one type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TypeSummary {
    pub name: String,
    /// The types that each attribute has in some entity.
    pub attributes: BTreeMap<String, BTreeSet<String>>,
    pub count: u64,
}

pub(crate) async fn run(
    store: &dyn ContextStore,
    scope: &QueryScope,
    query: &EntityQuery,
    deadline: Deadline,
) -> Result<Page, QueryError> {
    let pushed = query.push_down();
    let owned = |names: Option<Vec<&str>>| {
        names.unwrap_or_default().into_iter().map(str::to_owned).collect::<Vec<String>>()
    };
    let selection = Selection {
        ids: owned(pushed.ids),
        types: owned(pushed.types),
        conditions: pushed.conditions,
        until: deadline.at,
    };
    if pushed.complete
        && query.is_sorted()
        && let Some(page) = sorted(store, scope, &selection, query, deadline).await?
    {
        return Ok(page);
    }
    if !pushed.complete || query.is_sorted() {
        if let Some(page) = candidates::page(store, scope, &selection, query).await? {
            return Ok(page);
        }
        return filter(store, scope, &selection, query, deadline).await;
    }
    let entities = match u32::try_from(query.limit).unwrap_or(u32::MAX) {
        0 => Vec::new(),
        limit => store.list(scope, &selection, query.offset as u64, limit).await?,
    };
    let entities = entities.into_iter().map(Found::Text).collect();
    let total = total(store, scope, &selection, query).await?;
    Ok(Page { entities, total })
}

async fn total(
    store: &dyn ContextStore,
    scope: &QueryScope,
    selection: &Selection,
    query: &EntityQuery,
) -> Result<Option<u64>, StoreError> {
    if query.count { store.count(scope, selection).await.map(Some) } else { Ok(None) }
}

/// A page that the store sorts. None: it can't.
async fn sorted(
    store: &dyn ContextStore,
    scope: &QueryScope,
    selection: &Selection,
    query: &EntityQuery,
    deadline: Deadline,
) -> Result<Option<Page>, QueryError> {
    let page = (query.offset as u64, u32::try_from(query.limit).unwrap_or(u32::MAX));
    let found = deadline.keep(store.sorted(scope, selection, &query.order_by, page)).await?;
    let Some(found) = found else { return Ok(None) };
    let mut found = decode_all(found).await?;
    query.sort(&mut found);
    let entities = found.into_iter().map(Found::Whole).collect();
    Ok(Some(Page { entities, total: total(store, scope, selection, query).await? }))
}

/// Reads the selection in chunks and keeps what the page needs.
async fn filter(
    store: &dyn ContextStore,
    scope: &QueryScope,
    selection: &Selection,
    query: &EntityQuery,
    deadline: Deadline,
) -> Result<Page, QueryError> {
    let sorted = query.is_sorted();
    let end = query.offset.saturating_add(query.limit);
    let mut kept: Vec<Arc<Entity>> = Vec::new();
    let mut total = 0;
    let mut after = None;
    // Where the store's conditions say it all, the first chunk is the page.
    let mut size = match sorted || query.count {
        true => CHUNK,
        false => u32::try_from(end).unwrap_or(CHUNK).clamp(FIRST_CHUNK, CHUNK),
    };
    loop {
        let chunk = deadline.keep(store.scan(scope, selection, after.as_ref(), size)).await?;
        after = chunk.last().filter(|_| chunk.len() >= size as usize).map(|last| Cursor::of(last));
        size = size.saturating_mul(2).min(CHUNK);
        for entity in decode_all(chunk).await? {
            if query.matches(&entity) {
                total += 1;
                // In the order of creation the first `end` are the ones; a sorted page is chosen among all.
                if sorted || kept.len() < end {
                    kept.push(entity);
                }
            }
        }
        if sorted && kept.len() > end.saturating_mul(2).max(CHUNK as usize) {
            query.sort(&mut kept);
            kept.truncate(end);
        }
        let page_is_full = !sorted && !query.count && kept.len() >= end;
        if after.is_none() || page_is_full {
            break;
        }
    }
    if sorted {
        query.sort(&mut kept);
    }
    let entities = kept.into_iter().skip(query.offset).take(query.limit).map(Found::Whole).collect();
    Ok(Page { entities, total: query.count.then_some(total) })
}

pub(crate) async fn types(
    store: &dyn ContextStore,
    scope: &QueryScope,
    only: Option<&str>,
    deadline: Deadline,
) -> Result<Vec<TypeSummary>, QueryError> {
    let types = only.map(str::to_owned).into_iter().collect();
    let selection = Selection { types, until: deadline.at, ..Selection::default() };
    let mut found: BTreeMap<String, TypeSummary> = BTreeMap::new();
    let mut after = None;
    loop {
        let chunk = deadline.keep(store.scan(scope, &selection, after.as_ref(), CHUNK)).await?;
        let last = chunk.last().filter(|_| chunk.len() >= CHUNK as usize).map(|last| Cursor::of(last));
        for entity in chunk {
            let summary = match found.get_mut(&*entity.entity_type) {
                Some(summary) => summary,
                None => found.entry((*entity.entity_type).to_owned()).or_insert_with(|| TypeSummary {
                    name: (*entity.entity_type).to_owned(),
                    ..TypeSummary::default()
                }),
            };
            summary.add(&entity)?;
        }
        if last.is_none() {
            return Ok(found.into_values().collect());
        }
        after = last;
    }
}

impl TypeSummary {
    fn add(&mut self, entity: &EntityText) -> Result<(), StoreError> {
        self.count += 1;
        if !entity.attribute_types(|name, attribute_type| self.know(name, attribute_type)) {
            for (name, attribute) in &decode(entity)?.attributes {
                self.know(name, &attribute.attribute_type);
            }
        }
        Ok(())
    }

    fn know(&mut self, name: &str, attribute_type: &str) {
        if !self.attributes.get(name).is_some_and(|types| types.contains(attribute_type)) {
            self.attributes.entry(name.to_owned()).or_default().insert(attribute_type.to_owned());
        }
    }
}
