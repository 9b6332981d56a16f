//! Ultralight payloads. What holds for any input stands in `entries/ultralight.rs`.
#![no_main]

#[path = "../entries/ultralight.rs"]
mod entry;
#[allow(dead_code, unreachable_pub, reason = "a part of the agent, included alone")]
#[path = "../../services/device-agent/src/ultralight/mod.rs"]
mod ultralight;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::run(data));
