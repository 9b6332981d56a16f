//! The stores against real files and a real server.

#![allow(clippy::unwrap_used, reason = "tests")]

mod group_commit;
mod position;
mod postgres;
mod sqlite;

use store::Migration;

/// A table and the positions.
const ONE: Migration = Migration {
    version: 1,
    name: "thing",
    sqlite: &[
        "CREATE TABLE thing (id INTEGER PRIMARY KEY, text TEXT UNIQUE)",
        store::position::SQLITE_SCHEMA,
    ],
    postgres: &[
        "CREATE TABLE thing (id BIGINT PRIMARY KEY, text TEXT UNIQUE)",
        store::position::POSTGRES_SCHEMA,
    ],
};

const TWO: Migration = Migration {
    version: 2,
    name: "colour",
    sqlite: &["ALTER TABLE thing ADD COLUMN colour TEXT"],
    postgres: &["ALTER TABLE thing ADD COLUMN colour TEXT"],
};

const EDITED: Migration = Migration {
    version: 1,
    name: "thing",
    sqlite: &["CREATE TABLE thing (id INTEGER PRIMARY KEY)"],
    postgres: &["CREATE TABLE thing (id BIGINT PRIMARY KEY)"],
};
