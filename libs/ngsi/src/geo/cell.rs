//! A number for a place: the map is quartered again and again, and a shape's cell is the smallest quarter that holds
//! all of it. Quarters of a cell have the numbers around its own, so that "somewhere in this cell" is a range.
//!
//! ```text
//! number = path of two bits per level, then a one, then zeros:   level 2 of 3   01 10 | 1 00
//! ```

use std::collections::BTreeSet;

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

/// A quarter of a quarter … of the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cell {
    level: u32,
    /// Column and row among those of its level.
    at: (u64, u64),
}

impl Cell {
    pub(super) fn number(self) -> i64 {
        let (x, y) = self.at;
        number((x << (LEVELS - self.level), y << (LEVELS - self.level)), self.level)
    }

    /// The cell that has a number; None: no cell has it.
    pub(super) fn of_number(number: i64) -> Option<Self> {
        let coarser = number.trailing_zeros() / 2;
        let level = LEVELS.checked_sub(coarser)?;
        let path = u64::try_from(number).ok()? >> (2 * coarser + 1);
        if number.trailing_zeros() % 2 == 1 || path >> (2 * level) != 1 {
            return None;
        }
        let every_second =
            |from: u32| (0..level).fold(0, |at, bit| at | (((path >> (2 * bit + from)) & 1) << bit));
        Some(Self { level, at: (every_second(0), every_second(1)) })
    }

    /// Its own number and those of all cells in it.
    pub(super) fn range(self) -> CellRange {
        let reach = (1_i64 << (2 * (LEVELS - self.level))) - 1;
        (self.number() - reach, self.number() + reach)
    }

    /// Those that hold it.
    pub(super) fn around(self) -> impl Iterator<Item = Self> {
        let (x, y) = self.at;
        (0..self.level)
            .map(move |level| Self { level, at: (x >> (self.level - level), y >> (self.level - level)) })
    }

    /// Its four quarters; none: it is one of the smallest.
    pub(super) fn quarters(self) -> Vec<Self> {
        let (x, y) = (self.at.0 << 1, self.at.1 << 1);
        let quarter = |at| Self { level: self.level + 1, at };
        let is_smallest = self.level >= LEVELS;
        if is_smallest {
            Vec::new()
        } else {
            [(x, y), (x + 1, y), (x, y + 1), (x + 1, y + 1)].map(quarter).to_vec()
        }
    }

    pub(super) fn bounds(self) -> Bounds {
        let squares = (1_u64 << self.level) as f64;
        let along = |column: u64, span: f64| (column as f64 / squares - 0.5) * span;
        Bounds {
            west: along(self.at.0, 360.0),
            south: along(self.at.1, 180.0),
            east: along(self.at.0 + 1, 360.0),
            north: along(self.at.1 + 1, 180.0),
        }
    }
}

/// The cells of one level that meet one of `places`, few of them.
pub(super) fn meeting(places: &[Bounds]) -> BTreeSet<Cell> {
    let squares = places.iter().map(|bounds| {
        let low = square(Position::new(bounds.south, bounds.west));
        (low, square(Position::new(bounds.north, bounds.east)))
    });
    let squares: Vec<_> = squares.collect();
    let is_few = |level: &u32| {
        let cells = |low: u64, high: u64| (high >> (LEVELS - level)) - (low >> (LEVELS - level));
        squares.iter().all(|(low, high)| cells(low.0, high.0).max(cells(low.1, high.1)) < COVER)
    };
    let level = (0..=LEVELS).rev().find(is_few).unwrap_or_default();
    let at = |square: u64| square >> (LEVELS - level);
    let rows = |low: (u64, u64), high: (u64, u64), x| (at(low.1)..=at(high.1)).map(move |y| (x, y));
    squares
        .iter()
        .flat_map(|&(low, high)| (at(low.0)..=at(high.0)).flat_map(move |x| rows(low, high, x)))
        .map(|at| Cell { level, at })
        .collect()
}

/// The numbers of the cells in which a shape that meets one of `places` may be.
pub(super) fn covering(places: &[Bounds]) -> Vec<CellRange> {
    // Shapes too large for these cells are in one of those around them.
    let alone = |cell: Cell| (cell.number(), cell.number());
    let ranges = meeting(places)
        .into_iter()
        .flat_map(|cell| std::iter::once(cell.range()).chain(cell.around().map(alone)));
    merged(ranges.collect())
}

/// The same numbers in fewer ranges. Neighbours are one number apart: that of a cell around both, or of none.
pub(super) fn merged(ranges: Vec<CellRange>) -> Vec<CellRange> {
    merged_if(ranges, |_| true)
}

/// The same without a number of any other cell.
pub(super) fn merged_exactly(ranges: Vec<CellRange>) -> Vec<CellRange> {
    merged_if(ranges, |between| between.trailing_zeros() % 2 == 1)
}

fn merged_if(mut ranges: Vec<CellRange>, may_take: impl Fn(i64) -> bool) -> Vec<CellRange> {
    ranges.sort_unstable();
    let mut merged: Vec<CellRange> = Vec::with_capacity(ranges.len());
    for (from, to) in ranges {
        match merged.last_mut() {
            Some(last) if from <= last.1 + 1 || (from == last.1 + 2 && may_take(last.1 + 1)) => {
                last.1 = last.1.max(to);
            }
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
    fn a_number_names_its_cell() {
        for number in [i64::MIN, -1, 0, 1, 2, 3, i64::MAX] {
            assert!(Cell::of_number(number).is_none_or(|cell| cell.number() == number), "{number}");
        }
        assert_eq!(Cell::of_number(number((0, 0), 0)), Some(Cell { level: 0, at: (0, 0) }));
        proptest::proptest!(|(level in 0..=LEVELS, x: u64, y: u64, any: i64)| {
            let cell = Cell { level, at: (x & ((1 << level) - 1), y & ((1 << level) - 1)) };
            proptest::prop_assert_eq!(Cell::of_number(cell.number()), Some(cell));
            proptest::prop_assert!(Cell::of_number(any).is_none_or(|cell| cell.number() == any));
        });
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
