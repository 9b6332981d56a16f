//! The shape of a query, its edges in boxes: whether it meets or covers another costs about as much as that one has edges.
//!
//! ```text
//! positions  p0 p1 p2 … p8 │ p8 … p16 │ …     a chain, as drawn
//! boxes      ┌─ 8 edges ─┐ ┌─ 8 ───┐          around edges that follow each other
//!            ┌──────── 8 boxes ────────┐ …    and so on, up to one
//! ```

use super::{
    relation::{Edge, Place, SAME, between, crossing, is_crossed_to_the_east, is_on, middle, share_of},
    shape::{Bounds, Position, Shape},
};

/// Edges in a box, and boxes in a larger one.
const FAN: usize = 8;
/// How far from an edge what is on it may be, degrees: what arithmetic loses is far less than the difference.
const NEARBY: f64 = 2.0 * SAME;

/// A shape and where its edges are.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outline {
    shape: Shape,
    bounds: Bounds,
    /// A polygon's rings belong together; other chains are by themselves.
    parts: Vec<Vec<Chain>>,
}

impl Outline {
    pub(super) fn of(shape: Shape) -> Self {
        let parts = match &shape {
            Shape::Polygons(polygons) => {
                polygons.iter().map(|rings| rings.iter().map(|ring| Chain::of(ring)).collect()).collect()
            }
            _ => shape.chains().map(|chain| vec![Chain::of(chain)]).collect(),
        };
        Self { bounds: shape.bounds(), shape, parts }
    }

    pub(super) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Whether they have a position in common; edges belong to a shape.
    pub(super) fn intersects(&self, shape: &Shape) -> bool {
        if !self.bounds.widened(SAME).meets(&shape.bounds()) {
            return false;
        }
        // Where no edges meet, each chain is on one side of the other shape's edges as a whole: one position tells which.
        let own_chains = || self.shape.chains().filter_map(<[Position]>::first);
        shape.segments().any(|edge| self.touches(edge))
            || shape.chains().filter_map(<[Position]>::first).any(|position| self.has(*position))
            || own_chains().any(|position| shape.covers_position(*position))
    }

    /// Whether every position of `shape` belongs to this one, which has an area.
    pub(super) fn covers(&self, shape: &Shape) -> bool {
        let Shape::Polygons(polygons) = &self.shape else { return false };
        let mut holes = polygons.iter().flat_map(|polygon| polygon.iter().skip(1));
        shape.positions().all(|position| self.has(position))
            && shape.edges().all(|edge| self.covers_edge(edge))
            && !holes.any(|hole| has_inside(shape, hole))
    }

    fn chains(&self) -> impl Iterator<Item = &Chain> {
        self.parts.iter().flatten()
    }

    fn touches(&self, edge: Edge) -> bool {
        let around = around(edge);
        let mut meets = |other: Edge| {
            crossing(edge, other).is_some()
                || is_on(edge, other.0)
                || is_on(edge, other.1)
                || is_on(other, edge.0)
                || is_on(other, edge.1)
        };
        self.chains().any(|chain| chain.any(&around, &mut meets))
    }

    /// Whether a position belongs to the shape.
    fn has(&self, position: Position) -> bool {
        if !matches!(self.shape, Shape::Polygons(_)) {
            return self.chains().any(|chain| chain.has(position));
        }
        self.parts.iter().any(|rings| {
            let Some((outer, holes)) = rings.split_first() else { return false };
            match outer.place(position) {
                Place::Edge => true,
                Place::Outside => false,
                Place::Inside => holes.iter().all(|hole| hole.place(position) != Place::Inside),
            }
        })
    }

    /// Between two crossings with the shape's edges an edge is inside as a whole or outside as a whole.
    fn covers_edge(&self, edge: Edge) -> bool {
        let mut cuts = vec![0.0, 1.0];
        let around = around(edge);
        let mut cut = |other: Edge| {
            cuts.extend(crossing(edge, other));
            let corners = [other.0, other.1].into_iter().filter(|corner| is_on(edge, *corner));
            cuts.extend(corners.filter_map(|corner| share_of(edge, corner)));
            false
        };
        for chain in self.chains() {
            chain.any(&around, &mut cut);
        }
        cuts.sort_by(f64::total_cmp);
        let pieces = cuts.iter().zip(cuts.iter().skip(1)).filter(|(from, to)| *to - *from > SAME);
        pieces.into_iter().all(|(from, to)| self.has(between(edge, f64::midpoint(*from, *to))))
    }
}

