//! Instants as microseconds since 1970 UTC: reading ISO 8601, writing the formats of the API, and calendar periods.

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// Length of an aggregation bucket (contract section 6, `aggrPeriod`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Period {
    Second,
    Minute,
    Hour,
    Day,
    Month,
    Year,
}

impl Period {
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "second" => Self::Second,
            "minute" => Self::Minute,
            "hour" => Self::Hour,
            "day" => Self::Day,
            "month" => Self::Month,
            "year" => Self::Year,
            _ => return None,
        })
    }

    /// Start of the bucket that holds `at_us`, in UTC.
    pub fn floor(self, at_us: i64) -> i64 {
        match self {
            Self::Month | Self::Year => {
                let (year, month, _) = civil_from_days(at_us.div_euclid(DAY));
                days_from_civil(year, if self == Self::Year { 1 } else { month }, 1) * DAY
            }
            _ => at_us.div_euclid(self.fixed_us()) * self.fixed_us(),
        }
    }

    /// Start of the bucket after the one that starts at `start_us`.
    pub fn end(self, start_us: i64) -> i64 {
        match self {
            // Any instant of the next month or year will do: 31 or 366 days on, brought to its start.
            Self::Month => self.floor(start_us + 31 * DAY),
            Self::Year => self.floor(start_us + 366 * DAY),
            _ => start_us + self.fixed_us(),
        }
    }

    /// A length in microseconds such that two instants of one such slot are always in one bucket.
    pub fn fixed_us(self) -> i64 {
        match self {
            Self::Second => SECOND,
            Self::Minute => 60 * SECOND,
            Self::Hour => 3600 * SECOND,
            Self::Day | Self::Month | Self::Year => DAY,
        }
    }
}

/// Days since 1970-01-01 of a date in the proleptic Gregorian calendar.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let mp = (5 * day_of_year + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * mp + 2) / 5 + 1)
}

/// `2030-01-01T00:00:00.000+00:00`: the time index and DateTime values (contract section 4).
pub fn format_ms(at_us: i64) -> String {
    let (date, clock) = (at_us.div_euclid(DAY), at_us.rem_euclid(DAY));
    let (year, month, day) = civil_from_days(date);
    let (seconds, ms) = (clock / SECOND, clock % SECOND / 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}+00:00")
}

/// `2029-01-01T00:00:00+00:00`, with six decimals when the instant is no whole second: the ends of an aggregate
/// without a period.
pub fn format_short(at_us: i64) -> String {
    let fraction = at_us.rem_euclid(SECOND);
    let whole = format_ms(at_us - fraction).replace(".000", "");
    if fraction == 0 { whole } else { whole.replace("+00:00", &format!(".{fraction:06}+00:00")) }
}

/// Reads ISO 8601: a date (`2030`, `2030-01`, `2030-01-01`), or date and time with an optional fraction and zone. No
/// zone counts as UTC. A blank where a `+` should be is taken as one, because clients forget to encode it.
pub fn parse_iso(text: &str) -> Option<i64> {
    let mut reader = Digits(text.trim().as_bytes());
    let year = reader.number(4)?;
    if !reader.skip(b"-") {
        return reader.end(days(year, 1, 1)? * DAY);
    }
    let month = reader.number(2)?;
    if !reader.skip(b"-") {
        return reader.end(days(year, month, 1)? * DAY);
    }
    let day = reader.number(2)?;
    let date = days(year, month, day)? * DAY;
    if !reader.skip(b"Tt ") {
        return reader.end(date);
    }
    let clock = reader.clock()?;
    let zone = reader.zone()?;
    reader.end(date + clock - zone)
}

fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    let valid = (1..=12).contains(&month)
        && day >= 1
        && day <= days_from_civil(next_year, next_month, 1) - days_from_civil(year, month, 1);
    valid.then(|| days_from_civil(year, month, day))
}

struct Digits<'a>(&'a [u8]);

