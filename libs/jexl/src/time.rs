//! Instants as JavaScript and ISO 8601 write them. A text without a zone is in UTC, the zone of the servers.

use jiff::{
    SignedDuration, Timestamp,
    civil::{Date, DateTime, Time},
    tz::{Offset, TimeZone},
};

/// Milliseconds since 1970 that JavaScript's dates can hold.
const MAX_MILLIS: i64 = 8_640_000_000_000_000;

/// Reads a date text: `YYYY[-MM[-DD]][(T| )hh:mm[:ss[.fff]][Z|±hh[:]mm]]` or an RFC 2822 date.
pub(crate) fn parse_micros(text: &str) -> Option<i64> {
    let text = text.trim();
    if text.len() > 64 || !text.is_ascii() {
        return None;
    }
    let micros = iso(text).or_else(|| {
        let zoned = jiff::fmt::rfc2822::parse(text).ok()?;
        Some(zoned.timestamp().as_microsecond())
    })?;
    is_in_range(micros.div_euclid(1000)).then_some(micros)
}

pub(crate) fn is_in_range(millis: i64) -> bool {
    (-MAX_MILLIS..=MAX_MILLIS).contains(&millis)
}

fn iso(text: &str) -> Option<i64> {
    let at = text.find(['T', 't', ' ']).unwrap_or(text.len());
    let (date, clock) = text.split_at_checked(at)?;
    let mut parts = date.split('-');
    let year: i16 = digits(parts.next()?, 4)?;
    let month = parts.next().map_or(Some(1), |part| digits(part, 2))?;
    let day = parts.next().map_or(Some(1), |part| digits(part, 2))?;
    if parts.next().is_some() {
        return None;
    }
    let date = Date::new(year, month, day).ok()?;
    let (time, offset) =
        if clock.is_empty() { (Time::midnight(), 0) } else { time_and_zone(clock.get(1..)?)? };
    let instant = Offset::UTC.to_timestamp(DateTime::from_parts(date, time)).ok()?;
    let instant = instant.checked_sub(SignedDuration::from_mins(offset)).ok()?;
    Some(instant.as_microsecond())
}

/// The time of day, and the minutes that its zone is east of Greenwich.
fn time_and_zone(text: &str) -> Option<(Time, i64)> {
    let at = text.find(['Z', 'z', '+', '-']).unwrap_or(text.len());
    let (clock, zone) = text.split_at_checked(at)?;
    let (clock, fraction) = clock.split_once('.').map_or((clock, None), |(clock, f)| (clock, Some(f)));
    let mut parts = clock.split(':');
    let hour = digits(parts.next()?, 2)?;
    let minute = digits(parts.next()?, 2)?;
    let second = parts.next().map_or(Some(0), |part| digits(part, 2))?;
    if parts.next().is_some() {
        return None;
    }
    let nanos = fraction.map_or(Some(0), nanos)?;
    Some((Time::new(hour, minute, second, nanos).ok()?, zone_minutes(zone)?))
}

fn nanos(fraction: &str) -> Option<i32> {
    let good = (1..=20).contains(&fraction.len()) && fraction.bytes().all(|b| b.is_ascii_digit());
    let nine: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    if good { nine.parse().ok() } else { None }
}

fn zone_minutes(zone: &str) -> Option<i64> {
    if matches!(zone, "" | "Z" | "z") {
        return Some(0);
    }
    let (sign, rest) = zone.strip_prefix('-').map_or((1, zone.strip_prefix('+')), |rest| (-1, Some(rest)));
    let rest = rest?;
    let hours: i64 = digits(rest.get(..2)?, 2)?;
    let minutes = rest.get(2..)?;
    let minutes: i64 =
        if minutes.is_empty() { 0 } else { digits(minutes.strip_prefix(':').unwrap_or(minutes), 2)? };
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes))
}

fn digits<T: std::str::FromStr>(text: &str, count: usize) -> Option<T> {
    let good = text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    if good { text.parse().ok() } else { None }
}

/// The clock on the wall at an instant. None: beyond the years that can be shown.
pub(crate) fn on_the_wall(millis: i64, zone: &TimeZone) -> Option<DateTime> {
    Some(zone.to_datetime(Timestamp::from_millisecond(millis).ok()?))
}

/// `YYYY-MM-DDThh:mm:ss.sssZ`.
pub(crate) fn with_millis(millis: i64) -> Option<String> {
    let t = on_the_wall(millis, &TimeZone::UTC)?;
    (t.year() >= 0).then(|| {
        let thousandth = t.subsec_nanosecond() / 1_000_000;
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{thousandth:03}Z",
            t.year(),
            t.month(),
            t.day(),
            t.hour(),
            t.minute(),
            t.second()
        )
    })
}

/// `YYYY-MM-DDThh:mm:ss[.sss]+00:00`.
pub(crate) fn with_offset(millis: i64) -> Option<String> {
    let text = with_millis(millis)?;
    let text = text.strip_suffix('Z')?;
    Some(text.strip_suffix(".000").unwrap_or(text).to_owned() + "+00:00")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> Option<String> {
        with_millis(parse_micros(text)?.div_euclid(1000))
    }

    #[test]
    fn dates_are_read_as_javascript_does() {
        for (text, expected) in [
            ("2026", Some("2026-01-01T00:00:00.000Z")),
            ("2026-03", Some("2026-03-01T00:00:00.000Z")),
            ("2026-01-02", Some("2026-01-02T00:00:00.000Z")),
            ("2026-01-02T03:04", Some("2026-01-02T03:04:00.000Z")),
            ("2026-01-02 03:04:05", Some("2026-01-02T03:04:05.000Z")),
            ("2026-01-02T03:04:05+0200", Some("2026-01-02T01:04:05.000Z")),
            ("2026-01-02T03:04:05-02:30", Some("2026-01-02T05:34:05.000Z")),
            ("2026-01-02T03:04:05.1234567Z", Some("2026-01-02T03:04:05.123Z")),
            (" 2026-01-02 ", Some("2026-01-02T00:00:00.000Z")),
            ("Fri, 02 Jan 2026 03:04:05 GMT", Some("2026-01-02T03:04:05.000Z")),
            ("1969-12-31T23:59:59.999Z", Some("1969-12-31T23:59:59.999Z")),
            ("2026-01-02T03", None),
            ("2026-13-01", None),
            ("20260102", None),
            ("2026-01-02T25:00", None),
            ("2026-01-02T03:04:05.", None),
            ("2026-01-02T03:04+2", None),
            ("", None),
            ("text", None),
        ] {
            assert_eq!(shown(text).as_deref(), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_reader_never_panics(text in "\\PC{0,40}", dated in "[0-9TZ:. +-]{0,30}") {
            let _ignored = (parse_micros(&text), parse_micros(&dated));
        }

        #[test]
        fn what_is_written_is_read_back(millis in -62_000_000_000_000_i64..253_000_000_000_000) {
            prop_assert_eq!(parse_micros(&with_millis(millis).unwrap()), Some(millis * 1000));
            prop_assert_eq!(parse_micros(&with_offset(millis).unwrap()), Some(millis * 1000));
        }
    }
}
