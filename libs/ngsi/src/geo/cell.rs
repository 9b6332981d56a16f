//! A number for a place: the map is quartered again and again, and a shape's cell is the smallest quarter that holds
//! all of it. Quarters of a cell have the numbers around its own, so that "somewhere in this cell" is a range.
//!
//! ```text
//! number = path of two bits per level, then a one, then zeros:   level 2 of 3   01 10 | 1 00
//! ```

use super::shape::{Bounds, Position, Shape};

/// Quarterings: cells of less than a metre.
const LEVELS: u32 = 26;
/// Cells in one direction that a query's rectangle is covered with, at most.
const COVER: u64 = 4;

/// Cell numbers from the first to the last, both included.
pub type CellRange = (i64, i64);

/// The cell of a shape.
pub fn cell_of(shape: &Shape) -> i64 {
    cell_around(&shape.bounds())
}

fn cell_around(bounds: &Bounds) -> i64 {
    let low = square(Position::new(bounds.south, bounds.west));
    let high = square(Position::new(bounds.north, bounds.east));
    let differing = (low.0 ^ high.0) | (low.1 ^ high.1);
    let level = LEVELS - (u64::BITS - differing.leading_zeros()).min(LEVELS);
    number(low, level)
}

/// The numbers of the cells in which a shape that meets one of `places` may be.
pub(super) fn covering(places: &[Bounds]) -> Vec<CellRange> {
    let mut ranges = Vec::new();
    for bounds in places {
        cover(bounds, &mut ranges);
    }
    merged(ranges)
}

fn cover(bounds: &Bounds, ranges: &mut Vec<CellRange>) {
    let low = square(Position::new(bounds.south, bounds.west));
    let high = square(Position::new(bounds.north, bounds.east));
    let mut level = LEVELS;
    let at = |value: u64, level: u32| value >> (LEVELS - level);
    while level > 0
        && (at(high.0, level) - at(low.0, level)).max(at(high.1, level) - at(low.1, level)) >= COVER
    {
        level -= 1;
    }
    for x in at(low.0, level)..=at(high.0, level) {
        for y in at(low.1, level)..=at(high.1, level) {
            let corner = (x << (LEVELS - level), y << (LEVELS - level));
            let own = number(corner, level);
            let reach = (1_i64 << (2 * (LEVELS - level))) - 1;
            ranges.push((own - reach, own + reach));
            // Shapes too large for this cell are in one of those around it.
            ranges.extend((0..level).map(|above| (number(corner, above), number(corner, above))));
        }
    }
}

/// Neighbours are one number apart: that of a cell around both.
fn merged(mut ranges: Vec<CellRange>) -> Vec<CellRange> {
    ranges.sort_unstable();
    let mut merged: Vec<CellRange> = Vec::with_capacity(ranges.len());
    for (from, to) in ranges {
        match merged.last_mut() {
            Some(last) if from <= last.1.saturating_add(2) => last.1 = last.1.max(to),
            _ => merged.push((from, to)),
        }
    }
    merged
}

/// Column and row of the smallest square that holds a position.
fn square(position: Position) -> (u64, u64) {
    let place = |degrees: f64, span: f64| {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to the squares there are"
        )]
        let place = ((degrees / span + 0.5) * (1_u64 << LEVELS) as f64)
            .clamp(0.0, ((1_u64 << LEVELS) - 1) as f64) as u64;
        place
    };
    (place(position.longitude, 360.0), place(position.latitude, 180.0))
}

fn number((x, y): (u64, u64), level: u32) -> i64 {
    let mut path = 1_u64;
    // From the coarsest quartering to `level`; the leading one keeps numbers of all levels apart from zero.
    for step in 0..level {
        let bit = LEVELS - 1 - step;
        path = (path << 2) | (((y >> bit) & 1) << 1) | ((x >> bit) & 1);
    }
    let own = (path << 1) | 1;
    i64::try_from(own << (2 * (LEVELS - level))).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_holds_the_cells_of_what_is_inside_of_it() {
        let all = number((0, 0), 0);
        let reach = (1_i64 << (2 * LEVELS)) - 1;
        for position in [Position::new(-90.0, -180.0), Position::new(90.0, 180.0), Position::new(40.4, -3.7)]
        {
            let cell = cell_of(&Shape::Points(vec![position]));
            assert!((all - reach..=all + reach).contains(&cell), "{cell}");
            assert_eq!(cell & 1, 1, "a point is in a cell of the last level");
        }
        let across = Shape::rectangle(Position::new(-1.0, -1.0), Position::new(1.0, 1.0));
        assert_eq!(cell_of(&across), all);
    }

    #[test]
    fn a_query_is_covered_with_few_ranges() {
        let madrid = super::super::distance::around(Position::new(40.418889, -3.691944), 1000.0);
        let ranges = covering(&madrid);
        assert!(ranges.len() <= 80, "{}", ranges.len());
        let cell = cell_of(&Shape::Points(vec![Position::new(40.42, -3.69)]));
        assert!(ranges.iter().any(|(from, to)| (*from..=*to).contains(&cell)));
        let far = cell_of(&Shape::Points(vec![Position::new(48.8, 2.3)]));
        assert!(!ranges.iter().any(|(from, to)| (*from..=*to).contains(&far)));
    }
}
