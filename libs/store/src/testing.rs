//! For tests: the addresses of real servers, and what a test says that cannot run without them.

#![allow(clippy::disallowed_methods, reason = "tests learn of their servers through the environment")]

use std::{fs::OpenOptions, io::Write};

/// The value of `name` (`TEST_POSTGRES_URL`, `TEST_KAFKA_BROKERS`, `TEST_REDIS_URL`, `TEST_TOOLS_DIR`), or `None` after
/// [`skip`].
///
/// # Panics
/// When the servers are required and the variable is not set.
pub fn server(name: &str) -> Option<String> {
    match std::env::var(name) {
        Ok(value) if !value.is_empty() => Some(value),
        _ => {
            skip(&format!("needs {name}"));
            None
        }
    }
}

/// Whether this run must have everything that a test asks for: `TEST_REQUIRE_SERVERS=1`.
pub fn required() -> bool {
    std::env::var("TEST_REQUIRE_SERVERS").is_ok_and(|value| value == "1")
}

/// Says why the calling test does nothing; the test returns then. Cargo counts it as passed, so its name is also added to
/// the file `TEST_SKIPS`, from which `./test` learns how many of those that passed were skipped. To be called on the
/// test's own thread, which bears its name.
///
/// # Panics
/// When [`required`], and when the file cannot be written.
pub fn skip(why: &str) {
    assert!(!required(), "{why}, but TEST_REQUIRE_SERVERS=1");
    println!("skipped: {why}");
    let Ok(file) = std::env::var("TEST_SKIPS") else { return };
    let program = std::env::current_exe().expect("a test knows its file");
    let thread = std::thread::current();
    let line = format!("{} {}\n", program.display(), thread.name().unwrap_or("unnamed"));
    let mut file =
        OpenOptions::new().create(true).append(true).open(file).expect("TEST_SKIPS can be written");
    // In one call: tests of several threads and programs write to it.
    file.write_all(line.as_bytes()).expect("TEST_SKIPS can be written");
}

/// Whether the calling test takes seconds by its nature and this run is the inner loop: `TEST_QUICK=1`, set by
/// `./test --quick`. Said and counted as [`skip`] does; the test returns then.
pub fn too_long_for_quick() -> bool {
    let quick = std::env::var("TEST_QUICK").is_ok_and(|value| value == "1");
    if quick {
        skip("takes seconds, TEST_QUICK=1");
    }
    quick
}

/// A schema name that no other test of this run uses.
pub fn fresh_schema(prefix: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
