//! Lets through URLs that people write and curl sends as they are: `?q=temperature>20`.
//!
//! The characters `<`, `>`, `"` and blanks are percent-encoded in the first line of a connection, before the HTTP parser,
//! which refuses them, sees it. Only there: what is a request line and what is a body is certain at the beginning of a
//! connection, and a later line would need a second HTTP parser that had to agree with the first on every byte, or
//! requests could be smuggled. Scripts open a connection per request; client libraries encode.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// A first line longer than this is left as it is.
const MAX_LINE: usize = 16 * 1024;
const CHUNK: usize = 4096;

/// A connection whose first line is made digestible.
pub(super) struct RequestLine<S> {
    inner: S,
    state: State,
}

enum State {
    /// No line break yet, and when to give up: the parser's own time limit starts with the first byte that it sees.
    Collecting(Vec<u8>, Pin<Box<Sleep>>),
    /// What was collected is being handed on; the number of bytes already handed on.
    Replaying(Vec<u8>, usize),
    Passing,
}

impl<S> RequestLine<S> {
    /// A first line that is not there after `patience` ends the connection.
    pub(super) fn new(inner: S, patience: Duration) -> Self {
        Self { inner, state: State::Collecting(Vec::new(), Box::pin(sleep(patience))) }
    }
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
            match &mut this.state {
                State::Passing => return Pin::new(&mut this.inner).poll_read(cx, buf),
                State::Replaying(bytes, done) => {
                    let left = bytes.get(*done..).unwrap_or_default();
                    let count = left.len().min(buf.remaining());
                    buf.put_slice(left.get(..count).unwrap_or_default());
                    *done += count;
                    if *done == bytes.len() {
                        this.state = State::Passing;
                    }
                    return Poll::Ready(Ok(()));
                }
                State::Collecting(bytes, patience) => {
                    let mut chunk = [0; CHUNK];
                    let mut read = ReadBuf::new(&mut chunk);
                    if Pin::new(&mut this.inner).poll_read(cx, &mut read)?.is_pending() {
                        ready!(patience.as_mut().poll(cx));
                        return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                    }
                    let read = read.filled();
                    bytes.extend_from_slice(read);
                    if read.is_empty() || read.contains(&b'\n') || bytes.len() > MAX_LINE {
                        this.state = State::Replaying(encode(std::mem::take(bytes)), 0);
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
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// What comes out when `parts` come in one by one.
    async fn through(parts: &[&str]) -> String {
        let (mut near, far) = tokio::io::duplex(64 * 1024);
        let mut reading = RequestLine::new(far, Duration::from_secs(1));
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

    #[tokio::test]
    async fn a_first_line_without_end_is_not_kept_for_ever() {
        let long = format!("GET /{}>", "a".repeat(MAX_LINE));
        assert_eq!(through(&[&long, "b"]).await, format!("{long}b"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_line_that_comes_too_slowly_ends_the_connection() {
        let (mut near, far) = tokio::io::duplex(64);
        let mut reading = RequestLine::new(far, Duration::from_secs(1));
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
