//! Requests that change entities: what they say, how they are sent, and how random ones are made.

use proptest::{collection::vec, prelude::*, sample::select, sample::subsequence};
use serde_json::{Map, Value, json};

use crate::broker::{Request, request};

/// One attribute as a body names it.
#[derive(Clone, Debug, Default)]
pub(super) struct Sent {
    pub(super) value: Option<Value>,
    pub(super) kind: Option<&'static str>,
    /// Name to `{"value":…}`, with `type` or without.
    pub(super) metadata: Option<Map<String, Value>>,
}

/// Attributes in the order of the body.
pub(super) type Attributes = Vec<(&'static str, Sent)>;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Options {
    pub(super) key_values: bool,
    pub(super) override_metadata: bool,
    pub(super) forced_update: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Append,
    AppendStrict,
    Update,
    Replace,
    Delete,
}

/// What a request on one entity does.
#[derive(Clone, Debug)]
pub(super) enum Verb {
    Create {
        upsert: bool,
        attributes: Attributes,
    },
    /// `POST`, `PATCH` and `PUT …/attrs`.
    Attributes(Action, Attributes),
    PutAttribute(&'static str, Sent),
    PutValue(&'static str, Value),
    DeleteAttribute(&'static str),
    Delete,
}

#[derive(Clone, Debug)]
pub(super) struct One {
    pub(super) path: Option<&'static str>,
    pub(super) id: &'static str,
    pub(super) entity_type: Option<&'static str>,
    pub(super) verb: Verb,
    pub(super) options: Options,
}

/// An entity of a batch.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) id: &'static str,
    pub(super) entity_type: Option<&'static str>,
    pub(super) attributes: Attributes,
}

#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) path: Option<&'static str>,
    /// None: `op/notify`.
    pub(super) action: Option<Action>,
    pub(super) items: Vec<Item>,
    pub(super) options: Options,
}

/// Requests that are sent at one instant.
#[derive(Clone)]
pub(super) enum Round {
    /// At once, but those of one entity id in order.
    Ones(Vec<One>),
    Batch(Batch),
}

/// A failed history is read by people: it prints as what is sent.
impl std::fmt::Debug for Round {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ones(ones) => ones.iter().try_for_each(|one| writeln!(f, "\n    {}", one.shown())),
            Self::Batch(batch) => writeln!(f, "\n    {}", batch.shown()),
        }
    }
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::AppendStrict => "appendStrict",
            Self::Update => "update",
            Self::Replace => "replace",
            Self::Delete => "delete",
        }
    }
}

impl Sent {
    fn body(&self, key_values: bool) -> Value {
        if key_values {
            return self.value.clone().unwrap_or_default();
        }
        let mut body = Map::new();
        body.extend(self.value.clone().map(|value| ("value".to_owned(), value)));
        body.extend(self.kind.map(|kind| ("type".to_owned(), json!(kind))));
        body.extend(self.metadata.clone().map(|metadata| ("metadata".to_owned(), Value::Object(metadata))));
        Value::Object(body)
    }
}

fn bodies(attributes: &Attributes, options: Options) -> Map<String, Value> {
    attributes.iter().map(|(name, sent)| ((*name).to_owned(), sent.body(options.key_values))).collect()
}

fn entity(id: &str, entity_type: Option<&str>, attributes: &Attributes, options: Options) -> Value {
    let mut body = Map::from_iter([("id".to_owned(), json!(id))]);
    body.extend(entity_type.map(|entity_type| ("type".to_owned(), json!(entity_type))));
    body.extend(bodies(attributes, options));
    Value::Object(body)
}

fn target(path: &str, entity_type: Option<&str>, options: Options, more: &[&str]) -> String {
    let mut words = more.to_vec();
    words.extend(options.key_values.then_some("keyValues"));
    words.extend(options.override_metadata.then_some("overrideMetadata"));
    words.extend(options.forced_update.then_some("forcedUpdate"));
    let mut parameters = Vec::new();
    parameters.extend(entity_type.map(|entity_type| format!("type={entity_type}")));
    if !words.is_empty() {
        parameters.push(format!("options={}", words.join(",")));
    }
    if parameters.is_empty() { path.to_owned() } else { format!("{path}?{}", parameters.join("&")) }
}

