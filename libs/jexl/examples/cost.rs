//! What evaluations cost: `cargo run -p thingmesh-jexl --example cost --release`.

use std::{hint::black_box, time::Instant};

use jexl::{Dialect, Expression, Moment, Template};
use serde_json::json;

const ROUNDS: u32 = 200_000;

fn main() {
    let names =
        json!({"temperature": 21.5, "speed": "10 m/s", "list": [{"n": 1}, {"n": 2}], "name": "Room 1"});
    let now = Moment::from_micros(0);
    for text in [
        "temperature",
        "temperature * 1.8 + 32",
        "temperature > 20 ? 'warm' : 'cold'",
        "(speed|split(' '))[0]|parseInt",
        "list[.n > 1][0].n",
        "name|replaceRegex('[0-9]+', 'x')",
    ] {
        let expression = Expression::parse(text, Dialect::Broker).expect("an expression");
        tell(text, || {
            black_box(expression.evaluate(black_box(&names), now));
        });
    }
    let template = Template::parse("t=${temperature * 1.8 + 32} in ${name}", Dialect::Broker);
    tell("a template with two macros", || {
        black_box(template.text(black_box(&names), now));
    });
    tell("parsing `temperature * 1.8 + 32`", || {
        black_box(Expression::parse(black_box("temperature * 1.8 + 32"), Dialect::Broker))
            .expect("an expression");
    });
}

fn tell(what: &str, mut run: impl FnMut()) {
    let start = Instant::now();
    for _ in 0..ROUNDS {
        run();
    }
    println!("{:>7} ns  {what}", (start.elapsed() / ROUNDS).as_nanos());
}
