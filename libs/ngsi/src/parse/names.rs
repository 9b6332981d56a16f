//! Identifiers and the characters that requests may not hold (ngsi-v2.md 4).

use crate::Error;

/// Longest identifier.
pub const MAX_IDENTIFIER: usize = 256;

/// What an identifier names: decides the wording of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentifierKind {
    EntityId,
    EntityType,
    AttributeName,
    AttributeType,
    MetadataName,
    MetadataType,
}

impl IdentifierKind {
    fn words(self) -> &'static str {
        match self {
            Self::EntityId => "entity id",
            Self::EntityType => "entity type",
            Self::AttributeName => "attribute name",
            Self::AttributeType => "attribute type",
            Self::MetadataName => "metadata name",
            Self::MetadataType => "metadata type",
        }
    }
}

/// Whether text holds one of the characters that no request may hold.
pub fn has_forbidden(text: &str) -> bool {
    text.bytes().any(|b| matches!(b, b'<' | b'>' | b'"' | b'\'' | b'=' | b';' | b'(' | b')'))
}

fn is_identifier_byte(b: u8) -> bool {
    b.is_ascii_graphic()
        && !matches!(b, b'&' | b'?' | b'/' | b'#' | b'<' | b'>' | b'"' | b'\'' | b'=' | b';' | b'(' | b')')
}

/// Whether text holds what identifiers may hold, whatever its length.
pub(crate) fn is_identifier(text: &str) -> bool {
    text.bytes().all(is_identifier_byte)
}

/// Checks length, then characters.
pub fn identifier(text: &str, kind: IdentifierKind) -> Result<(), Error> {
    let words = kind.words();
    if text.is_empty() {
        return Err(Error::bad_request(format!("{words} length: 0, min length supported: 1")));
    }
    if text.len() > MAX_IDENTIFIER {
        let length = text.len();
        return Err(Error::bad_request(format!(
            "{words} length: {length}, max length supported: {MAX_IDENTIFIER}"
        )));
    }
    if !is_identifier(text) {
        return Err(Error::bad_request(format!("Invalid characters in {words}")));
    }
    Ok(())
}

pub fn check_entity_id(text: &str) -> Result<(), Error> {
    identifier(text, IdentifierKind::EntityId)
}

pub fn check_entity_type(text: &str) -> Result<(), Error> {
    identifier(text, IdentifierKind::EntityType)
}

/// Checks an attribute name, reserved names included.
pub fn check_attribute_name(text: &str) -> Result<(), Error> {
    identifier(text, IdentifierKind::AttributeName)?;
    if matches!(text, "id" | "type" | "geo:distance" | "*") {
        return Err(Error::bad_request(format!("invalid input, '{text}' as attribute")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_printable_ascii_of_1_to_256_characters() {
        for ok in ["a", "urn:ngsi-ld:Room:1", "A.b-c_d@e!$%*+,[]^`{|}~\\"] {
            assert_eq!(identifier(ok, IdentifierKind::EntityId), Ok(()), "{ok}");
        }
        for bad in [
            "a b", "a&b", "a?b", "a/b", "a#b", "a<b", "a>b", "a\"b", "a'b", "a=b", "a;b", "a(b", "a)b", "é",
            "a\n", "\u{7f}",
        ] {
            let error = identifier(bad, IdentifierKind::EntityType).unwrap_err();
            assert_eq!(error.description, "Invalid characters in entity type", "{bad:?}");
        }
    }

    #[test]
    fn lengths_are_named_in_the_error() {
        let long = "a".repeat(257);
        for (text, kind, expected) in [
            ("", IdentifierKind::EntityId, "entity id length: 0, min length supported: 1"),
            ("", IdentifierKind::MetadataName, "metadata name length: 0, min length supported: 1"),
            (&long, IdentifierKind::EntityId, "entity id length: 257, max length supported: 256"),
            (&long, IdentifierKind::AttributeType, "attribute type length: 257, max length supported: 256"),
        ] {
            assert_eq!(identifier(text, kind).unwrap_err().description, expected);
        }
    }

    #[test]
    fn reserved_names_are_no_attributes() {
        assert_eq!(check_attribute_name("id").unwrap_err().description, "invalid input, 'id' as attribute");
        assert!(check_attribute_name("geo:distance").is_err());
        assert!(check_attribute_name("*").is_err());
        assert!(check_attribute_name("identity").is_ok());
    }
}
