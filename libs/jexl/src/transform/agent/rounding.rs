//! Decimal texts, rounded as JavaScript rounds them.

use crate::value::{Number, Operand, text_of};

/// Digits that decide whether a float lies exactly in the middle: more than any float has behind a tie.
const GUARD: usize = 30;

/// `toFixed`: the exact value of the float, rounded; a tie goes away from zero.
pub(super) fn fixed(value: f64, decimals: usize) -> String {
    if value.abs() >= 1e21 || !value.is_finite() {
        return text_of(&Operand::Number(Number::from_float(value))).into_owned();
    }
    let exact = format!("{:.*}", decimals + GUARD, value.abs());
    let digits = round_half_up(&exact, decimals);
    if value < 0.0 { format!("-{digits}") } else { digits }
}

/// `maximumFractionDigits` of `toLocaleString`: the shortest text of the float, rounded; a tie goes away from zero.
pub(super) fn shortest(value: f64, decimals: usize) -> String {
    let digits = round_half_up(&value.abs().to_string(), decimals);
    if value < 0.0 { format!("-{digits}") } else { digits }
}

/// Rounds a plain decimal text to so many decimals; pads with zeros.
fn round_half_up(text: &str, decimals: usize) -> String {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut digits: Vec<u8> =
        whole.bytes().chain(fraction.bytes().chain(std::iter::repeat(b'0')).take(decimals)).collect();
    let is_up = fraction.as_bytes().get(decimals).is_some_and(|next| *next >= b'5');
    if is_up {
        let mut place = digits.len();
        loop {
            let Some(before) = place.checked_sub(1) else {
                digits.insert(0, b'1');
                break;
            };
            place = before;
            match digits.get_mut(place) {
                Some(digit) if *digit == b'9' => *digit = b'0',
                Some(digit) => {
                    *digit += 1;
                    break;
                }
                None => break,
            }
        }
    }
    let point = digits.len() - decimals;
    let mut out: String = digits.iter().take(point).map(|b| char::from(*b)).collect();
    if decimals > 0 {
        out.push('.');
        out.extend(digits.iter().skip(point).map(|b| char::from(*b)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_rounds_the_exact_value() {
        for (value, decimals, expected) in [
            (1.005, 2, "1.00"),
            (2.5, 0, "3"),
            (-2.5, 0, "-3"),
            (1.45, 1, "1.4"),
            (8.345, 2, "8.35"),
            (9.995, 2, "9.99"),
            (9.5, 0, "10"),
            (0.5, 0, "1"),
            (10.0, 3, "10.000"),
            (0.000_000_1, 3, "0.000"),
            (1e21, 2, "1e+21"),
        ] {
            assert_eq!(fixed(value, decimals), expected, "{value}");
        }
    }

    #[test]
    fn shortest_rounds_what_is_written() {
        for (value, decimals, expected) in [
            (1.0005, 3, "1.001"),
            (0.125, 2, "0.13"),
            (1.005, 2, "1.01"),
            (2.5, 0, "3"),
            (999.9996, 3, "1000.000"),
        ] {
            assert_eq!(shortest(value, decimals), expected, "{value}");
        }
    }
}
