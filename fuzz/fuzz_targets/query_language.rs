//! The simple query language. What holds for any input stands in `entries/query_language.rs`.
#![no_main]

#[path = "../entries/query_language.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::run(data));
