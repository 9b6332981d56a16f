//! What updates do, written down once more from the contract (ngsi-v2.md 5 and 6) on plain maps: as simple as it can be, and
//! without a line of the broker's own.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    operation::{Action, Attributes, Batch, One, Options, Sent, Verb},
    values::{Kept, canonical_date, derived_type, is_date_type, is_location, operated, well_placed},
};

/// Path, id, type.
type Key = (String, String, String);

/// The entities of one tenant.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    entities: BTreeMap<Key, Entity>,
}

#[derive(Clone, Debug)]
struct Entity {
    created: i64,
    modified: i64,
    attributes: BTreeMap<String, Kept>,
}

/// Which attributes of a request are written; the others are refused.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    All,
    New,
    Known,
}

/// How the part of a request ended that concerns one entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Done,
    /// The good part was written.
    Partly,
    NoEntity,
    /// None of the attributes can be written.
    NoAttribute,
    /// The entity exists already.
    Exists,
    /// Any other refusal: nothing was written.
    Refused(u16),
}

const MANY: End = End::Refused(409);

impl Model {
    /// The status of the answer.
    pub(super) fn one(&mut self, one: &One, now: i64) -> u16 {
        let options = one.options;
        let sent = match &one.verb {
            Verb::Create { attributes, .. } | Verb::Attributes(_, attributes) => attributes.clone(),
            Verb::PutAttribute(name, sent) => vec![(*name, sent.clone())],
            Verb::PutValue(name, value) => {
                vec![(*name, Sent { value: Some(value.clone()), ..Sent::default() })]
            }
            Verb::DeleteAttribute(name) => vec![(*name, Sent::default())],
            Verb::Delete => Vec::new(),
        };
        let named = Sender { path: one.path, id: one.id, entity_type: one.entity_type, options, now };
        let is_value = matches!(one.verb, Verb::PutValue(..));
        if sent.iter().any(|(name, sent)| wrong(name, sent, options.key_values, is_value)) {
            return 400;
        }
        let end = match &one.verb {
            Verb::Create { upsert, .. } => {
                let key = named.key(Some(one.entity_type.unwrap_or("Thing")));
                let known = self.alive(&key, now).is_some();
                match (known, *upsert) {
                    (true, false) => End::Exists,
                    (true, true) => self.write(&key, &sent, Which::All, &named, false),
                    (false, _) => self.create(key, &sent, &named),
                }
            }
            Verb::Attributes(Action::Replace, _) => {
                self.on(&named, |model, key| model.replace(key, &sent, &named))
            }
            Verb::Attributes(action, _) => {
                let which = which(*action);
                self.on(&named, |model, key| model.write(key, &sent, which, &named, false))
            }
            Verb::PutAttribute(..) => {
                self.on(&named, |model, key| model.write(key, &sent, Which::Known, &named, false))
            }
            Verb::PutValue(..) => {
                self.on(&named, |model, key| model.write(key, &sent, Which::Known, &named, true))
            }
            Verb::DeleteAttribute(_) => self.on(&named, |model, key| model.remove(key, &sent, now)),
            Verb::Delete => self.on(&named, |model, key| {
                model.entities.remove(key);
                End::Done
            }),
        };
        let on_one_attribute =
            matches!(one.verb, Verb::PutAttribute(..) | Verb::PutValue(..) | Verb::DeleteAttribute(_));
        match end {
            End::Done if matches!(one.verb, Verb::Create { upsert: false, .. }) => 201,
            End::Done => 204,
            End::NoEntity => 404,
            End::NoAttribute if on_one_attribute => 404,
            End::NoAttribute | End::Partly | End::Exists => 422,
            End::Refused(status) => status,
        }
    }

