//! What is known of all series: types, attributes, entities, and where their newest rows are.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use scope::{QueryScope, Scope, ServicePath, Tenant};

use super::head::Head;
use crate::{
    cell::Kind,
    query::{AttributeInfo, Selection, fold},
};

/// Position in [`Catalog::series`]; the stored id is one more.
pub(crate) type SeriesNo = usize;
/// Position in [`Catalog::types`].
pub(crate) type TypeNo = usize;

#[derive(Debug)]
pub(crate) struct EntityType {
    pub(crate) tenant: Tenant,
    pub(crate) folded: String,
    pub(crate) name: String,
    /// By folded name.
    pub(crate) attributes: HashMap<String, AttributeInfo>,
    pub(crate) series: Vec<SeriesNo>,
    pub(crate) by_id: HashMap<Arc<str>, Vec<SeriesNo>>,
}

/// The rows of one entity at one service path.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) type_no: TypeNo,
    pub(crate) path: ServicePath,
    pub(crate) id: Arc<str>,
    /// Of the stream records stored so far: one not above it is a repetition.
    pub(crate) version: i64,
    /// Log batches up to this one are in chunks, as far as they concern the series.
    pub(crate) sealed_batch: i64,
    /// Latest time index of any row, `i64::MIN` without rows.
    pub(crate) newest_us: i64,
    /// The chunk sealed last, if any.
    pub(crate) last_chunk: Option<i64>,
    pub(crate) head: Option<Arc<Head>>,
}

#[derive(Default, Debug)]
pub(crate) struct Catalog {
    pub(crate) types: Vec<EntityType>,
    by_name: HashMap<Tenant, BTreeMap<String, TypeNo>>,
    pub(crate) series: Vec<Series>,
    pub(crate) kinds: HashMap<u32, Kind>,
    pub(crate) next_attribute: u32,
}

impl Catalog {
    pub(crate) fn find_type(&self, tenant: &Tenant, folded: &str) -> Option<TypeNo> {
        self.by_name.get(tenant)?.get(folded).copied()
    }

    pub(crate) fn add_type(&mut self, tenant: Tenant, folded: String, name: String) -> TypeNo {
        let no = self.types.len();
        self.by_name.entry(tenant.clone()).or_default().insert(folded.clone(), no);
        let (attributes, series, by_id) = Default::default();
        self.types.push(EntityType { tenant, folded, name, attributes, series, by_id });
        no
    }

    pub(crate) fn add_attribute(&mut self, type_no: TypeNo, attribute: AttributeInfo) {
        self.kinds.insert(attribute.id, attribute.kind);
        self.next_attribute = self.next_attribute.max(attribute.id + 1);
        self.types[type_no].attributes.insert(fold(&attribute.name), attribute);
    }

    pub(crate) fn find_series(&self, type_no: TypeNo, scope: &Scope, id: &str) -> Option<SeriesNo> {
        let same_id = self.types[type_no].by_id.get(id)?;
        same_id.iter().copied().find(|no| self.series[*no].path == scope.path)
    }

    pub(crate) fn add_series(&mut self, type_no: TypeNo, path: ServicePath, id: Arc<str>) -> SeriesNo {
        let no = self.series.len();
        let owner = &mut self.types[type_no];
        owner.series.push(no);
        owner.by_id.entry(id.clone()).or_default().push(no);
        self.series.push(Series {
            type_no,
            path,
            id,
            version: i64::MIN,
            sealed_batch: 0,
            newest_us: i64::MIN,
            last_chunk: None,
            head: None,
        });
        no
    }

    /// Types of the tenant that the selection names, by name.
    pub(crate) fn select_types(&self, selection: &Selection) -> Vec<TypeNo> {
        let Some(types) = self.by_name.get(&selection.scope.tenant) else { return Vec::new() };
        match &selection.types {
            None => types.values().copied().collect(),
            Some(names) => {
                let mut found: Vec<TypeNo> =
                    names.iter().filter_map(|name| types.get(&fold(name)).copied()).collect();
                found.sort_by(|a, b| self.types[*a].folded.cmp(&self.types[*b].folded));
                found.dedup();
                found
            }
        }
    }

    /// Series of a type that the selection names and that have rows.
    pub(crate) fn select_series(&self, type_no: TypeNo, selection: &Selection) -> Vec<SeriesNo> {
        let owner = &self.types[type_no];
        let visible = |no: &SeriesNo| {
            let series = &self.series[*no];
            series.newest_us != i64::MIN
                && selection.scope.matches(&series.path)
                && selection.id_pattern.as_ref().is_none_or(|pattern| pattern.is_match(&series.id))
        };
        match &selection.ids {
            None => owner.series.iter().copied().filter(visible).collect(),
            Some(ids) => {
                let mut found: Vec<SeriesNo> = ids
                    .iter()
                    .filter_map(|id| owner.by_id.get(id.as_str()))
                    .flatten()
                    .copied()
                    .filter(visible)
                    .collect();
                found.sort_unstable();
                found.dedup();
                found
            }
        }
    }

    pub(crate) fn types_of(&self, scope: &QueryScope, id: &str) -> Vec<String> {
        let Some(types) = self.by_name.get(&scope.tenant) else { return Vec::new() };
        let holds = |no: &&TypeNo| {
            self.types[**no].by_id.get(id).is_some_and(|same_id| {
                same_id.iter().any(|series| {
                    let series = &self.series[*series];
                    series.newest_us != i64::MIN && scope.matches(&series.path)
                })
            })
        };
        types.values().filter(holds).map(|no| self.types[*no].name.clone()).collect()
    }

    pub(crate) fn tenants(&self) -> Vec<Tenant> {
        self.by_name.keys().cloned().collect()
    }
}
