//! Updates of some attributes, without parsing or writing the others.

use std::{ops::Range, str::from_utf8};

use bytes::Bytes;

use super::{EntityText, members::walk};
use crate::{
    Attribute, Attributes, Entity, EntityUpdate, Error, Outcome, UpdateAction, UpdateOptions, WriteContext,
    apply, model::DATE_EXPIRES, update::is_location_type,
};

/// What [`apply_to_text`] did.
#[derive(Debug)]
pub struct Spliced {
    pub outcome: Outcome,
    /// The attributes afterwards; `None` when nothing was written.
    pub attributes: Option<Bytes>,
}

/// The same as [`apply`] on the decoded entity. `None`: this update concerns the entity as a whole, so decode it.
pub fn apply_to_text(
    entity: &EntityText,
    request: &EntityUpdate,
    action: UpdateAction,
    options: UpdateOptions,
    context: WriteContext<'_>,
) -> Option<Result<Spliced, Error>> {
    use UpdateAction::{Append, AppendStrict, Ensure, Update};
    if !matches!(action, Update | Append | AppendStrict | Ensure) || !request.attributes.iter().all(is_local)
    {
        return None;
    }
    let Concerned { attributes, places } = concerned(entity, request)?;
    let mut concerned = Some(Entity {
        id: String::new(),
        entity_type: String::new(),
        path: entity.path.clone(),
        attributes,
        created_us: entity.created_us,
        modified_us: entity.modified_us,
        version: entity.version,
    });
    let outcome = match apply(&mut concerned, request, action, options, context) {
        Ok(outcome) => outcome,
        Err(error) => return Some(Err(error)),
    };
    if outcome.alteration.is_none() {
        return Some(Ok(Spliced { outcome, attributes: None }));
    }
    let attributes = splice(&entity.attributes, &places, &concerned?.attributes, &outcome.updated)?;
    Some(Ok(Spliced { outcome, attributes: Some(attributes) }))
}

/// An update of such an attribute depends on no other: locations exclude each other, and the date of expiry is the
/// entity's. Its name is written without escapes.
fn is_local((name, update): (&String, &crate::AttributeUpdate)) -> bool {
    name != DATE_EXPIRES
        && !update.attribute_type.as_deref().is_some_and(is_location_type)
        && !name.bytes().any(|byte| matches!(byte, b'"' | b'\\') || byte < b' ')
}

/// The attributes that a request names, as far as they exist.
struct Concerned<'a> {
    attributes: Attributes,
    /// Where the text has their values, in its order.
    places: Vec<(&'a str, Range<usize>)>,
}

fn concerned<'a>(entity: &EntityText, request: &'a EntityUpdate) -> Option<Concerned<'a>> {
    let named = request.attributes.len();
    let mut attributes = Attributes::with_capacity(named);
    let mut places = Vec::with_capacity(named);
    let text = &entity.attributes;
    walk(text, |member| {
        // An escaped key is none of the request's names.
        let name = from_utf8(member.key).ok()?;
        if let Some((name, _)) = request.attributes.get_key_value(name) {
            let attribute: Attribute = serde_json::from_slice(member.value).ok()?;
            if is_location_type(&attribute.attribute_type) {
                return None;
            }
            places.push((name.as_str(), member.place..member.place + member.value.len()));
            attributes.insert(name.clone(), attribute);
        }
        Some(())
    })?;
    Some(Concerned { attributes, places })
}

/// The text with those of `attributes` that were `updated`, where `places` says or else at its end.
fn splice(
    text: &[u8],
    places: &[(&str, Range<usize>)],
    attributes: &Attributes,
    updated: &[String],
) -> Option<Bytes> {
    let mut out = Vec::with_capacity(text.len() + 128 * updated.len());
    let mut copied = 0;
    let changed = places.iter().filter(|(name, _)| updated.iter().any(|one| one == name));
    for (name, value) in changed {
        out.extend_from_slice(text.get(copied..value.start)?);
        write_value(&mut out, name, attributes)?;
        copied = value.end;
    }
    // Without the brace.
    out.extend_from_slice(text.get(copied..text.len() - 1)?);
    for name in updated.iter().filter(|name| !places.iter().any(|(known, _)| known == *name)) {
        if out.len() > 1 {
            out.push(b',');
        }
        out.push(b'"');
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":");
        write_value(&mut out, name, attributes)?;
    }
    out.push(b'}');
    Some(out.into_boxed_slice().into())
}

