//! Lets through URLs that people write and clients send as they are: `?q=temperature>20`.
//!
//! The characters `<`, `>`, `"` and blanks are percent-encoded in each request line of an HTTP/1 connection, before the HTTP
//! parser, which refuses them, sees it. What is a request line is certain at the beginning of a connection. Later it is
//! certain where a request ended with the last byte that was handed on: the parser itself says how long the body is
//! ([`Requests`]), and the head ends at its first empty line. A second opinion on where a request ends would be a way to
//! smuggle requests, so that wherever the two do not meet exactly (what comes in one piece with the request before, a body in
//! chunks, blank lines between requests, HTTP/2) everything from there on is handed on as it is.
//!
//! ```text
//!        ┌──────────────── all of it was handed on, not a byte more ◄──────────┐
//!        ▼                                                                     │
//!      Line ── its end was seen, encoded if need be ──► Head ── the parser ──► Body
//!                                                         └─── not certain ──────┴──► Passing
//! ```

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Method, Request, header};
use http_body::Body;
use memchr::memchr;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// A line longer than this is left as it is, and so is all that comes after it.
const MAX_LINE: usize = 16 * 1024;
const CHUNK: usize = 4096;
/// How a connection of HTTP/2 begins.
const HTTP2: &[u8] = b"PRI * HTTP/2";

/// What the parser found on a connection: the length of the newest request's body, until it is asked for.
#[derive(Clone, Default)]
pub(super) struct Requests(Arc<AtomicU64>);

impl Requests {
    const NONE: u64 = 0;
    const UNCERTAIN: u64 = u64::MAX;

    /// To be told of each request, before any of its body is read.
    pub(super) fn begin(&self, request: &Request<impl Body>) {
        let becomes_another_protocol =
            request.method() == Method::CONNECT || request.headers().contains_key(header::UPGRADE);
        let length = match request.body().size_hint().exact() {
            Some(length) if !becomes_another_protocol => length.saturating_add(1),
            _ => Self::UNCERTAIN,
        };
        // Another request that nobody has asked for: two came in one piece.
        if self.0.swap(length, Ordering::Relaxed) != Self::NONE {
            self.0.store(Self::UNCERTAIN, Ordering::Relaxed);
        }
    }

    /// The length of the body of the request that began since it was last asked; `Err` if that is not certain.
    fn taken(&self) -> Result<Option<u64>, ()> {
        match self.0.swap(Self::NONE, Ordering::Relaxed) {
            Self::NONE => Ok(None),
            Self::UNCERTAIN => Err(()),
            length => Ok(Some(length - 1)),
        }
    }
}

/// A connection whose request lines are made digestible.
pub(super) struct RequestLine<S> {
    inner: S,
    requests: Requests,
    state: State,
}

enum State {
    /// At the beginning of a request: what there is of its line so far.
    Line(Line),
    /// After the line: what was handed on of this request, line and all.
    Head(Head),
    /// Bytes of the body that are still to come.
    Body(u64),
    /// What was collected is being handed on; the number of bytes already handed on; whether the line was whole.
    Replaying(Vec<u8>, usize, bool),
    Passing,
}

struct Line {
    collected: Vec<u8>,
    /// When to give up the first line: the parser's own time limit starts with the first byte that it sees.
    patience: Option<Pin<Box<Sleep>>>,
}

impl Line {
    const NEXT: Self = Self { collected: Vec::new(), patience: None };
}

/// Looks for the empty line at the end of a head, piece by piece.
#[derive(Default)]
struct Head {
    /// Bytes so far, of whatever.
    given: u64,
    /// Bytes to the end of the head, once that was seen.
    length: Option<u64>,
    /// What came after the newest line break: nothing yet, or a carriage return alone.
    after_break: Option<AfterBreak>,
}

#[derive(Clone, Copy)]
enum AfterBreak {
    Nothing,
    Return,
}

impl Head {
    fn take(&mut self, bytes: &[u8]) {
        if self.length.is_none() {
            self.length = self.end(bytes).map(|end| self.given + end as u64);
        }
        self.given += bytes.len() as u64;
    }

