//! Types, attributes and series of the tables, kept in the process for the writer.
//!
//! Entries are only added, except when a type is dropped: that raises `catalog_epoch` under an exclusive advisory lock,
//! and every append takes the lock shared and compares the epoch. What a transaction finds or makes becomes part of the
//! cache after its commit.

use std::collections::{BTreeSet, HashMap};

use moka::sync::Cache;
use parking_lot::RwLock;
use scope::Tenant;
use sqlx::PgConnection;
use store::StoreError;

use super::cells::text;
use crate::{cell::Kind, ingest::kind_for, query::fold, row::Row};

/// Key of the advisory lock: shared by appends, exclusive for a drop.
pub(super) const LOCK: i64 = 0x7473_6472_6f70;
/// Series kept in memory.
const MAX_SERIES: u64 = 1_000_000;

pub(super) type TypeKey = (Tenant, String);
type AttributeKey = (i64, String);
type SeriesKey = (i64, String, String);

pub(super) struct Dictionary {
    known: RwLock<Known>,
    series: Cache<SeriesKey, i64>,
}

#[derive(Default)]
struct Known {
    epoch: i64,
    types: HashMap<TypeKey, i64>,
    attributes: HashMap<AttributeKey, (u32, Kind)>,
}

/// What one transaction works with.
pub(super) struct Resolved {
    epoch: i64,
    types: HashMap<TypeKey, i64>,
    attributes: HashMap<AttributeKey, (u32, Kind)>,
    series: HashMap<SeriesKey, i64>,
}

pub(super) fn type_key(row: &Row) -> TypeKey {
    (row.scope.tenant.clone(), fold(&text(&row.entity_type)))
}

fn series_key(type_id: i64, row: &Row) -> SeriesKey {
    (type_id, text(&row.entity_id).into_owned(), row.scope.path.as_str().to_owned())
}

impl Resolved {
    pub(super) fn type_id(&self, row: &Row) -> Option<i64> {
        self.types.get(&type_key(row)).copied()
    }

    pub(super) fn series(&self, type_id: i64, row: &Row) -> Option<i64> {
        self.series.get(&series_key(type_id, row)).copied()
    }

    pub(super) fn attribute(&self, type_id: i64, name: &str) -> Option<(u32, Kind)> {
        self.attributes.get(&(type_id, fold(&text(name)))).copied()
    }
}

fn lost(what: &str) -> StoreError {
    StoreError::Retry(format!("{what} vanished"))
}

impl Dictionary {
    pub(super) fn new() -> Self {
        Self { known: RwLock::default(), series: Cache::new(MAX_SERIES) }
    }

    /// Finds or makes what the rows need, in the transaction of `connection`. New entries are made in order of their
    /// keys, so that two replicas do not wait for each other crosswise.
    pub(super) async fn resolve(
        &self,
        connection: &mut PgConnection,
        rows: &[&Row],
    ) -> Result<Resolved, StoreError> {
        sqlx::query("SELECT pg_advisory_xact_lock_shared($1)").bind(LOCK).execute(&mut *connection).await?;
        let epoch: i64 =
            sqlx::query_scalar("SELECT epoch FROM catalog_epoch").fetch_one(&mut *connection).await?;
        let (types, attributes) = {
            let known = self.known.read();
            if known.epoch == epoch {
                (known.types.clone(), known.attributes.clone())
            } else {
                Default::default()
            }
        };
        let mut resolved = Resolved { epoch, types, attributes, series: HashMap::new() };
        types_of(connection, rows, &mut resolved).await?;
        attributes_of(connection, rows, &mut resolved).await?;
        self.series_of(connection, rows, &mut resolved).await?;
        Ok(resolved)
    }

    /// After the commit.
    pub(super) fn keep(&self, resolved: Resolved) {
        for (key, id) in resolved.series {
            self.series.insert(key, id);
        }
        let mut known = self.known.write();
        if known.epoch > resolved.epoch {
            return;
        }
        known.epoch = resolved.epoch;
        known.types = resolved.types;
        known.attributes = resolved.attributes;
    }

