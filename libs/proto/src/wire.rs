//! Messages written field by field from what is borrowed, and read into it, for those that are many: a generated message owns
//! its texts.
//!
//! The bytes are those of the generated message: fields in the order of their numbers, without those that have their default.

/// Wire types of the protobuf encoding: a varint, eight bytes, a length and bytes, four bytes.
const VARINT: u64 = 0;
const EIGHT: u64 = 1;
const LENGTH: u64 = 2;
const FOUR: u64 = 5;

/// The bytes of a message so far.
#[derive(Debug, Default)]
pub struct Fields(Vec<u8>);

impl Fields {
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// A `string`; left out when empty.
    pub fn text(&mut self, field: u32, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    /// A `repeated string`: also empty ones are there.
    pub fn texts(&mut self, field: u32, texts: &[String]) {
        for text in texts {
            self.put(field, text.as_bytes());
        }
    }

    /// `bytes`; left out when empty.
    pub fn bytes(&mut self, field: u32, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.put(field, bytes);
        }
    }

    /// An `int64`, `int32` or `enum`; left out when 0.
    pub fn int(&mut self, field: u32, value: i64) {
        if value != 0 {
            self.varint(u64::from(field) << 3 | VARINT);
            self.varint(value.cast_unsigned());
        }
    }

    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    fn put(&mut self, field: u32, bytes: &[u8]) {
        self.varint(u64::from(field) << 3 | LENGTH);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// The value of a field that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// An `int64`, `int32`, `enum`, `uint64` or `bool`.
    Int(i64),
    /// A `string`, `bytes` or message.
    Bytes(&'a [u8]),
    /// A number of fixed length.
    Fixed,
}

impl<'a> Value<'a> {
    /// The `string`; `None`: it is none.
    pub fn text(self) -> Option<&'a str> {
        match self {
            Self::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The number; `None`: it is none.
    pub fn int(self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(value),
            _ => None,
        }
    }
}

/// Hands number and value of each field of a message to `each`, in the order in which they were written. `None`: the bytes are
/// no message, or `each` says so.
pub fn read<'a>(message: &'a [u8], mut each: impl FnMut(u32, Value<'a>) -> Option<()>) -> Option<()> {
    let mut rest = message;
    while !rest.is_empty() {
        let tag = take_varint(&mut rest)?;
        let field = u32::try_from(tag >> 3).ok().filter(|field| *field > 0)?;
        let value = match tag & 7 {
            VARINT => Value::Int(take_varint(&mut rest)?.cast_signed()),
            LENGTH => {
                let length = usize::try_from(take_varint(&mut rest)?).ok()?;
                Value::Bytes(take(&mut rest, length)?)
            }
            EIGHT => take(&mut rest, 8).map(|_| Value::Fixed)?,
            FOUR => take(&mut rest, 4).map(|_| Value::Fixed)?,
            _ => return None,
        };
        each(field, value)?;
    }
    Some(())
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let [byte] = *take(rest, 1)? else { return None };
        // The tenth byte has room for one bit.
        if shift == 63 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::v1::ContextChange;

    proptest! {
        #[test]
        fn what_a_generated_message_holds_is_read(
            (tenant, entity_id) in (".{0,9}", ".{0,200}"),
            attributes in prop::collection::vec(any::<u8>(), 0..300),
            (epoch, version) in (any::<i64>(), any::<i64>()),
            updated in prop::collection::vec(".{0,9}", 0..4),
        ) {
            let change = ContextChange {
                tenant, entity_id, attributes: attributes.into(), subscription_epoch: epoch, version, updated,
                ..Default::default()
            };
            let mut found = ContextChange::default();
            let bytes = change.encode_to_vec();
            let read = read(&bytes, |field, value| {
                match (field, value) {
                    (1, value) => found.tenant = value.text()?.to_owned(),
                    (3, value) => found.entity_id = value.text()?.to_owned(),
                    (6, value) => found.version = value.int()?,
                    (8, value) => found.subscription_epoch = value.int()?,
                    (9, Value::Bytes(bytes)) => found.attributes = bytes.to_vec().into(),
                    (11, value) => found.updated.push(value.text()?.to_owned()),
                    _ => return None,
                }
                Some(())
            });
            prop_assert_eq!(read, Some(()));
            prop_assert_eq!(found, change);
        }

        #[test]
        fn bytes_that_a_generated_message_refuses_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            // The other way round it may be stricter: it knows the types of its fields.
            if read(&bytes, |_, _| Some(())).is_none() {
                prop_assert!(Nothing::decode(&*bytes).is_err() || has_group(&bytes));
            }
        }
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct Nothing {}

    /// Groups have gone from the encoding long ago.
    fn has_group(bytes: &[u8]) -> bool {
        bytes.iter().any(|byte| matches!(byte & 7, 3 | 4))
    }

    #[test]
    fn cut_off_messages_are_refused() {
        let mut fields = Fields::default();
        fields.int(1, -1);
        fields.text(16, "abc");
        let bytes = fields.finish();
        let ends = (0..=bytes.len()).filter(|end| read(&bytes[..*end], |_, _| Some(())).is_some());
        assert_eq!(ends.collect::<Vec<_>>(), [0, 11, bytes.len()]);
    }
}
