//! Geographic values: the simple formats of NGSI (lat, lon) and GeoJSON (lon, lat), contract section 5.

use serde_json::{Value, json};

/// Latitude and longitude of a text such as `"45.2, 9.1"`.
fn lat_lon(text: &str) -> Option<[f64; 2]> {
    let (lat, lon) = text.split_once(',')?;
    let (lat, lon): (f64, f64) = (lat.trim().parse().ok()?, lon.trim().parse().ok()?);
    (lat.abs() <= 90.0 && lon.abs() <= 180.0).then_some([lat, lon])
}

/// A point in the simple format, brought to its usual spelling.
pub(super) fn to_point(value: &Value) -> Option<String> {
    let [lat, lon] = match value {
        Value::String(text) => lat_lon(text)?,
        Value::Object(_) => centroid(&to_geojson(value)?)?,
        _ => return None,
    };
    Some(format!("{lat}, {lon}"))
}

/// A line, polygon or box in the simple format.
pub(super) fn to_shape(value: &Value) -> Option<Value> {
    let points = value.as_array()?;
    let valid = points.len() >= 2 && points.iter().all(|point| point.as_str().and_then(lat_lon).is_some());
    valid.then(|| value.clone())
}

/// Any geographic form as GeoJSON.
pub(super) fn to_geojson(value: &Value) -> Option<Value> {
    match value {
        Value::String(text) => {
            lat_lon(text).map(|[lat, lon]| json!({"type": "Point", "coordinates": [lon, lat]}))
        }
        Value::Array(points) => shape_geojson(points),
        Value::Object(object) => {
            let known = matches!(
                object.get("type")?.as_str()?,
                "Point" | "LineString" | "Polygon" | "MultiPoint" | "MultiLineString" | "MultiPolygon"
            );
            let mut count = 0;
            visit(object.get("coordinates")?, 0, &mut |_| count += 1)?;
            (known && count > 0).then(|| value.clone())
        }
        _ => None,
    }
}

/// Two points are a box, a closed ring is a polygon, all else is a line.
fn shape_geojson(points: &[Value]) -> Option<Value> {
    let points: Vec<[f64; 2]> =
        points.iter().map(|point| point.as_str().and_then(lat_lon)).collect::<Option<_>>()?;
    let flipped: Vec<[f64; 2]> = points.iter().map(|[lat, lon]| [*lon, *lat]).collect();
    match flipped.as_slice() {
        [] | [_] => None,
        [[x0, y0], [x1, y1]] => Some(json!({"type": "Polygon",
            "coordinates": [[[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]]})),
        [first, .., last] if first == last && flipped.len() >= 4 => {
            Some(json!({"type": "Polygon", "coordinates": [flipped]}))
        }
        _ => Some(json!({"type": "LineString", "coordinates": flipped})),
    }
}

/// The middle of the shape's bounding box, as latitude and longitude; that of a point is the point.
pub(super) fn centroid(geojson: &Value) -> Option<[f64; 2]> {
    let (mut low, mut high) = ([f64::MAX; 2], [f64::MIN; 2]);
    visit(geojson.get("coordinates")?, 0, &mut |point| {
        for axis in 0..2 {
            low[axis] = low[axis].min(point[axis]);
            high[axis] = high[axis].max(point[axis]);
        }
    })?;
    (low[0] <= high[0]).then(|| [(low[1] + high[1]) / 2.0, (low[0] + high[0]) / 2.0])
}

/// Calls `see` with each position of nested GeoJSON coordinates.
fn visit(coordinates: &Value, depth: usize, see: &mut impl FnMut([f64; 2])) -> Option<()> {
    let list = coordinates.as_array()?;
    if depth > 3 {
        return None;
    }
    match (list.first(), list.get(1)) {
        (Some(Value::Number(lon)), Some(Value::Number(lat))) => see([lon.as_f64()?, lat.as_f64()?]),
        _ => list.iter().try_for_each(|inner| visit(inner, depth + 1, see))?,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simple_formats_become_geojson_with_axes_swapped() {
        assert_eq!(
            to_geojson(&json!("45.2, 9.1")).unwrap(),
            json!({"type":"Point","coordinates":[9.1,45.2]})
        );
        assert_eq!(to_geojson(&json!(["1,2", "3,4", "5,6"])).unwrap()["type"], "LineString");
        assert_eq!(to_geojson(&json!(["1,2", "3,4", "5,6", "1,2"])).unwrap()["type"], "Polygon");
        assert_eq!(to_geojson(&json!(["1,2", "3,4"])).unwrap()["type"], "Polygon");
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for bad in [
            json!("a,b"),
            json!("91,0"),
            json!(["1,2"]),
            json!({"type":"Point"}),
            json!({"type":"Point","coordinates":[]}),
            json!(1),
        ] {
            assert_eq!(to_geojson(&bad), None, "{bad}");
        }
        assert_eq!(to_point(&json!("45.2")), None);
        assert_eq!(to_shape(&json!(["1,2", "x"])), None);
    }

    #[test]
    fn a_centroid_lies_in_the_middle() {
        let polygon = json!({"type":"Polygon","coordinates":[[[0,0],[4,0],[4,2],[0,2],[0,0]]]});
        assert_eq!(centroid(&polygon), Some([1.0, 2.0]));
        assert_eq!(to_point(&polygon).as_deref(), Some("1, 2"));
        assert_eq!(to_point(&json!("45.20,9.10")).as_deref(), Some("45.2, 9.1"));
    }
}
