//! A short smoke run of the fuzz targets (fuzz/): the same entries and seeds, driven by a simple mutator instead of libFuzzer,
//! so that no compiler but the usual one is needed. `fuzz/run` drives them by coverage, for as long as one likes.

#[path = "../../../fuzz/entries/geography.rs"]
mod geography;
#[path = "../../../fuzz/entries/jexl.rs"]
mod jexl_text;
mod mutate;
#[path = "../../../fuzz/entries/query_language.rs"]
mod query_language;
#[path = "../../../fuzz/entries/request_bodies.rs"]
mod request_bodies;
#[path = "../../../fuzz/entries/token_path.rs"]
mod token_path;
#[path = "../../../fuzz/entries/ultralight.rs"]
mod ultralight_payload;

use device_agent::ultralight;
use mutate::smoke;

#[test]
fn no_text_makes_the_query_language_panic() {
    smoke("query_language", 2_000, query_language::run);
}

#[test]
fn whatever_location_is_accepted_is_found_by_the_queries_that_mean_it() {
    smoke("geography", 5_000, geography::run);
}

#[test]
fn whatever_body_is_accepted_can_be_applied_shown_and_read_back() {
    smoke("request_bodies", 10_000, request_bodies::run);
}

#[test]
fn no_payload_makes_ultralight_panic_or_exceed_its_limits() {
    smoke("ultralight", 20_000, ultralight_payload::run);
}

#[test]
fn no_token_passes_that_the_issuer_did_not_sign() {
    smoke("token_path", 3_000, token_path::run);
}

#[test]
fn whatever_expression_parses_prints_to_itself_and_its_evaluation_ends() {
    smoke("jexl", 3_000, jexl_text::run);
}

#[test]
fn every_fuzz_target_has_its_smoke_run() {
    let fuzz = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let names = |folder: &str| {
        let entries = std::fs::read_dir(fuzz.join(folder)).expect("a folder");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("readable").path().file_stem().expect("a name").to_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names("fuzz_targets"), names("seeds"));
    let smoked = include_str!("main.rs");
    for name in names("fuzz_targets") {
        let name = name.to_string_lossy();
        assert!(smoked.contains(&format!("smoke(\"{name}\"")), "{name} has no smoke run here");
    }
}
