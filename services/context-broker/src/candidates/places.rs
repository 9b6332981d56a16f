//! What is near, by the numbers of cells alone: a cell says to a metre where a point is. Only the rows of the page are read,
//! and those whose cell can't decide: on the border, or of a shape too large for a small cell.

use ngsi::{
    geo::{CellRange, GeoQuery, Ring},
    query::EntityQuery,
};
use scope::QueryScope;
use store::StoreError;

use super::{Circles, Located, few, located, page_of};
use crate::{
    query::Page,
    store::{ContextStore, Selection},
};

/// Places that are looked at in one go, to count them and to choose among them.
const AT_ONCE: u32 = 2_000;
/// On the border of a circle that holds more: how often its cells are quartered, and how many places are looked at.
const FINER: u32 = 5;
const MOST_ON_BORDER: u32 = 100_000;

/// An entity of which only the cell is known.
#[derive(Clone, Copy, Debug)]
struct Seen {
    row: i64,
    nearest: f64,
    farthest: f64,
}

/// Some entities: those that are in the circle for certain, and those that have to be looked at.
#[derive(Debug, Default)]
struct Sorted {
    certain: Vec<Seen>,
    open: Vec<i64>,
}

struct Search<'a> {
    store: &'a dyn ContextStore,
    scope: &'a QueryScope,
    selection: &'a Selection,
    query: &'a EntityQuery,
}

/// The page of a query about what is near, in the order of distance. None: more than places are asked for, or something has
/// changed meanwhile.
pub(super) async fn page(
    store: &dyn ContextStore,
    scope: &QueryScope,
    selection: &Selection,
    query: &EntityQuery,
    geo: &GeoQuery,
) -> Result<Option<Page>, StoreError> {
    let Some(nearest) = geo.nearest().filter(|_| query.is_plain() && query.order_by.is_empty()) else {
        return Ok(None);
    };
    let search = Search { store, scope, selection, query };
    if query.count {
        if let Some(all) = search.look(geo, geo.cells(), AT_ONCE).await? {
            let open = search.open(&all, geo).await?;
            let total = (all.certain.len() + open.len()) as u64;
            return search.choose(&all.certain, open, geo, Some(total)).await;
        }
        let Some(total) = search.total(geo).await? else { return Ok(None) };
        return search.nearest(nearest, geo, Some(total)).await;
    }
    search.nearest(nearest, geo, None).await
}

impl Search<'_> {
    fn wanted(&self) -> usize {
        self.query.offset.saturating_add(self.query.limit)
    }

    /// What is in some cells, fewer than `most`. None: there are more, or they may be anywhere.
    async fn look(
        &self,
        geo: &GeoQuery,
        cells: Option<Vec<CellRange>>,
        most: u32,
    ) -> Result<Option<Sorted>, StoreError> {
        let Some((ring, cells)) = geo.ring().zip(cells) else { return Ok(None) };
        let places = self.store.places(self.scope, self.selection, &cells, most).await?;
        if places.len() >= most as usize {
            return Ok(None);
        }
        Ok(Some(sort(&ring, places.iter().map(|place| (place.cell, place.row)))))
    }

    /// Those of the undecided that are within the circle.
    async fn open(&self, sorted: &Sorted, geo: &GeoQuery) -> Result<Vec<Located>, StoreError> {
        let rows = self.store.placed(self.scope, self.selection, &sorted.open).await?;
        located(rows, self.query, geo)
    }

    /// How many are within a large circle. None: too many are on its border.
    async fn total(&self, geo: &GeoQuery) -> Result<Option<u64>, StoreError> {
        let Some(cover) = geo.cover(FINER) else { return Ok(None) };
        let Some(border) = self.look(geo, Some(cover.border), MOST_ON_BORDER).await? else { return Ok(None) };
        let open = self.open(&border, geo).await?.len();
        let inside = self.store.count_located(self.scope, self.selection, &cover.inside, u32::MAX).await?;
        Ok(Some(inside + (border.certain.len() + open) as u64))
    }

    /// The page from the smallest circle that holds it.
    async fn nearest(
        &self,
        nearest: f64,
        geo: &GeoQuery,
        total: Option<u64>,
    ) -> Result<Option<Page>, StoreError> {
        if self.query.limit == 0 {
            return Ok(Some(Page { entities: Vec::new(), total }));
        }
        let mut circles = Circles::from(nearest, few(self.wanted()));
        loop {
            let (circle, is_last) = circles.around(geo);
            match self.look(&circle, circle.cells(), circles.most).await? {
                Some(seen) if seen.certain.len() >= self.wanted() || is_last => {
                    let open = self.open(&seen, &circle).await?;
                    return self.choose(&seen.certain, open, geo, total).await;
                }
                Some(_) => circles.grow(),
                None if !circles.shrink() => return Ok(None),
                None => {}
            }
        }
    }

    /// Reads what may be on the page. None: some of it is not where it was seen.
    async fn choose(
        &self,
        certain: &[Seen],
        open: Vec<Located>,
        geo: &GeoQuery,
        total: Option<u64>,
    ) -> Result<Option<Page>, StoreError> {
        if self.query.limit == 0 {
            return Ok(Some(Page { entities: Vec::new(), total }));
        }
        let mut ends: Vec<f64> = certain.iter().map(|seen| seen.farthest).collect();
        ends.extend(open.iter().map(|located| located.metres));
        ends.sort_unstable_by(f64::total_cmp);
        let end = ends.get(self.wanted() - 1).copied().unwrap_or(f64::INFINITY);
        let rows: Vec<i64> = certain.iter().filter(|seen| seen.nearest <= end).map(|seen| seen.row).collect();
        let mut found =
            located(self.store.placed(self.scope, self.selection, &rows).await?, self.query, geo)?;
        if found.len() < rows.len() {
            return Ok(None);
        }
        found.extend(open);
        page_of(found, self.query, total).await.map(Some)
    }
}

/// What cells say, in cell and row.
fn sort(ring: &Ring, places: impl Iterator<Item = (i64, i64)>) -> Sorted {
    let mut sorted = Sorted::default();
    for (cell, row) in places {
        let sight = ring.sight(cell);
        match sight.within {
            Some(true) => {
                sorted.certain.push(Seen { row, nearest: sight.nearest, farthest: sight.farthest });
            }
            Some(false) => {}
            None => sorted.open.push(row),
        }
    }
    sorted
}
