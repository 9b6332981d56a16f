//! Lists of a broker, read page by page.

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;

use super::broker::{Broker, Failure, Place};

/// As many as NGSIv2 allows.
const MOST: u64 = 1000;

/// A list and how far it has been read.
pub(super) struct Listing<'a> {
    broker: &'a Broker,
    place: Place<'a>,
    /// Path and query, less the limits.
    target: &'a str,
    offset: u64,
    limit: u64,
    total: Option<u64>,
    shrank: bool,
}

impl<'a> Listing<'a> {
    /// `target` has a query, of which `options=count` is a part.
    pub(super) fn new(broker: &'a Broker, place: Place<'a>, target: &'a str) -> Self {
        Self { broker, place, target, offset: 0, limit: MOST, total: None, shrank: false }
    }

    /// The next items; `None` after the last.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<Vec<T>>> {
        if self.total.is_some_and(|total| self.offset >= total) {
            return Ok(None);
        }
        loop {
            let target = format!("{}&limit={}&offset={}", self.target, self.limit, self.offset);
            let answer = match self.broker.get(self.place, &target).await {
                Ok(answer) => answer,
                // Large items: fewer of them at a time.
                Err(Failure::TooLarge) if self.limit > 1 => {
                    self.limit /= 2;
                    continue;
                }
                Err(failure) => {
                    return Err(failure).with_context(|| format!("{} was not listed", self.target));
                }
            };
            let items: Vec<T> = serde_json::from_slice(&answer.body)
                .with_context(|| format!("{}{} is not a list", self.broker.base(), self.target))?;
            let total = answer.header("fiware-total-count").and_then(|count| count.parse().ok());
            let total = total.with_context(|| format!("{}{}: no count", self.broker.base(), self.target))?;
            self.shrank |= self.total.is_some_and(|before| total < before);
            self.total = Some(total);
            self.offset += items.len() as u64;
            return Ok((!items.is_empty()).then_some(items));
        }
    }

    /// How many there are, as the last page said.
    pub(super) fn total(&self) -> u64 {
        self.total.unwrap_or_default()
    }

    /// Something was deleted while the list was read: what came after it moved up, and some of that was not seen.
    pub(super) fn shrank(&self) -> bool {
        self.shrank
    }

    /// All of it, for lists that fit into memory.
    pub(super) async fn all<T: DeserializeOwned>(mut self) -> Result<Vec<T>> {
        let mut all = Vec::new();
        while let Some(mut page) = self.next().await? {
            all.append(&mut page);
        }
        Ok(all)
    }
}
