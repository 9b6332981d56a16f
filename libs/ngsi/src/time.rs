//! Date texts of NGSIv2 and instants in microseconds (ngsi-v2.md 5).

use jiff::{SignedDuration, civil};
use std::fmt::Write;

/// 1970-01-01T00:00:00Z.
const EPOCH: civil::DateTime = civil::DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
/// What four digits for the year can show: 0000-01-01T00:00:00Z to 9999-12-31T23:59:59.999999Z, microseconds since 1970.
const FIRST: i64 = -62_167_219_200_000_000;
const LAST: i64 = 253_402_300_799_999_999;

/// Whether values of this attribute or metadata type are instants.
pub fn is_date_type(name: &str) -> bool {
    matches!(name, "DateTime" | "ISO8601")
}

/// Reads `YYYY-MM-DD[Thh[[:]mm[[:]ss[.sss]]]][Z|±hh[[:]mm]]`; no zone is UTC. Microseconds since 1970; finer digits are
/// dropped. None for any other text, also for a zone without a time, and for what is another year than 0000 to 9999 in UTC.
pub fn parse_us(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() < 10 || bytes.len() > 40 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let year = i16::try_from(digits(bytes.get(0..4)?)?).ok()?;
    let month = i8::try_from(digits(bytes.get(5..7)?)?).ok()?;
    let day = i8::try_from(digits(bytes.get(8..10)?)?).ok()?;
    let date = civil::Date::new(year, month, day).ok()?;
    let rest = &bytes[10..];
    let (seconds, micros) = match rest.split_first() {
        None => (0, 0),
        Some((b'T', clock)) => clock_and_zone(clock)?,
        Some(_) => return None,
    };
    let midnight = date.to_datetime(civil::Time::midnight()).duration_since(EPOCH).as_secs();
    let instant = midnight.checked_add(seconds)?.checked_mul(1_000_000)?.checked_add(micros)?;
    (FIRST..=LAST).contains(&instant).then_some(instant)
}

/// Reads the clock and its zone: seconds from midnight UTC (may be negative) and microseconds.
fn clock_and_zone(bytes: &[u8]) -> Option<(i64, i64)> {
    let zone_at = bytes.iter().position(|b| matches!(b, b'Z' | b'+' | b'-')).unwrap_or(bytes.len());
    let (clock, zone) = bytes.split_at(zone_at);
    let (clock, micros) = match clock.iter().position(|b| *b == b'.') {
        // Of seconds alone.
        Some(dot) if dot < 6 => return None,
        Some(dot) => (&clock[..dot], fraction(&clock[dot + 1..])?),
        None => (clock, 0),
    };
    let (hour, minute, second) = match clock.len() {
        2 => (digits(clock)?, 0, 0),
        4 => (digits(&clock[..2])?, digits(&clock[2..])?, 0),
        5 if clock[2] == b':' => (digits(&clock[..2])?, digits(&clock[3..])?, 0),
        6 => (digits(&clock[..2])?, digits(&clock[2..4])?, digits(&clock[4..])?),
        8 if clock[2] == b':' && clock[5] == b':' => {
            (digits(&clock[..2])?, digits(&clock[3..5])?, digits(&clock[6..])?)
        }
        _ => return None,
    };
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    Some((hour * 3600 + minute * 60 + second - zone_seconds(zone)?, micros))
}

fn fraction(bytes: &[u8]) -> Option<i64> {
    if bytes.is_empty() || bytes.len() > 9 {
        return None;
    }
    let mut micros = 0;
    for place in 0..6 {
        let digit = match bytes.get(place) {
            Some(b) if b.is_ascii_digit() => i64::from(b - b'0'),
            Some(_) => return None,
            None => 0,
        };
        micros = micros * 10 + digit;
    }
    bytes.iter().all(u8::is_ascii_digit).then_some(micros)
}

fn zone_seconds(zone: &[u8]) -> Option<i64> {
    let Some((sign, offset)) = zone.split_first() else { return Some(0) };
    if *sign == b'Z' {
        return offset.is_empty().then_some(0);
    }
    let (hours, minutes) = match offset.len() {
        2 => (digits(offset)?, 0),
        4 => (digits(&offset[..2])?, digits(&offset[2..])?),
        5 if offset[2] == b':' => (digits(&offset[..2])?, digits(&offset[3..])?),
        _ => return None,
    };
    if hours > 23 || minutes > 59 {
        return None;
    }
    let seconds = hours * 3600 + minutes * 60;
    Some(if *sign == b'-' { -seconds } else { seconds })
}

