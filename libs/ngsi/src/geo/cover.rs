//! Which cells are within two distances of a point, and which of them wholly: what is in these need not be looked at.
//!
//! ```text
//!    ┌──┬──┬─────┬──┐    border: what is there may be near enough
//!    ├──┴──┤ in- ├──┤    inside: it is
//!    │     │side │  │
//! ```

use super::{
    cell::{self, Cell, CellRange},
    distance,
    shape::{Bounds, Position},
};

/// What arithmetic may lose on the way around the world, metres.
const SLACK: f64 = 1.0;

/// Numbers of cells ([`super::cell_of`]), each in one range at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cover {
    /// What is in one of these is where the query says.
    pub inside: Vec<CellRange>,
    /// What is in one of these may be; what is in none of all is not.
    pub border: Vec<CellRange>,
}

impl Cover {
    /// All that is `min` to `max` metres from `centre`; border cells are quartered `finer` times.
    pub(super) fn of_ring(centre: Position, (min, max): (f64, f64), finer: u32) -> Self {
        let mut cover = Self::default();
        let ring = Ring { centre, min, max };
        for cell in cell::meeting(&distance::around(centre, max)) {
            if ring.add(cell, finer, &mut cover) {
                // Shapes too large for a cell are in one of those around it.
                cover.border.extend(cell.around().map(|cell| (cell.number(), cell.number())));
            }
        }
        Self { inside: cell::merged_exactly(cover.inside), border: cell::merged(cover.border) }
    }

    /// Where all matches are.
    pub(super) fn all(self) -> Vec<CellRange> {
        cell::merged([self.inside, self.border].concat())
    }
}

/// What is so far from a point.
#[derive(Clone, Copy, Debug)]
pub struct Ring {
    pub(super) centre: Position,
    /// Metres.
    pub(super) min: f64,
    pub(super) max: f64,
}

/// What a cell says of whatever is in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sight {
    /// It is not nearer to the point, and not farther away, metres.
    pub nearest: f64,
    pub farthest: f64,
    /// Whether it is in the ring; None: the cell is on the border.
    pub within: Option<bool>,
}

impl Ring {
    /// What the number of a cell says; that of no cell says nothing.
    pub fn sight(&self, number: i64) -> Sight {
        let Some(cell) = Cell::of_number(number) else {
            return Sight { nearest: 0.0, farthest: f64::INFINITY, within: None };
        };
        let (nearest, farthest) = reach(self.centre, &cell.bounds());
        let within = self.within(nearest, farthest);
        Sight { nearest: (nearest - SLACK).max(0.0), farthest: farthest + SLACK, within }
    }

    /// Whether all between two distances is in the ring, or nothing.
    fn within(&self, nearest: f64, farthest: f64) -> Option<bool> {
        if nearest > self.max + SLACK || farthest < self.min - SLACK {
            return Some(false);
        }
        (nearest >= self.min + SLACK.min(self.min) && farthest <= self.max - SLACK).then_some(true)
    }

    /// Whether something of the cell may match.
    fn add(&self, cell: Cell, finer: u32, cover: &mut Cover) -> bool {
        let (nearest, farthest) = reach(self.centre, &cell.bounds());
        match self.within(nearest, farthest) {
            Some(false) => return false,
            Some(true) => {
                cover.inside.push(cell.range());
                return true;
            }
            None => {}
        }
        let quarters = if finer > 0 { cell.quarters() } else { Vec::new() };
        if quarters.is_empty() {
            cover.border.push(cell.range());
            return true;
        }
        cover.border.push((cell.number(), cell.number()));
        for quarter in quarters {
            self.add(quarter, finer - 1, cover);
        }
        true
    }
}

/// Distances that all of a rectangle lies between, metres.
fn reach(from: Position, bounds: &Bounds) -> (f64, f64) {
    let latitude = f64::midpoint(bounds.south, bounds.north);
    let middle = Position::new(latitude, f64::midpoint(bounds.west, bounds.east));
    // Along the middle's parallel, then along a meridian: no way from the middle is longer than this one.
    let along = distance::metres((bounds.east - middle.longitude) * latitude.to_radians().cos());
    let half = along + distance::metres(bounds.north - latitude);
    let away = distance::between(from, middle);
    ((away - half).max(0.0), away + half)
}
