//! How two shapes lie to each other on the flat map.

use super::shape::{Bounds, Polygon, Position, Shape};

/// Positions nearer than this are the same, degrees: a tenth of a millimetre.
pub(super) const SAME: f64 = 1e-9;

impl Shape {
    /// Whether they are drawn with the same positions; where a ring begins and how it runs does not matter.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Points(own), Self::Points(other)) => same_chain(own, other),
            (Self::Lines(own), Self::Lines(other)) => same_list(own, other, |a, b| same_chain(a, b)),
            (Self::Polygons(own), Self::Polygons(other)) => {
                same_list(own, other, |own, other| same_list(own, other, |a, b| same_ring(a, b)))
            }
            _ => false,
        }
    }

    pub(super) fn covers_position(&self, position: Position) -> bool {
        match self {
            Self::Points(points) => points.iter().any(|point| is_near(*point, position)),
            Self::Lines(_) => self.edges().any(|edge| is_on(edge, position)),
            Self::Polygons(polygons) => polygons.iter().any(|polygon| polygon_covers(polygon, position)),
        }
    }
}

/// Two positions and the straight line between them.
pub(super) type Edge = (Position, Position);

impl Bounds {
    /// The smallest rectangle around positions.
    pub(super) fn around(positions: impl IntoIterator<Item = Position>) -> Self {
        let nothing = Self {
            west: f64::INFINITY,
            south: f64::INFINITY,
            east: f64::NEG_INFINITY,
            north: f64::NEG_INFINITY,
        };
        positions.into_iter().fold(nothing, |bounds, position| Self {
            west: bounds.west.min(position.longitude),
            south: bounds.south.min(position.latitude),
            east: bounds.east.max(position.longitude),
            north: bounds.north.max(position.latitude),
        })
    }

    /// The smallest rectangle around rectangles.
    pub(super) fn of_all(bounds: &[Self]) -> Self {
        let corners = |bounds: &Self| {
            [Position::new(bounds.south, bounds.west), Position::new(bounds.north, bounds.east)]
        };
        Self::around(bounds.iter().flat_map(corners))
    }

    pub(super) fn meets(&self, other: &Self) -> bool {
        self.west <= other.east
            && other.west <= self.east
            && self.south <= other.north
            && other.south <= self.north
    }

    pub(super) fn widened(self, by: f64) -> Self {
        Self { west: self.west - by, south: self.south - by, east: self.east + by, north: self.north + by }
    }
}

/// A position inside a ring: halfway along a horizontal line through it.
pub(super) fn middle(ring: &[Position]) -> Option<Position> {
    let mut heights: Vec<f64> = ring.iter().map(|position| position.latitude).collect();
    heights.sort_by(f64::total_cmp);
    heights.dedup();
    let (low, high) = (*heights.first()?, *heights.get(1)?);
    let latitude = f64::midpoint(low, high);
    let mut crossed: Vec<f64> = edges(ring)
        .filter(|(a, b)| (a.latitude > latitude) != (b.latitude > latitude))
        .map(|(a, b)| {
            let share = (latitude - a.latitude) / (b.latitude - a.latitude);
            a.longitude + share * (b.longitude - a.longitude)
        })
        .collect();
    crossed.sort_by(f64::total_cmp);
    Some(Position::new(latitude, f64::midpoint(*crossed.first()?, *crossed.get(1)?)))
}

fn edges(ring: &[Position]) -> impl Iterator<Item = Edge> + '_ {
    ring.iter().copied().zip(ring.iter().copied().skip(1))
}

fn polygon_covers(polygon: &Polygon, position: Position) -> bool {
    let Some((outer, holes)) = polygon.split_first() else { return false };
    match place(outer, position) {
        Place::Edge => true,
        Place::Outside => false,
        Place::Inside => holes.iter().all(|hole| place(hole, position) != Place::Inside),
    }
}

/// Where a position is to a ring.
#[derive(PartialEq)]
pub(super) enum Place {
    Inside,
    Edge,
    Outside,
}

/// Counts the edges that a line to the east crosses.
fn place(ring: &[Position], position: Position) -> Place {
    let mut inside = false;
    for edge in edges(ring) {
        if is_on(edge, position) {
            return Place::Edge;
        }
        inside ^= is_crossed_to_the_east(edge, position);
    }
    if inside { Place::Inside } else { Place::Outside }
}

/// Whether a line to the east crosses an edge.
pub(super) fn is_crossed_to_the_east((a, b): Edge, position: Position) -> bool {
    if (a.latitude > position.latitude) == (b.latitude > position.latitude) {
        return false;
    }
    let share = (position.latitude - a.latitude) / (b.latitude - a.latitude);
    position.longitude < a.longitude + share * (b.longitude - a.longitude)
}

fn is_near(a: Position, b: Position) -> bool {
    (a.longitude - b.longitude).abs() <= SAME && (a.latitude - b.latitude).abs() <= SAME
}

pub(super) fn is_on((a, b): Edge, position: Position) -> bool {
    is_near(nearest((a, b), position), position)
}

/// The position of an edge that is nearest to another, on the flat map.
fn nearest((a, b): Edge, position: Position) -> Position {
    let (dx, dy) = (b.longitude - a.longitude, b.latitude - a.latitude);
    let length = dx * dx + dy * dy;
    let along = (position.longitude - a.longitude) * dx + (position.latitude - a.latitude) * dy;
    let share = if length > 0.0 { (along / length).clamp(0.0, 1.0) } else { 0.0 };
    between((a, b), share)
}

/// The position that lies at a share of an edge.
pub(super) fn between((a, b): Edge, share: f64) -> Position {
    Position {
        longitude: a.longitude + share * (b.longitude - a.longitude),
        latitude: a.latitude + share * (b.latitude - a.latitude),
    }
}

