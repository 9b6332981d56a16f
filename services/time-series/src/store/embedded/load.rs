//! Start: the catalogue is read, and the log replayed into heads.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use futures::TryStreamExt;
use scope::{ServicePath, Tenant};
use sqlx::{Row as _, SqliteConnection};
use store::StoreError;

use super::{catalog::Catalog, head::Head, live::Live, log};
use crate::{cell::Kind, query::AttributeInfo};

/// What the writer goes on with.
#[derive(Default)]
pub(crate) struct Tail {
    pub(crate) next_batch: i64,
    pub(crate) next_chunk: i64,
    /// Heads by the log batch of their oldest row.
    pub(crate) open: BTreeSet<(i64, usize)>,
    /// Log batches with their sizes.
    pub(crate) log: VecDeque<(i64, usize)>,
    pub(crate) log_bytes: usize,
}

fn corrupt(reason: &str) -> StoreError {
    StoreError::Corrupt { file: String::new(), reason: reason.to_owned() }
}

fn number(id: i64, what: &str) -> Result<usize, StoreError> {
    usize::try_from(id - 1).map_err(|_| corrupt(what))
}

pub(crate) async fn load(connection: &mut SqliteConnection) -> Result<(Live, Tail), StoreError> {
    let mut live = Live {
        epoch: sqlx::query_scalar("SELECT epoch FROM history_state").fetch_one(&mut *connection).await?,
        ..Live::default()
    };
    load_types(connection, &mut live.catalog).await?;
    let sealed = load_series(connection, &mut live.catalog).await?;
    let mut tail = Tail { next_batch: sealed + 1, next_chunk: 1, ..Tail::default() };
    load_chunk_ends(connection, &mut live.catalog, &mut tail).await?;
    replay(connection, &mut live, &mut tail).await?;
    Ok((live, tail))
}

async fn load_types(connection: &mut SqliteConnection, catalog: &mut Catalog) -> Result<(), StoreError> {
    let types: Vec<(i64, String, String, String)> =
        sqlx::query_as("SELECT id, tenant, folded, name FROM entity_type ORDER BY id")
            .fetch_all(&mut *connection)
            .await?;
    for (id, tenant, folded, name) in types {
        let tenant = Tenant::from_header(Some(&tenant)).map_err(|_| corrupt("a tenant's name"))?;
        if catalog.add_type(tenant, folded, name) != number(id, "a type's id")? {
            return Err(corrupt("a type is missing"));
        }
    }
    let attributes: Vec<(u32, i64, String, i64, String)> =
        sqlx::query_as("SELECT id, type, name, kind, declared FROM attribute ORDER BY id")
            .fetch_all(connection)
            .await?;
    for (id, type_id, name, kind, declared) in attributes {
        let kind = Kind::from_code(kind).ok_or_else(|| corrupt("an attribute's kind"))?;
        let type_no = number(type_id, "an attribute's type")?;
        if type_no >= catalog.types.len() {
            return Err(corrupt("an attribute's type"));
        }
        catalog.add_attribute(type_no, AttributeInfo { id, name, kind, declared });
    }
    Ok(())
}

/// Answers the highest log batch that any series has in chunks.
async fn load_series(connection: &mut SqliteConnection, catalog: &mut Catalog) -> Result<i64, StoreError> {
    let mut rows =
        sqlx::query("SELECT id, type, path, entity, version, sealed_batch FROM series ORDER BY id")
            .fetch(connection);
    let mut highest = 0;
    while let Some(row) = rows.try_next().await? {
        let type_no = number(row.try_get(1)?, "a series' type")?;
        let path = ServicePath::parse(row.try_get(2)?).map_err(|_| corrupt("a series' service path"))?;
        if type_no >= catalog.types.len() {
            return Err(corrupt("a series' type"));
        }
        let no = catalog.add_series(type_no, path, row.try_get::<&str, _>(3)?.into());
        if no != number(row.try_get(0)?, "a series' id")? {
            return Err(corrupt("a series is missing"));
        }
        let series = &mut catalog.series[no];
        series.version = row.try_get(4)?;
        series.sealed_batch = row.try_get(5)?;
        highest = highest.max(series.sealed_batch);
    }
    Ok(highest)
}

/// Both maxima come from the index (series, t1) alone: it holds the row id too.
async fn load_chunk_ends(
    connection: &mut SqliteConnection,
    catalog: &mut Catalog,
    tail: &mut Tail,
) -> Result<(), StoreError> {
    let mut rows =
        sqlx::query("SELECT series, max(t1), max(id) FROM chunk INDEXED BY chunk_series_t1 GROUP BY series")
            .fetch(connection);
    while let Some(row) = rows.try_next().await? {
        let no = number(row.try_get(0)?, "a chunk's series")?;
        let series = catalog.series.get_mut(no).ok_or_else(|| corrupt("a chunk's series"))?;
        series.newest_us = row.try_get(1)?;
        let last: i64 = row.try_get(2)?;
        series.last_chunk = Some(last);
        tail.next_chunk = tail.next_chunk.max(last + 1);
    }
    Ok(())
}

async fn replay(
    connection: &mut SqliteConnection,
    live: &mut Live,
    tail: &mut Tail,
) -> Result<(), StoreError> {
    let mut batches = sqlx::query("SELECT batch, body FROM log ORDER BY batch").fetch(connection);
    while let Some(row) = batches.try_next().await? {
        let batch: i64 = row.try_get(0)?;
        let body: &[u8] = row.try_get(1)?;
        let Live { catalog, head_bytes, .. } = &mut *live;
        log::read(body, |row| {
            let series = catalog.series.get_mut(row.series).ok_or(super::codec::Damaged)?;
            series.version = series.version.max(row.version.unwrap_or(i64::MIN));
            if batch > series.sealed_batch {
                if series.head.is_none() {
                    tail.open.insert((batch, row.series));
                }
                let head = series.head.get_or_insert_with(|| Arc::new(Head::new(batch)));
                *head_bytes += Arc::make_mut(head).push(row.at_us, row.cells);
                series.newest_us = series.newest_us.max(row.at_us);
            }
            Ok(())
        })
        .map_err(|_| corrupt("a batch of the log"))?;
        tail.next_batch = tail.next_batch.max(batch + 1);
        tail.log.push_back((batch, body.len()));
        tail.log_bytes += body.len();
    }
    Ok(())
}
