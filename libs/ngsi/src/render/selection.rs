//! What `attrs` and `metadata` choose.

/// A list of names, `*` for all user ones among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// All user ones, no builtin.
    #[default]
    All,
    /// Those named, in this order; `*` stands for all user ones.
    Listed(Vec<String>),
}

impl Names {
    /// Reads a comma list. None or an empty list: all.
    pub fn parse(text: Option<&str>) -> Self {
        match text {
            None => Self::All,
            Some(text) => Self::listed(text.split(',').map(|name| name.trim().to_owned()).collect()),
        }
    }

    pub fn listed(mut names: Vec<String>) -> Self {
        names.retain(|name| !name.is_empty());
        if names.is_empty() { Self::All } else { Self::Listed(names) }
    }

    /// Whether a builtin is asked for by name.
    pub fn names_builtin(&self, name: &str) -> bool {
        match self {
            Self::All => false,
            Self::Listed(names) => names.iter().any(|own| own == name),
        }
    }
}

/// What of an entity is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    pub attributes: Names,
    pub metadata: Names,
}
