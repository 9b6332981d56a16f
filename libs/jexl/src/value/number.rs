use serde_json::Value;

/// Beyond this a float no longer holds each integer.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// An integer is `Int` wherever it is exact.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Number {
    Int(i64),
    Float(f64),
}

impl Number {
    pub(crate) const NAN: Self = Self::Float(f64::NAN);

    pub(crate) fn of(value: &Value) -> Option<Self> {
        let number = value.as_number()?;
        Some(match number.as_i64() {
            Some(whole) => Self::Int(whole),
            None => Self::from_float(number.as_f64().unwrap_or(f64::NAN)),
        })
    }

    #[expect(clippy::cast_possible_truncation, reason = "whole and within the range of i64")]
    pub(crate) fn from_float(value: f64) -> Self {
        if value.fract() == 0.0 && value.abs() < EXACT { Self::Int(value as i64) } else { Self::Float(value) }
    }

    #[expect(clippy::cast_precision_loss, reason = "what a float operation does with large integers")]
    pub(crate) fn float(self) -> f64 {
        match self {
            Self::Int(value) => value as f64,
            Self::Float(value) => value,
        }
    }

    pub(crate) fn is_true(self) -> bool {
        match self {
            Self::Int(value) => value != 0,
            Self::Float(value) => value != 0.0 && !value.is_nan(),
        }
    }

    /// A whole number that fits; None for all others.
    pub(crate) fn whole(self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(value),
            Self::Float(_) => None,
        }
    }

    /// As JavaScript truncates an argument: toward zero, not a number is 0, and within the range of i64.
    #[expect(clippy::cast_possible_truncation, reason = "saturates, as wanted")]
    pub(crate) fn truncated(self) -> i64 {
        match self {
            Self::Int(value) => value,
            Self::Float(value) => value as i64,
        }
    }

    pub(crate) fn into_value(self) -> Value {
        match self {
            Self::Int(value) => Value::from(value),
            Self::Float(value) => serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number),
        }
    }

    /// Exact where both are integers and the result fits; otherwise as floats.
    fn combine(
        self,
        other: Self,
        exact: impl FnOnce(i64, i64) -> Option<i64>,
        rough: impl FnOnce(f64, f64) -> f64,
    ) -> Self {
        if let (Self::Int(a), Self::Int(b)) = (self, other)
            && let Some(whole) = exact(a, b)
        {
            return Self::Int(whole);
        }
        Self::from_float(rough(self.float(), other.float()))
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        self.combine(other, i64::checked_add, |a, b| a + b)
    }

    pub(crate) fn minus(self, other: Self) -> Self {
        self.combine(other, i64::checked_sub, |a, b| a - b)
    }

    pub(crate) fn times(self, other: Self) -> Self {
        self.combine(other, i64::checked_mul, |a, b| a * b)
    }

    pub(crate) fn divided(self, other: Self) -> Self {
        let exact = |a: i64, b: i64| (a.checked_rem(b)? == 0).then(|| a.checked_div(b)).flatten();
        self.combine(other, exact, |a, b| a / b)
    }

    pub(crate) fn floor_divided(self, other: Self) -> Self {
        let exact = |a: i64, b: i64| {
            let quotient = a.checked_div(b)?;
            let is_above = a.checked_rem(b)? != 0 && (a < 0) != (b < 0);
            Some(quotient - i64::from(is_above))
        };
        self.combine(other, exact, |a, b| (a / b).floor())
    }

    /// Has the sign of the dividend.
    pub(crate) fn remainder(self, other: Self) -> Self {
        self.combine(other, i64::checked_rem, |a, b| a % b)
    }

    pub(crate) fn power(self, other: Self) -> Self {
        self.combine(other, |a, b| a.checked_pow(u32::try_from(b).ok()?), f64::powf)
    }

    pub(crate) fn negated(self) -> Self {
        Self::Int(0).minus(self)
    }

    pub(crate) fn is_less(self, other: Self) -> bool {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a < b,
            (a, b) => a.float() < b.float(),
        }
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a == b,
            (a, b) => a.float() == b.float(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn integers_stay_exact_and_overflow_becomes_a_float() {
        let max = Number::Int(i64::MAX);
        assert!(matches!(max.minus(Number::Int(1)), Number::Int(n) if n == i64::MAX - 1));
        assert!(matches!(max.plus(Number::Int(1)), Number::Float(n) if n == 9_223_372_036_854_775_808.0));
        assert!(matches!(Number::Int(6).divided(Number::Int(3)), Number::Int(2)));
        assert!(matches!(Number::Int(1).divided(Number::Int(0)), Number::Float(n) if n.is_infinite()));
        assert!(matches!(Number::Int(i64::MIN).divided(Number::Int(-1)), Number::Float(_)));
        assert!(matches!(Number::Int(i64::MIN).negated(), Number::Float(_)));
        assert!(matches!(Number::Int(2).power(Number::Int(-1)), Number::Float(n) if n == 0.5));
    }

    proptest! {
        #[test]
        fn whole_arithmetic_agrees_with_floats(a in -10_000_i64..10_000, b in -10_000_i64..10_000) {
            let (x, y) = (Number::Int(a), Number::Int(b));
            let (p, q) = (Number::Int(a).float(), Number::Int(b).float());
            for (ours, theirs) in [
                (x.plus(y), p + q), (x.minus(y), p - q), (x.times(y), p * q), (x.divided(y), p / q),
                (x.floor_divided(y), (p / q).floor()), (x.remainder(y), p % q),
            ] {
                prop_assert!(ours.float() == theirs || (ours.float().is_nan() && theirs.is_nan()), "{a} {b}");
            }
        }
    }
}
