//! Ultralight payloads: any text, with and without autocast; the limits hold whatever is sent.

// The parser is pure: who includes this says where it is, so that no other dependency of the agent is built for it.
use super::ultralight::{Limits, Payload, parse};

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let limits = Limits { groups: 16, measures: 64 };
    for autocast in [true, false] {
        let Ok(Payload::Measures(groups)) = parse(text, autocast, limits) else { continue };
        assert!(groups.len() <= limits.groups);
        assert!(groups.iter().map(|group| group.measures.len()).sum::<usize>() <= limits.measures);
        assert!(groups.iter().flat_map(|group| &group.measures).all(|(name, _)| !name.is_empty()));
    }
}