impl Digits<'_> {
    fn number(&mut self, width: usize) -> Option<i64> {
        let (head, tail) = self.0.split_at_checked(width)?;
        self.0 = tail;
        head.iter().try_fold(0, |sum, b| b.is_ascii_digit().then(|| sum * 10 + i64::from(b - b'0')))
    }

    fn skip(&mut self, any_of: &[u8]) -> bool {
        let found = self.0.first().is_some_and(|b| any_of.contains(b));
        if found {
            self.0 = self.0.split_at(1).1;
        }
        found
    }

    fn end(&self, value: i64) -> Option<i64> {
        self.0.is_empty().then_some(value)
    }

    /// `HH:MM[:SS[.fraction]]`, or without colons.
    fn clock(&mut self) -> Option<i64> {
        let hour = self.number(2)?;
        let colons = self.skip(b":");
        let minute = if self.0.first().is_some_and(u8::is_ascii_digit) { self.number(2)? } else { 0 };
        let mut micros = 0;
        if self.skip(b":") || (!colons && self.0.first().is_some_and(u8::is_ascii_digit)) {
            let second = self.number(2)?;
            if second > 60 {
                return None;
            }
            micros = second * SECOND;
            if self.skip(b".,") {
                micros += self.fraction()?;
            }
        }
        (hour < 24 && minute < 60).then_some((hour * 60 + minute) * 60 * SECOND + micros)
    }

    /// Digits after the point, cut to microseconds.
    fn fraction(&mut self) -> Option<i64> {
        let digits = self.0.iter().take_while(|b| b.is_ascii_digit()).count();
        let (head, tail) = self.0.split_at(digits);
        self.0 = tail;
        let micros = (0..6).fold(0, |sum, n| sum * 10 + head.get(n).map_or(0, |b| i64::from(b - b'0')));
        (digits > 0).then_some(micros)
    }

    /// Offset east of UTC.
    fn zone(&mut self) -> Option<i64> {
        if self.0.is_empty() || self.skip(b"Zz") {
            return Some(0);
        }
        let west = self.skip(b"-");
        if !west && !self.skip(b"+ ") {
            return None;
        }
        let hours = self.number(2)?;
        let minutes = if self.skip(b":") || !self.0.is_empty() { self.number(2)? } else { 0 };
        let offset = (hours * 60 + minutes) * 60 * SECOND;
        (hours < 24 && minutes < 60).then_some(if west { -offset } else { offset })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_read_with_and_without_zone() {
        for (text, expected) in [
            ("2030-01-01T00:00:00+02:00", "2029-12-31T22:00:00.000+00:00"),
            ("2030-01-01T00:00:00.123456Z", "2030-01-01T00:00:00.123+00:00"),
            ("2030-01-01T00:00:00.000 02:00", "2029-12-31T22:00:00.000+00:00"),
            ("2030-01-01 10:20", "2030-01-01T10:20:00.000+00:00"),
            ("2030-01-01T10:20:30-0130", "2030-01-01T11:50:30.000+00:00"),
            ("20300", ""),
            ("2030-02", "2030-02-01T00:00:00.000+00:00"),
            ("2030", "2030-01-01T00:00:00.000+00:00"),
            ("2028-02-29", "2028-02-29T00:00:00.000+00:00"),
            ("2030-02-29", ""),
            ("2030-13-01", ""),
            ("2030-01-01T25:00:00Z", ""),
            ("2030-01-01T10:00:00Zx", ""),
            ("tomorrow", ""),
            ("", ""),
        ] {
            assert_eq!(parse_iso(text).map(format_ms).unwrap_or_default(), expected, "{text}");
        }
    }

    #[test]
    fn short_format_has_no_milliseconds() {
        assert_eq!(format_short(parse_iso("2029-01-01").unwrap()), "2029-01-01T00:00:00+00:00");
        assert_eq!(format_short(1), "1970-01-01T00:00:00.000001+00:00");
    }

    #[test]
    fn periods_start_on_the_calendar() {
        let at = parse_iso("2031-05-17T13:14:15.678Z").unwrap();
        for (period, expected) in [
            ("second", "2031-05-17T13:14:15.000+00:00"),
            ("minute", "2031-05-17T13:14:00.000+00:00"),
            ("hour", "2031-05-17T13:00:00.000+00:00"),
            ("day", "2031-05-17T00:00:00.000+00:00"),
            ("month", "2031-05-01T00:00:00.000+00:00"),
            ("year", "2031-01-01T00:00:00.000+00:00"),
        ] {
            assert_eq!(format_ms(Period::parse(period).unwrap().floor(at)), expected);
        }
        assert_eq!(Period::parse("week"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
            parse_iso(&text);
        }

        #[test]
        fn what_is_written_is_read_back(ms in -60_000_000_000_000i64..250_000_000_000_000) {
            prop_assert_eq!(parse_iso(&format_ms(ms * 1000)), Some(ms * 1000));
        }

        #[test]
        fn a_fixed_slot_never_spans_two_buckets(at in -1i64 << 52..1i64 << 52) {
            for period in [Period::Second, Period::Minute, Period::Hour, Period::Day, Period::Month, Period::Year] {
                let slot = at.div_euclid(period.fixed_us()) * period.fixed_us();
                prop_assert_eq!(period.floor(slot), period.floor(at));
                prop_assert!(period.floor(at) <= at && at < period.end(period.floor(at)));
                prop_assert_eq!(period.floor(period.end(period.floor(at)) - 1), period.floor(at));
            }
        }
    }
}
