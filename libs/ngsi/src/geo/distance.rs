//! Distances in metres on the sphere.

use super::shape::{Bounds, Position, Shape};

/// The radius that the original's database reckons with, metres.
const EARTH_RADIUS: f64 = 6_378_100.0;
/// What arithmetic may lose, metres.
const SLACK: f64 = 0.01;

/// Metres between two positions.
pub(super) fn between(a: Position, b: Position) -> f64 {
    let (lat_a, lat_b) = (a.latitude.to_radians(), b.latitude.to_radians());
    let half_lat = ((lat_b - lat_a) / 2.0).sin();
    let half_lon = ((b.longitude - a.longitude).to_radians() / 2.0).sin();
    let haversine = half_lat * half_lat + lat_a.cos() * lat_b.cos() * half_lon * half_lon;
    2.0 * EARTH_RADIUS * haversine.sqrt().min(1.0).asin()
}

/// Metres of so many degrees along a meridian.
pub(super) fn metres(degrees: f64) -> f64 {
    degrees.to_radians() * EARTH_RADIUS
}

impl Shape {
    /// Metres from `from` to the nearest position; 0 inside of a polygon.
    pub(super) fn distance(&self, from: Position) -> f64 {
        if matches!(self, Self::Polygons(_)) && self.covers_position(from) {
            return 0.0;
        }
        let corners = self.positions().map(|corner| between(from, corner));
        let edges = self.edges().map(|edge| between(from, nearest(edge, from)));
        corners.chain(edges).fold(f64::INFINITY, f64::min)
    }
}

/// The position of an edge that is nearest to `from`, about: on a map that is true around `from`.
fn nearest((a, b): (Position, Position), from: Position) -> Position {
    let scale = from.latitude.to_radians().cos();
    // Edges are where the positions say; it is the way to them that may be shorter around the other side.
    let turn = ((from.longitude - f64::midpoint(a.longitude, b.longitude)) / 360.0).round() * 360.0;
    let from_longitude = from.longitude - turn;
    let (dx, dy) = ((b.longitude - a.longitude) * scale, b.latitude - a.latitude);
    let length = dx * dx + dy * dy;
    let along = (from_longitude - a.longitude) * scale * dx + (from.latitude - a.latitude) * dy;
    let share = if length > 0.0 { (along / length).clamp(0.0, 1.0) } else { 0.0 };
    Position {
        longitude: a.longitude + share * (b.longitude - a.longitude),
        latitude: a.latitude + share * (b.latitude - a.latitude),
    }
}

/// Rectangles that hold every position within `metres` of `centre`: two of them across the 180th meridian.
pub(super) fn around(centre: Position, metres: f64) -> Vec<Bounds> {
    let angle = (metres.max(0.0) + SLACK) / EARTH_RADIUS;
    let latitude = centre.latitude.to_radians();
    let (south, north) = ((latitude - angle).to_degrees(), (latitude + angle).to_degrees());
    let reaches_pole = south <= -90.0 || north >= 90.0;
    let half_width = (angle.sin() / latitude.cos()).asin().to_degrees();
    if reaches_pole || half_width.is_nan() || angle >= std::f64::consts::FRAC_PI_2 {
        return vec![Bounds { west: -180.0, south: south.max(-90.0), east: 180.0, north: north.min(90.0) }];
    }
    let (west, east) = (centre.longitude - half_width, centre.longitude + half_width);
    let middle = Bounds { west: west.max(-180.0), south, east: east.min(180.0), north };
    let mut bounds = vec![middle];
    if west < -180.0 {
        bounds.push(Bounds { west: west + 360.0, east: 180.0, ..middle });
    }
    if east > 180.0 {
        bounds.push(Bounds { west: -180.0, east: east - 360.0, ..middle });
    }
    bounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_a_map() {
        let madrid = Position::new(40.418889, -3.691944);
        for (other, metres) in [
            (Position::new(40.418889, -3.691944), 0.0),
            (Position::new(40.45, -3.683333), 3539.0),
            (Position::new(41.3825, 2.176944), 505_000.0),
        ] {
            let found = between(madrid, other);
            assert!((found - metres).abs() <= metres * 0.01, "{found} {metres}");
        }
        assert!(between(Position::new(0.0, 179.999), Position::new(0.0, -179.999)) < 300.0);
    }

    #[test]
    fn a_line_is_as_far_as_its_nearest_position_and_a_polygon_has_no_distance_inside() {
        let line = Shape::Lines(vec![vec![Position::new(0.0, -1.0), Position::new(0.0, 1.0)]]);
        let found = line.distance(Position::new(0.01, 0.0));
        assert!((found - 1113.2).abs() < 1.0, "{found}");
        let around_origin = Shape::rectangle(Position::new(-1.0, -1.0), Position::new(1.0, 1.0));
        assert!(around_origin.distance(Position::new(0.5, 0.5)) == 0.0);
        let outside = around_origin.distance(Position::new(0.0, 1.01));
        assert!((outside - 1113.2).abs() < 1.0, "{outside}");
    }
}
