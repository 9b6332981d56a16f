//! Times of measures (iot-agent 4.3).

use jiff::{
    Timestamp,
    civil::{Date, DateTime},
    tz::TimeZone,
};

/// UTC time in milliseconds: `2026-01-02T03:04:05.678Z`.
pub(crate) fn iso_millis(time_us: i64) -> String {
    format!("{:.3}", timestamp(time_us))
}

/// The same instant as shown in a zone: `2026-01-02T12:04:05.678+09:00`.
pub(crate) fn iso_millis_in(time_us: i64, zone: &TimeZone) -> String {
    timestamp(time_us).to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()
}

/// The instant that an ISO 8601 text means, microseconds since 1970; without a zone it is UTC. `None` if it is no time.
pub(crate) fn parse_iso(text: &str) -> Option<i64> {
    if text.len() > 64 || text.contains('[') {
        return None;
    }
    let instant = text.parse::<Timestamp>().ok().or_else(|| {
        let local =
            text.parse::<DateTime>().ok().or_else(|| Some(text.parse::<Date>().ok()?.at(0, 0, 0, 0)))?;
        Some(local.to_zoned(TimeZone::UTC).ok()?.timestamp())
    })?;
    Some(instant.as_microsecond())
}

fn timestamp(time_us: i64) -> Timestamp {
    // Truncated, as clocks do: .6789 is still in millisecond .678.
    Timestamp::from_millisecond(time_us.div_euclid(1_000)).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_written_with_milliseconds() {
        assert_eq!(iso_millis(1_767_323_045_678_999), "2026-01-02T03:04:05.678Z");
        let tokyo = TimeZone::get("Asia/Tokyo").unwrap();
        assert_eq!(iso_millis_in(1_767_323_045_678_999, &tokyo), "2026-01-02T12:04:05.678+09:00");
        let zurich = TimeZone::get("Europe/Zurich").unwrap();
        assert_eq!(iso_millis_in(0, &zurich), "1970-01-01T01:00:00.000+01:00");
    }

    #[test]
    fn iso_texts_in_their_usual_forms_are_times() {
        for (text, expected) in [
            ("1970-01-01T00:00:01Z", 1_000_000),
            ("1970-01-01T01:00:01+01:00", 1_000_000),
            ("1970-01-01T00:00:01.5", 1_500_000),
            ("19700101T000001Z", 1_000_000),
            ("1970-01-02", 86_400_000_000),
        ] {
            assert_eq!(parse_iso(text), Some(expected), "{text}");
        }
        for text in
            ["", "now", "12", "2016-13-01T00:00:00Z", "2016-06-13T25:00:00Z", "1970-01-01T00:00:01Z[UTC]"]
        {
            assert_eq!(parse_iso(text), None, "{text}");
        }
    }
}
