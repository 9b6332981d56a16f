//! Where an HTTP/1.1 answer ends.

use std::io;

/// The parts of a whole answer in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) status: u16,
    /// Bytes of the head, with its empty line.
    pub(super) head: usize,
    /// Bytes of head and body.
    pub(super) whole: usize,
    pub(super) chunked: bool,
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// Looks for a whole answer at the start of `bytes`; `None` = more bytes are needed.
pub(super) fn frame(bytes: &[u8]) -> io::Result<Option<Frame>> {
    let Some(head) = find(bytes, b"\r\n\r\n").map(|at| at + 4) else {
        return Ok(None);
    };
    let text =
        std::str::from_utf8(bytes.get(..head).unwrap_or_default()).map_err(|_| bad("head is not text"))?;
    let mut lines = text.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1.1 "))
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .ok_or_else(|| bad("no HTTP/1.1 status line"))?;
    let (mut length, mut chunked) = (None, false);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.parse::<usize>().map_err(|_| bad("content-length is not a number"))?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            chunked = value.eq_ignore_ascii_case("chunked");
        }
    }
    let body = bytes.get(head..).unwrap_or_default();
    let length = match length {
        _ if chunked => chunked_length(body)?,
        Some(length) => (body.len() >= length).then_some(length),
        None if status == 204 || status == 304 => Some(0),
        None => return Err(bad("an answer without a length can't be kept alive")),
    };
    Ok(length.map(|length| Frame { status, head, whole: head + length, chunked }))
}

/// Length of a whole chunked body, its framing included.
fn chunked_length(body: &[u8]) -> io::Result<Option<usize>> {
    let mut at = 0;
    while let Some((size, start)) = chunk(body, at)? {
        at = start + size + 2;
        if body.len() < at {
            return Ok(None);
        }
        if size == 0 {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// The chunk at `at`: its size and where its bytes begin.
fn chunk(body: &[u8], at: usize) -> io::Result<Option<(usize, usize)>> {
    let rest = body.get(at..).unwrap_or_default();
    let Some(line) = find(rest, b"\r\n") else { return Ok(None) };
    let digits = std::str::from_utf8(rest.get(..line).unwrap_or_default()).map_err(|_| bad("chunk size"))?;
    let digits = digits.split(';').next().unwrap_or_default().trim();
    let size = usize::from_str_radix(digits, 16).map_err(|_| bad("chunk size"))?;
    if size > 1 << 30 {
        return Err(bad("chunk too large"));
    }
    Ok(Some((size, at + line + 2)))
}

/// The bytes of a whole chunked body without their framing.
pub(super) fn unchunked(body: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (Vec::with_capacity(body.len()), 0);
    while let Ok(Some((size, start))) = chunk(body, at) {
        out.extend_from_slice(body.get(start..start + size).unwrap_or_default());
        at = start + size + 2;
        if size == 0 {
            break;
        }
    }
    out
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sized(body: &[u8]) -> Vec<u8> {
        let mut answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
        answer.extend_from_slice(body);
        answer
    }

    fn in_chunks(chunks: &[Vec<u8>]) -> Vec<u8> {
        let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for chunk in chunks.iter().chain([&vec![]]) {
            answer.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            answer.extend_from_slice(chunk);
            answer.extend_from_slice(b"\r\n");
        }
        answer
    }

    #[test]
    fn an_answer_without_content_ends_with_its_head() {
        let answer = b"HTTP/1.1 204 No Content\r\nfiware-correlator: x\r\n\r\n";
        let found = frame(answer).unwrap().unwrap();
        assert_eq!((found.status, found.whole), (204, answer.len()));
    }

    #[test]
    fn an_answer_that_only_ends_with_the_connection_is_an_error() {
        assert!(frame(b"HTTP/1.1 200 OK\r\n\r\nbody").is_err());
        assert!(frame(b"SMTP 200\r\n\r\n").is_err());
    }

    proptest! {
        #[test]
        fn an_answer_is_whole_exactly_at_its_last_byte(body in prop::collection::vec(any::<u8>(), 0..200), cut in any::<prop::sample::Index>()) {
            let answer = sized(&body);
            let cut = cut.index(answer.len());
            prop_assert_eq!(frame(&answer[..cut]).unwrap(), None);
            prop_assert_eq!(frame(&answer).unwrap().map(|found| found.whole), Some(answer.len()));
        }

        #[test]
        fn chunks_give_back_their_bytes(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6), cut in any::<prop::sample::Index>()) {
            let answer = in_chunks(&chunks);
            prop_assert_eq!(frame(&answer[..cut.index(answer.len())]).unwrap(), None);
            let found = frame(&answer).unwrap().unwrap();
            prop_assert_eq!(found.whole, answer.len());
            prop_assert_eq!(unchunked(&answer[found.head..]), chunks.concat());
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
            answer.extend_from_slice(&bytes);
            if let Ok(Some(found)) = frame(&answer) {
                prop_assert!(found.whole <= answer.len());
            }
            prop_assert!(unchunked(&bytes).len() <= bytes.len());
        }
    }
}
