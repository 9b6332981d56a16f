//! The tables of the broker, for both stores. Steps are never changed once released.

use store::Migration;

/// Name of the component in the table of applied migrations, and of the schema on PostgreSQL.
pub(super) const COMPONENT: &str = "context_broker";

// Keys begin with the selective columns, so that a batch never scans a tenant. Lists are in order of creation, then id,
// then path and type: the indexes hold all of it, so that an offset is skipped within the index alone.
const SQLITE: &str = "
CREATE TABLE entity (
    tenant TEXT NOT NULL, id TEXT NOT NULL, path TEXT NOT NULL, type TEXT NOT NULL,
    attributes BLOB NOT NULL, version INTEGER NOT NULL, created_us INTEGER NOT NULL, modified_us INTEGER NOT NULL,
    expires_us INTEGER, measures BLOB NOT NULL);
CREATE UNIQUE INDEX entity_key ON entity (tenant, id, path, type);
CREATE INDEX entity_list ON entity (tenant, created_us, id, path, type, expires_us);
CREATE INDEX entity_type ON entity (tenant, type, created_us, id, path, expires_us);
CREATE INDEX entity_expiry ON entity (expires_us) WHERE expires_us IS NOT NULL;
CREATE TABLE sequence (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO sequence VALUES ('entity_version', 0);
CREATE TABLE subscription (
    tenant TEXT NOT NULL, id TEXT NOT NULL, path TEXT NOT NULL, body TEXT NOT NULL,
    since_epoch INTEGER NOT NULL, revision INTEGER NOT NULL, created_us INTEGER NOT NULL,
    PRIMARY KEY (tenant, id));
CREATE TABLE subscription_epoch (tenant TEXT PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID;
";

const POSTGRES: &str = r#"
CREATE TABLE entity (
    tenant TEXT COLLATE "C" NOT NULL, id TEXT COLLATE "C" NOT NULL, path TEXT COLLATE "C" NOT NULL,
    type TEXT COLLATE "C" NOT NULL,
    attributes BYTEA NOT NULL, version BIGINT NOT NULL, created_us BIGINT NOT NULL, modified_us BIGINT NOT NULL,
    expires_us BIGINT, measures BYTEA NOT NULL,
    PRIMARY KEY (tenant, id, path, type)) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX entity_list ON entity (tenant, created_us, id, path, type, expires_us);
CREATE INDEX entity_type ON entity (tenant, type, created_us, id, path, expires_us);
CREATE INDEX entity_expiry ON entity (expires_us) WHERE expires_us IS NOT NULL;
CREATE SEQUENCE entity_version;
CREATE TABLE subscription (
    tenant TEXT COLLATE "C" NOT NULL, id TEXT COLLATE "C" NOT NULL, path TEXT COLLATE "C" NOT NULL,
    body TEXT NOT NULL, since_epoch BIGINT NOT NULL, revision BIGINT NOT NULL, created_us BIGINT NOT NULL,
    PRIMARY KEY (tenant, id));
CREATE TABLE subscription_epoch (tenant TEXT COLLATE "C" PRIMARY KEY, epoch BIGINT NOT NULL);
"#;

// The cell of an entity's location (`ngsi::geo`). What was stored before may be anywhere: it has the cell of the whole map
// until it is written again.
const SQLITE_CELL: &str = "
ALTER TABLE entity ADD COLUMN cell INTEGER;
UPDATE entity SET cell = 13510798882111488 WHERE instr(attributes, CAST('geo:' AS BLOB)) > 0;
CREATE INDEX entity_cell ON entity (tenant, cell) WHERE cell IS NOT NULL;
";

const POSTGRES_CELL: &str = "
ALTER TABLE entity ADD COLUMN cell BIGINT;
UPDATE entity SET cell = 13510798882111488 WHERE position('geo:'::bytea in attributes) > 0;
CREATE INDEX entity_cell ON entity (tenant, cell) WHERE cell IS NOT NULL;
";

// For indexes: what they are made of must never change. Attributes that hold the character 0 are found whatever is looked
// for: PostgreSQL has no text for it.
const POSTGRES_VALUE: &str = r"
CREATE FUNCTION attribute_value(attributes BYTEA, path TEXT[]) RETURNS JSONB IMMUTABLE PARALLEL SAFE LANGUAGE SQL AS $$
    SELECT CASE WHEN position('\x5c7530303030'::bytea IN attributes) > 0 THEN '[]'::jsonb
           ELSE convert_from(attributes, 'UTF8')::jsonb #> path END $$;
";

// A change of a subscription is found by its revision, its deletion by the epoch of that.
const SQLITE_CHANGES: &str = "
CREATE INDEX subscription_change ON subscription (tenant, revision);
CREATE INDEX subscription_list ON subscription (tenant, path, created_us, id);
CREATE TABLE subscription_deletion (
    tenant TEXT NOT NULL, epoch INTEGER NOT NULL, id TEXT NOT NULL, PRIMARY KEY (tenant, epoch)) WITHOUT ROWID;
";

const POSTGRES_CHANGES: &str = r#"
CREATE INDEX subscription_change ON subscription (tenant, revision);
CREATE INDEX subscription_list ON subscription (tenant, path, created_us, id);
CREATE TABLE subscription_deletion (
    tenant TEXT COLLATE "C" NOT NULL, epoch BIGINT NOT NULL, id TEXT COLLATE "C" NOT NULL, PRIMARY KEY (tenant, epoch));
"#;

// A list of subscriptions is of one path or of the tenant.
const SUBSCRIPTION_AGE: &str = "CREATE INDEX subscription_age ON subscription (tenant, created_us, id)";

// Offset of the last entry of the journal that is in the rows.
const SQLITE_JOURNAL: &str = "INSERT INTO sequence VALUES ('journal', 0)";

// What is within some cells is counted in the index alone.
const SQLITE_CELL_COUNT: &str = "
DROP INDEX entity_cell;
CREATE INDEX entity_cell ON entity (tenant, cell, type, path, expires_us) WHERE cell IS NOT NULL;
";

pub(super) const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "entities, subscriptions, outbox",
        sqlite: &[SQLITE, bus::outbox::SQLITE_SCHEMA],
        postgres: &[POSTGRES, bus::outbox::POSTGRES_SCHEMA],
    },
    Migration { version: 2, name: "cells of locations", sqlite: &[SQLITE_CELL], postgres: &[POSTGRES_CELL] },
    Migration {
        version: 3,
        name: "values for indexes on attributes",
        sqlite: &[],
        postgres: &[POSTGRES_VALUE],
    },
    Migration {
        version: 4,
        name: "changes of subscriptions",
        sqlite: &[SQLITE_CHANGES],
        postgres: &[POSTGRES_CHANGES],
    },
    Migration { version: 5, name: "the journal", sqlite: &[SQLITE_JOURNAL], postgres: &[] },
    Migration { version: 6, name: "counts by cell", sqlite: &[SQLITE_CELL_COUNT], postgres: &[] },
    Migration {
        version: 7,
        name: "subscriptions by age",
        sqlite: &[SUBSCRIPTION_AGE],
        postgres: &[SUBSCRIPTION_AGE],
    },
];

#[cfg(test)]
mod tests {
    #[test]
    fn the_cell_of_the_whole_map_is_the_one_that_the_migration_writes() {
        use ngsi::geo::{Position, Shape, cell_of};
        let all = vec![Position::new(-90.0, -180.0), Position::new(90.0, 180.0)];
        let cell = cell_of(&Shape::Points(all)).to_string();
        assert!(super::SQLITE_CELL.contains(&cell) && super::POSTGRES_CELL.contains(&cell), "{cell}");
    }
}
