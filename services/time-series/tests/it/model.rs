//! Random histories against a model that keeps every row in one vector.

use std::collections::{BTreeMap, HashMap};

use scope::{PathPattern, QueryScope, Scope, ServicePath, Tenant};
use serde_json::{Value, json};
use time_series::{
    cell::{Cell, Kind},
    ingest::{cast, kind_for},
    query::{
        Aggregation, Attributes, Deletion, EntityRows, EntitySummary, Method, Query, Selection, TypeRows,
        Window, fold,
    },
    row::{NewAttribute, Row},
};

#[derive(Clone, Debug)]
struct Stored {
    tenant: Tenant,
    /// Folded.
    entity_type: String,
    path: ServicePath,
    id: String,
    time_us: i64,
    cells: BTreeMap<String, Cell>,
}

#[derive(Clone, Debug, Default)]
struct KnownType {
    name: String,
    /// By folded name: spelling and kind.
    attributes: BTreeMap<String, (String, Kind)>,
}

#[derive(Default)]
pub(crate) struct Model {
    rows: Vec<Stored>,
    types: HashMap<(Tenant, String), KnownType>,
    versions: HashMap<(Tenant, String, ServicePath, String), i64>,
}

pub(crate) fn tree(tenant: &str, path: &str) -> QueryScope {
    QueryScope {
        tenant: Tenant::from_header(Some(tenant)).unwrap(),
        patterns: vec![PathPattern::Tree(ServicePath::parse(path).unwrap())],
    }
}

pub(crate) fn row(tenant: &str, path: &str, entity_type: &str, id: &str, time_us: i64) -> Row {
    let scope = Scope::new(Tenant::from_header(Some(tenant)).unwrap(), ServicePath::parse(path).unwrap());
    let (entity_id, entity_type) = (id.to_owned(), entity_type.to_owned());
    Row { scope, entity_id, entity_type, time_us, version: None, attributes: Vec::new() }
}

pub(crate) fn attribute(name: &str, declared: &str, value: Value) -> NewAttribute {
    NewAttribute { name: name.into(), declared: declared.into(), value }
}

impl Model {
    pub(crate) fn append(&mut self, rows: &[Row]) {
        for row in rows {
            let entity_type = fold(&row.entity_type);
            let tenant = row.scope.tenant.clone();
            let known = self.types.entry((tenant.clone(), entity_type.clone())).or_default();
            if known.name.is_empty() {
                known.name.clone_from(&row.entity_type);
            }
            let series = (tenant.clone(), entity_type.clone(), row.scope.path.clone(), row.entity_id.clone());
            if let Some(version) = row.version {
                let last = self.versions.entry(series).or_insert(i64::MIN);
                if version <= *last {
                    continue;
                }
                *last = version;
            }
            let mut cells = BTreeMap::new();
            for attribute in &row.attributes {
                let Some(kind) = kind_for(&attribute.name, &attribute.declared, &attribute.value) else {
                    continue;
                };
                let entry = known.attributes.entry(fold(&attribute.name));
                let kind = entry.or_insert_with(|| (attribute.name.clone(), kind)).1;
                cells.insert(fold(&attribute.name), cast(kind, &attribute.value));
            }
            let (path, id, time_us) = (row.scope.path.clone(), row.entity_id.clone(), row.time_us);
            self.rows.push(Stored { tenant, entity_type, path, id, time_us, cells });
        }
    }

    pub(crate) fn delete(&mut self, deletion: &Deletion) -> u64 {
        let before = self.rows.len();
        self.rows.retain(|row| {
            !(row.tenant == deletion.scope.tenant
                && deletion.scope.matches(&row.path)
                && deletion.entity_type.as_ref().is_none_or(|name| fold(name) == row.entity_type)
                && deletion.entity_id.as_ref().is_none_or(|id| *id == row.id)
                && deletion.from_us.is_none_or(|from| row.time_us >= from)
                && deletion.to_us.is_none_or(|to| row.time_us <= to))
        });
        (before - self.rows.len()) as u64
    }

    pub(crate) fn drop_type(&mut self, tenant: &Tenant, entity_type: &str) {
        let entity_type = fold(entity_type);
        self.rows.retain(|row| row.tenant != *tenant || row.entity_type != entity_type);
        if let Some(known) = self.types.get_mut(&(tenant.clone(), entity_type)) {
            known.attributes.clear();
        }
    }