    /// The status of the answer to a batch: each entity as if it came alone, in order.
    pub(super) fn batch(&mut self, batch: &Batch, now: i64) -> u16 {
        let mut sent = batch.items.iter().flat_map(|item| &item.attributes);
        if sent.any(|(name, sent)| wrong_in_batch(batch, name, sent)) {
            return 400;
        }
        let action = batch.action.unwrap_or(Action::Append);
        let ends: Vec<End> = batch
            .items
            .iter()
            .map(|item| {
                let named = Sender {
                    path: batch.path,
                    id: item.id,
                    entity_type: item.entity_type,
                    options: batch.options,
                    now,
                };
                self.item(action, &item.attributes, &named)
            })
            .collect();
        let other = ends.iter().find_map(|end| match end {
            End::Refused(status) => Some(*status),
            _ => None,
        });
        let good = ends.iter().any(|end| matches!(end, End::Done | End::Partly));
        match other {
            Some(status) => status,
            None if ends.iter().all(|end| *end == End::Done) => {
                if batch.action.is_some() {
                    204
                } else {
                    200
                }
            }
            None if !good && ends.iter().all(|end| *end == End::NoEntity) => 404,
            None => 422,
        }
    }

    fn item(&mut self, action: Action, sent: &Attributes, named: &Sender<'_>) -> End {
        let creates = matches!(action, Action::Append | Action::AppendStrict);
        let end = self.on(named, |model, key| match action {
            Action::Replace => model.replace(key, sent, named),
            Action::Delete if sent.is_empty() => {
                model.entities.remove(key);
                End::Done
            }
            Action::Delete => model.remove(key, sent, named.now),
            _ => model.write(key, sent, which(action), named, false),
        });
        match end {
            End::NoEntity if creates => {
                self.create(named.key(Some(named.entity_type.unwrap_or("Thing"))), sent, named)
            }
            end => end,
        }
    }

    /// Does `what` on the entity that is meant.
    fn on(&mut self, named: &Sender<'_>, what: impl FnOnce(&mut Self, &Key) -> End) -> End {
        let (path, id, _) = named.key(None);
        let meant = |key: &&Key| {
            key.0 == path && key.1 == id && named.entity_type.is_none_or(|entity_type| key.2 == entity_type)
        };
        let keys: Vec<Key> = self
            .entities
            .keys()
            .filter(meant)
            .filter(|key| self.alive(key, named.now).is_some())
            .cloned()
            .collect();
        match keys.as_slice() {
            [] => End::NoEntity,
            [key] => what(self, key),
            _ => MANY,
        }
    }

    fn alive(&self, key: &Key, now: i64) -> Option<&Entity> {
        let entity = self.entities.get(key)?;
        let expires = entity.attributes.get("dateExpires").and_then(Kept::instant_us);
        expires.is_none_or(|expires| expires > now).then_some(entity)
    }

    fn create(&mut self, key: Key, sent: &Attributes, named: &Sender<'_>) -> End {
        let mut attributes = BTreeMap::new();
        for (name, sent) in sent {
            match after(name, None, sent, named, false) {
                Err(status) => return End::Refused(status),
                Ok(None) => {}
                Ok(Some(kept)) => drop(attributes.insert((*name).to_owned(), kept)),
            }
        }
        self.put(key, Entity { created: named.now, modified: named.now, attributes })
    }

    fn write(
        &mut self,
        key: &Key,
        sent: &Attributes,
        which: Which,
        named: &Sender<'_>,
        only_value: bool,
    ) -> End {
        let mut entity = self.entities[key].clone();
        let admitted = |name: &str| match which {
            Which::All => true,
            Which::New => !entity.attributes.contains_key(name),
            Which::Known => entity.attributes.contains_key(name),
        };
        let (good, refused): (Vec<_>, Vec<_>) = sent.iter().partition(|(name, _)| admitted(name));
        if good.is_empty() && !refused.is_empty() {
            return End::NoAttribute;
        }
        for (name, sent) in good {
            match after(name, entity.attributes.get(*name), sent, named, only_value) {
                Err(status) => return End::Refused(status),
                Ok(None) => {}
                Ok(Some(kept)) => {
                    entity.attributes.insert((*name).to_owned(), kept);
                    entity.modified = named.now;
                }
            }
        }
        match (self.put(key.clone(), entity), refused.is_empty()) {
            (End::Done, false) => End::Partly,
            (end, _) => end,
        }
    }

