//! Values of location attributes (ngsi-v2.md 5): checked when they are written, so that geo queries never meet a bad one.

use serde_json::Value;

use crate::{Error, MetadataMap};

/// Checks the value of an attribute whose type is a location; other types pass.
pub(crate) fn check(attribute_type: &str, value: &Value, metadata: &MetadataMap) -> Result<(), Error> {
    if !crate::update::is_location_type(attribute_type)
        || value.is_null()
        || crate::update::is_flagged(metadata, "ignoreType")
    {
        return Ok(());
    }
    match attribute_type {
        "geo:json" => geo_json(value).map_err(Error::bad_request),
        _ => simple(attribute_type, value)
            .map_err(|reason| Error::bad_request(format!("error parsing location attribute: {reason}"))),
    }
}

fn geo_json(value: &Value) -> Result<(), &'static str> {
    let Value::Object(object) = value else { return Err("geo:json needs an object or null as value") };
    match object.get("type").and_then(Value::as_str) {
        Some("Feature") => match object.get("geometry") {
            Some(geometry) => self::geometry(geometry),
            None => Err("error parsing location attribute: geometry in Feature not found"),
        },
        Some("FeatureCollection") => {
            match object.get("features").and_then(Value::as_array).map(Vec::as_slice) {
                Some([feature]) => geo_json(feature),
                Some([_, _, ..]) => Err(
                    "error parsing location attribute: features in FeatureCollection has more than 1 item",
                ),
                _ => Err("Wrong GeoJson"),
            }
        }
        _ => geometry(value),
    }
}

fn geometry(value: &Value) -> Result<(), &'static str> {
    let coordinates = &value["coordinates"];
    let good = match value["type"].as_str() {
        Some("Point") => position(coordinates),
        Some("MultiPoint") => list(coordinates, 1, position),
        Some("LineString") => list(coordinates, 2, position),
        Some("MultiLineString") => list(coordinates, 1, |line| list(line, 2, position)),
        Some("Polygon") => list(coordinates, 1, ring),
        Some("MultiPolygon") => list(coordinates, 1, |polygon| list(polygon, 1, ring)),
        _ => false,
    };
    if good { Ok(()) } else { Err("Wrong GeoJson") }
}

fn list(value: &Value, least: usize, item: impl Fn(&Value) -> bool) -> bool {
    value.as_array().is_some_and(|items| items.len() >= least && items.iter().all(item))
}

fn ring(value: &Value) -> bool {
    list(value, 4, position) && value.as_array().is_some_and(|points| points.first() == points.last())
}

/// Longitude, latitude, optional height.
fn position(value: &Value) -> bool {
    let Some(numbers) = value.as_array() else { return false };
    let longitude = numbers.first().and_then(Value::as_f64).is_some_and(|x| (-180.0..=180.0).contains(&x));
    let latitude = numbers.get(1).and_then(Value::as_f64).is_some_and(|y| (-90.0..=90.0).contains(&y));
    (2..=3).contains(&numbers.len()) && longitude && latitude && numbers.iter().all(Value::is_number)
}

/// `geo:point` and its like: `"latitude, longitude"`.
fn simple(attribute_type: &str, value: &Value) -> Result<(), String> {
    if attribute_type == "geo:point" {
        let text = value.as_str().unwrap_or_default();
        return pair(text).map(|_| ());
    }
    let strings = || value.as_array()?.iter().map(Value::as_str).collect::<Option<Vec<_>>>();
    let Some(texts) = strings() else {
        return Err("geo:line, geo:box and geo:polygon needs array of strings as value".to_owned());
    };
    let points = texts.into_iter().map(pair).collect::<Result<Vec<_>, _>>()?;
    let wrong = match (attribute_type, points.as_slice()) {
        ("geo:line", [] | [_]) => "geo:line uses at least 2 coordinates",
        ("geo:box", [a, b]) if a.0 == b.0 || a.1 == b.1 => {
            "geo:box coordinates are not defining an actual box"
        }
        ("geo:box", [_, _]) => return Ok(()),
        ("geo:box", _) => "geo:box uses exactly 2 coordinates",
        ("geo:polygon", points) if points.len() < 4 => "geo:polygon uses at least 4 coordinates",
        ("geo:polygon", points) if points.first() != points.last() => {
            "geo:polygon first and last coordinates must match"
        }
        _ => return Ok(()),
    };
    Err(wrong.to_owned())
}

fn pair(text: &str) -> Result<(f64, f64), String> {
    let wrong = || format!("geo coordinates format error [see Orion user manual]: {text}");
    let (latitude, longitude) = text.split_once(',').ok_or_else(wrong)?;
    let latitude: f64 = latitude.trim().parse().map_err(|_| wrong())?;
    let longitude: f64 = longitude.trim().parse().map_err(|_| wrong())?;
    if (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude) {
        Ok((latitude, longitude))
    } else {
        Err(wrong())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn locations_are_checked_with_the_texts_of_the_contract() {
        let prefix = "error parsing location attribute: ";
        for (attribute_type, value, expected) in [
            ("geo:json", json!(null), ""),
            ("geo:json", json!({"type":"Point","coordinates":[2.1, 41.4]}), ""),
            ("geo:json", json!({"type":"Polygon","coordinates":[[[0,0],[0,1],[1,1],[0,0]]]}), ""),
            ("geo:json", json!({"type":"Feature","geometry":{"type":"Point","coordinates":[2,41]}}), ""),
            ("geo:json", json!("x"), "geo:json needs an object or null as value"),
            ("geo:json", json!({"type":"Point"}), "Wrong GeoJson"),
            ("geo:json", json!({"type":"Point","coordinates":[200,0]}), "Wrong GeoJson"),
            ("geo:json", json!({"type":"GeometryCollection","geometries":[]}), "Wrong GeoJson"),
            ("geo:json", json!({"type":"Feature"}), "~geometry in Feature not found"),
            (
                "geo:json",
                json!({"type":"FeatureCollection","features":[{},{}]}),
                "~features in FeatureCollection has more than 1 item",
            ),
            ("geo:point", json!("41.4, 2.1"), ""),
            ("geo:point", json!("a"), "~geo coordinates format error [see Orion user manual]: a"),
            ("geo:line", json!("41,2"), "~geo:line, geo:box and geo:polygon needs array of strings as value"),
            ("geo:line", json!(["41,2"]), "~geo:line uses at least 2 coordinates"),
            ("geo:box", json!(["41,2"]), "~geo:box uses exactly 2 coordinates"),
            ("geo:box", json!(["41,2", "41,3"]), "~geo:box coordinates are not defining an actual box"),
            ("geo:polygon", json!(["0,0", "1,1", "0,0"]), "~geo:polygon uses at least 4 coordinates"),
            (
                "geo:polygon",
                json!(["0,0", "1,1", "0,1", "1,0"]),
                "~geo:polygon first and last coordinates must match",
            ),
            ("Text", json!("anything"), ""),
        ] {
            let error = check(attribute_type, &value, &MetadataMap::new())
                .map_or_else(|e| e.description, |()| "".into());
            assert_eq!(error, expected.replace('~', prefix), "{attribute_type} {value}");
        }
    }
}