/// Whether a hole lies in the area of a shape, at least in part.
fn has_inside(shape: &Shape, hole: &[Position]) -> bool {
    matches!(shape, Shape::Polygons(_)) && middle(hole).is_some_and(|middle| shape.covers_position(middle))
}

fn around(edge: Edge) -> Bounds {
    Bounds::around([edge.0, edge.1]).widened(NEARBY)
}

/// Positions one after the other, with boxes around ever longer runs of its edges.
#[derive(Clone, Debug, PartialEq)]
struct Chain {
    positions: Vec<Position>,
    /// Around `FAN` edges each, around `FAN` of those each …, around all.
    levels: Vec<Vec<Bounds>>,
}

impl Chain {
    fn of(positions: &[Position]) -> Self {
        let mut chain = Self { positions: positions.to_vec(), levels: Vec::new() };
        // Neighbouring runs share a position.
        let mut boxes: Vec<Bounds> = (0..chain.edges().div_ceil(FAN))
            .map(|run| Bounds::around(positions.iter().skip(run * FAN).take(FAN + 1).copied()))
            .collect();
        while boxes.len() > 1 {
            let wider = boxes.chunks(FAN).map(Bounds::of_all).collect();
            chain.levels.push(std::mem::replace(&mut boxes, wider));
        }
        chain.levels.push(boxes);
        chain
    }

    /// A position by itself is an edge without length.
    fn edges(&self) -> usize {
        self.positions.len().saturating_sub(1).max(self.positions.len().min(1))
    }

    fn edge(&self, number: usize) -> Option<Edge> {
        let from = *self.positions.get(number)?;
        Some((from, self.positions.get(number + 1).copied().unwrap_or(from)))
    }

    /// Whether `test` holds for an edge whose box meets `near`.
    fn any(&self, near: &Bounds, test: &mut impl FnMut(Edge) -> bool) -> bool {
        self.any_of_run(self.levels.len() - 1, 0, near, test)
    }

    fn any_of_run(
        &self,
        level: usize,
        run: usize,
        near: &Bounds,
        test: &mut impl FnMut(Edge) -> bool,
    ) -> bool {
        if !self.bounds(level, run).is_some_and(|bounds| bounds.meets(near)) {
            return false;
        }
        let mut parts = run * FAN..(run + 1) * FAN;
        if let Some(below) = level.checked_sub(1) {
            return parts.any(|part| self.any_of_run(below, part, near, test));
        }
        parts.end = parts.end.min(self.edges());
        parts.filter_map(|number| self.edge(number)).any(|edge| {
            let bounds = Bounds::around([edge.0, edge.1]);
            bounds.meets(near) && test(edge)
        })
    }

    fn bounds(&self, level: usize, run: usize) -> Option<&Bounds> {
        self.levels.get(level)?.get(run)
    }

    /// Whether a position is on an edge.
    fn has(&self, position: Position) -> bool {
        self.any(&around((position, position)), &mut |edge| is_on(edge, position))
    }

    /// Where a position is to a closed chain.
    fn place(&self, position: Position) -> Place {
        if self.has(position) {
            Place::Edge
        } else if self.is_odd_to_the_east(self.levels.len() - 1, 0, position) {
            Place::Inside
        } else {
            Place::Outside
        }
    }

