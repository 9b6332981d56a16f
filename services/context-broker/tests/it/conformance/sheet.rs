//! How the rows are written down.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use serde::Deserialize;

/// What in a request is replaced by the key of each line of a table.
pub(super) const PLACE: &str = "<?>";
/// The `Location` of the subscription or registration that the case created last; in what is answered or told its id
/// is `ID`.
pub(super) const MADE: &str = "<made>";
/// Where the case's receiver of notifications is.
pub(super) const SINK: &str = "<sink>";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sheet {
    /// Section of ngsi-v2.md.
    pub(super) contract: String,
    pub(super) cases: Vec<Case>,
}

/// Rows that share what was there before; each case has a tenant of its own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub(super) name: String,
    /// When it begins, seconds after 2026-01-31T10:00:00Z. What expires must do so after all that the clock showed
    /// before: the sweep of expired entities may still act on that.
    #[serde(default)]
    pub(super) begins: i64,
    /// Entities that exist before, as bodies of `POST /v2/entities`, a millisecond apart.
    #[serde(default)]
    pub(super) given: Vec<String>,
    /// Whether somebody listens at [`SINK`] for notifications.
    #[serde(default)]
    pub(super) sink: bool,
    /// Each row begins anew with what is given; without it rows see what those before them did.
    #[serde(default)]
    pub(super) fresh: bool,
    pub(super) rows: Vec<Row>,
}

/// One request and its answer, or a table of them: then exactly one of the expectations maps what replaces [`PLACE`] to
/// what is expected.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    /// Method and target; characters that no URL may hold are encoded.
    pub(super) send: String,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    /// A body of `application/json`.
    pub(super) json: Option<String>,
    /// A body of `text/plain`.
    pub(super) text: Option<String>,
    /// A body without `Content-Type`.
    pub(super) raw: Option<String>,
    /// When it is sent, seconds after 2026-01-31T10:00:00Z; otherwise a millisecond after the one before.
    pub(super) at: Option<f64>,
    /// 200 or the status of the error when it is not named.
    pub(super) status: Option<Expected<u16>>,
    /// Sent afterwards: body, `like`, `ids` and `error` are about its answer, `status` about the first.
    pub(super) then: Option<String>,
    /// To the letter.
    pub(super) body: Option<Expected<String>>,
    /// JSON whose members the answer has, among others.
    pub(super) like: Option<Expected<String>>,
    /// Ids of the entities listed, in order, separated by blanks.
    pub(super) ids: Option<Expected<String>>,
    /// `Word: description`, not escaped; the word is `BadRequest` if it is left out.
    pub(super) error: Option<Expected<String>>,
    /// Headers of the answer; null: absent.
    #[serde(default)]
    pub(super) answer: BTreeMap<String, Option<String>>,
    /// What the receiver is told because of it, in any order.
    #[serde(default)]
    pub(super) told: Vec<Told>,
    /// Why it does not hold yet.
    pub(super) pending: Option<Expected<String>>,
}

/// A notification.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Told {
    /// Method and target.
    #[serde(default = "ordinary_line")]
    pub(super) line: String,
    /// Headers that it has; null: that it has not.
    #[serde(default)]
    pub(super) headers: BTreeMap<String, Option<String>>,
    /// To the letter.
    pub(super) body: String,
}

fn ordinary_line() -> String {
    "POST /".to_owned()
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Expected<T> {
    One(T),
    Table(IndexMap<String, T>),
}

impl Row {
    /// The rows of a table; the row itself if it is none.
    pub(super) fn lines(&self) -> Vec<Self> {
        let keys =
            [keys(&self.body), keys(&self.like), keys(&self.ids), keys(&self.error), keys_of_status(self)];
        let mut tables = keys.into_iter().flatten();
        let Some(keys) = tables.next() else { return vec![self.clone()] };
        assert!(tables.next().is_none(), "two tables in one row: {}", self.send);
        keys.iter().map(|key| self.line(key)).collect()
    }

    fn line(&self, key: &str) -> Self {
        let replaced = |text: &String| text.replace(PLACE, key);
        Self {
            send: replaced(&self.send),
            headers: self.headers.iter().map(|(name, value)| (name.clone(), replaced(value))).collect(),
            json: self.json.as_ref().map(replaced),
            text: self.text.as_ref().map(replaced),
            raw: self.raw.as_ref().map(replaced),
            at: self.at,
            status: one(&self.status, key),
            then: self.then.as_ref().map(replaced),
            body: one(&self.body, key),
            like: one(&self.like, key),
            ids: one(&self.ids, key),
            error: one(&self.error, key),
            answer: self.answer.clone(),
            told: self.told.iter().map(|told| Told { body: replaced(&told.body), ..told.clone() }).collect(),
            pending: one(&self.pending, key),
        }
    }
}

fn keys(expected: &Option<Expected<String>>) -> Option<Vec<String>> {
    match expected {
        Some(Expected::Table(table)) => Some(table.keys().cloned().collect()),
        _ => None,
    }
}

fn keys_of_status(row: &Row) -> Option<Vec<String>> {
    match &row.status {
        Some(Expected::Table(table)) => Some(table.keys().cloned().collect()),
        _ => None,
    }
}

fn one<T: Clone>(expected: &Option<Expected<T>>, key: &str) -> Option<Expected<T>> {
    match expected {
        Some(Expected::Table(table)) => table.get(key).cloned().map(Expected::One),
        other => other.clone(),
    }
}

impl<T> Expected<T> {
    pub(super) fn get(&self) -> &T {
        match self {
            Self::One(one) => one,
            Self::Table(_) => panic!("a table is expanded first"),
        }
    }
}
