//! Entities on their way: what the source shows is taken apart as far as needed, and values stay the text that they were.

use indexmap::IndexMap;
use scope::ServicePath;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

/// Most entities in one `op/update`.
const BATCH_ENTITIES: usize = 100;
/// Most bytes of them: well below the 1 MiB that a request may have. A larger entity goes alone.
const BATCH_BYTES: usize = 512 * 1024;
/// The builtin attribute that says where an entity is.
pub(super) const SERVICE_PATH: &str = "servicePath";

/// An entity in a list of the source: `id`, `type`, attributes.
pub(super) type Shown = IndexMap<String, Box<RawValue>>;

/// An entity that can be written.
#[derive(Clone, Debug)]
pub(super) struct Entity {
    pub(super) id: String,
    pub(super) entity_type: String,
    pub(super) path: ServicePath,
    /// JSON text, without what is no attribute of its own.
    pub(super) body: String,
}

/// An entity that can't, and why.
#[derive(Debug)]
pub(super) struct Unreadable {
    pub(super) id: String,
    pub(super) entity_type: String,
    pub(super) reason: &'static str,
}

/// The builtin attribute as a broker shows it.
#[derive(Deserialize)]
struct ShownPath {
    #[serde(rename = "type")]
    attribute_type: String,
    value: Value,
    #[serde(default)]
    metadata: IndexMap<String, Value>,
}

impl Entity {
    /// Takes an entity out of a list. `listed_at` is the path of a list that was asked for with one, from a broker that
    /// does not show paths: an attribute `servicePath` is then the entity's own.
    pub(super) fn take(mut shown: Shown, listed_at: Option<&ServicePath>) -> Result<Self, Unreadable> {
        let id = text(&shown, "id");
        let entity_type = text(&shown, "type");
        let unreadable = |reason| Unreadable { id: id.clone(), entity_type: entity_type.clone(), reason };
        if id.is_empty() {
            return Err(unreadable("the source shows no id"));
        }
        let path = match listed_at {
            Some(path) => path.clone(),
            None => {
                let attribute = shown.shift_remove(SERVICE_PATH);
                let path = attribute.as_deref().and_then(builtin_path);
                path.ok_or_else(|| {
                    unreadable("an attribute servicePath of its own hides at which service path it is")
                })?
            }
        };
        let body = serde_json::to_string(&shown).map_err(|_| unreadable("it can not be written as JSON"))?;
        Ok(Self { id, entity_type, path, body })
    }
}

fn text(shown: &Shown, member: &str) -> String {
    let text = shown.get(member).and_then(|value| serde_json::from_str(value.get()).ok());
    text.unwrap_or_default()
}

/// The path, if this is the builtin attribute and not one that somebody made under its name.
fn builtin_path(attribute: &RawValue) -> Option<ServicePath> {
    let shown: ShownPath = serde_json::from_str(attribute.get()).ok()?;
    if shown.attribute_type != "Text" || !shown.metadata.is_empty() {
        return None;
    }
    ServicePath::parse(shown.value.as_str()?).ok()
}

/// Entities of one service path that are written with one request.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) path: ServicePath,
    pub(super) entities: Vec<Entity>,
}

/// Groups by service path, in the order of the list, each group bounded in number and bytes.
pub(super) fn batches(entities: Vec<Entity>) -> Vec<Batch> {
    let mut full = Vec::new();
    let mut open: IndexMap<ServicePath, (usize, Vec<Entity>)> = IndexMap::new();
    for entity in entities {
        let path = entity.path.clone();
        let (bytes, group) = open.entry(path.clone()).or_default();
        if !group.is_empty() && (group.len() >= BATCH_ENTITIES || *bytes + entity.body.len() > BATCH_BYTES) {
            full.push(Batch { path, entities: std::mem::take(group) });
            *bytes = 0;
        }
        *bytes += entity.body.len() + 1;
        group.push(entity);
    }
    full.extend(open.into_iter().map(|(path, (_, entities))| Batch { path, entities }));
    full
}

