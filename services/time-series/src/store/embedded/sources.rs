//! Where the rows of a query lie, in order: chunks page by page from the file, and heads, under one snapshot.
//!
//! In ascending order a source is placed by its earliest row, in descending order by its latest. So once the next source
//! lies beyond a row, nothing that is still to come stands before that row.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashSet, VecDeque},
    sync::Arc,
};

use sqlx::{AssertSqlSafe, Row as _, SqliteConnection};
use store::StoreError;

use super::{
    block::{Block, Wanted},
    chunk::{self, Unpacker},
    head::Head,
    live::Shared,
    writer::id_of,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    OldestFirst,
    NewestFirst,
}

impl Order {
    /// Maps instants so that what comes first is smallest.
    pub(crate) fn key(self, at: i64) -> i64 {
        match self {
            Self::OldestFirst => at,
            Self::NewestFirst => !at,
        }
    }
}

/// What a chunk source must bring along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    Bodies,
    /// Stats always; bodies only of chunks that span two slots of this many microseconds or reach out of the range.
    Stats {
        slot_us: Option<i64>,
    },
}

pub(crate) enum Content {
    Head(Arc<Head>),
    Chunk { stats: Vec<u8>, body: Option<Vec<u8>> },
}

/// A head or a chunk.
pub(crate) struct Source {
    pub(crate) series: usize,
    pub(crate) first_us: i64,
    pub(crate) last_us: i64,
    /// Rows of one instant stand in order of this number: chunks by id, then the head.
    pub(crate) arrival: i64,
    pub(crate) content: Content,
}

impl Source {
    fn edge(&self, order: Order) -> i64 {
        match order {
            Order::OldestFirst => order.key(self.first_us),
            Order::NewestFirst => order.key(self.last_us),
        }
    }

    /// The wanted columns of all rows; `None` when the body was not asked for.
    pub(crate) fn decode(
        &self,
        wanted: &Wanted,
        unpacker: &mut Unpacker,
        shared: &Shared,
    ) -> Result<Option<Block>, StoreError> {
        match &self.content {
            Content::Head(head) => shared.check("a head", head.decode(wanted)).map(Some),
            Content::Chunk { body: None, .. } => Ok(None),
            Content::Chunk { body: Some(body), .. } => {
                shared.check("a chunk", chunk::decode(body, Some(wanted), unpacker)).map(Some)
            }
        }
    }
}

/// Which chunks a pager reads.
#[derive(Clone, Debug)]
enum Key {
    Series(usize),
    /// Of a whole type, but only of these series.
    Type(usize, Arc<HashSet<usize>>),
}

/// Chunks of one key, a page at a time.
struct Pager {
    key: Key,
    order: Order,
    need: Need,
    range: (i64, i64),
    page: VecDeque<Source>,
    after: Option<(i64, i64, i64)>,
    size: i64,
    ended: bool,
}

const FIRST_PAGE: i64 = 2;
const LAST_PAGE: i64 = 64;
const STATS_PAGE: i64 = 1024;

impl Pager {
    fn new(key: Key, order: Order, need: Need, range: (i64, i64)) -> Self {
        let size = if need == Need::Bodies { FIRST_PAGE } else { STATS_PAGE };
        Self { key, order, need, range, page: VecDeque::new(), after: None, size, ended: false }
    }

    /// Constant text for each of the few combinations; values are bound.
    fn sql(&self) -> String {
        let key = if matches!(self.key, Key::Series(_)) { "series" } else { "type" };
        let (edge, other, next, direction) = match self.order {
            Order::OldestFirst => ("t0", "t1", ">", "ASC"),
            Order::NewestFirst => ("t1", "t0", "<", "DESC"),
        };
        let (stats, body) = match self.need {
            Need::Bodies => ("x''", "body"),
            Need::Stats { slot_us: None } => ("stats", "CASE WHEN t0 < ?2 OR t1 > ?3 THEN body END"),
            Need::Stats { slot_us: Some(_) } => {
                ("stats", "CASE WHEN t0 < ?2 OR t1 > ?3 OR t0 < 0 OR t0 / ?8 <> t1 / ?8 THEN body END")
            }
        };
        format!(
            "SELECT id, series, t0, t1, {stats}, {body} FROM chunk INDEXED BY chunk_{key}_{edge} \
             WHERE {key} = ?1 AND t1 >= ?2 AND t0 <= ?3 AND ({edge}, {other}, id) {next} (?4, ?5, ?6) \
             ORDER BY {edge} {direction}, {other} {direction}, id {direction} LIMIT ?7"
        )
    }

