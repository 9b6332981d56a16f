//! Dates and numbers as people of a country write them: the usual short forms of a few languages. Any other language is
//! written as American English, which is what an unknown one gets in the original.

use jiff::{civil::DateTime, tz::TimeZone};
use serde_json::Value;

use super::{
    super::{Call, null, or_null},
    date::millis,
    rounding,
};
use crate::{
    evaluate::Evaluated,
    time,
    value::{Number, Operand, number_of},
};

#[derive(Clone, Copy)]
struct Locale {
    /// Order and separators; `0D` and `0M` have two digits.
    date: &'static str,
    two_digit_hour: bool,
    twelve_hours: bool,
    halves: [&'static str; 2],
    group: &'static str,
    point: &'static str,
    /// Digits that a number must have before its first separator, beyond three.
    least_digits: usize,
}

const ENGLISH: Locale = Locale {
    date: "M/D/Y, ",
    two_digit_hour: false,
    twelve_hours: true,
    halves: ["AM", "PM"],
    group: ",",
    point: ".",
    least_digits: 1,
};
const BRITISH: Locale =
    Locale { date: "0D/0M/Y, ", two_digit_hour: true, twelve_hours: false, halves: ["am", "pm"], ..ENGLISH };
const SPANISH: Locale = Locale {
    date: "D/M/Y, ",
    two_digit_hour: false,
    halves: ["a.\u{a0}m.", "p.\u{a0}m."],
    group: ".",
    point: ",",
    least_digits: 2,
    ..BRITISH
};
const GERMAN: Locale = Locale { date: "D.M.Y, ", halves: ["AM", "PM"], group: ".", point: ",", ..BRITISH };
const FRENCH: Locale = Locale { date: "0D/0M/Y ", group: "\u{202f}", ..GERMAN };
const ITALIAN: Locale = Locale { date: "0D/0M/Y, ", least_digits: 2, ..GERMAN };
const BRAZILIAN: Locale = Locale { date: "0D/0M/Y, ", ..GERMAN };
const PORTUGUESE: Locale = Locale { halves: ["a.m.", "p.m."], group: "\u{a0}", least_digits: 2, ..BRAZILIAN };
const DUTCH: Locale = Locale { date: "D-M-Y, ", halves: ["a.m.", "p.m."], ..GERMAN };

fn locale(operand: &Operand<'_>) -> Locale {
    let name = operand.as_text().unwrap_or_default();
    match (name, name.split('-').next().unwrap_or_default()) {
        ("en-GB", _) => BRITISH,
        ("pt-PT", _) => PORTUGUESE,
        (_, "es") => SPANISH,
        (_, "de") => GERMAN,
        (_, "fr") => FRENCH,
        (_, "it") => ITALIAN,
        (_, "pt") => BRAZILIAN,
        (_, "nl") => DUTCH,
        _ => ENGLISH,
    }
}

fn option<'c>(options: &'c Operand<'_>, name: &str) -> Option<&'c Value> {
    match options {
        Operand::Json(value) => value.as_object()?.get(name),
        _ => None,
    }
}

/// `localestring(locale, {timeZone: …, hour12: …})`; without a zone in UTC. Null: no date, or an unknown zone.
pub(super) fn date<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    let options = call.argument(1);
    let zone = match option(options, "timeZone") {
        None => TimeZone::UTC,
        Some(name) => match name.as_str().and_then(|name| TimeZone::get(name).ok()) {
            Some(zone) => zone,
            None => return null(),
        },
    };
    let mut locale = locale(call.argument(0));
    if let Some(twelve_hours) = option(options, "hour12").and_then(Value::as_bool)
        && twelve_hours != locale.twelve_hours
    {
        locale = Locale { twelve_hours, two_digit_hour: !twelve_hours, ..locale };
    }
    let wall = millis(&call.subject).and_then(|millis| time::on_the_wall(millis, &zone));
    or_null(wall.map(|wall| Operand::text(written(wall, &locale))))
}

fn written(wall: DateTime, locale: &Locale) -> String {
    let date = locale
        .date
        .replace("0D", &format!("{:02}", wall.day()))
        .replace("0M", &format!("{:02}", wall.month()))
        .replace('D', &wall.day().to_string())
        .replace('M', &wall.month().to_string())
        .replace('Y', &wall.year().to_string());
    let (hour, half) = match (wall.hour(), locale.twelve_hours) {
        (hour, false) => (hour, String::new()),
        (hour, true) => {
            let [before_noon, after_noon] = locale.halves;
            let half = if hour < 12 { before_noon } else { after_noon };
            (if hour % 12 == 0 { 12 } else { hour % 12 }, format!(" {half}"))
        }
    };
    let hour = if locale.two_digit_hour { format!("{hour:02}") } else { hour.to_string() };
    format!("{date}{hour}:{:02}:{:02}{half}", wall.minute(), wall.second())
}

/// `localestringnumber(locale, {minimumFractionDigits, maximumFractionDigits, useGrouping})`. Null: no number.
pub(super) fn number<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    let options = call.argument(1);
    let digits = |name: &str| {
        let wanted = option(options, name)?.as_u64()?;
        usize::try_from(wanted).ok().filter(|wanted| *wanted <= 20)
    };
    let least = digits("minimumFractionDigits").unwrap_or(0);
    let most = digits("maximumFractionDigits").unwrap_or(3.max(least));
    let is_grouped = option(options, "useGrouping").and_then(Value::as_bool).unwrap_or(true);
    let text = match number_of(&call.subject) {
        Number::Int(whole) => whole.to_string(),
        Number::Float(value) if value.is_finite() => rounding::shortest(value, most),
        Number::Float(_) => return null(),
    };
    let (sign, text) = text.strip_prefix('-').map_or(("", text.as_str()), |rest| ("-", rest));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let kept = fraction.trim_end_matches('0').len().max(least.min(most));
    let fraction: String = fraction.chars().chain(std::iter::repeat('0')).take(kept).collect();
    let locale = locale(call.argument(0));
    let mut out = sign.to_owned();
    for (at, digit) in whole.chars().enumerate() {
        let left = whole.len() - at;
        let is_long = is_grouped && whole.len() >= 3 + locale.least_digits;
        if at > 0 && left % 3 == 0 && is_long {
            out.push_str(locale.group);
        }
        out.push(digit);
    }
    if !fraction.is_empty() {
        out.push_str(locale.point);
        out.push_str(&fraction);
    }
    Ok(Operand::text(out))
}
