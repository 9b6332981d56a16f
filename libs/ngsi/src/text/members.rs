//! Members of a compact JSON object as slices of its text. The text is what serde_json wrote: no blanks between tokens.
//! Text that is something else ends the walk with `None`; it never panics.

/// One member: its key without quotes, still escaped, and the text of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
    /// Where the value begins in the object's text.
    pub(super) place: usize,
}

/// Calls `each` for every member in order; `None` when the text is not such an object, or `each` says so.
pub(super) fn walk<'a>(object: &'a [u8], mut each: impl FnMut(Member<'a>) -> Option<()>) -> Option<()> {
    let mut rest = object.strip_prefix(b"{")?;
    if rest == b"}" {
        return Some(());
    }
    loop {
        let quoted = string(rest)?;
        let after = rest.get(quoted..)?.strip_prefix(b":")?;
        let length = value(after)?;
        each(Member {
            key: rest.get(1..quoted - 1)?,
            value: after.get(..length)?,
            place: object.len() - after.len(),
        })?;
        rest = after.get(length..)?;
        if rest == b"}" {
            return Some(());
        }
        rest = rest.strip_prefix(b",")?;
    }
}

/// Length of the value at the beginning of the text.
pub(super) fn value(text: &[u8]) -> Option<usize> {
    match text.first()? {
        b'"' => string(text),
        b'{' | b'[' => nested(text),
        _ => {
            let end = |byte: &u8| matches!(byte, b',' | b'}' | b']');
            text.iter().position(end).filter(|length| *length > 0)
        }
    }
}

/// Length of the string, quotes included.
pub(super) fn string(text: &[u8]) -> Option<usize> {
    text.first().filter(|byte| **byte == b'"')?;
    let mut at = 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

fn nested(text: &[u8]) -> Option<usize> {
    let (mut at, mut depth) = (0, 0_usize);
    loop {
        match text.get(at)? {
            b'"' => {
                at += string(text.get(at..)?)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1e9..1e9_f64).prop_map(Value::from),
            "\\PC{0,8}|[\"\\\\{}\\[\\],:]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            let key = "\\PC{0,5}|[\"\\\\{},]{0,4}";
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::hash_map(key, inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_member_comes_with_its_text(map in prop::collection::hash_map("\\PC{0,5}", json_value(), 0..5)) {
            let map: Map<String, Value> = map.into_iter().collect();
            let text = serde_json::to_vec(&map).unwrap();
            let mut seen = Vec::new();
            let walked = walk(&text, |member| {
                let key: String = serde_json::from_slice(&[b"\"", member.key, b"\""].concat()).unwrap();
                let value: Value = serde_json::from_slice(member.value).unwrap();
                assert_eq!(&text[member.place..member.place + member.value.len()], member.value);
                seen.push((key, value));
                Some(())
            });
            prop_assert_eq!(walked, Some(()));
            let expected: Vec<(String, Value)> = map.into_iter().collect();
            prop_assert_eq!(seen, expected);
        }

        #[test]
        fn no_bytes_make_it_panic(
            text in prop::collection::vec(prop::sample::select(b"{}[]\",:\\a1 ".to_vec()), 0..40)
        ) {
            let mut members = 0;
            walk(&text, |member| {
                members += member.key.len() + member.value.len();
                Some(())
            });
            prop_assert!(members <= text.len());
        }
    }

    #[test]
    fn what_is_cut_off_is_not_an_object() {
        let text = serde_json::to_vec(&json!({"a": {"b": ["}", 1]}, "c": 2})).unwrap();
        for end in 0..text.len() {
            assert_eq!(walk(&text[..end], |_| Some(())), None, "{end}");
        }
    }
}
