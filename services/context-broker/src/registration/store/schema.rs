//! The tables of registrations. Steps are never changed once released.

use ::store::Migration;

pub(super) const COMPONENT: &str = "registrations";

const SQLITE: &str = "
CREATE TABLE registration (
    tenant TEXT NOT NULL, id TEXT NOT NULL, path TEXT NOT NULL, body TEXT NOT NULL,
    revision INTEGER NOT NULL, created_us INTEGER NOT NULL,
    times_sent INTEGER NOT NULL DEFAULT 0, last_forwarding_us INTEGER, last_success_us INTEGER,
    last_failure_us INTEGER, PRIMARY KEY (tenant, id));
CREATE TABLE registration_epoch (tenant TEXT PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID;
";

const POSTGRES: &str = r#"
CREATE TABLE registration (
    tenant TEXT COLLATE "C" NOT NULL, id TEXT COLLATE "C" NOT NULL, path TEXT COLLATE "C" NOT NULL,
    body TEXT NOT NULL, revision BIGINT NOT NULL, created_us BIGINT NOT NULL,
    times_sent BIGINT NOT NULL DEFAULT 0, last_forwarding_us BIGINT, last_success_us BIGINT,
    last_failure_us BIGINT, PRIMARY KEY (tenant, id)) WITH (fillfactor = 70);
CREATE TABLE registration_epoch (tenant TEXT COLLATE "C" PRIMARY KEY, epoch BIGINT NOT NULL);
"#;

pub(super) const MIGRATIONS: &[Migration] =
    &[Migration { version: 1, name: "registrations", sqlite: &[SQLITE], postgres: &[POSTGRES] }];
