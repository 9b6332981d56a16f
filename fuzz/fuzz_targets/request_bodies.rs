//! Bodies of requests. What holds for any input stands in `entries/request_bodies.rs`.
#![no_main]

#[path = "../entries/request_bodies.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::run(data));
