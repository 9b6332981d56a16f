//! Circles around a point that grow until they hold enough, and shrink when they hold too much.

use ngsi::geo::GeoQuery;

/// How far the first circle reaches beyond the nearest results, metres, and how much wider, or less wide, each next one is.
const FIRST_CIRCLE: f64 = 150.0;
const WIDER: f64 = 3.0;
/// Circles that differ by less than this, metres, or this share of the smaller one, are the same: more is read of them, so
/// many times as much, and so much at most.
const CLOSE: f64 = 0.5;
const CLOSE_SHARE: f64 = 0.2;
const MORE: u32 = 8;
const MOST_AT_ONE_PLACE: u32 = 50_000;
/// Nothing is farther away than this, metres.
const WORLD: f64 = 21_000_000.0;

/// Circles around a point, until one holds enough and not too much.
pub(super) struct Circles {
    nearest: f64,
    /// Circles that hold too few, and too many.
    small: f64,
    large: Option<f64>,
    reach: f64,
    /// Candidates that are looked at in one circle, at most.
    pub(super) most: u32,
}

impl Circles {
    /// From where results begin.
    pub(super) fn from(nearest: f64, most: u32) -> Self {
        Self { nearest, small: nearest, large: None, reach: nearest + FIRST_CIRCLE, most }
    }

    /// The query within the next circle, and whether that is all of it.
    pub(super) fn around(&self, geo: &GeoQuery) -> (GeoQuery, bool) {
        let circle = geo.up_to(self.reach);
        let is_last = circle.is_none() || self.reach >= WORLD;
        (circle.unwrap_or_else(|| geo.clone()), is_last)
    }

    /// It held too few.
    pub(super) fn grow(&mut self) {
        self.small = self.reach;
        self.large = self.large.filter(|large| *large > self.reach);
        self.next();
    }

    /// It held too many; false: it is given up.
    pub(super) fn shrink(&mut self) -> bool {
        if self.most >= MOST_AT_ONE_PLACE {
            return false;
        }
        self.large = Some(self.reach);
        self.next();
        true
    }

    fn next(&mut self) {
        let beyond = self.small - self.nearest;
        let same = CLOSE.max(beyond * CLOSE_SHARE);
        self.reach = match self.large {
            None => self.nearest + beyond * WIDER,
            Some(large) if large - self.small < same => {
                self.most = self.most.saturating_mul(MORE).min(MOST_AT_ONE_PLACE);
                large
            }
            Some(large) => {
                let less_wide = self.nearest + (large - self.nearest) / WIDER;
                // Not the one that held too few, but for a rounding.
                if less_wide > self.small + same / 2.0 { less_wide } else { f64::midpoint(self.small, large) }
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_search_ends_soon_however_things_lie(
            nearest in prop_oneof![Just(0.0), 0.0_f64..1e5],
            mut places in prop::collection::vec((0.0_f64..7.0, 1_u32..3_000), 1..8),
            // What lies around a circle is looked at with it.
            blur in prop_oneof![Just(0.0), 0.0_f64..500.0],
            wanted in 1_u32..2_000,
        ) {
            places.sort_by(|a, b| a.0.total_cmp(&b.0));
            let geo = GeoQuery::parse(&format!("near;minDistance:{nearest}"), "point", "0,0").unwrap();
            let within = |reach: f64| -> u32 {
                places.iter().filter(|(far, _)| nearest + 10.0_f64.powf(*far) <= reach).map(|(_, count)| count).sum()
            };
            let mut circles = Circles::from(nearest, 200);
            let mut steps = 0;
            loop {
                let is_last = circles.around(&geo).1;
                let (held, looked_at) = (within(circles.reach), within(circles.reach + blur));
                if looked_at >= circles.most {
                    if !circles.shrink() {
                        prop_assert!(looked_at >= MOST_AT_ONE_PLACE);
                        break;
                    }
                } else if held >= wanted || is_last {
                    break;
                } else {
                    circles.grow();
                }
                steps += 1;
                prop_assert!(steps < 100, "{} {:?} {} {}", circles.small, circles.large, circles.reach, circles.most);
            }
        }
    }
}
