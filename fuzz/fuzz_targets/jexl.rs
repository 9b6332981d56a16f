//! JEXL. What holds for any input stands in `entries/jexl.rs`.
#![no_main]

#[path = "../entries/jexl.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::run(data));
