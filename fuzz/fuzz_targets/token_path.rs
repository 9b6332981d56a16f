//! Tokens, tenants and paths. What holds for any input stands in `entries/token_path.rs`.
#![no_main]

#[path = "../entries/token_path.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::run(data));
