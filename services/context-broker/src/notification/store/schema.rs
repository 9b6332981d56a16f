//! The tables of the notifier: in a file of its own when embedded, beside the broker's on PostgreSQL.

use store::Migration;

pub(super) const COMPONENT: &str = "notifier";

const SQLITE: &str = "
CREATE TABLE pending_delivery (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, endpoint TEXT NOT NULL, tenant TEXT NOT NULL, subscription TEXT NOT NULL,
    revision INTEGER NOT NULL, lane TEXT NOT NULL, target TEXT NOT NULL, body BLOB NOT NULL,
    commit_time_us INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0);
CREATE INDEX pending_by_endpoint ON pending_delivery (endpoint, seq);
CREATE INDEX pending_by_subscription ON pending_delivery (tenant, subscription);
CREATE TABLE subscription_state (
    tenant TEXT NOT NULL, subscription TEXT NOT NULL,
    times_sent INTEGER NOT NULL, last_notification_us INTEGER, last_success_us INTEGER, last_success_code INTEGER,
    last_failure_us INTEGER, last_failure_reason TEXT, fails_counter INTEGER NOT NULL, accepted_us INTEGER,
    closed_revision INTEGER, PRIMARY KEY (tenant, subscription)) WITHOUT ROWID;
";

const POSTGRES: &str = r#"
CREATE TABLE pending_delivery (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, shard SMALLINT NOT NULL, endpoint TEXT COLLATE "C" NOT NULL,
    tenant TEXT COLLATE "C" NOT NULL, subscription TEXT COLLATE "C" NOT NULL, revision BIGINT NOT NULL,
    lane TEXT NOT NULL, target TEXT NOT NULL, body BYTEA NOT NULL, commit_time_us BIGINT NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0)
    WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
CREATE INDEX pending_by_endpoint ON pending_delivery (endpoint, seq);
CREATE INDEX pending_by_shard ON pending_delivery (shard, endpoint);
CREATE INDEX pending_by_subscription ON pending_delivery (tenant, subscription);
CREATE TABLE subscription_state (
    tenant TEXT COLLATE "C" NOT NULL, subscription TEXT COLLATE "C" NOT NULL,
    times_sent BIGINT NOT NULL, last_notification_us BIGINT, last_success_us BIGINT, last_success_code BIGINT,
    last_failure_us BIGINT, last_failure_reason TEXT, fails_counter BIGINT NOT NULL, accepted_us BIGINT,
    closed_revision BIGINT, PRIMARY KEY (tenant, subscription)) WITH (fillfactor = 60);
CREATE TABLE delivery_member (owner TEXT PRIMARY KEY, until TIMESTAMPTZ NOT NULL);
CREATE TABLE delivery_shard (shard SMALLINT PRIMARY KEY, owner TEXT NOT NULL, until TIMESTAMPTZ NOT NULL);
"#;

/// On SQLite the notifier has a file of its own, with its own log of topic `history`.
pub(super) const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "deliveries, states, position",
        sqlite: &[SQLITE, store::position::SQLITE_SCHEMA, bus::outbox::SQLITE_SCHEMA],
        postgres: &[POSTGRES, store::position::POSTGRES_SCHEMA],
    },
    Migration {
        version: 2,
        name: "count of given up notifications",
        sqlite: &["ALTER TABLE subscription_state ADD COLUMN dropped INTEGER NOT NULL DEFAULT 0"],
        postgres: &["ALTER TABLE subscription_state ADD COLUMN dropped BIGINT NOT NULL DEFAULT 0"],
    },
];

/// Columns of a delivery in the order of [`super::row::PendingRow`].
pub(super) const PENDING: &str =
    "seq, tenant, subscription, revision, lane, target, body, commit_time_us, attempts";

/// Columns of a state in the order of [`crate::notification::DeliveryState`].
pub(super) const STATE: &str = "times_sent, last_notification_us, last_success_us, last_success_code, \
    last_failure_us, last_failure_reason, fails_counter, accepted_us, closed_revision, dropped";
