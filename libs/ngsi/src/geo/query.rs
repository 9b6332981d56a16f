//! `georel`, `geometry` and `coords`.

use std::sync::Arc;

use super::{
    cell::{self, CellRange},
    cover::{Cover, Ring},
    outline::Outline,
    shape::{Position, Shape},
};
use crate::{Entity, Error};

/// Most positions in `coords`.
const MAX_POSITIONS: usize = 1000;

/// How often the cells on the border of a circle are quartered to read what is there.
const TO_READ: u32 = 2;

/// A geographic condition.
#[derive(Clone, Debug, PartialEq)]
pub struct GeoQuery {
    georel: Georel,
    outline: Arc<Outline>,
}

/// How an entity's location must lie to the shape of the query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Georel {
    /// Metres; at least one of them is there.
    Near {
        min: Option<f64>,
        max: Option<f64>,
    },
    CoveredBy,
    Intersects,
    Equals,
    Disjoint,
}

impl GeoQuery {
    /// Reads the three parameters. Errors have the original's texts without the prefix that says where they stood.
    pub fn parse(georel: &str, geometry: &str, coords: &str) -> Result<Self, Error> {
        let kind = Kind::parse(geometry)?;
        let georel = Georel::parse(georel)?;
        match (georel, kind) {
            (Georel::CoveredBy, Kind::Line) => {
                return Err(Error::bad_request("line geometry cannot be used with coveredBy georel"));
            }
            (Georel::CoveredBy, Kind::Point) => {
                return Err(Error::bad_request("point geometry cannot be used with coveredBy georel"));
            }
            (Georel::Near { .. }, Kind::Line | Kind::Polygon | Kind::Box) => {
                return Err(Error::bad_request("georel /near/ used with geometry different than point"));
            }
            _ => {}
        }
        let outline = Outline::of(kind.shape(positions(coords)?)?);
        Ok(Self { georel, outline: Arc::new(outline) })
    }

    /// Whether results are sorted by distance unless another order is asked for.
    pub fn is_near(&self) -> bool {
        matches!(self.georel, Georel::Near { .. })
    }

    /// For a query about what is near: the same up to `metres` at most. None: that is as far as it goes, or it is about
    /// something else.
    pub fn up_to(&self, metres: f64) -> Option<Self> {
        match self.georel {
            Georel::Near { min, max } if max.is_none_or(|max| max > metres) => {
                let georel = Georel::Near { min, max: Some(metres) };
                Some(Self { georel, outline: self.outline.clone() })
            }
            _ => None,
        }
    }

    /// For a query about what is near: how far away results begin, metres.
    pub fn nearest(&self) -> Option<f64> {
        match self.georel {
            Georel::Near { min, .. } => Some(min.unwrap_or_default()),
            _ => None,
        }
    }

    /// Whether the entity's location is where the query says; without a location it is nowhere.
    pub fn matches(&self, entity: &Entity) -> bool {
        entity.location().is_some_and(|location| self.holds(&location))
    }

    /// As [`GeoQuery::matches`], for a location.
    pub fn holds(&self, location: &Shape) -> bool {
        match self.georel {
            Georel::Near { min, max } => {
                let metres = self.distance_to(location);
                min.is_none_or(|min| metres >= min) && max.is_none_or(|max| metres <= max)
            }
            Georel::CoveredBy => self.outline.covers(location),
            Georel::Intersects => self.outline.intersects(location),
            Georel::Disjoint => !self.outline.intersects(location),
            Georel::Equals => location.is_same_as(self.outline.shape()),
        }
    }

    /// Metres from the query's point to the entity, if it has a location.
    pub fn distance(&self, entity: &Entity) -> Option<f64> {
        entity.location().map(|location| self.distance_to(&location))
    }

    #[cfg(test)]
    pub(super) fn shape_for_test(&self) -> Shape {
        self.outline.shape().clone()
    }

    /// Metres from the query's point to a location.
    pub fn distance_to(&self, location: &Shape) -> f64 {
        self.outline.shape().positions().next().map_or(f64::INFINITY, |from| location.distance(from))
    }

