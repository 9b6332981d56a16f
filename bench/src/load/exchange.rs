//! One keep-alive connection, and single calls for the preparation of a case.

use std::{borrow::Cow, io, io::Write as _, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::frame::{Frame, frame, unchunked};

/// A connection that sends a request and waits for its answer.
pub struct Exchange {
    stream: TcpStream,
    outbox: Vec<u8>,
    inbox: Vec<u8>,
}

/// A whole answer, in the connection's buffer.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    frame: Frame,
    bytes: &'a [u8],
}

impl Answer<'_> {
    pub fn status(&self) -> u16 {
        self.frame.status
    }

    pub fn body(&self) -> Cow<'_, [u8]> {
        let body = self.bytes.get(self.frame.head..self.frame.whole).unwrap_or_default();
        if self.frame.chunked { Cow::Owned(unchunked(body)) } else { Cow::Borrowed(body) }
    }

    /// The value of a header, if it is there.
    pub fn header(&self, name: &str) -> Option<&str> {
        let head = std::str::from_utf8(self.bytes.get(..self.frame.head)?).ok()?;
        head.split("\r\n")
            .filter_map(|line| line.split_once(':'))
            .find_map(|(found, value)| found.eq_ignore_ascii_case(name).then_some(value.trim()))
    }
}

impl Exchange {
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, outbox: Vec::with_capacity(1024), inbox: Vec::with_capacity(4096) })
    }

    /// Sends what `write` puts into the buffer and reads the answer to its end.
    pub async fn send(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<Answer<'_>> {
        self.outbox.clear();
        self.inbox.clear();
        write(&mut self.outbox);
        self.stream.write_all(&self.outbox).await?;
        loop {
            if self.stream.read_buf(&mut self.inbox).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(frame) = frame(&self.inbox)? {
                return Ok(Answer { frame, bytes: &self.inbox });
            }
        }
    }
}

/// Writes a request. `headers` are whole lines, each ended by `\r\n`.
pub fn request(out: &mut Vec<u8>, method: &str, path: &str, headers: &str, body: &[u8]) {
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(path.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\nhost: mesh\r\n");
    out.extend_from_slice(headers.as_bytes());
    if !body.is_empty() || method != "GET" {
        write!(out, "content-length: {}\r\n", body.len()).expect("a vector takes all bytes");
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
}

/// One call on a connection of its own: status, content type and body.
pub fn call(address: SocketAddr, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<(u16, String, Vec<u8>)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let exchange = async {
            let mut exchange = Exchange::connect(address).await?;
            let answer = exchange.send(write).await?;
            let content_type = answer.header("content-type").unwrap_or_default().to_owned();
            Ok((answer.status(), content_type, answer.body().into_owned()))
        };
        match tokio::time::timeout(Duration::from_secs(30), exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    })
}
