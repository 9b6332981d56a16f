//! Ultralight payloads: any text, with and without autocast; the limits hold whatever is sent.
#![no_main]

use libfuzzer_sys::fuzz_target;

// The parser is pure; taken by its path, so that this target needs none of the agent's other dependencies.
#[allow(dead_code, unreachable_pub)]
#[path = "../../services/device-agent/src/ultralight/mod.rs"]
mod ultralight;

use ultralight::{Limits, Payload, parse};

fuzz_target!(|text: &str| {
    let limits = Limits { groups: 16, measures: 64 };
    for autocast in [true, false] {
        let Ok(Payload::Measures(groups)) = parse(text, autocast, limits) else { continue };
        assert!(groups.len() <= limits.groups);
        assert!(groups.iter().map(|group| group.measures.len()).sum::<usize>() <= limits.measures);
        assert!(groups.iter().flat_map(|group| &group.measures).all(|(name, _)| !name.is_empty()));
    }
});