    fn replace(&mut self, key: &Key, sent: &Attributes, named: &Sender<'_>) -> End {
        let mut entity = self.entities[key].clone();
        let before = std::mem::take(&mut entity.attributes);
        for (name, sent) in sent {
            let mut kept = match after(name, None, sent, named, false) {
                Err(status) => return End::Refused(status),
                Ok(None) => continue,
                Ok(Some(kept)) => kept,
            };
            if let Some(before) = before.get(*name) {
                kept.created = before.created;
                if kept.same_as(before) && !named.options.forced_update {
                    kept.modified = before.modified;
                }
            }
            entity.attributes.insert((*name).to_owned(), kept);
        }
        entity.modified = named.now;
        self.put(key.clone(), entity)
    }

    fn remove(&mut self, key: &Key, sent: &Attributes, now: i64) -> End {
        let Some(entity) = self.entities.get_mut(key) else { return End::NoEntity };
        let removed = sent.iter().filter(|(name, _)| entity.attributes.remove(*name).is_some()).count();
        if removed == 0 {
            return End::NoAttribute;
        }
        entity.modified = now;
        if removed == sent.len() { End::Done } else { End::Partly }
    }

    /// Keeps the entity, unless it had two locations.
    fn put(&mut self, key: Key, entity: Entity) -> End {
        if entity.attributes.values().filter(|kept| is_location(kept)).count() > 1 {
            return End::Refused(413);
        }
        self.entities.insert(key, entity);
        End::Done
    }

    /// All entities as the broker lists them with every builtin, sorted by path, id and type.
    pub(super) fn shown(&self, now: i64) -> Vec<Value> {
        let alive = self.entities.iter().filter(|(key, _)| self.alive(key, now).is_some());
        alive.map(|(key, entity)| entity.shown(key)).collect()
    }
}

impl Entity {
    fn shown(&self, (path, id, entity_type): &Key) -> Value {
        let date = |at_us| json!({"type": "DateTime", "value": super::instant(at_us), "metadata": {}});
        let mut shown = Map::from_iter([
            ("id".to_owned(), json!(id)),
            ("type".to_owned(), json!(entity_type)),
            ("servicePath".to_owned(), json!({"type": "Text", "value": path, "metadata": {}})),
            ("dateCreated".to_owned(), date(self.created)),
            ("dateModified".to_owned(), date(self.modified)),
        ]);
        shown.extend(self.attributes.iter().map(|(name, kept)| (name.clone(), kept.shown())));
        Value::Object(shown)
    }
}

/// Who is meant, how and when.
struct Sender<'a> {
    path: Option<&'a str>,
    id: &'a str,
    entity_type: Option<&'a str>,
    options: Options,
    now: i64,
}

impl Sender<'_> {
    fn key(&self, entity_type: Option<&str>) -> Key {
        (self.path.unwrap_or("/").to_owned(), self.id.to_owned(), entity_type.unwrap_or_default().to_owned())
    }
}

fn which(action: Action) -> Which {
    match action {
        Action::AppendStrict => Which::New,
        Action::Update => Which::Known,
        Action::Append | Action::Replace | Action::Delete => Which::All,
    }
}

/// The operators of a value, when it is an update.
pub(super) fn operators(value: &Value) -> Option<&Map<String, Value>> {
    value.as_object().filter(|object| object.keys().next().is_some_and(|key| key.starts_with('$')))
}

/// Whether the request is wrong, whatever there is. `is_value`: a `PUT …/value`, whose type the entity knows.
fn wrong(name: &str, sent: &Sent, key_values: bool, is_value: bool) -> bool {
    let (kind, metadata) = if key_values { (None, None) } else { (sent.kind, sent.metadata.as_ref()) };
    let bad_metadata = metadata
        .into_iter()
        .flat_map(Map::values)
        .any(|one| one["type"].as_str().is_some_and(is_date_type) && canonical_date(&one["value"]).is_none());
    bad_metadata || wrong_value(name, sent.value.as_ref().unwrap_or(&Value::Null), kind, metadata, is_value)
}