    /// Where entities that match may be, as ranges of [`super::cell_of`]. None: anywhere.
    pub fn cells(&self) -> Option<Vec<CellRange>> {
        match (self.georel, self.outline.shape().positions().next()) {
            (Georel::Near { min, max: Some(max) }, Some(from)) => {
                Some(Cover::of_ring(from, (min.unwrap_or_default(), max), TO_READ).all())
            }
            (Georel::Near { .. } | Georel::Disjoint, _) => None,
            _ => Some(cell::covering(&[self.outline.shape().bounds()])),
        }
    }

    /// For a query about what is near, with an end: where entities match whatever they are, and where they may, in cells that
    /// are quartered `finer` times.
    pub fn cover(&self, finer: u32) -> Option<Cover> {
        match (self.georel, self.outline.shape().positions().next()) {
            (Georel::Near { min, max: Some(max) }, Some(from)) => {
                Some(Cover::of_ring(from, (min.unwrap_or_default(), max), finer))
            }
            _ => None,
        }
    }

    /// For a query about what is near: where results are.
    pub fn ring(&self) -> Option<Ring> {
        match (self.georel, self.outline.shape().positions().next()) {
            (Georel::Near { min, max }, Some(centre)) => {
                Some(Ring { centre, min: min.unwrap_or_default(), max: max.unwrap_or(f64::INFINITY) })
            }
            _ => None,
        }
    }
}

impl Georel {
    fn parse(text: &str) -> Result<Self, Error> {
        let mut relation = None;
        let mut distances = Distances::default();
        for item in text.split(';').map(str::trim).filter(|item| !item.is_empty()) {
            match item {
                "near" | "coveredBy" | "intersects" | "equals" | "disjoint" => {
                    if relation.replace(item).is_some() {
                        return Err(Error::bad_request("georel type present more than once"));
                    }
                }
                modifier => distances.read(modifier)?,
            }
        }
        let relation = relation.unwrap_or_default();
        let Distances { min, max } = distances;
        for (name, found) in [("maxDistance", max), ("minDistance", min)] {
            if found.is_some() && relation != "near" {
                return Err(Error::bad_request(format!("{name} erroneously used with georel /{relation}/")));
            }
        }
        match relation {
            "near" if min.is_none() && max.is_none() => {
                Err(Error::bad_request("georel /near/ without either minDistance nor maxDistance"))
            }
            "near" => Ok(Self::Near { min, max }),
            "coveredBy" => Ok(Self::CoveredBy),
            "intersects" => Ok(Self::Intersects),
            "equals" => Ok(Self::Equals),
            "disjoint" => Ok(Self::Disjoint),
            _ => Err(Error::bad_request("empty georel")),
        }
    }
}

#[derive(Default)]
struct Distances {
    min: Option<f64>,
    max: Option<f64>,
}