impl One {
    /// Request line and body.
    fn parts(&self) -> (String, Option<Value>) {
        let (id, options) = (self.id, self.options);
        let at = |below: &str, more: &[&str]| {
            target(&format!("/v2/entities/{id}{below}"), self.entity_type, options, more)
        };
        match &self.verb {
            Verb::Create { upsert, attributes } => {
                let more: &[&str] = if *upsert { &["upsert"] } else { &[] };
                let line = format!("POST {}", target("/v2/entities", None, options, more));
                (line, Some(entity(id, self.entity_type, attributes, options)))
            }
            Verb::Attributes(action, attributes) => {
                let line = match action {
                    Action::AppendStrict => format!("POST {}", at("/attrs", &["append"])),
                    Action::Update => format!("PATCH {}", at("/attrs", &[])),
                    Action::Replace => format!("PUT {}", at("/attrs", &[])),
                    Action::Append | Action::Delete => format!("POST {}", at("/attrs", &[])),
                };
                (line, Some(Value::Object(bodies(attributes, options))))
            }
            Verb::PutAttribute(name, sent) => {
                (format!("PUT {}", at(&format!("/attrs/{name}"), &[])), Some(sent.body(false)))
            }
            Verb::PutValue(name, value) => {
                (format!("PUT {}", at(&format!("/attrs/{name}/value"), &[])), Some(value.clone()))
            }
            Verb::DeleteAttribute(name) => (format!("DELETE {}", at(&format!("/attrs/{name}"), &[])), None),
            Verb::Delete => (format!("DELETE {}", at("", &[])), None),
        }
    }

    fn shown(&self) -> String {
        let (line, body) = self.parts();
        format!(
            "{line} {} {}",
            self.path.unwrap_or_default(),
            body.map_or_else(String::new, |b| b.to_string())
        )
    }

    pub(super) fn request(&self, tenant: &str) -> Request {
        let (line, body) = self.parts();
        let request = addressed(&line, tenant, self.path);
        match body {
            None => request,
            Some(body)
                if matches!(self.verb, Verb::PutValue(..)) && !body.is_object() && !body.is_array() =>
            {
                request.header("Content-Type", "text/plain").body(&body.to_string())
            }
            Some(body) => request.json(&body.to_string()),
        }
    }
}

impl Batch {
    fn parts(&self) -> (String, Value) {
        let items = self.items.iter();
        let entities: Vec<Value> =
            items.map(|item| entity(item.id, item.entity_type, &item.attributes, self.options)).collect();
        match self.action {
            Some(action) => (
                format!("POST {}", target("/v2/op/update", None, self.options, &[])),
                json!({"actionType": action.name(), "entities": entities}),
            ),
            None => (
                format!("POST {}", target("/v2/op/notify", None, self.options, &[])),
                json!({"subscriptionId": "51c0ac9ed714fb3b37d7d5a8", "data": entities}),
            ),
        }
    }

    fn shown(&self) -> String {
        let (line, body) = self.parts();
        format!("{line} {} {body}", self.path.unwrap_or_default())
    }

    pub(super) fn request(&self, tenant: &str) -> Request {
        let (line, body) = self.parts();
        addressed(&line, tenant, self.path).json(&body.to_string())
    }
}

fn addressed(line: &str, tenant: &str, path: Option<&str>) -> Request {
    let request = request(line).header("Fiware-Service", tenant);
    match path {
        Some(path) => request.header("Fiware-ServicePath", path),
        None => request,
    }
}

// === What random requests are made of

const NAMES: [&str; 5] = ["a", "b", "c", "d", "dateExpires"];

fn values() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => select(vec![json!(0), json!(1), json!(2), json!(2.5), json!(-1)]),
        3 => select(vec![json!("x"), json!("y"), json!(""), json!(true), json!(false), json!(null)]),
        3 => select(vec![
            json!([]), json!([1, 2]), json!([1, "x", {"k": 1}]), json!({"k": 1}), json!({"k": {"n": 1}}), json!({}),
        ]),
        2 => select(vec![json!("2026-02-01"), json!("2026-01-31T12:00:00+02:00"), json!("2026-01-31T10:00:00.000Z")]),
        2 => select(vec![json!("1, 2"), json!("3.5,-4"), json!({"type": "Point", "coordinates": [1, 2]})]),
        1 => Just(json!("a<b")),
        5 => operators(),
    ]
}