    /// Whether a line to the east crosses an odd number of the edges of a run; `position` is on none of them.
    fn is_odd_to_the_east(&self, level: usize, run: usize, position: Position) -> bool {
        let Some(bounds) = self.bounds(level, run) else { return false };
        let Position { longitude, latitude } = position;
        if latitude < bounds.south || latitude > bounds.north || longitude > bounds.east {
            return false;
        }
        let edges = FAN.pow(u32::try_from(level).unwrap_or(u32::MAX).saturating_add(1));
        if longitude < bounds.west {
            // All of the run is to the east: how often it goes up and down shows at its ends.
            let (first, last) = (run * edges, ((run + 1) * edges).min(self.edges()));
            let ends = self.positions.get(first).zip(self.positions.get(last));
            return ends.is_some_and(|(a, b)| (a.latitude > latitude) != (b.latitude > latitude));
        }
        let parts = run * FAN..(run + 1) * FAN;
        let odd = match level.checked_sub(1) {
            Some(below) => parts.filter(|part| self.is_odd_to_the_east(below, *part, position)).count(),
            None => {
                let edges = parts.take_while(|number| *number < self.edges());
                let crossed = |edge: &Edge| is_crossed_to_the_east(*edge, position);
                edges.filter_map(|number| self.edge(number)).filter(crossed).count()
            }
        };
        odd % 2 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::{super::all_pairs, *};

    /// Teeth beside each other, closed far below or far above: boxes of edges that follow each other share all latitudes.
    fn comb(tips: f64, valleys: f64, closed_at: f64) -> Shape {
        const TEETH: u32 = 498;
        let at = |tooth: f64| tooth / f64::from(TEETH);
        let mut ring: Vec<Position> = (0..TEETH)
            .flat_map(|tooth| {
                let tooth = f64::from(tooth);
                [Position::new(valleys, at(tooth)), Position::new(tips, at(tooth + 0.5))]
            })
            .collect();
        ring.push(Position::new(valleys, 1.0));
        ring.extend([1.5, -0.5].map(|longitude| Position::new(closed_at, longitude)));
        ring.extend(ring.first().copied());
        Shape::Polygons(vec![vec![ring]])
    }

    /// Edges of `outline` that are looked at for all edges of `shape`.
    fn looked_at(outline: &Outline, shape: &Shape) -> usize {
        let mut looked_at = 0;
        for edge in shape.edges() {
            for chain in outline.chains() {
                chain.any(&around(edge), &mut |_| {
                    looked_at += 1;
                    false
                });
            }
        }
        looked_at
    }

    #[test]
    fn shapes_of_a_thousand_positions_are_compared_without_looking_at_all_pairs_of_edges() {
        let (below, above, higher) = (comb(1.0, 0.0, -1.0), comb(1.01, 0.01, 3.0), comb(1.001, 0.0, -1.0));
        assert_eq!(below.positions().count(), 1000);
        let (above, higher) = (Outline::of(above), Outline::of(higher));
        assert!(!above.intersects(&below) && !all_pairs::intersects(&below, above.shape()));
        assert!(higher.covers(&below) && all_pairs::is_covered_by(&below, higher.shape()));
        for outline in [&above, &higher] {
            let looked_at = looked_at(outline, &below);
            assert!(looked_at < 10 * below.edges().count(), "{looked_at}");
        }
    }

    /// The figures of docs/performance.md: with `--release -- --ignored --nocapture`.
    #[test]
    #[ignore = "measures"]
    fn shapes_of_a_thousand_positions_are_compared_in_a_fraction_of_the_time_of_all_pairs() {
        use std::time::{Duration, Instant};
        fn least(work: impl Fn() -> bool) -> Duration {
            let once = || {
                let start = Instant::now();
                std::hint::black_box(work());
                start.elapsed()
            };
            (0..2).map(|_| once()).min().unwrap_or_default()
        }
        let below = comb(1.0, 0.0, -1.0);
        let to_and_fro = (0..100).map(|n| Position::new(1.0, f64::from(n % 2)));
        for (what, shape, other) in [
            ("apart", &below, comb(1.01, 0.01, 3.0)),
            ("covered", &below, comb(1.001, 0.0, -1.0)),
            (
                "a hundred times along the tips",
                &Shape::Lines(vec![to_and_fro.collect()]),
                comb(1.0, 2.0, 0.0),
            ),
        ] {
            let outline = || Outline::of(other.clone());
            let meeting = least(|| outline().intersects(shape)) + least(|| outline().covers(shape));
            let all_pairs = least(|| all_pairs::intersects(shape, &other))
                + least(|| all_pairs::is_covered_by(shape, &other));
            println!(
                "{what}: built in {:?}, both in {meeting:?}, all pairs in {all_pairs:?}",
                least(|| outline().shape() == shape)
            );
            assert!(meeting * 2 < all_pairs, "{what}");
        }
    }
}