    /// Matching rows of one type by time, those of one instant in order of arrival.
    fn select(&self, entity_type: &str, selection: &Selection) -> Vec<&Stored> {
        let mut rows: Vec<&Stored> = self
            .rows
            .iter()
            .filter(|row| {
                row.tenant == selection.scope.tenant
                    && row.entity_type == entity_type
                    && selection.scope.matches(&row.path)
                    && selection.matches_id(&row.id)
                    && row.time_us >= selection.from()
                    && row.time_us <= selection.to()
            })
            .collect();
        rows.sort_by_key(|row| row.time_us);
        rows
    }

    fn types_of(&self, selection: &Selection) -> BTreeMap<String, KnownType> {
        let types = self
            .types
            .iter()
            .filter(|((tenant, name), _)| *tenant == selection.scope.tenant && selection.matches_type(name));
        types.map(|((_, folded), known)| (folded.clone(), known.clone())).collect()
    }

    pub(crate) fn query(&self, query: &Query) -> Vec<(String, Vec<EntityRows>)> {
        let mut answers = Vec::new();
        for (folded, known) in self.types_of(&query.selection) {
            let names: Vec<String> = match &query.attributes {
                Attributes::All => known.attributes.keys().cloned().collect(),
                Attributes::AllOf(names) | Attributes::AnyOf(names) => {
                    names.iter().map(|name| fold(name)).collect()
                }
            };
            if !names.iter().all(|name| known.attributes.contains_key(name)) {
                continue;
            }
            let mut chosen: Vec<(&String, Kind)> = names
                .iter()
                .map(|name| (&known.attributes[name], name))
                .map(|((_, kind), name)| (name, *kind))
                .collect();
            chosen.sort_by_key(|(name, _)| known.attributes[*name].0.clone());
            let rows = self.select(&folded, &query.selection);
            let entities = match query.aggregation {
                None => plain(&window(rows, query.window), &chosen),
                Some(aggregation) => aggregates(&rows, aggregation, query.window, &chosen),
            };
            if !entities.is_empty() {
                answers.push((known.name, entities));
            }
        }
        answers
    }

    pub(crate) fn entities(&self, selection: &Selection, page: Window) -> Vec<EntitySummary> {
        let mut newest: BTreeMap<(String, String), i64> = BTreeMap::new();
        for (folded, known) in self.types_of(selection) {
            for row in self.select(&folded, selection) {
                newest.insert((known.name.clone(), row.id.clone()), row.time_us);
            }
        }
        let summary = |((entity_type, id), newest_us): ((String, String), i64)| EntitySummary {
            id,
            entity_type,
            newest_us,
        };
        let mut found: Vec<EntitySummary> = newest.into_iter().map(summary).collect();
        found.sort_by(|a, b| (b.newest_us, &a.entity_type, &a.id).cmp(&(a.newest_us, &b.entity_type, &b.id)));
        found.into_iter().skip(page.offset).take(page.rows()).collect()
    }
}

/// The window over items that are sorted by time.
fn window<T>(items: Vec<T>, window: Window) -> Vec<T> {
    if !window.newest_first() {
        return items.into_iter().skip(window.offset).take(window.rows()).collect();
    }
    let mut newest: Vec<T> = items.into_iter().rev().skip(window.offset).take(window.rows()).collect();
    newest.reverse();
    newest
}

fn plain(rows: &[&Stored], chosen: &[(&String, Kind)]) -> Vec<EntityRows> {
    let mut entities: BTreeMap<&str, EntityRows> = BTreeMap::new();
    for row in rows {
        let entity = entities.entry(&row.id).or_insert_with(|| EntityRows {
            id: row.id.clone(),
            times: Vec::new(),
            columns: vec![Vec::new(); chosen.len()],
        });
        entity.times.push(row.time_us);
        for (column, (name, _)) in entity.columns.iter_mut().zip(chosen) {
            column.push(row.cells.get(*name).cloned().unwrap_or_default());
        }
    }
    entities.into_values().collect()
}

fn aggregates(
    rows: &[&Stored],
    aggregation: Aggregation,
    page: Window,
    chosen: &[(&String, Kind)],
) -> Vec<EntityRows> {
    let mut buckets: BTreeMap<(i64, &str), Vec<&Stored>> = BTreeMap::new();
    for row in rows {
        let start = aggregation.period.map_or(0, |period| period.floor(row.time_us));
        buckets.entry((start, &row.id)).or_default().push(row);
    }
    let mut listed: Vec<((i64, &str), Vec<&Stored>)> = buckets.into_iter().collect();
    if page.newest_first() {
        // Of one bucket the entities stay in order, whichever end is counted from.
        listed.sort_by(|((a, x), _), ((b, y), _)| (b, x).cmp(&(a, y)));
        listed = listed.into_iter().skip(page.offset).take(page.rows()).collect();
        listed.reverse();
    } else {
        listed = window(listed, page);
    }
    let mut entities: BTreeMap<&str, EntityRows> = BTreeMap::new();
    for ((start, id), rows) in listed {
        let empty = || EntityRows { id: id.to_owned(), times: vec![], columns: vec![vec![]; chosen.len()] };
        let entity = entities.entry(id).or_insert_with(empty);
        entity.times.extend(aggregation.period.map(|_| start));
        for (column, (name, kind)) in entity.columns.iter_mut().zip(chosen) {
            let values = rows.iter().filter_map(|row| row.cells.get(*name)).filter(|cell| !cell.is_null());
            column.push(reduce(aggregation.method, *kind, &values.collect::<Vec<_>>()));
        }
    }
    entities.into_values().collect()
}

