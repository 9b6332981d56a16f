//! Statements for many rows at once, in a few sizes, so that their texts stay in the statement cache (decision 30).

/// Rows of the statements that exist, largest first.
const SIZES: [usize; 6] = [64, 32, 16, 8, 4, 1];

/// The same statement for several numbers of rows.
pub(crate) struct Bulk(Vec<(usize, &'static str)>);

impl Bulk {
    /// `before`, then the rows, then `after`.
    pub(crate) fn new(before: &str, row: &str, after: &str) -> Self {
        let text = |rows: usize| -> &'static str {
            // Made once per process and kept as long as it runs.
            format!("{before}{}{after}", vec![row; rows].join(",")).leak()
        };
        Self(SIZES.iter().map(|rows| (*rows, text(*rows))).collect())
    }

    /// Splits `items` into chunks that have a statement.
    pub(crate) fn chunks<'a, T>(&'a self, items: &'a [T]) -> impl Iterator<Item = (&'static str, &'a [T])> {
        let mut rest = items;
        std::iter::from_fn(move || {
            let (rows, statement) = self.0.iter().find(|(rows, _)| *rows <= rest.len())?;
            let (chunk, tail) = rest.split_at(*rows);
            rest = tail;
            Some((*statement, chunk))
        })
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
