use ::store::{Migration, position};

pub(super) const COMPONENT: &str = "device-agent";

const SQLITE: &str = "
CREATE TABLE device_group (
    resource TEXT NOT NULL, api_key TEXT NOT NULL, tenant TEXT NOT NULL, path TEXT NOT NULL, id TEXT NOT NULL,
    body TEXT NOT NULL, created_us INTEGER NOT NULL, PRIMARY KEY (resource, api_key));
CREATE INDEX device_group_scope ON device_group (tenant, path, created_us, id);
CREATE TABLE device (
    tenant TEXT NOT NULL, path TEXT NOT NULL, id TEXT NOT NULL, api_key TEXT NOT NULL,
    body TEXT NOT NULL, created_us INTEGER NOT NULL, PRIMARY KEY (tenant, path, id, api_key));
CREATE INDEX device_id ON device (id);
CREATE INDEX device_age ON device (tenant, path, created_us, id);
CREATE TABLE diverted_device (
    tenant TEXT NOT NULL, path TEXT NOT NULL, id TEXT NOT NULL, mark BLOB NOT NULL,
    PRIMARY KEY (tenant, path, id)) WITHOUT ROWID;
";

const POSTGRES: &str = r#"
CREATE TABLE device_group (
    resource TEXT COLLATE "C" NOT NULL, api_key TEXT COLLATE "C" NOT NULL, tenant TEXT COLLATE "C" NOT NULL,
    path TEXT COLLATE "C" NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL, created_us BIGINT NOT NULL,
    PRIMARY KEY (resource, api_key));
CREATE INDEX device_group_scope ON device_group (tenant, path, created_us, id);
CREATE TABLE device (
    tenant TEXT COLLATE "C" NOT NULL, path TEXT COLLATE "C" NOT NULL, id TEXT COLLATE "C" NOT NULL,
    api_key TEXT COLLATE "C" NOT NULL, body TEXT NOT NULL, created_us BIGINT NOT NULL,
    PRIMARY KEY (tenant, id, path, api_key));
CREATE INDEX device_id ON device (id);
CREATE INDEX device_age ON device (tenant, path, created_us, id);
CREATE TABLE diverted_device (
    tenant TEXT COLLATE "C" NOT NULL, path TEXT COLLATE "C" NOT NULL, id TEXT COLLATE "C" NOT NULL,
    mark BYTEA NOT NULL, PRIMARY KEY (tenant, id, path)) WITH (fillfactor = 50);
"#;

pub(super) const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "groups, devices, diverted measures",
    sqlite: &[SQLITE, position::SQLITE_SCHEMA, bus::outbox::SQLITE_SCHEMA],
    postgres: &[POSTGRES, position::POSTGRES_SCHEMA, bus::outbox::POSTGRES_SCHEMA],
}];
