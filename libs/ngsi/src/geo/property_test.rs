use proptest::prelude::*;

use super::{
    GeoQuery, Position, Shape, all_pairs, cell_of,
    distance::{around, between},
    outline::Outline,
};

fn position() -> impl Strategy<Value = Position> + Clone {
    (-90.0_f64..=90.0, -180.0_f64..=180.0)
        .prop_map(|(latitude, longitude)| Position::new(latitude, longitude))
}

/// Positions on a coarse grid, so that edges touch and corners meet.
fn grid() -> impl Strategy<Value = Position> + Clone {
    (-4_i32..=4, -4_i32..=4).prop_map(|(y, x)| Position::new(f64::from(y), f64::from(x)))
}

fn shape(at: impl Strategy<Value = Position> + Clone + 'static) -> impl Strategy<Value = Shape> {
    let corners = (at.clone(), at.clone())
        .prop_filter("an area", |(a, b)| a.latitude != b.latitude && a.longitude != b.longitude);
    let closed = |mut ring: Vec<Position>| {
        ring.extend(ring.first().copied());
        Shape::Polygons(vec![vec![ring]])
    };
    prop_oneof![
        prop::collection::vec(at.clone(), 1..3).prop_map(Shape::Points),
        prop::collection::vec(at.clone(), 2..5).prop_map(|line| Shape::Lines(vec![line])),
        corners.prop_map(|(a, b)| Shape::rectangle(a, b)),
        prop::collection::vec(at, 3..4).prop_map(closed),
    ]
}

/// Long chains that touch, cross and hold each other, on a grid and off it.
fn drawing() -> impl Strategy<Value = Shape> {
    let anywhere = (-4.0_f64..=4.0, -4.0_f64..=4.0).prop_map(|(y, x)| Position::new(y, x));
    prop_oneof![
        shape(grid()),
        shape(anywhere.clone()),
        prop::collection::vec(grid(), 1..80).prop_map(Shape::Points),
        prop::collection::vec(prop::collection::vec(grid(), 2..80), 1..4).prop_map(Shape::Lines),
        prop::collection::vec(anywhere, 2..40).prop_map(|line| Shape::Lines(vec![line])),
        stars().prop_map(Shape::Polygons),
    ]
}

/// Polygons around some middles, which may have smaller ones as holes; corners on a fine grid.
fn stars() -> impl Strategy<Value = Vec<Vec<Vec<Position>>>> {
    let ring = |middle: Position, reaches: &[f64], size: f64| {
        let turn = std::f64::consts::TAU / reaches.len() as f64;
        let corner = |(at, reach): (usize, &f64)| {
            let (y, x) = (at as f64 * turn).sin_cos();
            let on_grid = |degrees: f64| (degrees * 4.0).round() / 4.0;
            let away = size * reach;
            Position::new(on_grid(middle.latitude + y * away), on_grid(middle.longitude + x * away))
        };
        let mut ring: Vec<Position> = reaches.iter().enumerate().map(corner).collect();
        ring.extend(ring.first().copied());
        ring
    };
    let polygon = (grid(), prop::collection::vec(0.5_f64..1.0, 3..120), 0.5_f64..6.0, any::<bool>());
    prop::collection::vec(polygon, 1..4).prop_map(move |polygons| {
        let rings = |(middle, reaches, size, has_hole): (Position, Vec<f64>, f64, bool)| {
            let hole = has_hole.then(|| ring(middle, &reaches, size / 3.0));
            std::iter::once(ring(middle, &reaches, size)).chain(hole).collect()
        };
        polygons.into_iter().map(rings).collect()
    })
}

fn is_in(cell: i64, query: &GeoQuery) -> bool {
    query.cells().is_none_or(|ranges| ranges.iter().any(|(from, to)| (*from..=*to).contains(&cell)))
}

fn coords(positions: &[Position]) -> String {
    let texts: Vec<String> = positions.iter().map(|p| format!("{},{}", p.latitude, p.longitude)).collect();
    texts.join(";")
}

