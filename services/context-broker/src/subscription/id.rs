use std::{fmt, sync::Arc};

/// 24 lower-case hexadecimal digits. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionId(Arc<str>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSubscriptionId {
    #[error("Invalid subscription ID: bad length - 24 chars expected")]
    Length,
    #[error("Invalid subscription ID: invalid char in ID string")]
    Character,
}

impl SubscriptionId {
    /// A new id: seconds since 1970, then random digits, so that ids sort by age as those of the original do.
    pub fn generate(now_us: i64) -> Self {
        let seconds = u32::try_from(now_us / 1_000_000).unwrap_or_default();
        Self(format!("{seconds:08x}{:016x}", rand::random::<u64>()).into())
    }

    /// Reads an id; upper-case digits are folded.
    pub fn parse(text: &str) -> Result<Self, InvalidSubscriptionId> {
        if text.len() != 24 {
            return Err(InvalidSubscriptionId::Length);
        }
        if !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(InvalidSubscriptionId::Character);
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SubscriptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SubscriptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<InvalidSubscriptionId> for ngsi::Error {
    fn from(error: InvalidSubscriptionId) -> Self {
        Self::bad_request(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_24_hexadecimal_digits() {
        let id = SubscriptionId::generate(1_700_000_000_000_000);
        assert!(id.as_str().starts_with("6553f100"), "{id}");
        assert_eq!(SubscriptionId::parse(id.as_str()), Ok(id));
        assert_eq!(SubscriptionId::parse("abc"), Err(InvalidSubscriptionId::Length));
        assert_eq!(SubscriptionId::parse(&"g".repeat(24)), Err(InvalidSubscriptionId::Character));
    }
}
