use store::{Migration, position};

pub(super) const COMPONENT: &str = "time-series";

/// One plain row per change. `arrival` orders rows of one instant; `version` makes a stream record unique, together with
/// its time, so that the table can be partitioned by time (decision 14). Names compare byte by byte, as in the embedded
/// engine. `cells` maps attribute ids to values; nulls are left out.
pub(super) const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "history",
    sqlite: &[],
    postgres: &[
        "CREATE TABLE catalog_epoch (one BOOLEAN PRIMARY KEY CHECK (one), epoch BIGINT NOT NULL);
         INSERT INTO catalog_epoch VALUES (true, 0);
         CREATE TABLE entity_type (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant TEXT COLLATE \"C\" NOT NULL,
             folded TEXT COLLATE \"C\" NOT NULL, name TEXT COLLATE \"C\" NOT NULL, UNIQUE (tenant, folded));
         CREATE TABLE attribute (id INTEGER GENERATED ALWAYS AS IDENTITY PRIMARY KEY, type BIGINT NOT NULL,
             folded TEXT COLLATE \"C\" NOT NULL, name TEXT COLLATE \"C\" NOT NULL, kind BIGINT NOT NULL,
             declared TEXT NOT NULL, UNIQUE (type, folded));
         CREATE TABLE series (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, type BIGINT NOT NULL,
             entity TEXT COLLATE \"C\" NOT NULL, path TEXT COLLATE \"C\" NOT NULL, UNIQUE (entity, type, path));
         CREATE INDEX series_type ON series (type);
         CREATE SEQUENCE arrival;
         CREATE TABLE history_row (series BIGINT NOT NULL, type BIGINT NOT NULL, time_us BIGINT NOT NULL,
             arrival BIGINT NOT NULL, version BIGINT, cells JSONB NOT NULL, PRIMARY KEY (series, time_us, arrival));
         CREATE UNIQUE INDEX history_row_version ON history_row (series, time_us, version) WHERE version IS NOT NULL;
         CREATE INDEX history_row_type ON history_row (type, time_us, arrival);",
        position::POSTGRES_SCHEMA,
    ],
}];
