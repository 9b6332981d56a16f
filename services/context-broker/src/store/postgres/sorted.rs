//! Pages in another order than that of creation, by what has a column of its own.

use std::sync::Arc;

use ngsi::{EntityText, query::OrderKey};
use scope::QueryScope;
use sqlx::QueryBuilder;
use store::StoreError;

use super::{PostgresStore, condition::push_conditions};
use crate::store::{
    Selection,
    row::COLUMNS,
    selection::push_where,
    sorted::{Sorted, sorted_by, ties},
};

impl PostgresStore {
    pub(super) async fn sorted_rows(
        &self,
        scope: &QueryScope,
        selection: &Selection,
        order: &[OrderKey],
        (offset, limit): (u64, u32),
    ) -> Result<Option<Vec<Arc<EntityText>>>, StoreError> {
        let Some(keys) = sorted_by(order) else { return Ok(None) };
        let ties = ties(&keys);
        let mut query = QueryBuilder::new(format!("SELECT {COLUMNS} FROM entity"));
        push_where(&mut query, scope, selection, self.clock.now_us());
        push_conditions(&mut query, &selection.conditions);
        query.push(" ORDER BY ");
        for (key, direction) in keys {
            // Values are compared by the broker: their order is not that of any type here.
            let Sorted::Column(column) = key else { return Ok(None) };
            query.push(column).push(direction).push(", ");
        }
        query.push(ties).push(" LIMIT ").push_bind(i64::from(limit));
        query.push(" OFFSET ").push_bind(i64::try_from(offset).unwrap_or(i64::MAX));
        self.fetch_until(query, selection.until).await.map(Some)
    }
}