fn write_value(out: &mut Vec<u8>, name: &str, attributes: &Attributes) -> Option<()> {
    serde_json::to_writer(out, attributes.get(name)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::{AttributeUpdate, Metadata, MetadataMap, ValueUpdate};

    const NAMES: [&str; 6] = ["a", "b", "c\"d", "naïve", "dateExpires", "p"];

    fn value() -> impl Strategy<Value = (Option<&'static str>, Value)> {
        prop_oneof![
            (0..3_i64).prop_map(|n| (Some("Number"), json!(n))),
            (0..3_i64).prop_map(|n| (None, json!(n))),
            "[a\"\\\\{},é]{0,4}".prop_map(|text| (Some("Text"), json!(text))),
            Just((Some("StructuredValue"), json!({"x": [1, {"y": "}"}]}))),
            Just((Some("geo:point"), json!("1, 2"))),
            Just((Some("DateTime"), json!("2040-01-01T00:00:00.000Z"))),
        ]
    }

    fn metadata() -> impl Strategy<Value = MetadataMap> {
        prop::collection::hash_map("[mn]", 0..2_i64, 0..2).prop_map(|map| {
            let one = |n| Metadata { metadata_type: "Number".to_owned(), value: json!(n) };
            map.into_iter().map(|(name, n)| (name, one(n))).collect()
        })
    }

    fn attributes() -> impl Strategy<Value = Attributes> {
        let attribute =
            (value(), metadata(), 0..9_i64).prop_map(|((named, value), metadata, at)| Attribute {
                attribute_type: named.unwrap_or("Number").to_owned(),
                value,
                metadata,
                created_us: at,
                modified_us: at + 1,
            });
        prop::collection::hash_map(prop::sample::select(&NAMES[..]), attribute, 0..5)
            .prop_map(|map| map.into_iter().map(|(name, one)| (name.to_owned(), one)).collect())
    }

    fn request() -> impl Strategy<Value = EntityUpdate> {
        let update =
            (value(), prop::option::of(metadata())).prop_map(|((named, value), metadata)| AttributeUpdate {
                attribute_type: named.map(str::to_owned),
                value: ValueUpdate::Set(value),
                metadata,
            });
        prop::collection::hash_map(prop::sample::select(&NAMES[..]), update, 0..4).prop_map(|map| {
            EntityUpdate {
                id: "e".to_owned(),
                entity_type: None,
                attributes: map.into_iter().map(|(name, one)| (name.to_owned(), one)).collect(),
            }
        })
    }

    proptest! {
        #[test]
        fn the_text_changes_as_the_decoded_entity_does(
            attributes in attributes(),
            request in request(),
            action in prop::sample::select(&[
                UpdateAction::Update, UpdateAction::Append, UpdateAction::AppendStrict, UpdateAction::Ensure,
                UpdateAction::Replace, UpdateAction::Create,
            ][..]),
            override_metadata: bool,
            forced_update: bool,
        ) {
            let path = scope::ServicePath::root();
            let context = WriteContext { path: &path, now_us: 77 };
            let options = UpdateOptions { override_metadata, forced_update };
            let entity = Entity {
                id: "e".to_owned(), entity_type: "T".to_owned(), path: path.clone(), attributes,
                created_us: 1, modified_us: 2, version: 3,
            };
            let text = EntityText::of(&entity).unwrap();
            prop_assert_eq!(&text.decode().unwrap(), &entity);
            let Some(spliced) = apply_to_text(&text, &request, action, options, context) else {
                let whole = request.attributes.keys().any(|name| NAMES[2..].contains(&name.as_str()))
                    || request.attributes.values().any(|one| one.attribute_type.as_deref() == Some("geo:point"))
                    || entity.attributes.values().any(|one| one.attribute_type == "geo:point")
                    || matches!(action, UpdateAction::Replace | UpdateAction::Create);
                prop_assert!(whole, "decoded without need");
                return Ok(());
            };
            let mut slot = Some(entity);
            let expected = apply(&mut slot, &request, action, options, context);
            match (spliced, expected) {
                (Err(found), Err(expected)) => prop_assert_eq!(found, expected),
                (Ok(found), Ok(expected)) => {
                    prop_assert_eq!(found.outcome.alteration, expected.alteration);
                    prop_assert_eq!(found.outcome.updated, expected.updated);
                    prop_assert_eq!(found.outcome.changed, expected.changed);
                    prop_assert_eq!(found.outcome.previous, expected.previous);
                    prop_assert_eq!(found.outcome.partial, expected.partial);
                    let after = EntityText::of(&slot.unwrap()).unwrap().attributes;
                    prop_assert_eq!(found.attributes.unwrap_or(text.attributes), after);
                }
                (found, expected) => prop_assert!(false, "{:?} is not {:?}", found, expected),
            }
        }
    }
}
