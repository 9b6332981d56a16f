//! The worlds that are measured, and the requests to them.

use std::{fmt::Write as _, sync::Arc};

use crate::{
    load::{Requests, request},
    mesh::{json_headers, tenant_headers},
};

/// Entities per request while a world is made.
const BATCH: u64 = 500;

/// Where rooms with a place are: from this corner (latitude, longitude) so many degrees to the north and to the east.
const SOUTH_WEST: (f64, f64) = (40.2, -3.9);
const CITY: f64 = 0.5;

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
    made(from, to, room_json)
}

/// The same with a place each.
pub(super) fn placed_rooms(from: u64, to: u64) -> Requests {
    made(from, to, placed_room_json)
}

fn made(from: u64, to: u64, json: fn(u64) -> String) -> Requests {
    Arc::new(move |n, out| {
        let first = from + n * BATCH;
        let entities: Vec<String> = (first..to.min(first + BATCH)).map(json).collect();
        let body = format!(r#"{{"actionType":"append","entities":[{}]}}"#, entities.join(","));
        request(out, "POST", "/v2/op/update", &json_headers(), body.as_bytes());
    })
}

/// A room with a place, somewhere in a city.
fn placed_room_json(n: u64) -> String {
    let room = room_json(n);
    let (latitude, longitude) = place(n);
    let location = format!(r#","location":{{"type":"geo:point","value":"{latitude:.6}, {longitude:.6}"}}}}"#);
    room.strip_suffix('}').map_or_else(String::new, |open| format!("{open}{location}"))
}

/// A number without any likeness to its neighbours' (the last steps of splitmix64).
fn mixed(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ (n >> 31)
}

/// A place in a square of [`CITY`] degrees, spread evenly.
pub(super) fn place(n: u64) -> (f64, f64) {
    let along = |seed: u64| (mixed(n ^ seed) >> 11) as f64 / (1_u64 << 53) as f64 * CITY;
    (SOUTH_WEST.0 + along(1 << 62), SOUTH_WEST.1 + along(1 << 63))
}

/// PATCHes one attribute of `per_request` of `count` rooms in one request; each value is new.
pub(super) fn updates(count: u64, per_request: u64) -> Requests {
    let headers = json_headers();
    Arc::new(move |n, out| {
        let mut body = String::from(r#"{"actionType":"update","entities":["#);
        for n in n * per_request..(n + 1) * per_request {
            let (separator, id) = (if body.ends_with('[') { "" } else { "," }, room(spread(n, count)));
            write!(
                body,
                r#"{separator}{{"id":"{id}","type":"Room","temperature":{{"type":"Number","value":{n}}}}}"#
            )
            .expect("a string takes all text");
        }
        body.push_str("]}");
        request(out, "POST", "/v2/op/update", &headers, body.as_bytes());
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
    let path = path.to_owned();
    get_each(move |_| path.clone())
}

/// GETs what `path` says for each number.
pub(super) fn get_each(path: impl Fn(u64) -> String + Send + Sync + 'static) -> Requests {
    let headers = tenant_headers();
    Arc::new(move |n, out| request(out, "GET", &path(n), &headers, &[]))
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
    fn placed_rooms_are_json_within_the_city() {
        for n in [0, 1, 999_999] {
            let room: Value = serde_json::from_str(&placed_room_json(n)).unwrap();
            let place = room["location"]["value"].as_str().unwrap();
            let (latitude, longitude) = place.split_once(", ").unwrap();
            let along = [
                latitude.parse::<f64>().unwrap() - SOUTH_WEST.0,
                longitude.parse::<f64>().unwrap() - SOUTH_WEST.1,
            ];
            assert!(along.iter().all(|degrees| (0.0..=CITY).contains(degrees)), "{place}");
        }
    }

    #[test]
    fn a_batch_updates_as_many_rooms_as_it_should() {
        let mut out = Vec::new();
        updates(1000, 3)(2, &mut out);
        let text = String::from_utf8(out).unwrap();
        let body: Value = serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap();
        let values: Vec<&Value> =
            body["entities"].as_array().unwrap().iter().map(|room| &room["temperature"]["value"]).collect();
        assert_eq!(values, [6, 7, 8]);
    }

    #[test]
    fn consecutive_numbers_are_spread_over_the_whole_range() {
        let seen: std::collections::BTreeSet<u64> = (0..2000).map(|n| spread(n, 100)).collect();
        assert_eq!(seen.len(), 100);
    }
}
