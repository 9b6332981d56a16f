//! Collects the rows of one type by entity.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{
    block::{Block, Wanted},
    sources::Order,
};
use crate::{cell::Cell, query::EntityRows};

pub(crate) struct Answer {
    ids: HashMap<usize, Arc<str>>,
    entities: BTreeMap<Arc<str>, EntityRows>,
}

impl Answer {
    pub(crate) fn new(ids: HashMap<usize, Arc<str>>) -> Self {
        Self { ids, entities: BTreeMap::new() }
    }

    pub(crate) fn id_of(&self, series: usize) -> Arc<str> {
        self.ids.get(&series).cloned().unwrap_or_else(|| "".into())
    }

    /// Adds a row of a decoded block.
    pub(crate) fn push(&mut self, series: usize, block: &Block, row: usize, wanted: &Wanted) {
        let id = self.id_of(series);
        let cells = wanted
            .iter()
            .map(|(attribute, _)| block.column(*attribute).map_or(Cell::Null, |column| column.cell(row)));
        self.push_cells(&id, Some(block.times[row]), cells);
    }

    pub(crate) fn push_cells(
        &mut self,
        id: &Arc<str>,
        at_us: Option<i64>,
        cells: impl Iterator<Item = Cell>,
    ) {
        if !self.entities.contains_key(id) {
            self.entities.insert(id.clone(), EntityRows { id: id.to_string(), ..EntityRows::default() });
        }
        let Some(entity) = self.entities.get_mut(id) else { return };
        entity.times.extend(at_us);
        for (no, cell) in cells.enumerate() {
            match entity.columns.get_mut(no) {
                Some(column) => column.push(cell),
                None => entity.columns.push(vec![cell]),
            }
        }
    }

    /// The entities by id, each with its oldest row first.
    pub(crate) fn finish(self, order: Order) -> Vec<EntityRows> {
        let mut entities: Vec<EntityRows> = self.entities.into_values().collect();
        if order == Order::NewestFirst {
            for entity in &mut entities {
                entity.times.reverse();
                entity.columns.iter_mut().for_each(|column| column.reverse());
            }
        }
        entities
    }
}
