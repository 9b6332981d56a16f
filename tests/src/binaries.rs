//! Where the programs under test are.

#![allow(clippy::disallowed_methods, reason = "tests learn of their programs through the environment")]

use std::path::PathBuf;

/// The file of program `name`, or `None` after saying why the test is skipped.
///
/// `./test` builds the programs first and requires them (`TEST_REQUIRE_SERVERS=1`). Otherwise a test of the programs would
/// run against whatever was built last; so it is skipped, unless `TEST_BINARIES` names their folder (1: beside the test).
///
/// # Panics
/// When the programs are required and this one was not built.
pub fn program(name: &str) -> Option<PathBuf> {
    let folder = match std::env::var("TEST_BINARIES") {
        Ok(folder) if !folder.is_empty() && folder != "1" => PathBuf::from(folder),
        Ok(folder) if folder == "1" => beside_this_test(),
        _ if store::testing::required() => beside_this_test(),
        _ => {
            store::testing::skip("needs TEST_BINARIES, the folder of the built programs");
            return None;
        }
    };
    let path = folder.join(name);
    assert!(path.is_file(), "{} is missing: cargo build --workspace --bins", path.display());
    Some(path)
}

/// `target/<profile>`: a test program lies in `target/<profile>/deps`.
fn beside_this_test() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its file");
    test.ancestors().nth(2).expect("a test lies in target/<profile>/deps").to_owned()
}