proptest! {
    #[test]
    fn what_matches_is_in_the_cells_of_the_query(
        location in prop_oneof![shape(position()), shape(grid())],
        a in prop_oneof![position(), grid()],
        b in prop_oneof![position(), grid()],
        metres in prop_oneof![0.0_f64..1000.0, 0.0_f64..20_000_000.0],
    ) {
        let near = GeoQuery::parse(&format!("near;maxDistance:{metres}"), "point", &coords(&[a])).unwrap();
        prop_assert!(!near.holds(&location) || is_in(cell_of(&location), &near));
        for georel in ["coveredBy", "intersects", "equals"] {
            let Ok(query) = GeoQuery::parse(georel, "box", &coords(&[a, b])) else { continue };
            prop_assert!(!query.holds(&location) || is_in(cell_of(&location), &query), "{}", georel);
        }
    }

    #[test]
    fn what_is_inside_of_a_cover_matches_and_what_matches_is_in_it(
        locations in prop::collection::vec(prop_oneof![shape(position()), shape(grid())], 1..8),
        nearby in prop::collection::vec((-1.5_f64..1.5, 0.0_f64..360.0), 1..20),
        from in prop_oneof![position(), grid()],
        max in prop_oneof![0.0_f64..1000.0, 0.0_f64..20_000_000.0],
        min in prop_oneof![Just(0.0), 0.0_f64..1.0],
        finer in 0_u32..6,
    ) {
        let degrees = (max / 111_000.0).min(60.0);
        let nearby = nearby.into_iter().map(|(away, turn)| {
            let (y, x) = turn.to_radians().sin_cos();
            let latitude = (from.latitude + y * away * degrees).clamp(-90.0, 90.0);
            Shape::Points(vec![Position::new(latitude, (from.longitude + x * away * degrees).clamp(-180.0, 180.0))])
        });
        let georel = format!("near;minDistance:{};maxDistance:{max}", min * max);
        let query = GeoQuery::parse(&georel, "point", &coords(&[from])).unwrap();
        let cover = query.cover(finer).unwrap();
        let ranges = |ranges: &[(i64, i64)], cell| ranges.iter().filter(|(low, high)| (*low..=*high).contains(&cell)).count();
        for location in locations.into_iter().chain(nearby) {
            let cell = cell_of(&location);
            let (inside, border) = (ranges(&cover.inside, cell), ranges(&cover.border, cell));
            prop_assert!(inside + border <= 1, "{inside} {border}");
            prop_assert!(inside == 0 || query.holds(&location));
            prop_assert!(inside + border == 1 || !query.holds(&location));
            let (sight, metres) = (query.ring().unwrap().sight(cell), query.distance_to(&location));
            prop_assert!((sight.nearest..=sight.farthest).contains(&metres), "{sight:?} {metres}");
            prop_assert!(sight.within.is_none_or(|within| within == query.holds(&location)), "{sight:?} {metres}");
        }
    }

    #[test]
    fn relations_agree_with_each_other(one in shape(grid()), two in shape(grid())) {
        let (first, second) = (Outline::of(one.clone()), Outline::of(two.clone()));
        prop_assert_eq!(second.intersects(&one), first.intersects(&two));
        prop_assert!(first.intersects(&one) && one.is_same_as(&one));
        if second.covers(&one) {
            prop_assert!(second.intersects(&one));
        }
        if matches!(one, Shape::Polygons(_)) {
            prop_assert!(first.covers(&one));
        }
        for position in one.positions() {
            prop_assert!(one.covers_position(position));
        }
    }

    #[test]
    fn boxes_of_edges_change_nothing(one in drawing(), two in drawing()) {
        for (shape, other) in [(&one, &two), (&two, &one), (&one, &one)] {
            let outline = Outline::of(other.clone());
            prop_assert_eq!(outline.intersects(shape), all_pairs::intersects(shape, other));
            prop_assert_eq!(outline.covers(shape), all_pairs::is_covered_by(shape, other));
        }
    }

    #[test]
    fn rectangles_cover_what_their_edges_say(a in grid(), b in grid(), at in grid()) {
        prop_assume!(a.latitude != b.latitude && a.longitude != b.longitude);
        let rectangle = Outline::of(Shape::rectangle(a, b));
        let bounds = rectangle.shape().bounds();
        let inside = (bounds.west..=bounds.east).contains(&at.longitude)
            && (bounds.south..=bounds.north).contains(&at.latitude);
        prop_assert_eq!(rectangle.covers(&Shape::Points(vec![at])), inside);
        prop_assert_eq!(rectangle.intersects(&Shape::Points(vec![at])), inside);
    }

    #[test]
    fn distances_are_a_metric(a in position(), b in position(), c in position()) {
        prop_assert!(between(a, a) == 0.0);
        prop_assert!((between(a, b) - between(b, a)).abs() < 1e-3);
        prop_assert!(between(a, c) <= between(a, b) + between(b, c) + 1e-3);
    }

    #[test]
    fn what_is_near_is_within_the_rectangles_around(a in position(), b in position(), more in 0.0_f64..1e6) {
        let metres = between(a, b) + more;
        let held = around(a, metres).iter().any(|bounds| {
            (bounds.west..=bounds.east).contains(&b.longitude) && (bounds.south..=bounds.north).contains(&b.latitude)
        });
        prop_assert!(held);
    }

    #[test]
    fn no_text_makes_the_parser_panic(georel in "[a-zA-Z:;0-9.]{0,30}", geometry in "[a-z]{0,8}", coords in "[0-9,;. eE+-]{0,40}") {
        let _refused = GeoQuery::parse(&georel, &geometry, &coords);
        for geometry in ["point", "line", "box", "polygon"] {
            if let Ok(query) = GeoQuery::parse("intersects", geometry, &coords) {
                prop_assert!(query.holds(&query.shape_for_test()));
            }
        }
    }
}