    async fn fill(&mut self, connection: &mut SqliteConnection) -> Result<(), StoreError> {
        while self.page.is_empty() && !self.ended {
            let start = match self.order {
                Order::OldestFirst => (i64::MIN, i64::MIN, i64::MIN),
                Order::NewestFirst => (i64::MAX, i64::MAX, i64::MAX),
            };
            let (edge, other, id) = self.after.unwrap_or(start);
            let key = match &self.key {
                Key::Series(no) | Key::Type(no, _) => id_of(*no),
            };
            let mut query = sqlx::query(AssertSqlSafe(self.sql()))
                .bind(key)
                .bind(self.range.0)
                .bind(self.range.1)
                .bind(edge)
                .bind(other)
                .bind(id)
                .bind(self.size);
            if let Need::Stats { slot_us: Some(slot_us) } = self.need {
                query = query.bind(slot_us);
            }
            let rows = query.fetch_all(&mut *connection).await?;
            self.ended = (rows.len() as i64) < self.size;
            self.size = (self.size * 4).min(if self.need == Need::Bodies { LAST_PAGE } else { STATS_PAGE });
            for row in rows {
                let (id, series): (i64, i64) = (row.get(0), row.get(1));
                let (first_us, last_us): (i64, i64) = (row.get(2), row.get(3));
                self.after = Some(match self.order {
                    Order::OldestFirst => (first_us, last_us, id),
                    Order::NewestFirst => (last_us, first_us, id),
                });
                let series = usize::try_from(series - 1).unwrap_or_default();
                if let Key::Type(_, chosen) = &self.key
                    && !chosen.contains(&series)
                {
                    continue;
                }
                let content = Content::Chunk { stats: row.get(4), body: row.get(5) };
                self.page.push_back(Source { series, first_us, last_us, arrival: id, content });
            }
        }
        Ok(())
    }
}

/// Series up to this number are read one by one; more of a type, by scanning the type.
const FEW_SERIES: usize = 32;

/// All sources of a query on one type, in order of their edges.
pub(crate) struct Sources {
    order: Order,
    heads: VecDeque<Source>,
    pagers: Vec<Pager>,
    /// Pagers by the edge of their next source; a pager that was not read yet stands first.
    queue: BinaryHeap<Reverse<(i64, usize)>>,
}

impl Sources {
    pub(crate) fn new(
        type_no: usize,
        series: &[usize],
        heads: Vec<(usize, Arc<Head>)>,
        order: Order,
        need: Need,
        range: (i64, i64),
    ) -> Self {
        let mut heads: Vec<Source> = heads
            .into_iter()
            .filter(|(_, head)| head.newest_us >= range.0 && head.first_us <= range.1)
            .map(|(series, head)| Source {
                series,
                first_us: head.first_us,
                last_us: head.newest_us,
                arrival: i64::MAX,
                content: Content::Head(head),
            })
            .collect();
        heads.sort_by_key(|source| source.edge(order));
        let keys: Vec<Key> = if series.len() <= FEW_SERIES {
            series.iter().map(|no| Key::Series(*no)).collect()
        } else {
            vec![Key::Type(type_no, Arc::new(series.iter().copied().collect()))]
        };
        let pagers: Vec<Pager> = keys.into_iter().map(|key| Pager::new(key, order, need, range)).collect();
        let queue = (0..pagers.len()).map(|no| Reverse((i64::MIN, no))).collect();
        Self { order, heads: heads.into(), pagers, queue }
    }

    /// Edge of the next source, in the order's key; `None` at the end.
    pub(crate) async fn peek(
        &mut self,
        connection: &mut SqliteConnection,
    ) -> Result<Option<i64>, StoreError> {
        let chunk = loop {
            let Some(Reverse((edge, no))) = self.queue.peek().copied() else { break None };
            if let Some(source) = self.pagers[no].page.front() {
                debug_assert_eq!(source.edge(self.order), edge);
                break Some(edge);
            }
            self.queue.pop();
            self.pagers[no].fill(connection).await?;
            if let Some(source) = self.pagers[no].page.front() {
                self.queue.push(Reverse((source.edge(self.order), no)));
            }
        };
        let head = self.heads.front().map(|source| source.edge(self.order));
        Ok(match (chunk, head) {
            (Some(chunk), Some(head)) => Some(chunk.min(head)),
            (one, other) => one.or(other),
        })
    }

    /// The source that [`Sources::peek`] found.
    pub(crate) fn pop(&mut self) -> Option<Source> {
        let head = self.heads.front().map(|source| source.edge(self.order));
        match self.queue.peek().copied() {
            Some(Reverse((edge, no))) if head.is_none_or(|head| edge <= head) => {
                self.queue.pop();
                let source = self.pagers[no].page.pop_front();
                // Read again on the next peek, if its page is empty now.
                let next = self.pagers[no].page.front().map_or(edge, |next| next.edge(self.order));
                self.queue.push(Reverse((next, no)));
                source
            }
            _ => self.heads.pop_front(),
        }
    }
}