fn digits(bytes: &[u8]) -> Option<i64> {
    let mut number = 0;
    for byte in bytes {
        if !byte.is_ascii_digit() {
            return None;
        }
        number = number * 10 + i64::from(byte - b'0');
    }
    Some(number)
}

/// Shows an instant as `YYYY-MM-DDThh:mm:ss.sssZ`; one of another year than 0000 to 9999 as the nearest that can be shown.
pub fn format_us(micros: i64) -> String {
    let mut text = String::with_capacity(24);
    write_us(&mut text, micros);
    text
}

/// As [`format_us`], appended to `out`.
pub fn write_us(out: &mut String, micros: i64) {
    let since = SignedDuration::from_micros(micros.clamp(FIRST, LAST));
    let t = EPOCH.saturating_add(since);
    let millis = t.subsec_nanosecond() / 1_000_000;
    write!(
        out,
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{millis:03}Z",
        t.year(),
        t.month(),
        t.day(),
        t.hour(),
        t.minute(),
        t.second()
    )
    .expect("writing to a string never fails");
}

/// The canonical form of a date text.
pub fn canonical(text: &str) -> Option<String> {
    Some(format_us(parse_us(text)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_form_of_the_contract_is_read() {
        for (text, expected) in [
            ("2026-01-31", "2026-01-31T00:00:00.000Z"),
            ("2026-01-31T10", "2026-01-31T10:00:00.000Z"),
            ("2026-01-31T10:05", "2026-01-31T10:05:00.000Z"),
            ("2026-01-31T1005", "2026-01-31T10:05:00.000Z"),
            ("2026-01-31T10:05:06", "2026-01-31T10:05:06.000Z"),
            ("2026-01-31T100506", "2026-01-31T10:05:06.000Z"),
            ("2026-01-31T10:05:06.7", "2026-01-31T10:05:06.700Z"),
            ("2026-01-31T10:05:06.789Z", "2026-01-31T10:05:06.789Z"),
            ("2026-01-31T10:05:06+02:00", "2026-01-31T08:05:06.000Z"),
            ("2026-01-31T10:05:06+0200", "2026-01-31T08:05:06.000Z"),
            ("2026-01-31T10:05:06-02", "2026-01-31T12:05:06.000Z"),
            ("2026-01-31T10Z", "2026-01-31T10:00:00.000Z"),
            ("1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59.999Z"),
            ("9999-12-31", "9999-12-31T00:00:00.000Z"),
            ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
            ("9999-12-31T23:59:59+01:00", "9999-12-31T22:59:59.000Z"),
            ("0000-01-01", "0000-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(canonical(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn other_texts_are_no_dates() {
        for text in [
            "",
            "2026",
            "2026-01",
            "2026-13-01",
            "2026-02-30",
            "2026-01-31Z",
            "2026-01-31+02:00",
            "2026-01-31T",
            "2026-01-31T25",
            "2026-01-31T10:60",
            "2026-01-31 10:00",
            "2026-01-31T10:05:06.",
            "2026-01-31T10:05:06z",
            "2026-01-31T10:05:06+2",
            "2026-01-31T1:2:3",
            "not a date at all",
            "2026-01-31T10:05:06.12345678901",
            "2026-01-31T10.5",
            "2026-01-31T10:05.5",
            "2026-01-31T1005.5",
            "9999-12-31T23:59:59-01:00",
            "0000-01-01T00:00:00+01:00",
        ] {
            assert_eq!(parse_us(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_reader_never_panics(text in "\\PC{0,45}") {
            let _ignored = parse_us(&text);
        }

        #[test]
        fn any_instant_is_shown_as_a_date(micros in any::<i64>()) {
            prop_assert_eq!(parse_us(&format_us(micros)), Some(micros.clamp(FIRST, LAST).div_euclid(1000) * 1000));
        }

        #[test]
        fn what_is_written_is_read_back(millis in FIRST / 1000..=LAST / 1000) {
            let micros = millis * 1000;
            prop_assert_eq!(parse_us(&format_us(micros)), Some(micros));
        }
    }
}
