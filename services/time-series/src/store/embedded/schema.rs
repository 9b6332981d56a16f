use store::{Migration, position};

pub(super) const COMPONENT: &str = "time-series";

/// Ids of types and series are assigned by the writer, without gaps from 1. `chunk.id` grows in order of arrival within
/// a series. `chunk` is an ordinary rowid table: WITHOUT ROWID would spill each body into a page of its own.
pub(super) const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "history",
    sqlite: &[
        "CREATE TABLE history_state (one INTEGER PRIMARY KEY CHECK (one = 1), epoch INTEGER NOT NULL);
         INSERT INTO history_state VALUES (1, 0);
         CREATE TABLE entity_type (id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, folded TEXT NOT NULL,
             name TEXT NOT NULL, UNIQUE (tenant, folded));
         CREATE TABLE attribute (id INTEGER PRIMARY KEY, type INTEGER NOT NULL, name TEXT NOT NULL,
             kind INTEGER NOT NULL, declared TEXT NOT NULL);
         CREATE TABLE series (id INTEGER PRIMARY KEY, type INTEGER NOT NULL, path TEXT NOT NULL, entity TEXT NOT NULL,
             version INTEGER NOT NULL, sealed_batch INTEGER NOT NULL);
         CREATE TABLE log (batch INTEGER PRIMARY KEY, body BLOB NOT NULL);
         CREATE TABLE chunk (id INTEGER PRIMARY KEY, type INTEGER NOT NULL, series INTEGER NOT NULL,
             t0 INTEGER NOT NULL, t1 INTEGER NOT NULL, n INTEGER NOT NULL, stats BLOB NOT NULL, body BLOB NOT NULL);
         CREATE INDEX chunk_series_t0 ON chunk (series, t0, t1);
         CREATE INDEX chunk_series_t1 ON chunk (series, t1, t0);
         CREATE INDEX chunk_type_t0 ON chunk (type, t0, t1);
         CREATE INDEX chunk_type_t1 ON chunk (type, t1, t0);",
        position::SQLITE_SCHEMA,
    ],
    postgres: &[],
}];
