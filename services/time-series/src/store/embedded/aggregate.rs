//! Aggregates of one type: from the stats of a chunk where a bucket covers it, else from its rows.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use sqlx::SqliteConnection;
use store::StoreError;

use super::{
    answer::Answer,
    block::{Block, Wanted},
    chunk::Unpacker,
    live::Shared,
    sources::{Content, Order, Source, Sources},
    stats::{self, Summary},
};
use crate::{
    query::{Aggregation, Window},
    time::Period,
};

/// Buckets in the order of the answer: by the order's key of their start, then by entity.
type Buckets = BTreeMap<(i64, Arc<str>), Vec<Summary>>;

pub(super) struct Aggregator<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) wanted: &'a Wanted,
    pub(super) aggregation: Aggregation,
    pub(super) order: Order,
    pub(super) range: (i64, i64),
    pub(super) buckets: Buckets,
}

impl Aggregator<'_> {
    fn bucket(&self, at_us: i64) -> i64 {
        self.aggregation.period.map_or(0, |period| period.floor(at_us))
    }

    /// Reads the window's buckets into `answer`. Buckets that nothing to come can touch are answered as soon as that is
    /// known, so that memory holds no more than one page of sources adds.
    pub(super) async fn read(
        mut self,
        connection: &mut SqliteConnection,
        mut sources: Sources,
        window: Window,
        answer: &mut Answer,
    ) -> Result<(), StoreError> {
        let mut unpacker = self.shared.check("a decoder", Unpacker::new())?;
        let (mut skip, mut left) = (window.offset, window.rows());
        while left > 0 {
            let Some(edge) = sources.peek(connection).await? else { break };
            if self.aggregation.period.is_some() && self.buckets.len() > 1 {
                // The key is its own inverse.
                let open = self.order.key(self.bucket(self.order.key(edge)));
                self.answer(answer, &mut skip, &mut left, |start| start < open);
            }
            if let Some(source) = sources.pop() {
                self.add(&source, answer, &mut unpacker)?;
            }
        }
        self.answer(answer, &mut skip, &mut left, |_| true);
        Ok(())
    }

    fn answer(
        &mut self,
        answer: &mut Answer,
        skip: &mut usize,
        left: &mut usize,
        done: impl Fn(i64) -> bool,
    ) {
        while *left > 0
            && let Some(first) = self.buckets.first_entry()
            && done(first.key().0)
        {
            let ((start, id), summaries) = first.remove_entry();
            if *skip > 0 {
                *skip -= 1;
                continue;
            }
            *left -= 1;
            let method = self.aggregation.method;
            let cells = summaries.iter().zip(self.wanted).map(|(sum, (_, kind))| sum.answer(method, *kind));
            let at = self.aggregation.period.map(|_| self.order.key(start));
            answer.push_cells(&id, at, cells);
        }
    }

    fn add(&mut self, source: &Source, answer: &Answer, unpacker: &mut Unpacker) -> Result<(), StoreError> {
        let id = answer.id_of(source.series);
        if self.covers(source)
            && let Content::Chunk { stats, .. } = &source.content
        {
            let key = (self.order.key(self.bucket(source.first_us)), id);
            let found: Result<Vec<_>, _> =
                self.wanted.iter().map(|(attribute, _)| stats::find(stats, *attribute)).collect();
            let found = self.shared.check("the stats of a chunk", found)?;
            for (sum, found) in self.summaries(key).iter_mut().zip(found) {
                found.iter().for_each(|found| sum.merge(found));
            }
            return Ok(());
        }
        let Some(block) = source.decode(self.wanted, unpacker, self.shared)? else {
            return Err(self.shared.damaged("a chunk's range"));
        };
        let rows = block.range(self.range.0, self.range.1);
        self.add_rows(&block, rows, &id);
        Ok(())
    }

    /// Whether one bucket takes the whole chunk, and its stats answer the method.
    fn covers(&self, source: &Source) -> bool {
        source.first_us >= self.range.0
            && source.last_us <= self.range.1
            && self.bucket(source.first_us) == self.bucket(source.last_us)
            && self.wanted.iter().all(|(_, kind)| stats::answers(self.aggregation.method, *kind))
    }

    fn add_rows(&mut self, block: &Block, mut rows: Range<usize>, id: &Arc<str>) {
        while !rows.is_empty() {
            let start = self.bucket(block.times[rows.start]);
            let end = self.aggregation.period.map_or(i64::MAX, |period| period.end(start));
            let same = match self.aggregation.period {
                Some(_) => block.times[rows.clone()].partition_point(|at| *at < end),
                None => rows.len(),
            };
            let run = rows.start..rows.start + same;
            let columns: Vec<_> = self.wanted.iter().map(|(attribute, _)| block.column(*attribute)).collect();
            let key = (self.order.key(start), id.clone());
            for (sum, column) in self.summaries(key).iter_mut().zip(columns) {
                column.iter().for_each(|column| sum.add(column, run.clone()));
            }
            rows.start += same;
        }
    }

    fn summaries(&mut self, key: (i64, Arc<str>)) -> &mut Vec<Summary> {
        let wanted = self.wanted;
        self.buckets
            .entry(key)
            .or_insert_with(|| wanted.iter().map(|(_, kind)| Summary::new(kind.form())).collect())
    }
}

/// The slot for [`super::sources::Need::Stats`].
pub(super) fn slot_us(aggregation: Aggregation) -> Option<i64> {
    aggregation.period.map(Period::fixed_us)
}
