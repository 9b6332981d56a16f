use super::super::{Call, or_null};
use crate::{
    evaluate::Evaluated,
    time,
    value::{Number, Operand, number_of},
};

/// Milliseconds since 1970 of a date text, or of a number of them. None: no date.
pub(super) fn millis(operand: &Operand<'_>) -> Option<i64> {
    let millis = match operand.as_text() {
        Some(text) => time::parse_micros(text)?.div_euclid(1000),
        None => match number_of(operand) {
            Number::Int(millis) => millis,
            Number::Float(millis) if millis.is_finite() => Number::Float(millis.trunc()).truncated(),
            Number::Float(_) => return None,
        },
    };
    time::is_in_range(millis).then_some(millis)
}

pub(super) fn to_iso<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    or_null(millis(&call.subject).and_then(time::with_millis).map(Operand::text))
}

/// Minutes that the zone of the server is west of Greenwich: it runs in UTC.
pub(super) fn time_offset<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    or_null(millis(&call.subject).map(|_| Operand::int(0)))
}

pub(super) fn get_time<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    or_null(millis(&call.subject).map(Operand::int))
}

/// Milliseconds since 1970, whatever the operand is.
pub(super) fn now<'a>(call: Call<'_, 'a, '_>) -> Evaluated<'a> {
    Ok(Operand::int(call.evaluation.now.micros.div_euclid(1000)))
}
