//! Rows of one type in order of time: a merge of all sources that overlap where the merge stands.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

use sqlx::SqliteConnection;
use store::StoreError;

use super::{
    answer::Answer,
    block::{Block, Wanted},
    chunk::Unpacker,
    live::Shared,
    sources::{Order, Sources},
};
use crate::query::Window;

/// Where a source stands; the key orders rows of one instant by arrival.
type Place = (i64, i64, usize, i64, usize);

struct Cursor {
    series: usize,
    arrival: i64,
    block: Block,
    rows: std::ops::Range<usize>,
}

impl Cursor {
    /// Key of the row that comes next.
    fn place(&self, order: Order, no: usize) -> Option<Reverse<Place>> {
        let row = match order {
            Order::OldestFirst => self.rows.start,
            Order::NewestFirst => self.rows.end.checked_sub(1)?,
        };
        if self.rows.is_empty() {
            return None;
        }
        let at = self.block.times[row];
        let number = i64::try_from(row).unwrap_or(i64::MAX);
        Some(Reverse((order.key(at), order.key(self.arrival), self.series, order.key(number), no)))
    }

    fn next(&mut self, order: Order) -> usize {
        match order {
            Order::OldestFirst => {
                self.rows.start += 1;
                self.rows.start - 1
            }
            Order::NewestFirst => {
                self.rows.end -= 1;
                self.rows.end
            }
        }
    }
}

/// Reads the window's rows into `answer`.
pub(super) async fn read(
    shared: &Arc<Shared>,
    connection: &mut SqliteConnection,
    mut sources: Sources,
    (order, window): (Order, Window),
    (from, to): (i64, i64),
    wanted: &Wanted,
    answer: &mut Answer,
) -> Result<(), StoreError> {
    let mut unpacker = shared.check("a decoder", Unpacker::new())?;
    let mut cursors: Vec<Cursor> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut queue: BinaryHeap<Reverse<Place>> = BinaryHeap::new();
    let (mut skip, mut left) = (window.offset, window.rows_of(wanted.len()));
    while left > 0 {
        let first = queue.peek().map(|Reverse(place)| place.0);
        if let Some(edge) = sources.peek(connection).await?
            && first.is_none_or(|first| edge <= first)
        {
            let Some(source) = sources.pop() else { continue };
            let Some(block) = source.decode(wanted, &mut unpacker, shared)? else { continue };
            let rows = block.range(from, to);
            let cursor = Cursor { series: source.series, arrival: source.arrival, block, rows };
            let no = free.pop().unwrap_or(cursors.len());
            let place = cursor.place(order, no);
            if no < cursors.len() {
                cursors[no] = cursor
            } else {
                cursors.push(cursor)
            }
            queue.extend(place);
            continue;
        }
        let Some(Reverse(place)) = queue.pop() else { break };
        let no = place.4;
        let cursor = &mut cursors[no];
        let row = cursor.next(order);
        if skip > 0 {
            skip -= 1;
        } else {
            answer.push(cursor.series, &cursor.block, row, wanted);
            left -= 1;
        }
        match cursor.place(order, no) {
            Some(place) => queue.push(place),
            None => {
                cursor.block = Block::default();
                free.push(no);
            }
        }
    }
    Ok(())
}
