//! What can be asked of the history, and what comes back.

use scope::QueryScope;

use crate::{
    cell::{Cell, Kind},
    time::Period,
};

/// Which rows: of which entities, and when.
#[derive(Clone, Debug)]
pub struct Selection {
    pub scope: QueryScope,
    /// Entity types, matched without case; `None` = every type.
    pub types: Option<Vec<String>>,
    pub ids: Option<Vec<String>>,
    pub id_pattern: Option<regex::Regex>,
    /// Both ends inclusive, microseconds since 1970.
    pub from_us: Option<i64>,
    pub to_us: Option<i64>,
}

impl Selection {
    pub fn all(scope: QueryScope) -> Self {
        Self { scope, types: None, ids: None, id_pattern: None, from_us: None, to_us: None }
    }

    pub fn matches_id(&self, id: &str) -> bool {
        self.ids.as_ref().is_none_or(|ids| ids.iter().any(|wanted| wanted == id))
            && self.id_pattern.as_ref().is_none_or(|pattern| pattern.is_match(id))
    }

    pub fn matches_type(&self, name: &str) -> bool {
        let folded = fold(name);
        self.types.as_ref().is_none_or(|types| types.iter().any(|wanted| fold(wanted) == folded))
    }

    pub fn from(&self) -> i64 {
        self.from_us.unwrap_or(i64::MIN)
    }

    pub fn to(&self) -> i64 {
        self.to_us.unwrap_or(i64::MAX)
    }
}

/// The form in which names are compared (contract section 3, rule 7).
pub fn fold(name: &str) -> String {
    name.to_lowercase()
}

/// Most values in the rows of one type's answer, so that a wide type cannot take the memory.
pub const MAX_VALUES: usize = 2_000_000;

/// Which part of the rows: counted per type, as the original does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub limit: usize,
    pub offset: usize,
    /// The newest rows instead of the oldest; still answered oldest first.
    pub last_n: Option<usize>,
}

impl Window {
    /// Number of rows to answer.
    pub fn rows(&self) -> usize {
        self.last_n.map_or(self.limit, |last_n| last_n.min(self.limit))
    }

    /// The same when each row has so many values: an answer is cut at [`MAX_VALUES`], as it is at the largest limit.
    pub fn rows_of(&self, columns: usize) -> usize {
        self.rows().min(MAX_VALUES / columns.max(1)).max(1)
    }

    pub fn newest_first(&self) -> bool {
        self.last_n.is_some()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attributes {
    All,
    /// Types that lack one of them are left out.
    AllOf(Vec<String>),
    /// Types that lack every one of them are left out.
    AnyOf(Vec<String>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    Count,
    Sum,
    Avg,
    Min,
    Max,
}

impl Method {
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "count" => Self::Count,
            "sum" => Self::Sum,
            "avg" => Self::Avg,
            "min" => Self::Min,
            "max" => Self::Max,
            _ => return None,
        })
    }

    /// Whether the method has a meaning for values of `kind` (contract section 6, "Aggregation").
    pub fn applies_to(self, kind: Kind) -> bool {
        match self {
            Self::Count => true,
            Self::Min | Self::Max => !matches!(kind, Kind::Boolean) && !kind.is_json(),
            Self::Sum | Self::Avg => kind.is_numeric(),
        }
    }

    /// The kind of the result; where the method does not apply, the kind itself.
    pub fn result(self, kind: Kind) -> Kind {
        match self {
            Self::Count => Kind::Integer,
            Self::Avg if kind.is_numeric() => Kind::Number,
            _ => kind,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aggregation {
    pub method: Method,
    /// `None`: one value per entity over all its rows.
    pub period: Option<Period>,
}

#[derive(Clone, Debug)]
pub struct Query {
    pub selection: Selection,
    pub attributes: Attributes,
    pub window: Window,
    pub aggregation: Option<Aggregation>,
}

/// An attribute of a type: spelled as it was first seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributeInfo {
    pub id: u32,
    pub name: String,
    pub kind: Kind,
    /// The declared NGSI type; that of the kind when none was declared.
    pub declared: String,
}

/// The answer for one type.
#[derive(Clone, Debug, PartialEq)]
pub struct TypeRows {
    pub name: String,
    /// Sorted by name; with an aggregation `kind` is that of the result.
    pub attributes: Vec<AttributeInfo>,
    /// Sorted by id.
    pub entities: Vec<EntityRows>,
}

/// Rows of one entity, oldest first. An aggregation without period has no times but one value in each column.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct EntityRows {
    pub id: String,
    pub times: Vec<i64>,
    /// One column for each attribute of the type's answer.
    pub columns: Vec<Vec<Cell>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntitySummary {
    pub id: String,
    pub entity_type: String,
    pub newest_us: i64,
}

/// What to delete.
#[derive(Clone, Debug)]
pub struct Deletion {
    pub scope: QueryScope,
    /// `None`: whichever type the entity has.
    pub entity_type: Option<String>,
    /// `None`: all entities of the type.
    pub entity_id: Option<String>,
    pub from_us: Option<i64>,
    pub to_us: Option<i64>,
}
