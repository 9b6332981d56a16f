//! JEXL: any text, as an expression and as a template, in both dialects. What parses must print to the same expression, and
//! the evaluation must end soon.

use std::sync::LazyLock;

use jexl::{Dialect, Expression, JsonTemplate, Moment, Template};
use serde_json::{Value, json};

static NAMES: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "a": 1, "b": -2.5, "s": "some text", "t": true, "n": null, "big": 9_007_199_254_740_993_i64,
        "l": [1, "x", {"k": 2}, [3]], "o": {"k": {"k": [1]}}, "d": "2026-01-31T10:00:00.250Z", "long": "ab".repeat(2000)
    })
});

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let now = Moment::from_micros(1_769_853_600_250_000);
    for dialect in [Dialect::Broker, Dialect::Agent] {
        if let Ok(expression) = Expression::parse(text, dialect) {
            let printed = expression.to_string();
            assert_eq!(Expression::parse(&printed, dialect).as_ref(), Ok(&expression), "{printed}");
            expression.evaluate(&*NAMES, now);
        }
        let filled = Template::parse(text, dialect).text(&*NAMES, now);
        let value = JsonTemplate::parse(&json!([text]), dialect).value(&*NAMES, now);
        assert!(value[0].as_str().is_none_or(|own| own == filled));
    }
}
