//! Points, lines and polygons, one or several.

use serde_json::Value;

use crate::Attribute;

/// Degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Position {
    pub longitude: f64,
    pub latitude: f64,
}

/// Closed rings: the outer one, then holes.
pub(super) type Polygon = Vec<Vec<Position>>;

/// What a location attribute holds. The single and the multiple forms of GeoJSON are the same here.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    Points(Vec<Position>),
    Lines(Vec<Vec<Position>>),
    Polygons(Vec<Vec<Vec<Position>>>),
}

/// A rectangle in degrees, its edges included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    pub west: f64,
    pub south: f64,
    pub east: f64,
    pub north: f64,
}

impl Position {
    pub fn new(latitude: f64, longitude: f64) -> Self {
        Self { longitude, latitude }
    }

    /// Reads `"latitude, longitude"`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (latitude, longitude) = text.split_once(',')?;
        let position = Self::new(latitude.trim().parse().ok()?, longitude.trim().parse().ok()?);
        position.is_on_earth().then_some(position)
    }

    pub(super) fn is_on_earth(&self) -> bool {
        (-90.0..=90.0).contains(&self.latitude) && (-180.0..=180.0).contains(&self.longitude)
    }

    fn of_json(value: &Value) -> Option<Self> {
        let position = Self::new(value.get(1)?.as_f64()?, value.get(0)?.as_f64()?);
        position.is_on_earth().then_some(position)
    }
}

impl Shape {
    /// The shape of a location attribute. None: it is no location, or null, or said to be ignored.
    pub fn of(attribute: &Attribute) -> Option<Self> {
        if !crate::update::is_location(attribute) {
            return None;
        }
        let value = &attribute.value;
        let texts = || {
            value.as_array()?.iter().map(|text| Position::parse(text.as_str()?)).collect::<Option<Vec<_>>>()
        };
        match attribute.attribute_type.as_str() {
            "geo:json" => Self::of_geo_json(crate::render::shown_value(attribute)),
            "geo:point" => Some(Self::Points(vec![Position::parse(value.as_str()?)?])),
            "geo:line" => Some(Self::Lines(vec![texts()?])),
            "geo:polygon" => Some(Self::Polygons(vec![vec![texts()?]])),
            "geo:box" => match texts()?.as_slice() {
                [a, b] => Some(Self::rectangle(*a, *b)),
                _ => None,
            },
            _ => None,
        }
    }

    fn of_geo_json(geometry: &Value) -> Option<Self> {
        let coordinates = geometry.get("coordinates")?;
        let line = |value: &Value| positions(value);
        let polygon = |value: &Value| each(value, positions);
        Some(match geometry.get("type")?.as_str()? {
            "Point" => Self::Points(vec![Position::of_json(coordinates)?]),
            "MultiPoint" => Self::Points(positions(coordinates)?),
            "LineString" => Self::Lines(vec![line(coordinates)?]),
            "MultiLineString" => Self::Lines(each(coordinates, line)?),
            "Polygon" => Self::Polygons(vec![polygon(coordinates)?]),
            "MultiPolygon" => Self::Polygons(each(coordinates, polygon)?),
            _ => return None,
        })
    }

    /// A rectangle between two opposite corners.
    pub(super) fn rectangle(a: Position, b: Position) -> Self {
        let corners = [(a, a), (a, b), (b, b), (b, a), (a, a)];
        let ring = corners.map(|(latitude, longitude)| Position::new(latitude.latitude, longitude.longitude));
        Self::Polygons(vec![vec![ring.to_vec()]])
    }

    /// The chains of positions that it is drawn with; points are chains of one.
    pub(super) fn chains(&self) -> Box<dyn Iterator<Item = &[Position]> + '_> {
        match self {
            Self::Points(points) => Box::new(points.chunks(1)),
            Self::Lines(lines) => Box::new(lines.iter().map(Vec::as_slice)),
            Self::Polygons(polygons) => Box::new(polygons.iter().flatten().map(Vec::as_slice)),
        }
    }

    pub(super) fn positions(&self) -> impl Iterator<Item = Position> + '_ {
        self.chains().flatten().copied()
    }

    pub(super) fn edges(&self) -> impl Iterator<Item = (Position, Position)> + '_ {
        self.chains().flat_map(|chain| chain.iter().copied().zip(chain.iter().copied().skip(1)))
    }

    /// As [`Shape::edges`]; a position by itself is an edge without length.
    pub(super) fn segments(&self) -> impl Iterator<Item = (Position, Position)> + '_ {
        let alone = self.chains().filter_map(|chain| match chain {
            [position] => Some((*position, *position)),
            _ => None,
        });
        alone.chain(self.edges())
    }

    /// The smallest rectangle around it.
    pub fn bounds(&self) -> Bounds {
        Bounds::around(self.positions())
    }
}

fn each<T>(value: &Value, item: impl Fn(&Value) -> Option<T>) -> Option<Vec<T>> {
    value.as_array()?.iter().map(item).collect()
}

fn positions(value: &Value) -> Option<Vec<Position>> {
    each(value, Position::of_json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn shape(attribute_type: &str, value: Value) -> Option<Shape> {
        let attribute = json!({"type": attribute_type, "value": value});
        Shape::of(&serde_json::from_value(attribute).unwrap())
    }

    #[test]
    fn every_form_of_a_location_is_read() {
        let at = Position::new;
        for (attribute_type, value, expected) in [
            ("geo:point", json!("41, 2"), Some(Shape::Points(vec![at(41.0, 2.0)]))),
            ("geo:line", json!(["1,2", "3,4"]), Some(Shape::Lines(vec![vec![at(1.0, 2.0), at(3.0, 4.0)]]))),
            (
                "geo:json",
                json!({"type":"Point","coordinates":[2, 41]}),
                Some(Shape::Points(vec![at(41.0, 2.0)])),
            ),
            (
                "geo:json",
                json!({"type":"Feature","geometry":{"type":"Point","coordinates":[2, 41, 100]}}),
                Some(Shape::Points(vec![at(41.0, 2.0)])),
            ),
            (
                "geo:json",
                json!({"type":"MultiLineString","coordinates":[[[2, 1],[4, 3]]]}),
                Some(Shape::Lines(vec![vec![at(1.0, 2.0), at(3.0, 4.0)]])),
            ),
            ("geo:json", json!(null), None),
            ("Text", json!("41, 2"), None),
        ] {
            assert_eq!(shape(attribute_type, value.clone()), expected, "{attribute_type} {value}");
        }
        let Some(Shape::Polygons(boxed)) = shape("geo:box", json!(["0,1", "2,3"])) else {
            panic!("a polygon")
        };
        assert_eq!(boxed[0][0], [at(0.0, 1.0), at(0.0, 3.0), at(2.0, 3.0), at(2.0, 1.0), at(0.0, 1.0)]);
    }
}