/// Where two edges cross, as a share of the first.
pub(super) fn crossing((a, b): Edge, (c, d): Edge) -> Option<f64> {
    let (rx, ry) = (b.longitude - a.longitude, b.latitude - a.latitude);
    let (sx, sy) = (d.longitude - c.longitude, d.latitude - c.latitude);
    let cross = rx * sy - ry * sx;
    if cross == 0.0 {
        return None;
    }
    let (qx, qy) = (c.longitude - a.longitude, c.latitude - a.latitude);
    let own = (qx * sy - qy * sx) / cross;
    let other = (qx * ry - qy * rx) / cross;
    ((0.0..=1.0).contains(&own) && (0.0..=1.0).contains(&other)).then_some(own)
}

/// Where a position that is on an edge lies, as a share of it.
pub(super) fn share_of((a, b): Edge, position: Position) -> Option<f64> {
    let (dx, dy) = (b.longitude - a.longitude, b.latitude - a.latitude);
    let length = dx * dx + dy * dy;
    (length > 0.0)
        .then(|| ((position.longitude - a.longitude) * dx + (position.latitude - a.latitude) * dy) / length)
}

fn same_list<T>(own: &[T], other: &[T], same: impl Fn(&T, &T) -> bool) -> bool {
    own.len() == other.len() && own.iter().zip(other).all(|(a, b)| same(a, b))
}

fn same_chain(own: &[Position], other: &[Position]) -> bool {
    same_list(own, other, |a, b| is_near(*a, *b))
}

fn same_ring(own: &[Position], other: &[Position]) -> bool {
    let (Some((_, own)), Some((_, other))) = (own.split_last(), other.split_last()) else { return false };
    if own.len() != other.len() {
        return false;
    }
    let backwards: Vec<Position> = other.iter().rev().copied().collect();
    (0..own.len()).any(|turn| {
        [other, &backwards]
            .into_iter()
            .any(|ring| own.iter().zip(ring.iter().cycle().skip(turn)).all(|(a, b)| is_near(*a, *b)))
    })
}

#[cfg(test)]
mod tests {
    use super::{super::outline::Outline, *};

    fn ring(points: &[(f64, f64)]) -> Vec<Position> {
        points.iter().map(|(latitude, longitude)| Position::new(*latitude, *longitude)).collect()
    }

    fn square(from: f64, to: f64) -> Vec<Position> {
        ring(&[(from, from), (from, to), (to, to), (to, from), (from, from)])
    }

    fn polygon(rings: &[Vec<Position>]) -> Shape {
        Shape::Polygons(vec![rings.to_vec()])
    }

    fn point(latitude: f64, longitude: f64) -> Shape {
        Shape::Points(vec![Position::new(latitude, longitude)])
    }

    #[test]
    fn a_hole_is_not_part_of_a_polygon() {
        let ringed = polygon(&[square(0.0, 10.0), square(4.0, 6.0)]);
        for (shape, meets, covered) in [
            (point(1.0, 1.0), true, true),
            (point(5.0, 5.0), false, false),
            (point(4.0, 5.0), true, true),
            (point(0.0, 0.0), true, true),
            (point(11.0, 5.0), false, false),
            (polygon(&[square(1.0, 2.0)]), true, true),
            (polygon(&[square(4.5, 5.5)]), false, false),
            (polygon(&[square(3.0, 7.0)]), true, false),
            (polygon(&[square(0.0, 10.0)]), true, false),
            (polygon(&[square(0.0, 10.0), square(4.0, 6.0)]), true, true),
            (Shape::Lines(vec![ring(&[(5.0, 1.0), (5.0, 9.0)])]), true, false),
            (Shape::Lines(vec![ring(&[(1.0, 1.0), (1.0, 9.0)])]), true, true),
            (Shape::Lines(vec![ring(&[(20.0, 1.0), (20.0, 9.0)])]), false, false),
        ] {
            assert_eq!(Outline::of(ringed.clone()).intersects(&shape), meets, "{shape:?}");
            assert_eq!(Outline::of(shape.clone()).intersects(&ringed), meets, "{shape:?}");
            assert_eq!(Outline::of(ringed.clone()).covers(&shape), covered, "{shape:?}");
        }
    }

    #[test]
    fn a_line_that_leaves_a_bay_and_comes_back_is_not_covered() {
        let horseshoe = Outline::of(polygon(&[ring(&[
            (0.0, 0.0),
            (0.0, 10.0),
            (10.0, 10.0),
            (10.0, 7.0),
            (3.0, 7.0),
            (3.0, 3.0),
            (10.0, 3.0),
            (10.0, 0.0),
            (0.0, 0.0),
        ])]));
        let across = Shape::Lines(vec![ring(&[(8.0, 1.0), (8.0, 9.0)])]);
        assert!(horseshoe.intersects(&across) && !horseshoe.covers(&across));
        let along_the_edge = Shape::Lines(vec![ring(&[(3.0, 1.0), (3.0, 9.0)])]);
        assert!(horseshoe.covers(&along_the_edge));
    }

    #[test]
    fn rings_are_the_same_wherever_they_begin() {
        let from_corner = polygon(&[square(0.0, 1.0)]);
        let turned = polygon(&[ring(&[(1.0, 1.0), (1.0, 0.0), (0.0, 0.0), (0.0, 1.0), (1.0, 1.0)])]);
        let backwards = polygon(&[ring(&[(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0), (0.0, 0.0)])]);
        assert!(from_corner.is_same_as(&turned) && from_corner.is_same_as(&backwards));
        assert!(!from_corner.is_same_as(&polygon(&[square(0.0, 2.0)])));
        assert!(!from_corner.is_same_as(&point(0.0, 0.0)));
    }
}
