//! For tests: the addresses of real servers.

#![allow(clippy::disallowed_methods, reason = "tests learn of their servers through the environment")]

/// The value of `name` (`TEST_POSTGRES_URL`, `TEST_KAFKA_BROKERS`, `TEST_REDIS_URL`, `TEST_TOOLS_DIR`). When it is not
/// set the test prints why it is skipped and returns; under `TEST_REQUIRE_SERVERS=1` that is a failure.
///
/// # Panics
/// When the servers are required and the variable is not set.
pub fn server(name: &str) -> Option<String> {
    match std::env::var(name) {
        Ok(value) if !value.is_empty() => Some(value),
        _ if std::env::var("TEST_REQUIRE_SERVERS").is_ok_and(|value| value == "1") => {
            panic!("{name} is not set, but TEST_REQUIRE_SERVERS=1")
        }
        _ => {
            println!("skipped: needs {name}");
            None
        }
    }
}

/// A schema name that no other test of this run uses.
pub fn fresh_schema(prefix: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
