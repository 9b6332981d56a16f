//! What `attrs` and `metadata` choose.

use indexmap::IndexSet;

/// A list of names, `*` for all user ones among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// All user ones, no builtin.
    #[default]
    All,
    /// Those named, in this order; `*` stands for all user ones.
    Listed(IndexSet<String>),
}

impl Names {
    /// Reads a comma list. None or an empty list: all.
    pub fn parse(text: Option<&str>) -> Self {
        match text {
            None => Self::All,
            Some(text) => Self::listed(text.split(',').map(|name| name.trim().to_owned())),
        }
    }

    /// This one and no other.
    pub fn one(name: &str) -> Self {
        Self::Listed([name.to_owned()].into_iter().collect())
    }

    pub fn listed(names: impl IntoIterator<Item = String>) -> Self {
        let names: IndexSet<String> = names.into_iter().filter(|name| !name.is_empty()).collect();
        if names.is_empty() { Self::All } else { Self::Listed(names) }
    }

    /// Whether a builtin is asked for by name.
    pub fn names_builtin(&self, name: &str) -> bool {
        match self {
            Self::All => false,
            Self::Listed(names) => names.contains(name),
        }
    }
}

/// What of an entity is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    pub attributes: Names,
    pub metadata: Names,
}