    /// The end of the empty line in `bytes`, if it ends there.
    fn end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut from = 0;
        // A line break that was the end of the piece before, or whose carriage return was.
        match (self.after_break.take(), bytes) {
            (None, _) => {}
            (Some(state), []) => self.after_break = Some(state),
            (Some(_), [b'\n', ..]) => return Some(1),
            (Some(AfterBreak::Nothing), [b'\r', b'\n', ..]) => return Some(2),
            (Some(AfterBreak::Nothing), [b'\r']) => self.after_break = Some(AfterBreak::Return),
            (Some(_), _) => {}
        }
        while let Some(at) = bytes.get(from..).and_then(|rest| memchr(b'\n', rest)) {
            from += at + 1;
            match bytes.get(from..).unwrap_or_default() {
                [] => self.after_break = Some(AfterBreak::Nothing),
                [b'\n', ..] => return Some(from + 1),
                [b'\r', b'\n', ..] => return Some(from + 2),
                [b'\r'] => self.after_break = Some(AfterBreak::Return),
                _ => {}
            }
        }
        None
    }

    /// What follows, now that the parser has found a body of `length` bytes.
    fn followed_by(&self, length: u64) -> State {
        let whole = self.length.and_then(|head| head.checked_add(length));
        match whole.and_then(|whole| whole.checked_sub(self.given)) {
            Some(missing) => State::Body(missing),
            None => State::Passing,
        }
    }
}

impl<S> RequestLine<S> {
    /// `requests` has to be told of what is parsed. A first line that is not there after `patience` ends the connection.
    pub(super) fn new(inner: S, requests: Requests, patience: Duration) -> Self {
        let line = Line { collected: Vec::new(), patience: Some(Box::pin(sleep(patience))) };
        Self { inner, requests, state: State::Line(line) }
    }

    /// Before more is read: whether the parser has got further.
    fn advance(&mut self) {
        match &self.state {
            State::Head(head) => match self.requests.taken() {
                Ok(None) => {}
                Ok(Some(length)) => self.state = head.followed_by(length),
                Err(()) => self.state = State::Passing,
            },
            State::Line(_) | State::Body(_) | State::Replaying(..) | State::Passing => {}
        }
        if matches!(self.state, State::Body(0)) {
            self.state = State::Line(Line::NEXT);
        }
    }
}

/// After a line of which `bytes` were handed on, and perhaps more behind it.
fn after_line(bytes: &[u8]) -> State {
    // A blank line before a request is skipped by the parser, and would be taken for the end of the head here.
    if bytes.starts_with(HTTP2) || bytes.starts_with(b"\r") || bytes.starts_with(b"\n") {
        return State::Passing;
    }
    let mut head = Head::default();
    head.take(bytes);
    State::Head(head)
}

/// Encodes the target of a request line; everything after the line stays.
fn encode(bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|b| *b == b'\n').unwrap_or(bytes.len());
    let (line, rest) = bytes.split_at(end);
    let first = line.iter().position(|b| *b == b' ');
    let last = line.iter().rposition(|b| *b == b' ');
    let (Some(first), Some(last)) = (first, last) else { return bytes };
    let Some(target) = line.get(first + 1..last) else { return bytes };
    if !target.iter().any(|b| needs_encoding(*b)) {
        return bytes;
    }
    let mut out = Vec::with_capacity(bytes.len() + 32);
    out.extend_from_slice(&line[..=first]);
    for byte in target {
        if needs_encoding(*byte) {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        } else {
            out.push(*byte);
        }
    }
    out.extend_from_slice(&line[last..]);
    out.extend_from_slice(rest);
    out
}

/// Whether the parser takes this line: a method, a target and a version, with a blank between each two.
fn is_digestible(line: &[u8]) -> bool {
    line.iter().filter(|byte| needs_encoding(**byte)).count() <= 2
}

fn needs_encoding(byte: u8) -> bool {
    matches!(byte, b'<' | b'>' | b'"' | b' ')
}

