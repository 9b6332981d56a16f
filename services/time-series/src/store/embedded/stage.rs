//! What one ingest transaction adds, worked out before anything is written: new types, attributes and series, and the
//! log batch. Nothing here is visible to readers until the transaction is committed.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use scope::{ServicePath, Tenant};

use super::{
    catalog::{Catalog, SeriesNo, TypeNo},
    codec::{put_cell, put_u64},
    log::{LogRow, LogWriter},
};
use crate::{
    cell::Kind,
    ingest::{cast, kind_for},
    query::AttributeInfo,
    row::{NewAttribute, Row},
};

/// A name in the form in which names are compared, without a copy when it is in that form.
fn folded(name: &str) -> Cow<'_, str> {
    if name.bytes().all(|b| b.is_ascii() && !b.is_ascii_uppercase()) {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(crate::query::fold(name))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) stored: u64,
    pub(crate) repeated: u64,
    pub(crate) nulled: u64,
}

pub(crate) struct StagedRow {
    pub(crate) series: SeriesNo,
    pub(crate) at_us: i64,
    pub(crate) version: Option<i64>,
    cells: std::ops::Range<usize>,
}

pub(crate) struct Stage<'a> {
    catalog: &'a Catalog,
    pub(crate) types: Vec<(Tenant, String, String)>,
    pub(crate) attributes: Vec<(TypeNo, AttributeInfo)>,
    pub(crate) series: Vec<(TypeNo, ServicePath, Arc<str>)>,
    pub(crate) rows: Vec<StagedRow>,
    cells: Vec<u8>,
    type_nos: HashMap<(Tenant, String), TypeNo>,
    attribute_kinds: HashMap<(TypeNo, String), (u32, Kind)>,
    series_nos: HashMap<(TypeNo, ServicePath, Arc<str>), SeriesNo>,
    versions: HashMap<SeriesNo, i64>,
}

/// What is left of a [`Stage`] when the catalogue may change again.
pub(crate) struct Staged {
    pub(crate) types: Vec<(Tenant, String, String)>,
    pub(crate) attributes: Vec<(TypeNo, AttributeInfo)>,
    pub(crate) series: Vec<(TypeNo, ServicePath, Arc<str>)>,
    pub(crate) rows: Vec<StagedRow>,
    cells: Vec<u8>,
}

impl Staged {
    pub(crate) fn cells(&self, row: &StagedRow) -> &[u8] {
        &self.cells[row.cells.clone()]
    }

    pub(crate) fn log_body(&self) -> Option<Vec<u8>> {
        let mut log = LogWriter::new();
        for row in &self.rows {
            let cells = self.cells(row);
            log.push(LogRow { series: row.series, at_us: row.at_us, version: row.version, cells });
        }
        (!log.is_empty()).then(|| log.into_body())
    }
}

impl<'a> Stage<'a> {
    pub(crate) fn new(catalog: &'a Catalog) -> Self {
        Self {
            catalog,
            types: Vec::new(),
            attributes: Vec::new(),
            series: Vec::new(),
            rows: Vec::new(),
            cells: Vec::new(),
            type_nos: HashMap::new(),
            attribute_kinds: HashMap::new(),
            series_nos: HashMap::new(),
            versions: HashMap::new(),
        }
    }

    pub(crate) fn finish(self) -> Staged {
        let Self { types, attributes, series, rows, cells, .. } = self;
        Staged { types, attributes, series, rows, cells }
    }

    /// Stages a row, unless it is a repetition.
    pub(crate) fn add(&mut self, row: &Row, counts: &mut Counts) {
        let type_no = self.type_no(row);
        let series = self.series_no(type_no, row);
        if let Some(version) = row.version {
            let known = self.versions.get(&series).copied();
            let known = known.or_else(|| self.catalog.series.get(series).map(|series| series.version));
            if known.is_some_and(|known| version <= known) {
                counts.repeated += 1;
                return;
            }
            self.versions.insert(series, version);
        }
        let start = self.cells.len();
        let resolved: Vec<_> =
            row.attributes.iter().filter_map(|attribute| self.resolve(type_no, attribute)).collect();
        put_u64(&mut self.cells, resolved.len() as u64);
        for ((id, kind), attribute) in resolved {
            let cell = cast(kind, &attribute.value);
            if cell.is_null() && !attribute.value.is_null() && attribute.value != "" {
                counts.nulled += 1;
            }
            put_cell(&mut self.cells, id, &cell);
        }
        let cells = start..self.cells.len();
        self.rows.push(StagedRow { series, at_us: row.time_us, version: row.version, cells });
        counts.stored += 1;
    }

    fn type_no(&mut self, row: &Row) -> TypeNo {
        let folded = folded(&row.entity_type);
        if let Some(known) = self.catalog.find_type(&row.scope.tenant, &folded) {
            return known;
        }
        let next = self.catalog.types.len() + self.types.len();
        let key = (row.scope.tenant.clone(), folded.into_owned());
        if let Some(staged) = self.type_nos.get(&key) {
            return *staged;
        }
        self.types.push((key.0.clone(), key.1.clone(), row.entity_type.clone()));
        self.type_nos.insert(key, next);
        next
    }

    fn series_no(&mut self, type_no: TypeNo, row: &Row) -> SeriesNo {
        if type_no < self.catalog.types.len()
            && let Some(known) = self.catalog.find_series(type_no, &row.scope, &row.entity_id)
        {
            return known;
        }
        let next = self.catalog.series.len() + self.series.len();
        let key = (type_no, row.scope.path.clone(), Arc::from(row.entity_id.as_str()));
        if let Some(staged) = self.series_nos.get(&key) {
            return *staged;
        }
        self.series.push(key.clone());
        self.series_nos.insert(key, next);
        next
    }

    /// The attribute's id and kind; `None` while nothing says what it holds.
    fn resolve<'r>(
        &mut self,
        type_no: TypeNo,
        attribute: &'r NewAttribute,
    ) -> Option<((u32, Kind), &'r NewAttribute)> {
        let folded = folded(&attribute.name);
        if let Some(known) = self.catalog.types.get(type_no).and_then(|owner| owner.attributes.get(&*folded))
        {
            return Some(((known.id, known.kind), attribute));
        }
        let key = (type_no, folded.into_owned());
        if let Some(staged) = self.attribute_kinds.get(&key) {
            return Some((*staged, attribute));
        }
        let kind = kind_for(&attribute.name, &attribute.declared, &attribute.value)?;
        let id = self.catalog.next_attribute + u32::try_from(self.attributes.len()).ok()?;
        let declared = if attribute.declared.is_empty() { kind.ngsi_type() } else { &attribute.declared };
        let info = AttributeInfo { id, name: attribute.name.clone(), kind, declared: declared.to_owned() };
        self.attributes.push((type_no, info));
        self.attribute_kinds.insert(key, (id, kind));
        Some(((id, kind), attribute))
    }
}