fn reduce(method: Method, kind: Kind, values: &[&Cell]) -> Cell {
    if method == Method::Count {
        return Cell::Int(values.len() as i64);
    }
    if values.is_empty() || !method.applies_to(kind) {
        return Cell::Null;
    }
    let float = |cell: &Cell| match cell {
        Cell::Float(value) => *value,
        Cell::Int(value) => *value as f64,
        other => panic!("no number: {other:?}"),
    };
    match method {
        Method::Sum if kind == Kind::Integer => Cell::Int(values.iter().map(|cell| float(cell) as i64).sum()),
        Method::Sum => Cell::Float(values.iter().map(|cell| float(cell)).sum()),
        Method::Avg => Cell::Float(values.iter().map(|cell| float(cell)).sum::<f64>() / values.len() as f64),
        Method::Min | Method::Max | Method::Count => {
            let order = |a: &&&Cell, b: &&&Cell| match (a, b) {
                (Cell::Text(a), Cell::Text(b)) => a.cmp(b),
                (a, b) => float(a).total_cmp(&float(b)),
            };
            let ends = (values.iter().min_by(order), values.iter().max_by(order));
            let end = if method == Method::Min { ends.0 } else { ends.1 };
            end.map_or(Cell::Null, |cell| (**cell).clone())
        }
    }
}

/// Fails unless both say the same; sums of floats may differ in their last digits.
pub(crate) fn assert_same(found: &[TypeRows], expected: &[(String, Vec<EntityRows>)], query: &Query) {
    let names: Vec<&String> = found.iter().map(|rows| &rows.name).collect();
    let wanted: Vec<&String> = expected.iter().map(|(name, _)| name).collect();
    assert_eq!(names, wanted, "types of {query:?}");
    for (rows, (_, entities)) in found.iter().zip(expected) {
        let shape = |entities: &[EntityRows]| -> Vec<(String, Vec<i64>)> {
            entities.iter().map(|entity| (entity.id.clone(), entity.times.clone())).collect()
        };
        assert_eq!(shape(&rows.entities), shape(entities), "rows of {query:?}");
        for (found, expected) in rows.entities.iter().zip(entities) {
            let cells = found.columns.iter().flatten().zip(expected.columns.iter().flatten());
            assert!(
                found.columns.len() == expected.columns.len() && cells.clone().all(|(a, b)| close(a, b)),
                "values of {query:?}: {:?} against {:?}",
                found.columns,
                expected.columns
            );
        }
    }
}

fn close(a: &Cell, b: &Cell) -> bool {
    match (a, b) {
        (Cell::Float(a), Cell::Float(b)) => (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0),
        _ => a == b,
    }
}

/// One entity's attributes in one notification.
pub(crate) fn attributes(pick: u32, number: i32) -> Vec<NewAttribute> {
    let all = [
        attribute("num", "Number", json!(f64::from(number) / 100.0)),
        attribute("Int", "Integer", json!(number)),
        attribute("text", "Text", json!(format!("t{}", number % 7))),
        attribute("flag", "Boolean", json!(number % 2 == 0)),
        attribute("at", "DateTime", json!("2030-01-01T00:00:00Z")),
        attribute("object", "StructuredValue", json!({"n": number})),
        attribute("NUM", "Text", json!("not a number")),
        attribute("open", "", if number % 3 == 0 { json!(number) } else { Value::Null }),
        attribute("irrational", "Number", json!(f64::from(number).sin())),
    ];
    // `num` and `NUM` are one attribute: a reader of notifications lets only one of them through.
    let chosen =
        all.into_iter().enumerate().filter(|(no, _)| pick >> no & 1 == 1).map(|(_, attribute)| attribute);
    let mut chosen: Vec<NewAttribute> = chosen.collect();
    if chosen.first().is_some_and(|first| first.name == "num") {
        chosen.retain(|attribute| attribute.name != "NUM");
    }
    chosen
}
