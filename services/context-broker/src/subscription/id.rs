use std::{
    fmt,
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// 24 lower-case hexadecimal digits, kept in place: there are a hundred thousand of them in memory.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionId([u8; 24]);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSubscriptionId {
    #[error("Invalid subscription ID: bad length - 24 chars expected")]
    Length,
    #[error("Invalid subscription ID: invalid char in ID string")]
    Character,
}

impl SubscriptionId {
    /// A new id, made as those of the original are: seconds since 1970, five random bytes of this process, and a counter. So
    /// ids of one process sort by age.
    pub fn generate(now_us: i64) -> Self {
        static PROCESS: LazyLock<u64> = LazyLock::new(|| rand::random::<u64>() & 0xff_ffff_ffff);
        // Begins low enough not to come round soon.
        static COUNTER: LazyLock<AtomicU32> =
            LazyLock::new(|| AtomicU32::new(rand::random::<u32>() & 0x0f_ffff));
        let seconds = u32::try_from(now_us / 1_000_000).unwrap_or_default();
        let count = COUNTER.fetch_add(1, Ordering::Relaxed) & 0xff_ffff;
        let text = format!("{seconds:08x}{:010x}{count:06x}", *PROCESS);
        Self(text.as_bytes().try_into().expect("8, 10 and 6 digits"))
    }

    /// Reads an id; upper-case digits are folded.
    pub fn parse(text: &str) -> Result<Self, InvalidSubscriptionId> {
        let mut digits: [u8; 24] = text.as_bytes().try_into().map_err(|_| InvalidSubscriptionId::Length)?;
        if !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(InvalidSubscriptionId::Character);
        }
        digits.make_ascii_lowercase();
        Ok(Self(digits))
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("hexadecimal digits")
    }
}

impl fmt::Display for SubscriptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SubscriptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
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

    #[test]
    fn ids_of_one_second_sort_by_age() {
        let ids: Vec<SubscriptionId> =
            (0..100).map(|_| SubscriptionId::generate(1_700_000_000_000_000)).collect();
        assert!(ids.is_sorted());
        assert_eq!(ids[0].as_str().len(), 24);
    }
}
