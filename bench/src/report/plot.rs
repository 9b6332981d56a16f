//! A small line plot: size of the world (logarithmic) against CPU per request and p50.

use std::fmt::Write as _;

use crate::cases::{Point, Scaling};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 200.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 50.0;
const COLOURS: [&str; 4] = ["#0b6e99", "#c2571a", "#4d7c0f", "#7c3aed"];

/// The file beside the document.
pub(super) fn file_name(scaling: &Scaling) -> String {
    let word = scaling.of.split(' ').next().unwrap_or("world");
    format!("performance-{word}.svg")
}

struct Line<'a> {
    name: String,
    points: Vec<(u64, f64)>,
    colour: &'a str,
    dashed: bool,
}

/// Microseconds of CPU per request (solid) and of median latency (dashed).
pub(super) fn svg(scaling: &Scaling) -> String {
    let lines: Vec<Line<'_>> = scaling
        .series
        .iter()
        .zip(COLOURS)
        .flat_map(|((kind, points), colour)| {
            let of =
                |value: fn(&Point) -> f64| points.iter().map(|point| (point.size, value(point))).collect();
            [
                Line {
                    name: format!("{kind}: CPU"),
                    points: of(|p| p.cpu.as_secs_f64() * 1e6),
                    colour,
                    dashed: false,
                },
                Line {
                    name: format!("{kind}: p50"),
                    points: of(|p| p.p50.as_secs_f64() * 1e6),
                    colour,
                    dashed: true,
                },
            ]
        })
        .collect();
    draw(scaling.of, &lines)
}

fn draw(of: &str, lines: &[Line<'_>]) -> String {
    let sizes = || lines.iter().flat_map(|line| line.points.iter().map(|(size, _)| (*size).max(1) as f64));
    let lowest = sizes().fold(f64::INFINITY, f64::min).log10().floor();
    let highest = sizes().fold(1.0, f64::max).log10().ceil().max(lowest + 1.0);
    let most = lines.iter().flat_map(|line| line.points.iter().map(|(_, value)| *value)).fold(1.0, f64::max);
    let top = nice(most);
    let x = |size: f64| LEFT + (size.log10() - lowest) / (highest - lowest) * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM);

    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"18\">µs per request by number of {}</text>\n",
        of.replace('\'', "’")
    );
    let mut put = |text: String| writeln!(out, "{text}").expect("a string takes all text");
    for step in 0..=4 {
        let value = top * f64::from(step) / 4.0;
        let (at, end) = (y(value), WIDTH - RIGHT);
        put(format!("<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{end}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>"));
        put(format!(
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value:.0}</text>",
            LEFT - 6.0,
            at + 4.0
        ));
    }
    for power in lowest as i32..=highest as i32 {
        let (at, label) = (x(10f64.powi(power)), size_label(power));
        put(format!(
            "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
            HEIGHT - BOTTOM + 18.0
        ));
    }
    for (index, line) in lines.iter().enumerate() {
        let (colour, dash) = (line.colour, if line.dashed { " stroke-dasharray=\"5 4\"" } else { "" });
        let points: Vec<String> = line
            .points
            .iter()
            .map(|(size, value)| format!("{:.1},{:.1}", x((*size).max(1) as f64), y(*value)))
            .collect();
        put(format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dash}/>",
            points.join(" ")
        ));
        let (from, at) = (WIDTH - RIGHT + 12.0, TOP + 14.0 + 20.0 * index as f64);
        put(format!(
            "<line x1=\"{from}\" y1=\"{at}\" x2=\"{}\" y2=\"{at}\" stroke=\"{colour}\" stroke-width=\"2\"{dash}/>",
            from + 26.0
        ));
        put(format!("<text x=\"{}\" y=\"{}\">{}</text>", from + 32.0, at + 4.0, line.name));
    }
    out + "</svg>\n"
}

fn size_label(power: i32) -> String {
    match power {
        6.. => format!("{} M", 10u64.pow(power as u32 - 6)),
        3..6 => format!("{} k", 10u64.pow(power as u32 - 3)),
        _ => format!("{}", 10u64.pow(power.max(0) as u32)),
    }
}

/// The next of 1, 2, 5 times a power of ten.
fn nice(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|top| *top >= value).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_point_lies_inside_the_picture() {
        let point = |size, micros| Point {
            size,
            rate: 1.0,
            cpu: Duration::from_micros(micros),
            p50: Duration::from_micros(2 * micros),
            p99: Duration::ZERO,
            load_average: 0.0,
        };
        let points = vec![point(10, 40), point(1_000_000, 90)];
        let picture = svg(&Scaling { of: "entities", series: vec![("GET", points)] });
        let polylines: Vec<&str> = picture
            .lines()
            .filter_map(|line| line.strip_prefix("<polyline points=\"")?.split('"').next())
            .collect();
        assert_eq!(polylines.len(), 2, "{picture}");
        for pair in polylines.iter().flat_map(|line| line.split(' ')) {
            let (x, y) = pair.split_once(',').unwrap();
            let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
            assert!((LEFT..=WIDTH - RIGHT).contains(&x) && (TOP..=HEIGHT - BOTTOM).contains(&y), "{pair}");
        }
    }
}