    async fn series_of(
        &self,
        connection: &mut PgConnection,
        rows: &[&Row],
        resolved: &mut Resolved,
    ) -> Result<(), StoreError> {
        let mut missing: BTreeSet<SeriesKey> = BTreeSet::new();
        for row in rows {
            let key = series_key(resolved.type_id(row).ok_or_else(|| lost("a type"))?, row);
            match self.series.get(&key) {
                Some(id) => {
                    resolved.series.insert(key, id);
                }
                None => {
                    missing.insert(key);
                }
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let types: Vec<i64> = missing.iter().map(|key| key.0).collect();
        let entities: Vec<&str> = missing.iter().map(|key| key.1.as_str()).collect();
        let paths: Vec<&str> = missing.iter().map(|key| key.2.as_str()).collect();
        sqlx::query(
            "INSERT INTO series (type, entity, path) SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[]) \
             ON CONFLICT DO NOTHING",
        )
        .bind(&types)
        .bind(&entities)
        .bind(&paths)
        .execute(&mut *connection)
        .await?;
        let found: Vec<(i64, i64, String, String)> = sqlx::query_as(
            "SELECT s.id, s.type, s.entity, s.path FROM unnest($1::bigint[], $2::text[], $3::text[]) k(t, e, p) \
             JOIN series s ON s.type = k.t AND s.entity = k.e AND s.path = k.p",
        )
        .bind(&types)
        .bind(&entities)
        .bind(&paths)
        .fetch_all(connection)
        .await?;
        resolved
            .series
            .extend(found.into_iter().map(|(id, type_id, entity, path)| ((type_id, entity, path), id)));
        Ok(())
    }
}

async fn types_of(
    connection: &mut PgConnection,
    rows: &[&Row],
    resolved: &mut Resolved,
) -> Result<(), StoreError> {
    let mut missing: HashMap<TypeKey, &str> = HashMap::new();
    for row in rows {
        let key = type_key(row);
        if !resolved.types.contains_key(&key) {
            missing.entry(key).or_insert(&row.entity_type);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let mut missing: Vec<(TypeKey, &str)> = missing.into_iter().collect();
    missing.sort();
    let tenants: Vec<&str> = missing.iter().map(|((tenant, _), _)| tenant.as_str()).collect();
    let folded: Vec<&str> = missing.iter().map(|((_, folded), _)| folded.as_str()).collect();
    let names: Vec<String> = missing.iter().map(|(_, name)| text(name).into_owned()).collect();
    sqlx::query(
        "INSERT INTO entity_type (tenant, folded, name) SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) \
         ON CONFLICT DO NOTHING",
    )
    .bind(&tenants)
    .bind(&folded)
    .bind(&names)
    .execute(&mut *connection)
    .await?;
    let found: Vec<(i64, String, String)> = sqlx::query_as(
        "SELECT t.id, t.tenant, t.folded FROM unnest($1::text[], $2::text[]) k(t, f) \
         JOIN entity_type t ON t.tenant = k.t AND t.folded = k.f",
    )
    .bind(&tenants)
    .bind(&folded)
    .fetch_all(connection)
    .await?;
    for (id, tenant, folded) in found {
        let tenant =
            Tenant::from_header(Some(&tenant)).map_err(|_| StoreError::Internal("a tenant's name".into()))?;
        resolved.types.insert((tenant, folded), id);
    }
    Ok(())
}

async fn attributes_of(
    connection: &mut PgConnection,
    rows: &[&Row],
    resolved: &mut Resolved,
) -> Result<(), StoreError> {
    let mut missing: HashMap<AttributeKey, (String, Kind, String)> = HashMap::new();
    for row in rows {
        let type_id = resolved.type_id(row).ok_or_else(|| lost("a type"))?;
        for attribute in &row.attributes {
            let key = (type_id, fold(&text(&attribute.name)));
            if resolved.attributes.contains_key(&key) || missing.contains_key(&key) {
                continue;
            }
            if let Some(kind) = kind_for(&attribute.name, &attribute.declared, &attribute.value) {
                let declared =
                    if attribute.declared.is_empty() { kind.ngsi_type() } else { &attribute.declared };
                missing.insert(key, (text(&attribute.name).into_owned(), kind, text(declared).into_owned()));
            }
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let mut missing: Vec<(AttributeKey, (String, Kind, String))> = missing.into_iter().collect();
    missing.sort_by(|a, b| a.0.cmp(&b.0));
    let types: Vec<i64> = missing.iter().map(|((type_id, _), _)| *type_id).collect();
    let folded: Vec<&str> = missing.iter().map(|((_, folded), _)| folded.as_str()).collect();
    let names: Vec<&str> = missing.iter().map(|(_, (name, _, _))| name.as_str()).collect();
    let kinds: Vec<i64> = missing.iter().map(|(_, (_, kind, _))| kind.code()).collect();
    let declared: Vec<&str> = missing.iter().map(|(_, (_, _, declared))| declared.as_str()).collect();
    sqlx::query(
        "INSERT INTO attribute (type, folded, name, kind, declared) \
         SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::text[]) ON CONFLICT DO NOTHING",
    )
    .bind(&types)
    .bind(&folded)
    .bind(&names)
    .bind(&kinds)
    .bind(&declared)
    .execute(&mut *connection)
    .await?;
    let found: Vec<(i32, i64, String, i64)> = sqlx::query_as(
        "SELECT a.id, a.type, a.folded, a.kind FROM unnest($1::bigint[], $2::text[]) k(t, f) \
         JOIN attribute a ON a.type = k.t AND a.folded = k.f",
    )
    .bind(&types)
    .bind(&folded)
    .fetch_all(connection)
    .await?;
    for (id, type_id, folded, kind) in found {
        let wrong = || StoreError::Internal("an attribute's id or kind".into());
        let id = u32::try_from(id).map_err(|_| wrong())?;
        let kind = Kind::from_code(kind).ok_or_else(wrong)?;
        resolved.attributes.insert((type_id, folded), (id, kind));
    }
    Ok(())
}
