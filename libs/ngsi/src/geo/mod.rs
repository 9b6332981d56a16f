//! Where entities are, and which of them a geographic query means (ngsi-v2.md 5 and 7).
//!
//! ```text
//! location attribute ─ Shape::of ─► Shape ─ cell_of ─► cell (a column with an index)
//! georel, geometry, coords ─► GeoQuery ─ cells ─► ranges of that column ─ matches(&Shape) ─► result, distance in metres
//! ```
//!
//! The map is flat in degrees: edges are straight in longitude and latitude, not great circles, and shapes do not
//! reach across the 180th meridian. Distances are those on the sphere.

mod cell;
mod cover;
mod distance;
mod outline;
mod query;
mod relation;
mod shape;

#[cfg(test)]
mod all_pairs;
#[cfg(test)]
mod property_test;

pub use cell::{CellRange, cell_of};
pub use cover::{Cover, Ring, Sight};
pub use query::{GeoQuery, Georel};
pub use shape::{Bounds, Position, Shape};
