use std::{
    borrow::Borrow,
    fmt,
    hash::{Hash, Hasher},
    sync::{Arc, LazyLock},
};

/// Longest tenant name (ngsi-v2.md, `Fiware-Service`).
pub const MAX_TENANT_LEN: usize = 50;

/// A tenant name: `^[a-z0-9_]{1,50}$`, or empty for the default tenant. Cheap to clone.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tenant(
    /// `None`: the default tenant, that of requests without `Fiware-Service`.
    Option<Arc<str>>,
);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TenantError {
    #[error("bad character in tenant name - only underscore and alphanumeric characters are allowed")]
    BadCharacter,
    #[error("bad length - a tenant name can be max 50 characters long")]
    TooLong,
    #[error("a tenant name is 1 to 50 lower-case letters, digits or underscores")]
    NotCanonical,
}

impl Tenant {
    /// Reads a `Fiware-Service` header as Orion does: absent or empty is the default tenant, upper case is folded.
    pub fn from_header(value: Option<&str>) -> Result<Self, TenantError> {
        let value = value.unwrap_or_default();
        if value.len() > MAX_TENANT_LEN {
            return Err(TenantError::TooLong);
        }
        if !value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(TenantError::BadCharacter);
        }
        Ok(Self(match value {
            "" => None,
            folded if !folded.bytes().any(|b| b.is_ascii_uppercase()) => Some(folded.into()),
            other => Some(other.to_ascii_lowercase().into()),
        }))
    }

    /// Takes a name only as it stands: the gateway's rule (decision 1), under which no two spellings name one tenant.
    pub fn canonical(value: &str) -> Result<Self, TenantError> {
        let canonical = !value.is_empty()
            && value.len() <= MAX_TENANT_LEN
            && value.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if canonical { Ok(Self(Some(value.into()))) } else { Err(TenantError::NotCanonical) }
    }

    pub fn is_default(&self) -> bool {
        self.0.is_none()
    }

    /// The name; empty for the default tenant.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }

    /// The same, to be kept.
    pub fn shared(&self) -> Arc<str> {
        static DEFAULT: LazyLock<Arc<str>> = LazyLock::new(|| "".into());
        self.0.as_ref().unwrap_or(&DEFAULT).clone()
    }
}

impl Hash for Tenant {
    /// As its name: it is looked up by it.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tenant({:?})", self.as_str())
    }
}

impl Borrow<str> for Tenant {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_values_are_folded_and_checked() {
        assert_eq!(Tenant::from_header(Some("ManuFracture")).unwrap().as_str(), "manufracture");
        assert!(Tenant::from_header(None).unwrap().is_default());
        assert_eq!(Tenant::from_header(Some("a-b")), Err(TenantError::BadCharacter));
        assert_eq!(Tenant::from_header(Some("acme,other")), Err(TenantError::BadCharacter));
        assert_eq!(Tenant::from_header(Some(&"a".repeat(51))), Err(TenantError::TooLong));
        assert!(Tenant::from_header(Some(&"a".repeat(50))).is_ok());
    }

    #[test]
    fn canonical_names_have_one_spelling() {
        assert!(Tenant::canonical("manufracture").is_ok());
        for bad in ["", "A", "a-b", "a,a", " a", "é"] {
            assert_eq!(Tenant::canonical(bad), Err(TenantError::NotCanonical), "{bad:?}");
        }
    }
}