impl Distances {
    fn read(&mut self, modifier: &str) -> Result<(), Error> {
        let (name, slot, text) = if let Some(text) = modifier.strip_prefix("maxDistance:") {
            ("maxDistance", &mut self.max, text)
        } else if let Some(text) = modifier.strip_prefix("minDistance:") {
            ("minDistance", &mut self.min, text)
        } else {
            return Err(Error::bad_request("Invalid modifier in georel parameter"));
        };
        let metres = number(text).filter(|metres| *metres >= 0.0);
        let metres = metres.ok_or_else(|| Error::bad_request(format!("invalid number for {name}")))?;
        match slot.replace(metres) {
            None => Ok(()),
            Some(_) => Err(Error::bad_request(format!("{name} present more than once"))),
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Point,
    Line,
    Box,
    Polygon,
}

impl Kind {
    fn parse(text: &str) -> Result<Self, Error> {
        match text.trim() {
            "point" => Ok(Self::Point),
            "line" => Ok(Self::Line),
            "box" => Ok(Self::Box),
            "polygon" => Ok(Self::Polygon),
            _ => {
                Err(Error::bad_request("error parsing geometry: Invalid selector in geometry specification"))
            }
        }
    }

    fn shape(self, positions: Vec<Position>) -> Result<Shape, Error> {
        let wrong = match (self, positions.as_slice()) {
            (Self::Point, [_]) => return Ok(Shape::Points(positions)),
            (Self::Line, [_, _, ..]) => return Ok(Shape::Lines(vec![positions])),
            (Self::Box, [a, b]) if a.latitude != b.latitude && a.longitude != b.longitude => {
                return Ok(Shape::rectangle(*a, *b));
            }
            (Self::Polygon, [first, _, _, .., last]) if first == last => {
                return Ok(Shape::Polygons(vec![vec![positions]]));
            }
            (Self::Point, _) => "invalid number of coordinates for /point/",
            (Self::Line, _) => "invalid number of coordinates for /line/",
            (Self::Box, [_, _]) => "box coordinates are not defining an actual box",
            (Self::Box, _) => "invalid number of coordinates for /box/",
            (Self::Polygon, [_, _, _, ..]) if positions.len() > 3 => {
                "First and last point in polygon not the same"
            }
            (Self::Polygon, _) => "Too few coordinates for polygon",
        };
        Err(Error::bad_request(wrong))
    }
}

/// `lat,lon;lat,lon`
fn positions(coords: &str) -> Result<Vec<Position>, Error> {
    let parts: Vec<&str> = coords.trim().split(';').filter(|part| !part.trim().is_empty()).collect();
    if parts.is_empty() {
        return Err(Error::bad_request("erroneous coordinates for geometry"));
    }
    if parts.len() > MAX_POSITIONS {
        return Err(Error::bad_request(format!("too many coordinates, max: {MAX_POSITIONS}")));
    }
    parts.into_iter().map(position).collect()
}

fn position(text: &str) -> Result<Position, Error> {
    let mut parts = text.split(',');
    let (Some(latitude), Some(longitude), None) = (parts.next(), parts.next(), parts.next()) else {
        return Err(Error::bad_request("invalid point in URI param /coords/"));
    };
    let position = number(latitude).zip(number(longitude)).map(|(lat, lon)| Position::new(lat, lon));
    position.filter(Position::is_on_earth).ok_or_else(|| Error::bad_request("invalid coordinates"))
}

fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_texts_of_the_original() {
        let square = "0,0;0,1;1,1;0,0";
        for (georel, geometry, coords, expected) in [
            (
                "near;maxDistance:1",
                "circle",
                "1,2",
                "error parsing geometry: Invalid selector in geometry specification",
            ),
            ("over", "point", "1,2", "Invalid modifier in georel parameter"),
            ("near;radius:1", "point", "1,2", "Invalid modifier in georel parameter"),
            ("near;near", "point", "1,2", "georel type present more than once"),
            ("near;maxDistance:1;maxDistance:2", "point", "1,2", "maxDistance present more than once"),
            ("near;minDistance:x", "point", "1,2", "invalid number for minDistance"),
            ("near;minDistance:-1", "point", "1,2", "invalid number for minDistance"),
            ("near", "point", "1,2", "georel /near/ without either minDistance nor maxDistance"),
            ("equals;maxDistance:1", "point", "1,2", "maxDistance erroneously used with georel /equals/"),
            (
                "near;maxDistance:1",
                "line",
                "1,2;3,4",
                "georel /near/ used with geometry different than point",
            ),
            ("coveredBy", "line", "1,2;3,4", "line geometry cannot be used with coveredBy georel"),
            ("coveredBy", "point", "1,2", "point geometry cannot be used with coveredBy georel"),
            ("equals", "point", "1", "invalid point in URI param /coords/"),
            ("equals", "point", "1,2,3", "invalid point in URI param /coords/"),
            ("equals", "point", "1,b", "invalid coordinates"),
            ("equals", "point", "91,0", "invalid coordinates"),
            ("equals", "point", "nan,0", "invalid coordinates"),
            ("equals", "point", "1,2;3,4", "invalid number of coordinates for /point/"),
            ("equals", "line", "1,2", "invalid number of coordinates for /line/"),
            ("equals", "box", "1,2", "invalid number of coordinates for /box/"),
            ("equals", "box", "1,2;1,3", "box coordinates are not defining an actual box"),
            ("equals", "polygon", "1,2;3,4;1,2", "Too few coordinates for polygon"),
            ("equals", "polygon", "1,2;3,4;5,6;7,8", "First and last point in polygon not the same"),
            ("coveredBy", "polygon", square, ""),
            ("near;maxDistance:10;minDistance:1", "point", " 1 , 2 ", ""),
        ] {
            let error = GeoQuery::parse(georel, geometry, coords).err().map_or("".into(), |e| e.description);
            assert_eq!(error, expected, "{georel} {geometry} {coords}");
        }
        assert!(GeoQuery::parse("equals", "line", &"1,2;".repeat(MAX_POSITIONS + 1)).is_err());
    }
}
