//! Pages in another order than that of creation: SQLite keeps the first of them while it reads, never all.

use std::{cmp::Ordering, sync::Arc};

use ngsi::{
    EntityText,
    query::{OrderKey, compare_values},
};
use scope::QueryScope;
use serde_json::Value;
use sqlx::{QueryBuilder, Sqlite};
use store::{Collation, StoreError};

use super::{
    SqliteStore,
    condition::{json_path, push_conditions},
    packed::{column, paged, unpack_page},
    reader::table,
};
use crate::store::{
    Selection,
    selection::push_where,
    sorted::{Sorted, sorted_by, ties},
};

/// The order of values, for their JSON.
pub(super) const VALUES: Collation = Collation { name: "ngsi_value", compare: compare_json };

/// Pages that end before this are found along the index of ids; for those that end later everything is sorted.
const ALONG_INDEX: u64 = 10_000;

fn compare_json(a: &str, b: &str) -> Ordering {
    // Each value is compared many times: numbers and plain strings are not parsed as JSON for it.
    if let Some(order) = compare_numbers(a, b).or_else(|| compare_strings(a, b)) {
        return order;
    }
    // What is no JSON can't be stored; it would have an order all the same.
    match (serde_json::from_str::<Value>(a), serde_json::from_str::<Value>(b)) {
        (Ok(a), Ok(b)) => compare_values(&a, &b),
        (Err(_), Ok(_)) => Ordering::Less,
        (Ok(_), Err(_)) => Ordering::Greater,
        (Err(_), Err(_)) => a.cmp(b),
    }
}

fn compare_numbers(a: &str, b: &str) -> Option<Ordering> {
    let is_number = |text: &str| text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    if !is_number(a) || !is_number(b) {
        return None;
    }
    match (a.parse::<i64>(), b.parse::<i64>()) {
        (Ok(a), Ok(b)) => Some(a.cmp(&b)),
        _ => Some(a.parse::<f64>().ok()?.total_cmp(&b.parse::<f64>().ok()?)),
    }
}

fn compare_strings(a: &str, b: &str) -> Option<Ordering> {
    Some(unquoted(a)?.cmp(unquoted(b)?))
}

/// The text of a JSON string without escapes.
fn unquoted(text: &str) -> Option<&str> {
    text.strip_prefix('"')?.strip_suffix('"').filter(|text| !text.contains('\\'))
}

impl SqliteStore {
    pub(super) async fn sorted_rows(
        &self,
        scope: &QueryScope,
        selection: &Selection,
        order: &[OrderKey],
        page: (u64, u32),
    ) -> Result<Option<Vec<Arc<EntityText>>>, StoreError> {
        let Some(mut query) = self.sorted_query(scope, selection, order, page) else { return Ok(None) };
        let mut scan = self.pools.scan(selection.until).await?;
        unpack_page(query.build_query_scalar().fetch_one(&mut *scan).await?).map(Some)
    }

    pub(super) fn sorted_query(
        &self,
        scope: &QueryScope,
        selection: &Selection,
        order: &[OrderKey],
        (offset, limit): (u64, u32),
    ) -> Option<QueryBuilder<Sqlite>> {
        let keys = sorted_by(order)?;
        let along_ids = matches!(keys.first(), Some((Sorted::Column("id"), _)))
            && offset.saturating_add(limit.into()) <= ALONG_INDEX;
        let table = if along_ids { "entity INDEXED BY entity_key" } else { table(selection) };
        let ties = ties(&keys);
        let mut query = QueryBuilder::new("");
        paged(&mut query, |query| {
            query
                .push(format!("SELECT {} FROM entity WHERE rowid IN (SELECT rowid FROM {table}", column("")));
            push_where(query, scope, selection, self.clock.now_us());
            push_conditions(query, &selection.conditions);
            query.push(" ORDER BY ");
            for (key, direction) in keys {
                match key {
                    Sorted::Column(column) => query.push(column),
                    Sorted::Value(name) => query
                        .push("coalesce(CAST(attributes AS TEXT) -> ")
                        .push_bind(json_path(&[name.to_owned(), "value".to_owned()]))
                        .push(", 'null') COLLATE ngsi_value"),
                };
                query.push(direction).push(", ");
            }
            query.push(ties).push(" LIMIT ").push_bind(i64::from(limit));
            query.push(" OFFSET ").push_bind(i64::try_from(offset).unwrap_or(i64::MAX)).push(")");
        });
        Some(query)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    proptest! {
        #[test]
        fn texts_have_the_order_of_their_values(
            a in prop_oneof![any::<i64>().prop_map(Value::from), any::<f64>().prop_map(Value::from), any::<bool>().prop_map(Value::from), "\\PC{0,4}".prop_map(Value::from)],
            b in prop_oneof![any::<i64>().prop_map(Value::from), any::<f64>().prop_map(Value::from), Just(json!(null)), Just(json!([1, "a"])), "\\PC{0,4}".prop_map(Value::from)],
        ) {
            prop_assert_eq!(compare_json(&a.to_string(), &b.to_string()), compare_values(&a, &b));
        }
    }
}
