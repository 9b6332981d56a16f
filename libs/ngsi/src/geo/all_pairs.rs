//! The relations of shapes as plainly as they can be said, for the tests of [`super::outline`]: all edges of one with all of
//! the other.

use super::{
    relation::{Edge, SAME, between, crossing, is_on, middle, share_of},
    shape::{Position, Shape},
};

/// Whether they have a position in common; edges belong to a shape.
pub(super) fn intersects(one: &Shape, other: &Shape) -> bool {
    one.positions().any(|position| other.covers_position(position))
        || other.positions().any(|position| one.covers_position(position))
        || one.edges().any(|edge| other.edges().any(|other| crossing(edge, other).is_some()))
}

/// Whether every position of `shape` belongs to `cover`, which has an area.
pub(super) fn is_covered_by(shape: &Shape, cover: &Shape) -> bool {
    let Shape::Polygons(polygons) = cover else { return false };
    let mut holes = polygons.iter().flat_map(|polygon| polygon.iter().skip(1));
    shape.positions().all(|position| cover.covers_position(position))
        && shape.edges().all(|edge| edge_is_covered(edge, cover))
        && !holes.any(|hole| has_inside(shape, hole))
}

/// Whether a hole lies in the area of a shape, at least in part.
fn has_inside(shape: &Shape, hole: &[Position]) -> bool {
    matches!(shape, Shape::Polygons(_)) && middle(hole).is_some_and(|middle| shape.covers_position(middle))
}

/// Between two crossings with the cover's edges an edge is inside as a whole or outside as a whole.
fn edge_is_covered(edge: Edge, cover: &Shape) -> bool {
    let mut cuts: Vec<f64> = cover.edges().filter_map(|other| crossing(edge, other)).collect();
    cuts.extend(
        cover.positions().filter(|corner| is_on(edge, *corner)).filter_map(|corner| share_of(edge, corner)),
    );
    cuts.extend([0.0, 1.0]);
    cuts.sort_by(f64::total_cmp);
    let pieces = cuts.iter().zip(cuts.iter().skip(1)).filter(|(from, to)| *to - *from > SAME);
    pieces.into_iter().all(|(from, to)| cover.covers_position(between(edge, f64::midpoint(*from, *to))))
}
