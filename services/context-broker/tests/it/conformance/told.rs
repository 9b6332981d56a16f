//! What a receiver was told against what a row expects.

use super::sheet::Told;
use crate::sink::Received;

/// `bodies` are those of `received`, with `ID` for the subscription's id. Their order is not looked at.
pub(super) fn compare(wanted: &[Told], received: &[Received], bodies: &[String]) -> Result<(), String> {
    let mut left: Vec<_> = received.iter().zip(bodies).collect();
    for told in wanted {
        let found = left.iter().position(|(one, body)| **body == told.body && differs(told, one).is_none());
        match found {
            Some(at) => drop(left.swap_remove(at)),
            None => {
                let nearest = left.iter().find(|(_, body)| **body == told.body);
                let why = nearest.and_then(|(one, _)| differs(told, one)).unwrap_or_else(|| {
                    let bodies: Vec<&str> = left.iter().map(|(_, body)| body.as_str()).collect();
                    format!("tells {}\n        not {}", bodies.join("\n              "), told.body)
                });
                return Err(why);
            }
        }
    }
    Ok(())
}

/// How line or headers are not those expected.
fn differs(told: &Told, received: &Received) -> Option<String> {
    let line = format!("{} HTTP/1.1", told.line);
    if received.line != line {
        return Some(format!("tells with {}, not {line}", received.line));
    }
    told.headers.iter().find_map(|(name, wanted)| {
        let found = received.header(name);
        (found != wanted.as_deref()).then(|| format!("tells with {name} {found:?}, not {wanted:?}"))
    })
}
