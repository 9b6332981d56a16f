//! The worlds that are measured, and the requests to them.

use std::{fmt::Write as _, sync::Arc};

use crate::{
    load::{Requests, request},
    mesh::{json_headers, tenant_headers},
};

/// Entities per request while a world is made.
const BATCH: u64 = 500;

/// Spreads consecutive numbers over `0..count`.
pub(super) fn spread(n: u64, count: u64) -> u64 {
    (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 24) % count.max(1)
}

pub(super) fn room(n: u64) -> String {
    format!("urn:ngsi-ld:Room:{n:07}")
}

/// A room with five attributes.
fn room_json(n: u64) -> String {
    format!(
        r#"{{"id":"{}","type":"Room","temperature":{{"type":"Number","value":{}.5}},"humidity":{{"type":"Number","value":{}}},"occupied":{{"type":"Boolean","value":{}}},"floor":{{"type":"Text","value":"floor {}"}},"serial":{{"type":"Text","value":"SN-{n:012}","metadata":{{"checked":{{"type":"Boolean","value":true}}}}}}}}"#,
        room(n),
        n % 40,
        n % 100,
        n.is_multiple_of(2),
        n % 7,
    )
}

/// How many requests of [`rooms`] make the rooms `from..to`.
pub(super) fn batches(from: u64, to: u64) -> u64 {
    (to - from).div_ceil(BATCH)
}

/// Makes the rooms `from..to`, [`BATCH`] per request.
pub(super) fn rooms(from: u64, to: u64) -> Requests {
    Arc::new(move |n, out| {
        let first = from + n * BATCH;
        let entities: Vec<String> = (first..to.min(first + BATCH)).map(room_json).collect();
        let body = format!(r#"{{"actionType":"append","entities":[{}]}}"#, entities.join(","));
        request(out, "POST", "/v2/op/update", &json_headers(), body.as_bytes());
    })
}

/// PATCHes one attribute of one of `count` rooms; each value is new.
pub(super) fn patches(count: u64) -> Requests {
    let headers = json_headers();
    Arc::new(move |n, out| {
        let path = format!("/v2/entities/{}/attrs", room(spread(n, count)));
        let body = format!(r#"{{"temperature":{{"type":"Number","value":{n}}}}}"#);
        request(out, "PATCH", &path, &headers, body.as_bytes());
    })
}

/// GETs one of `count` rooms; `prefix` and `headers` lead through the gateway or not.
pub(super) fn gets(count: u64, prefix: &'static str, headers: String) -> Requests {
    Arc::new(move |n, out| {
        let path = format!("{prefix}/v2/entities/{}", room(spread(n, count)));
        request(out, "GET", &path, &headers, &[]);
    })
}

/// The same GET each time.
pub(super) fn get(path: &str) -> Requests {
    let (path, headers) = (path.to_owned(), tenant_headers());
    Arc::new(move |_, out| request(out, "GET", &path, &headers, &[]))
}

/// The same body of a history notification for one entity with points `from..from + count`, one a second.
pub(super) fn points(entity: &str, from: u64, count: u64) -> String {
    let mut body = String::with_capacity(count as usize * 160);
    body.push_str(r#"{"subscriptionId":"bench","data":["#);
    for n in from..from + count {
        let separator = if n == from { "" } else { "," };
        let time = jiff::Timestamp::from_second(1_700_000_000 + n as i64).unwrap_or_default();
        let value = (n % 1000) as f64 / 10.0;
        write!(
            body,
            r#"{separator}{{"id":"{entity}","type":"Meter","power":{{"type":"Number","value":{value}}},"TimeInstant":{{"type":"DateTime","value":"{time}"}}}}"#
        )
        .expect("a string takes all text");
    }
    body.push_str("]}");
    body
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn bodies_are_json_and_batches_cover_the_world() {
        let requests = rooms(0, BATCH + 1);
        assert_eq!(batches(0, BATCH + 1), 2);
        let mut ids = std::collections::BTreeSet::new();
        for n in 0..2 {
            let mut out = Vec::new();
            requests(n, &mut out);
            let text = String::from_utf8(out).unwrap();
            let body: Value = serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap();
            ids.extend(body["entities"].as_array().unwrap().iter().map(|room| room["id"].to_string()));
        }
        assert_eq!(ids.len() as u64, BATCH + 1);
        let body: Value = serde_json::from_str(&points("m", 3, 2)).unwrap();
        assert_eq!(body["data"][1]["TimeInstant"]["value"], "2023-11-14T22:13:24Z");
    }

    #[test]
    fn consecutive_numbers_are_spread_over_the_whole_range() {
        let seen: std::collections::BTreeSet<u64> = (0..2000).map(|n| spread(n, 100)).collect();
        assert_eq!(seen.len(), 100);
    }
}
