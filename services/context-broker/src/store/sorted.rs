//! Orders that stores can write.

use ngsi::query::{OrderKey, OrderToken};

/// What is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sorted<'a> {
    Column(&'static str),
    /// The value of an attribute; its name needs no escaping.
    Value(&'a str),
}

/// The keys with their directions, as SQL writes these. None: one of them is not for a store.
pub(super) fn sorted_by(order: &[OrderKey]) -> Option<Vec<(Sorted<'_>, &'static str)>> {
    let key = |key| match key {
        &OrderToken::Id => Some(Some(Sorted::Column("id"))),
        &OrderToken::Type => Some(Some(Sorted::Column("type"))),
        &OrderToken::Created => Some(Some(Sorted::Column("created_us"))),
        &OrderToken::Modified => Some(Some(Sorted::Column("modified_us"))),
        &OrderToken::Path => Some(Some(Sorted::Column("path"))),
        // Without a place to measure from it orders nothing.
        &OrderToken::Distance => Some(None),
        OrderToken::Attribute(name) => is_plain(name).then_some(Some(Sorted::Value(name))),
    };
    let mut keys = Vec::with_capacity(order.len());
    for OrderKey { token, descending } in order {
        if let Some(sorted) = key(token)? {
            keys.push((sorted, if *descending { " DESC" } else { "" }));
        }
    }
    Some(keys)
}

/// The columns after the keys. What is a key already is left out: planners would not see that an index has the order.
pub(super) fn ties(keys: &[(Sorted<'_>, &'static str)]) -> String {
    let is_key =
        |column: &str| keys.iter().any(|(key, _)| matches!(key, Sorted::Column(name) if *name == column));
    let rest: Vec<&str> =
        ["created_us", "id", "type", "path"].into_iter().filter(|column| !is_key(column)).collect();
    // Never without any, so that it can follow a comma.
    if rest.is_empty() { "created_us".to_owned() } else { rest.join(", ") }
}

fn is_plain(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b':'))
}
