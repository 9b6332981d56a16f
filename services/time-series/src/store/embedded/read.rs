//! Queries: heads and chunks of one epoch, read off the async workers.

use std::{collections::HashMap, sync::Arc, time::Duration};

use sqlx::{Sqlite, Transaction};
use store::StoreError;

use super::{
    aggregate::{Aggregator, slot_us},
    answer::Answer,
    catalog::{Catalog, TypeNo},
    head::Head,
    live::Shared,
    rows,
    sources::{Need, Order, Sources},
    stats,
};
use crate::{
    cell::Kind,
    query::{AttributeInfo, Attributes, EntitySummary, Query, Selection, TypeRows, Window},
    store::choose,
};

/// Runs a read on a thread where decoding may take its time.
pub(super) async fn off_worker<T: Send + 'static>(
    read: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    let runtime = tokio::runtime::Handle::current();
    let read = tokio::task::spawn_blocking(move || runtime.block_on(read)).await;
    read.unwrap_or_else(|error| Err(StoreError::Internal(format!("query failed: {error}"))))
}

/// What a query touches of one type.
struct TypeView {
    no: TypeNo,
    name: String,
    attributes: Vec<AttributeInfo>,
    series: Vec<usize>,
    ids: HashMap<usize, Arc<str>>,
    heads: Vec<(usize, Arc<Head>)>,
}

impl TypeView {
    fn take(catalog: &Catalog, no: TypeNo, query: &Query) -> Option<Self> {
        let owner = &catalog.types[no];
        let attributes = choose(owner.attributes.values(), &query.attributes)?;
        let series = catalog.select_series(no, &query.selection);
        if series.is_empty() {
            return None;
        }
        let ids = series.iter().map(|no| (*no, catalog.series[*no].id.clone())).collect();
        let heads = series.iter().filter_map(|no| Some((*no, catalog.series[*no].head.clone()?))).collect();
        Some(Self { no, name: owner.name.clone(), attributes, series, ids, heads })
    }
}

/// How often a read starts again because chunks changed while it began; each time is a commit of the writer.
const ATTEMPTS: u32 = 1_000;

/// Takes the heads, and a read transaction of the same epoch.
async fn snapshot<T>(
    shared: &Shared,
    take: impl Fn(&Catalog) -> T,
) -> Result<(T, Transaction<'static, Sqlite>), StoreError> {
    for attempt in 0..ATTEMPTS {
        let (taken, epoch) = {
            let live = shared.live.read();
            (take(&live.catalog), live.epoch)
        };
        let mut transaction = shared.pools.reader.begin().await?;
        let stored: i64 =
            sqlx::query_scalar("SELECT epoch FROM history_state").fetch_one(&mut *transaction).await?;
        if stored == epoch {
            return Ok((taken, transaction));
        }
        // Chunks changed in between. The writer publishes right after its commit: take again.
        drop(transaction);
        if attempt < 10 {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    Err(StoreError::Unavailable("the history changes too fast to be read".into()))
}

pub(super) async fn query(shared: Arc<Shared>, query: Query) -> Result<Vec<TypeRows>, StoreError> {
    let take = |catalog: &Catalog| -> Vec<TypeView> {
        let types = catalog.select_types(&query.selection);
        types.into_iter().filter_map(|no| TypeView::take(catalog, no, &query)).collect()
    };
    let (views, mut transaction) = snapshot(&shared, take).await?;
    let mut answers = Vec::with_capacity(views.len());
    for view in views {
        let answer = query_type(&shared, &mut transaction, view, &query).await?;
        if !answer.entities.is_empty() {
            answers.push(answer);
        }
    }
    Ok(answers)
}

async fn query_type(
    shared: &Arc<Shared>,
    connection: &mut Transaction<'static, Sqlite>,
    view: TypeView,
    query: &Query,
) -> Result<TypeRows, StoreError> {
    let TypeView { no, name, mut attributes, series, ids, heads } = view;
    let wanted: Vec<(u32, Kind)> = attributes.iter().map(|info| (info.id, info.kind)).collect();
    let order = if query.window.newest_first() { Order::NewestFirst } else { Order::OldestFirst };
    let range = (query.selection.from(), query.selection.to());
    let mut answer = Answer::new(ids);
    match query.aggregation {
        None => {
            let sources = Sources::new(no, &series, heads, order, Need::Bodies, range);
            let window = (order, query.window);
            rows::read(shared, connection, sources, window, range, &wanted, &mut answer).await?;
        }
        Some(aggregation) => {
            let from_stats = wanted.iter().all(|(_, kind)| stats::answers(aggregation.method, *kind));
            let need = if from_stats { Need::Stats { slot_us: slot_us(aggregation) } } else { Need::Bodies };
            let sources = Sources::new(no, &series, heads, order, need, range);
            let buckets = Default::default();
            let aggregator = Aggregator { shared, wanted: &wanted, aggregation, order, range, buckets };
            aggregator.read(connection, sources, query.window, &mut answer).await?;
            for info in &mut attributes {
                info.kind = aggregation.method.result(info.kind);
            }
        }
    }
    Ok(TypeRows { name, attributes, entities: answer.finish(order) })
}

/// The newest row of each entity in the selection.
pub(super) async fn entities(
    shared: Arc<Shared>,
    selection: Selection,
    window: Window,
) -> Result<Vec<EntitySummary>, StoreError> {
    let mut newest: HashMap<(Arc<str>, String), i64> = HashMap::new();
    let mut unknown: Vec<(Arc<str>, String)> = Vec::new();
    {
        let live = shared.live.read();
        for type_no in live.catalog.select_types(&selection) {
            let name = &live.catalog.types[type_no].name;
            for no in live.catalog.select_series(type_no, &selection) {
                let series = &live.catalog.series[no];
                let key = (series.id.clone(), name.clone());
                if series.newest_us > selection.to() {
                    unknown.push(key);
                } else if series.newest_us >= selection.from() {
                    let known = newest.entry(key).or_insert(i64::MIN);
                    *known = series.newest_us.max(*known);
                }
            }
        }
    }
    // Entities with rows after the range: where their newest row within it is has to be looked up.
    for (id, entity_type) in unknown {
        if let Some(at_us) = newest_within(&shared, &selection, &id, &entity_type).await? {
            let known = newest.entry((id, entity_type)).or_insert(i64::MIN);
            *known = at_us.max(*known);
        }
    }
    let mut found: Vec<EntitySummary> = newest
        .into_iter()
        .map(|((id, entity_type), newest_us)| EntitySummary { id: id.to_string(), entity_type, newest_us })
        .collect();
    found.sort_by(|a, b| (b.newest_us, &a.entity_type, &a.id).cmp(&(a.newest_us, &b.entity_type, &b.id)));
    Ok(found.into_iter().skip(window.offset).take(window.rows()).collect())
}

async fn newest_within(
    shared: &Arc<Shared>,
    selection: &Selection,
    id: &str,
    entity_type: &str,
) -> Result<Option<i64>, StoreError> {
    let one = Query {
        selection: Selection {
            types: Some(vec![entity_type.to_owned()]),
            ids: Some(vec![id.to_owned()]),
            id_pattern: None,
            ..selection.clone()
        },
        attributes: Attributes::AnyOf(Vec::new()),
        window: Window { limit: 1, offset: 0, last_n: Some(1) },
        aggregation: None,
    };
    let found = Box::pin(query(shared.clone(), one)).await?;
    Ok(found.first().and_then(|rows| rows.entities.first()).and_then(|entity| entity.times.last()).copied())
}