fn operators() -> impl Strategy<Value = Value> {
    select(vec![
        json!({"$inc": 1}),
        json!({"$inc": -0.5}),
        json!({"$inc": "k"}),
        json!({"$mul": 2}),
        json!({"$mul": 0.5}),
        json!({"$min": 1}),
        json!({"$max": 1}),
        json!({"$min": "x"}),
        json!({"$max": "x"}),
        json!({"$max": [1]}),
        json!({"$min": "2026-02-01"}),
        json!({"$max": "2026-02-01"}),
        json!({"$push": 1}),
        json!({"$push": [1]}),
        json!({"$push": {"$each": [7, 8]}}),
        json!({"$push": {"$each": [7, 8], "$position": 0}}),
        json!({"$push": {"$each": [9], "$position": -1}}),
        json!({"$addToSet": 2}),
        json!({"$addToSet": {"k": 1}}),
        json!({"$pull": 1}),
        json!({"$pull": {"k": 1}}),
        json!({"$pullAll": [1, 2]}),
        json!({"$pullAll": 1}),
        json!({"$set": {"k": 5}}),
        json!({"$set": {"k.n": 6}}),
        json!({"$set": {"m.n": [1]}}),
        json!({"$set": 1}),
        json!({"$unset": {"k": 1}}),
        json!({"$unset": {"k.n": 1}}),
        json!({"$set": {"z": 1}, "$unset": {"k": 1}}),
        json!({"$set": {"k": 1}, "$unset": {"k": 1}}),
        json!({"$inc": 1, "$mul": 2}),
    ])
}

fn kinds() -> impl Strategy<Value = Option<&'static str>> {
    prop_oneof![
        6 => Just(None),
        2 => select(vec![Some("Num"), Some("Text")]),
        1 => Just(Some("DateTime")),
        1 => Just(Some("geo:point")),
        1 => Just(Some("geo:json")),
        1 => Just(Some("TextUnrestricted")),
    ]
}

fn metadata() -> impl Strategy<Value = Option<Map<String, Value>>> {
    let one = select(vec![
        ("m", json!({"value": 1})),
        ("m", json!({"value": "x", "type": "Unit"})),
        ("m", json!({})),
        ("n", json!({"value": "2026-02-01", "type": "DateTime"})),
        ("n", json!({"value": "soon", "type": "DateTime"})),
        ("n", json!({"value": {"k": [1]}})),
        ("ignoreType", json!({"value": true})),
        ("ignoreType", json!({"value": false})),
    ]);
    let named = vec(one, 0..3).prop_map(|all| {
        all.into_iter().map(|(name, metadata)| (name.to_owned(), metadata)).collect::<Map<_, _>>()
    });
    prop_oneof![3 => Just(None), 2 => named.prop_map(Some)]
}

/// Seconds after the beginning of the history, until [`anchored`].
fn expiries() -> impl Strategy<Value = Sent> {
    let value = select(vec![
        json!("+3"),
        json!("+6"),
        json!("+600"),
        json!("+600"),
        json!("+0"),
        json!(null),
        json!(5),
    ]);
    let kind = select(vec![None, None, Some("DateTime"), Some("Text")]);
    (value, kind).prop_map(|(value, kind)| Sent { value: Some(value), kind, metadata: None })
}

fn sent(name: &'static str) -> BoxedStrategy<Sent> {
    if name == "dateExpires" {
        return expiries().boxed();
    }
    let value = prop_oneof![12 => values().prop_map(Some), 1 => Just(None)];
    (value, kinds(), metadata()).prop_map(|(value, kind, metadata)| Sent { value, kind, metadata }).boxed()
}

fn names(at_least: usize) -> impl Strategy<Value = Vec<&'static str>> {
    // The date of expiry less often than the others.
    prop_oneof![5 => subsequence(&NAMES[..4], at_least..4), 1 => subsequence(&NAMES[..], at_least..4)]
}

fn attributes(at_least: usize) -> impl Strategy<Value = Attributes> {
    names(at_least).prop_flat_map(|names| {
        names.into_iter().map(|name| sent(name).prop_map(move |sent| (name, sent))).collect::<Vec<_>>()
    })
}

fn name() -> impl Strategy<Value = &'static str> {
    prop_oneof![6 => select(&NAMES[..4]), 1 => Just("dateExpires")]
}

fn ids() -> impl Strategy<Value = &'static str> {
    select(vec!["E", "F", "G"])
}