/// The body of `op/update` that creates these entities, or sets the attributes of those that exist.
pub(super) fn append_request(entities: &[Entity]) -> String {
    let bodies: Vec<&str> = entities.iter().map(|entity| entity.body.as_str()).collect();
    format!(r#"{{"actionType":"append","entities":[{}]}}"#, bodies.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Shown {
        serde_json::from_str(text).unwrap()
    }

    fn entity(id: usize, path: &str, bytes: usize) -> Entity {
        let path = ServicePath::parse(path).unwrap();
        Entity { id: id.to_string(), entity_type: "T".to_owned(), path, body: "x".repeat(bytes) }
    }

    #[test]
    fn the_builtin_path_is_taken_out_and_all_else_stays_the_text_that_it_was() {
        let own = r#""n":{"type":"Number","value":12345678901234567890123,"metadata":{}},"f":{"type":"Number","value":1.0,"metadata":{}}"#;
        let expires = r#""dateExpires":{"type":"DateTime","value":"2040-01-01T00:00:00.000Z","metadata":{}}"#;
        let builtin = r#""servicePath":{"type":"Text","value":"/a/b","metadata":{}}"#;
        let taken =
            Entity::take(shown(&format!(r#"{{"id":"e","type":"T",{expires},{builtin},{own}}}"#)), None)
                .unwrap();
        assert_eq!(taken.path.as_str(), "/a/b");
        assert_eq!((taken.id.as_str(), taken.entity_type.as_str()), ("e", "T"));
        assert_eq!(taken.body, format!(r#"{{"id":"e","type":"T",{expires},{own}}}"#));
    }

    #[test]
    fn an_own_attribute_of_that_name_is_no_path() {
        for own in [
            r#"{"type":"Number","value":3,"metadata":{}}"#,
            r#"{"type":"Text","value":"left","metadata":{}}"#,
            r#"{"type":"Text","value":"/a","metadata":{"m":{"type":"Text","value":"x"}}}"#,
        ] {
            let text = format!(r#"{{"id":"e","type":"T","servicePath":{own}}}"#);
            assert_eq!(Entity::take(shown(&text), None).unwrap_err().id, "e", "{own}");
            let root = ServicePath::root();
            let kept = Entity::take(shown(&text), Some(&root)).unwrap();
            assert_eq!((kept.body.as_str(), kept.path), (text.as_str(), root));
        }
    }

    #[test]
    fn batches_are_of_one_path_and_bounded_in_number() {
        let entities = (0..250).map(|n| entity(n, if n % 2 == 0 { "/a" } else { "/b" }, 10)).collect();
        let batches = batches(entities);
        let sizes: Vec<(&str, usize)> =
            batches.iter().map(|batch| (batch.path.as_str(), batch.entities.len())).collect();
        assert_eq!(sizes, [("/a", 100), ("/b", 100), ("/a", 25), ("/b", 25)]);
        let first: Vec<&str> = batches[0].entities.iter().take(3).map(|entity| entity.id.as_str()).collect();
        assert_eq!(first, ["0", "2", "4"]);
    }

    #[test]
    fn batches_are_bounded_in_bytes_and_a_large_entity_goes_alone() {
        let sizes = [BATCH_BYTES / 2, BATCH_BYTES / 2 - 10, BATCH_BYTES * 2, 1, 1];
        let entities = sizes.iter().enumerate().map(|(n, bytes)| entity(n, "/", *bytes)).collect();
        let numbers: Vec<usize> = batches(entities).iter().map(|batch| batch.entities.len()).collect();
        assert_eq!(numbers, [2, 1, 2]);
    }

    #[test]
    fn a_request_appends_the_texts_as_they_are() {
        let request = append_request(&[entity(1, "/", 1), entity(2, "/", 2)]);
        assert_eq!(request, r#"{"actionType":"append","entities":[x,xx]}"#);
    }
}