impl<S: AsyncRead + Unpin> AsyncRead for RequestLine<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            this.advance();
            let before = buf.filled().len();
            match &mut this.state {
                State::Passing => return Pin::new(&mut this.inner).poll_read(cx, buf),
                State::Head(head) => {
                    ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
                    head.take(buf.filled().get(before..).unwrap_or_default());
                    return Poll::Ready(Ok(()));
                }
                State::Body(missing) => {
                    ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
                    let read = (buf.filled().len() - before) as u64;
                    match missing.checked_sub(read) {
                        Some(rest) => *missing = rest,
                        None => this.state = State::Passing,
                    }
                    return Poll::Ready(Ok(()));
                }
                State::Replaying(bytes, done, is_whole) => {
                    let left = bytes.get(*done..).unwrap_or_default();
                    let count = left.len().min(buf.remaining());
                    buf.put_slice(left.get(..count).unwrap_or_default());
                    *done += count;
                    if *done == bytes.len() {
                        this.state = if *is_whole { after_line(bytes) } else { State::Passing };
                    }
                    return Poll::Ready(Ok(()));
                }
                // The usual case: the whole head at once, with nothing to be encoded in its first line.
                State::Line(line) if line.collected.is_empty() && line.patience.is_none() => {
                    ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
                    let read = buf.filled().get(before..).unwrap_or_default();
                    match memchr(b'\n', read) {
                        Some(end) if is_digestible(read.get(..end).unwrap_or_default()) => {
                            this.state = after_line(read);
                            return Poll::Ready(Ok(()));
                        }
                        None if read.is_empty() => return Poll::Ready(Ok(())),
                        end => {
                            let read = read.to_vec();
                            buf.set_filled(before);
                            this.state = match end {
                                Some(_) => State::Replaying(encode(read), 0, true),
                                None => State::Line(Line { collected: read, patience: None }),
                            };
                        }
                    }
                }
                State::Line(Line { collected, patience }) => {
                    let mut chunk = [0; CHUNK];
                    let mut read = ReadBuf::new(&mut chunk);
                    if Pin::new(&mut this.inner).poll_read(cx, &mut read)?.is_pending() {
                        let Some(patience) = patience else { return Poll::Pending };
                        ready!(patience.as_mut().poll(cx));
                        return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                    }
                    let read = read.filled();
                    collected.extend_from_slice(read);
                    let is_whole = memchr(b'\n', read).is_some();
                    if is_whole || read.is_empty() || collected.len() > MAX_LINE {
                        this.state = State::Replaying(encode(std::mem::take(collected)), 0, is_whole);
                    }
                }
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for RequestLine<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// What comes out when nobody parses and `parts` come in one by one.
    async fn through(parts: &[&str]) -> String {
        let (mut near, far) = tokio::io::duplex(64 * 1024);
        let mut reading = RequestLine::new(far, Requests::default(), Duration::from_secs(1));
        let write = async {
            for part in parts {
                near.write_all(part.as_bytes()).await.unwrap();
                tokio::task::yield_now().await;
            }
            drop(near);
        };
        let mut out = String::new();
        let (read, ()) = tokio::join!(reading.read_to_string(&mut out), write);
        read.unwrap();
        out
    }

    #[tokio::test]
    async fn the_target_of_the_first_line_is_encoded_and_nothing_else() {
        for (parts, expected) in [
            (vec!["GET /a?q=t>20 HTTP/1.1\r\nX: <>\r\n\r\n"], "GET /a?q=t%3E20 HTTP/1.1\r\nX: <>\r\n\r\n"),
            (
                vec!["GET /a?q=t>", "20;u<\"3\" HTTP/1.1\r", "\n\r\n"],
                "GET /a?q=t%3E20;u%3C%223%22 HTTP/1.1\r\n\r\n",
            ),
            (vec!["GET /a?b=c  HTTP/1.1\r\n\r\n"], "GET /a?b=c%20 HTTP/1.1\r\n\r\n"),
            (
                vec!["POST /a HTTP/1.1\r\n\r\nGET /<> HTTP/1.1\r\n"],
                "POST /a HTTP/1.1\r\n\r\nGET /<> HTTP/1.1\r\n",
            ),
            (vec!["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
            (vec!["no line"], "no line"),
            (vec![""], ""),
        ] {
            assert_eq!(through(&parts).await, expected);
        }
    }

    enum Step {
        Write(&'static str),
        /// The parser has found a request with a body of so many bytes.
        Parsed(u64),
        /// Of a request whose end is not known.
        Unknown,
    }

    use Step::{Parsed, Unknown, Write};

    async fn session(steps: &[Step]) -> String {
        let (mut near, far) = tokio::io::duplex(64 * 1024);
        let requests = Requests::default();
        let mut reading = RequestLine::new(far, requests.clone(), Duration::from_secs(1));
        let mut out = Vec::new();
        for step in steps {
            // A task that has done much is told to wait, whatever there is.
            tokio::task::yield_now().await;
            match step {
                Write(bytes) => near.write_all(bytes.as_bytes()).await.unwrap(),
                Parsed(length) => {
                    let body = vec![0; usize::try_from(*length).unwrap()];
                    requests.begin(&Request::new(axum::body::Body::from(body)));
                }
                Unknown => {
                    let request = Request::builder().header("upgrade", "x").body(axum::body::Body::empty());
                    requests.begin(&request.unwrap());
                }
            }
            while reading.read_buf(&mut out).now_or_never().is_some() {}
        }
        String::from_utf8(out).unwrap()
    }

    #[tokio::test]
    async fn later_lines_are_encoded_where_the_request_before_ended_for_certain() {
        let get = || Write("GET /a?q=t>1 HTTP/1.1\r\nX: <>\r\n\r\n");
        let encoded = "GET /a?q=t%3E1 HTTP/1.1\r\nX: <>\r\n\r\n";
        for head in [
            "DELETE /a HTTP/1.1\r\nX: y\r\n\r\n",
            "DELETE /a HTTP/1.1\nX: y\n\n",
            "DELETE /a HTTP/1.1\r\n\r\n",
        ] {
            let split = (1..head.len()).map(|at| head.split_at(at));
            for (one, two) in split {
                let steps = [Write(one), Write(two), Parsed(0), get(), Parsed(0), get()];
                assert_eq!(session(&steps).await, format!("{head}{encoded}{encoded}"), "{one:?} {two:?}");
            }
        }
        let post = "POST /b> HTTP/1.1\r\n\r\n";
        let body = "GET /c> HTTP/1.1\r\n\r\n";
        let expected = format!("POST /b%3E HTTP/1.1\r\n\r\n{body}{encoded}");
        for steps in [
            [Write(post), Parsed(20), Write(body), get()],
            [Write("POST /b> HTTP/1.1\r\n\r\nGET /c> HTTP/1.1\r\n\r\n"), Parsed(20), get(), Parsed(0)],
        ] {
            assert_eq!(session(&steps).await, expected);
        }
        let parts = [Write(post), Parsed(20), Write("GET /c> "), Write("HTTP/1.1\r\n\r\n"), get()];
        assert_eq!(session(&parts).await, expected);
    }

    #[tokio::test]
    async fn nothing_is_touched_from_where_the_end_of_a_request_is_not_certain() {
        let get = || Write("GET /a?q=t>1 HTTP/1.1\r\n\r\n");
        let raw = "GET /a?q=t>1 HTTP/1.1\r\n\r\n";
        for before in [
            // Two in one piece: as one, then each.
            vec![Write("GET /1 HTTP/1.1\r\n\r\nGET /> HTTP/1.1\r\n\r\n"), Parsed(0), Parsed(0)],
            // The next one begins behind the body.
            vec![Write("POST /1 HTTP/1.1\r\n\r\nab"), Parsed(1)],
            vec![Write("POST /1 HTTP/1.1\r\n\r\n"), Parsed(1), Write("ab")],
            // A body in chunks, or another protocol.
            vec![Write("POST /1 HTTP/1.1\r\n\r\n"), Unknown],
            // A blank line between them.
            vec![Write("GET /1 HTTP/1.1\r\n\r\n"), Parsed(0), Write("\r\n")],
            // The parser sees a request where there is none.
            vec![Write("GET /1 HTTP/1.1\r\n"), Parsed(0)],
            vec![Write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Parsed(0)],
        ] {
            let written: String =
                before.iter().map(|step| if let Write(bytes) = step { bytes } else { "" }).collect();
            let steps: Vec<_> = before.into_iter().chain([get(), Parsed(0), get()]).collect();
            assert_eq!(session(&steps).await, format!("{written}{raw}{raw}"));
        }
        assert_eq!(session(&[Write(raw), get()]).await, "GET /a?q=t%3E1 HTTP/1.1\r\n\r\n".to_owned() + raw);
    }

    #[tokio::test]
    async fn a_first_line_without_end_is_not_kept_for_ever() {
        let long = format!("GET /{}>", "a".repeat(MAX_LINE));
        assert_eq!(through(&[&long, "b"]).await, format!("{long}b"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_line_that_comes_too_slowly_ends_the_connection() {
        let (mut near, far) = tokio::io::duplex(64);
        let mut reading = RequestLine::new(far, Requests::default(), Duration::from_secs(1));
        let write = async {
            while near.write_all(b"G").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let read = async {
            let ended = reading.read_to_end(&mut Vec::new()).await;
            drop(reading);
            ended
        };
        let (ended, ()) = tokio::join!(read, write);
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
