//! Statements for many rows at once, in a bounded number of sizes, so that they stay prepared (decision 30).

/// Rows of the largest statement. Each number up to it has its own, so that a batch of the usual size is one statement:
/// on the way to SQLite's thread and back two threads are woken.
pub(crate) const MOST_ROWS: usize = 64;

/// The same statement for several numbers of rows, one first.
pub(crate) struct Bulk(Vec<&'static str>);

impl Bulk {
    /// `before`, then the rows, then `after`.
    pub(crate) fn new(before: &str, row: &str, after: &str) -> Self {
        Self::of_texts(|rows| format!("{before}{}{after}", vec![row; rows].join(",")))
    }

    /// The statements that `text` makes for a number of rows.
    pub(crate) fn of_texts(text: impl Fn(usize) -> String) -> Self {
        // Made once per process and kept as long as it runs.
        Self((1..=MOST_ROWS).map(|rows| &*text(rows).leak()).collect())
    }

    /// Splits `items` into chunks that have a statement.
    pub(crate) fn chunks<'a, T>(&'a self, items: &'a [T]) -> impl Iterator<Item = (&'static str, &'a [T])> {
        let mut rest = items;
        std::iter::from_fn(move || {
            let (chunk, tail) = rest.split_at(rest.len().min(MOST_ROWS));
            let statement = self.of(chunk.len())?;
            rest = tail;
            Some((statement, chunk))
        })
    }

    /// The statement for exactly this many rows; `None` for none, or more than [`MOST_ROWS`].
    pub(crate) fn of(&self, rows: usize) -> Option<&'static str> {
        self.0.get(rows.checked_sub(1)?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_comes_once_and_in_order() {
        let bulk = Bulk::new("", "x", "");
        for total in [0, 1, 3, 5, 63, 64, 200] {
            let items: Vec<usize> = (0..total).collect();
            let seen: Vec<usize> = bulk.chunks(&items).flat_map(|(_, chunk)| chunk.to_vec()).collect();
            assert_eq!(seen, items);
        }
    }
}