fn wrong_value(
    name: &str,
    value: &Value,
    kind: Option<&str>,
    metadata: Option<&Map<String, Value>>,
    is_value: bool,
) -> bool {
    if let Some(operators) = operators(value) {
        let several = operators.len() > 1 && !operators.keys().all(|key| key == "$set" || key == "$unset");
        return several || (name == "dateExpires" && !is_value);
    }
    if is_value {
        return false;
    }
    if name == "dateExpires" {
        return kind.is_some_and(|kind| kind != "DateTime") || canonical_date(value).is_none();
    }
    let kind = kind.unwrap_or_else(|| derived_type(value));
    let ignored =
        metadata.is_some_and(|metadata| metadata.get("ignoreType") == Some(&json!({"value": true})));
    (is_date_type(kind) && canonical_date(value).is_none())
        || (!ignored && !well_placed(kind, value))
        || (value == "a<b" && kind != "TextUnrestricted")
}

fn wrong_in_batch(batch: &Batch, name: &str, sent: &Sent) -> bool {
    // What is deleted is only named; in the normalized form it has no value.
    let deleted = batch.action == Some(Action::Delete);
    !deleted && wrong(name, sent, batch.options.key_values, false)
}

/// The attribute as it will be; None: it is not created. The error is a status.
fn after(
    name: &str,
    before: Option<&Kept>,
    sent: &Sent,
    named: &Sender<'_>,
    only_value: bool,
) -> Result<Option<Kept>, u16> {
    let options = named.options;
    let value = sent.value.clone().unwrap_or_default();
    let sent_type = match name {
        "dateExpires" => Some("DateTime"),
        _ => sent.kind.filter(|_| !options.key_values),
    };
    let operators = operators(&value).cloned();
    // Only operators and `PUT …/value` keep the type that was there; operators not one that followed from the value.
    let keeps =
        |before: &&Kept| only_value || (operators.is_some() && before.kind != derived_type(&before.value));
    let kept_type = before.filter(keeps).map(|before| before.kind.as_str());
    let known_type = sent_type.or(kept_type);
    let value = match &operators {
        None => value,
        Some(operators) => {
            let is_date = known_type.is_some_and(is_date_type);
            match operated(before.map(|before| &before.value), operators, is_date)? {
                None => return Ok(None),
                Some(value) => value,
            }
        }
    };
    let kind = known_type.unwrap_or_else(|| derived_type(&value)).to_owned();
    let value = if is_date_type(&kind) { canonical_date(&value).ok_or(400_u16)? } else { value };
    let sent_metadata = sent.metadata.as_ref().filter(|_| !options.key_values);
    let mut metadata = match before {
        Some(before) if only_value || !options.override_metadata => before.metadata.clone(),
        _ => BTreeMap::new(),
    };
    for (name, one) in sent_metadata.into_iter().flatten() {
        metadata.insert(name.clone(), kept_metadata(one));
    }
    let mut kept = Kept { kind, value, metadata, created: named.now, modified: named.now };
    // What an operator or a bare value leads to must be a place too.
    if (only_value || operators.is_some()) && !kept.is_ignored() && !well_placed(&kept.kind, &kept.value) {
        return Err(400);
    }
    if let Some(before) = before {
        kept.created = before.created;
        if kept.same_as(before) && !options.forced_update {
            kept.modified = before.modified;
        }
    }
    Ok(Some(kept))
}

fn kept_metadata(one: &Value) -> Value {
    let value = one.get("value").cloned().unwrap_or_default();
    let kind = one["type"].as_str().unwrap_or_else(|| derived_type(&value)).to_owned();
    let value = if is_date_type(&kind) { canonical_date(&value).unwrap() } else { value };
    json!({"type": kind, "value": value})
}
