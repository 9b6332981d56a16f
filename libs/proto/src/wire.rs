//! A message written field by field from what is borrowed, for those that are made often: a generated message owns its texts.
//!
//! The bytes are those of the generated message: fields in the order of their numbers, without those that have their default.

/// Field with a varint, and field with a length and bytes (protobuf encoding, wire types 0 and 2).
const VARINT: u64 = 0;
const LENGTH: u64 = 2;

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