fn types() -> impl Strategy<Value = Option<&'static str>> {
    prop_oneof![3 => Just(None), 3 => Just(Some("T")), 1 => Just(Some("U"))]
}

fn paths() -> impl Strategy<Value = Option<&'static str>> {
    prop_oneof![4 => Just(None), 2 => Just(Some("/a")), 1 => Just(Some("/")), 1 => Just(Some("/a/b"))]
}

fn options() -> impl Strategy<Value = Options> {
    let often_not = || prop::bool::weighted(0.25);
    (often_not(), often_not(), often_not()).prop_map(|(key_values, override_metadata, forced_update)| {
        Options { key_values, override_metadata, forced_update }
    })
}

fn verbs() -> impl Strategy<Value = Verb> {
    let actions =
        select(vec![Action::Append, Action::AppendStrict, Action::Update, Action::Update, Action::Replace]);
    let put_value = (name(), values()).prop_filter_map("of its kind unknown here", |(name, value)| {
        // Whether these may be in a value depends on the type, which the request does not name.
        (value != json!("a<b")).then_some(Verb::PutValue(name, value))
    });
    prop_oneof![
        5 => (prop::bool::weighted(0.3), attributes(0)).prop_map(|(upsert, attributes)| Verb::Create { upsert, attributes }),
        9 => (actions, attributes(1)).prop_map(|(action, attributes)| Verb::Attributes(action, attributes)),
        3 => name().prop_flat_map(|name| sent(name).prop_map(move |sent| Verb::PutAttribute(name, sent))),
        3 => put_value,
        2 => name().prop_map(Verb::DeleteAttribute),
        1 => Just(Verb::Delete),
    ]
}

fn ones() -> impl Strategy<Value = One> {
    (paths(), ids(), types(), verbs(), options()).prop_map(|(path, id, entity_type, verb, mut options)| {
        // These know no keyValues.
        options.key_values &= matches!(verb, Verb::Create { .. } | Verb::Attributes(..));
        One { path, id, entity_type, verb, options }
    })
}

fn batches() -> impl Strategy<Value = Batch> {
    let actions = select(vec![
        Some(Action::Append),
        Some(Action::AppendStrict),
        Some(Action::Update),
        Some(Action::Replace),
        Some(Action::Delete),
        None,
    ]);
    (paths(), actions, options()).prop_flat_map(|(path, action, mut options)| {
        options.key_values &= action.is_some();
        let attributes = match action {
            Some(Action::Delete) => names(0)
                .prop_map(|names| names.into_iter().map(|name| (name, Sent::default())).collect())
                .boxed(),
            Some(Action::AppendStrict | Action::Update) => attributes(1).boxed(),
            _ => attributes(0).boxed(),
        };
        let item = (ids(), types(), attributes).prop_map(|(id, entity_type, attributes)| Item {
            id,
            entity_type,
            attributes,
        });
        vec(item, 1..4).prop_map(move |items| Batch { path, action, items, options })
    })
}

/// Random rounds.
pub(super) fn histories() -> impl Strategy<Value = Vec<Round>> {
    let round = prop_oneof![
        3 => ones().prop_map(|one| Round::Ones(vec![one])),
        3 => vec(ones(), 2..7).prop_map(Round::Ones),
        2 => batches().prop_map(Round::Batch),
    ];
    vec(round, 1..16)
}

/// Puts instants where the strategies left seconds after the beginning.
pub(super) fn anchored(mut rounds: Vec<Round>, begin: impl Fn(i64) -> String) -> Vec<Round> {
    let anchor = |attributes: &mut Attributes| {
        for (_, sent) in attributes.iter_mut().filter(|(name, _)| *name == "dateExpires") {
            if let Some(after) = sent.value.as_ref().and_then(Value::as_str) {
                sent.value = Some(json!(begin(after.parse().unwrap())));
            }
        }
    };
    for round in &mut rounds {
        match round {
            Round::Batch(batch) => batch.items.iter_mut().for_each(|item| anchor(&mut item.attributes)),
            Round::Ones(ones) => ones.iter_mut().for_each(|one| match &mut one.verb {
                Verb::Create { attributes, .. } | Verb::Attributes(_, attributes) => anchor(attributes),
                Verb::PutAttribute(name, sent) => {
                    let mut only = vec![(*name, sent.clone())];
                    anchor(&mut only);
                    *sent = only.remove(0).1;
                }
                _ => {}
            }),
        }
    }
    rounds
}
