//! Numbers as people read them.

use std::time::Duration;

/// Three significant digits and a unit.
pub(super) fn time(duration: Duration) -> String {
    let micros = duration.as_secs_f64() * 1e6;
    match micros {
        m if m < 1e3 => format!("{} µs", significant(m)),
        m if m < 1e6 => format!("{} ms", significant(m / 1e3)),
        m => format!("{} s", significant(m / 1e6)),
    }
}

pub(super) fn nanos(nanos: u64) -> String {
    time(Duration::from_nanos(nanos))
}

/// A number with groups of three: 12,345.
pub(super) fn count(number: f64) -> String {
    if number < 100.0 {
        return significant(number);
    }
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

pub(super) fn mebibytes(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / 1_048_576.0)
}

fn significant(number: f64) -> String {
    match number {
        n if n >= 100.0 => format!("{n:.0}"),
        n if n >= 10.0 => format!("{n:.1}"),
        n => format!("{n:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits() {
        assert_eq!(time(Duration::from_nanos(4_210)), "4.21 µs");
        assert_eq!(time(Duration::from_micros(12_345)), "12.3 ms");
        assert_eq!(time(Duration::from_millis(1_500)), "1.50 s");
        assert_eq!(count(1_234_567.2), "1,234,567");
        assert_eq!(count(999.6), "1,000");
        assert_eq!(count(12.0), "12.0");
    }
}
