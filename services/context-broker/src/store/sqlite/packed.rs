//! A row as one text: each value that sqlx takes out of SQLite costs several allocations that another thread frees.

use std::sync::Arc;

use bytes::Bytes;
use ngsi::EntityText;
use scope::{ServicePath, Tenant};
use sqlx::{QueryBuilder, Sqlite};
use store::StoreError;

use crate::update::{MeasureId, Stored};

/// Between the fields; neither names nor JSON hold it as it is. In SQL `char(31)`.
const SEPARATOR: char = '\u{1f}';

/// The SQL expression of a row, its columns named with `prefix`.
pub(super) fn column(prefix: &str) -> String {
    let p = prefix;
    format!(
        "concat_ws(char(31), {p}tenant, {p}id, {p}path, {p}type, {p}version, {p}created_us, {p}modified_us, \
         coalesce({p}expires_us, ''), coalesce({p}cell, ''), hex({p}measures), {p}attributes) AS packed"
    )
}

/// Between the rows of a page, which come as one text: a row by itself is handed from thread to thread. In SQL `char(30)`.
const ROW_SEPARATOR: char = '\u{1e}';

/// Makes a statement for rows of [`column`], named `packed`, one for a single text of them all, in the same order.
pub(super) fn paged(query: &mut QueryBuilder<Sqlite>, rows: impl FnOnce(&mut QueryBuilder<Sqlite>)) {
    query.push("SELECT group_concat(packed, char(30)) FROM (");
    rows(query);
    query.push(")");
}

/// Reads what [`paged`] found; null is an empty page.
pub(super) fn unpack_page(page: Option<String>) -> Result<Vec<Arc<EntityText>>, StoreError> {
    let Some(page) = page else { return Ok(Vec::new()) };
    let page = Bytes::from(page);
    let text = std::str::from_utf8(&page).map_err(|_| unreadable(""))?;
    let mut start = 0;
    text.split(ROW_SEPARATOR)
        .map(|row| {
            let whole = page.slice(start..start + row.len());
            start += row.len() + ROW_SEPARATOR.len_utf8();
            Ok(stored(row, whole)?.1.entity)
        })
        .collect()
}

/// Reads what [`column`] made. The attributes stay text.
pub(super) fn unpack(row: String) -> Result<(Tenant, Stored), StoreError> {
    let whole = Bytes::from(row);
    stored(std::str::from_utf8(&whole).map_err(|_| unreadable(""))?, whole.clone())
}

fn unreadable(row: &str) -> StoreError {
    let name: Vec<&str> = row.splitn(3, SEPARATOR).take(2).collect();
    StoreError::Internal(format!("the row of entity {name:?} is not readable"))
}

/// `whole` are the bytes of `row`.
fn stored(row: &str, whole: Bytes) -> Result<(Tenant, Stored), StoreError> {
    let fields = Fields::read(row).ok_or_else(|| unreadable(row))?;
    let Fields { tenant, id, entity_type, path, times: [version, created_us, modified_us], .. } = fields;
    let (expires_us, cell, measures) = (fields.expires_us, fields.cell, fields.measures);
    // Not copied: the row stays one allocation.
    let attributes = whole.slice(fields.attributes..);
    let entity = EntityText { id, entity_type, path, attributes, created_us, modified_us, version };
    Ok((tenant, Stored { entity: Arc::new(entity), expires_us, cell, measures }))
}

struct Fields {
    tenant: Tenant,
    id: Arc<str>,
    path: ServicePath,
    entity_type: Arc<str>,
    /// Version, creation, last change.
    times: [i64; 3],
    expires_us: Option<i64>,
    cell: Option<i64>,
    measures: Vec<MeasureId>,
    /// Where they begin.
    attributes: usize,
}

impl Fields {
    fn read(row: &str) -> Option<Self> {
        let mut fields = row.splitn(11, SEPARATOR);
        let mut next = || fields.next();
        Some(Self {
            tenant: Tenant::from_header(Some(next()?)).ok()?,
            id: next()?.into(),
            path: ServicePath::parse(next()?).ok()?,
            entity_type: next()?.into(),
            times: [next()?.parse().ok()?, next()?.parse().ok()?, next()?.parse().ok()?],
            expires_us: optional(next()?)?,
            cell: optional(next()?)?,
            measures: measures(next()?.as_bytes())?,
            attributes: row.len() - next()?.len(),
        })
    }
}

fn optional(field: &str) -> Option<Option<i64>> {
    if field.is_empty() { Some(None) } else { field.parse().ok().map(Some) }
}

/// Ids of 16 bytes in hexadecimal digits.
fn measures(field: &[u8]) -> Option<Vec<MeasureId>> {
    let byte = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
    field
        .chunks(2 * size_of::<MeasureId>())
        .map(|id| {
            let bytes: Vec<u8> = id.chunks(2).map(byte).collect::<Option<_>>()?;
            MeasureId::try_from(bytes).ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_field_by_field() {
        let id = "000102030405060708090A0B0C0D0E0F";
        let row = format!("t|e|/a|T|7|1|-2|9||{id}{id}|{{\"a\":1}}").replace('|', "\u{1f}");
        let (tenant, stored) = unpack(row).unwrap();
        assert_eq!(tenant.as_str(), "t");
        let entity = &stored.entity;
        assert_eq!((&*entity.id, entity.path.as_str(), &*entity.entity_type), ("e", "/a", "T"));
        assert_eq!((entity.version, entity.created_us, entity.modified_us), (7, 1, -2));
        assert_eq!((stored.expires_us, stored.cell), (Some(9), None));
        assert_eq!(stored.measures, [std::array::from_fn(|n| u8::try_from(n).unwrap()); 2]);
        assert_eq!(entity.attributes, "{\"a\":1}");
    }

    #[test]
    fn a_page_is_read_row_by_row() {
        let row = |id: &str| format!("t|{id}|/|T|7|1|2||||{{\"a\":\"{id}é\"}}").replace('|', "\u{1f}");
        let page = [row("a"), row("b"), row("c")].join("\u{1e}");
        let found = unpack_page(Some(page)).unwrap();
        let seen: Vec<_> = found.iter().map(|entity| (&*entity.id, &entity.attributes[..])).collect();
        let expected = [("a", "{\"a\":\"aé\"}"), ("b", "{\"a\":\"bé\"}"), ("c", "{\"a\":\"cé\"}")];
        assert_eq!(seen, expected.map(|(id, attributes)| (id, attributes.as_bytes())));
        assert!(unpack_page(None).unwrap().is_empty());
        assert!(unpack_page(Some(format!("{}\u{1e}", row("a")))).is_err());
    }

    #[test]
    fn what_is_not_a_row_is_an_error() {
        let good = "t|e|/|T|7|1|2||||{}";
        assert!(unpack(good.replace('|', "\u{1f}")).is_ok());
        for bad in
            ["", "t|e|/|T|7|1|2|||{}", "t|e|a|T|7|1|2||||{}", "t|e|/|T|x|1|2||||{}", "t|e|/|T|7|1|2|||0G|{}"]
        {
            assert!(unpack(bad.replace('|', "\u{1f}")).is_err(), "{bad}");
        }
    }
}
