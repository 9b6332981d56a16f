//! Geographic queries and locations. What holds for any input stands in `entries/geography.rs`.
#![no_main]

#[path = "../entries/geography.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::run(data));
