use std::{net::SocketAddr, time::Duration};

use axum::{Json, Router, extract::Request};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// An answer read from a socket.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// What the echoing service saw; `None` if the request did not get there.
    pub(crate) fn seen(&self) -> Option<Value> {
        serde_json::from_str(&self.body).ok().filter(|body: &Value| body.get("service").is_some())
    }
}

/// Sends a path byte for byte; no client library would.
pub(crate) async fn get(address: SocketAddr, path: &str, headers: &[(String, String)]) -> Answer {
    let mut request = format!("GET {path} HTTP/1.1\r\nhost: mesh\r\nconnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    let asked = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        // Not to the end: Envoy keeps a connection that it was asked to close open for a second.
        let mut bytes = Vec::new();
        while !complete(&String::from_utf8_lossy(&bytes)) {
            if stream.read_buf(&mut bytes).await.unwrap() == 0 {
                break;
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let text = tokio::time::timeout(Duration::from_secs(10), asked).await;
    let text = text.unwrap_or_else(|_| panic!("no answer from {address} to {path}"));
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { unchunked(body) } else { body.to_owned() };
    Answer { status, head: head.to_owned(), body }
}

fn complete(text: &str) -> bool {
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let head = head.to_ascii_lowercase();
    match head.lines().find_map(|line| line.strip_prefix("content-length: ")) {
        Some(length) => body.len() >= length.parse().unwrap(),
        None => body.ends_with("0\r\n\r\n"),
    }
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        whole.push_str(rest.get(..length).unwrap());
        body = rest.get(length + 2..).unwrap_or_default();
    }
    whole
}

/// A service that answers with what it was asked.
pub(crate) fn echo(name: &'static str) -> Router {
    Router::new().fallback(async move |request: Request| {
        let headers: serde_json::Map<String, Value> = request
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
            .collect();
        let path = request.uri().path_and_query().map(|path| path.as_str());
        Json(json!({"service": name, "path": path, "headers": headers}))
    })
}

/// The destinations of `istio/`, with their ports in a cluster.
pub(crate) const DESTINATIONS: [(&str, u16); 4] =
    [("orion:1026", 1026), ("quantumleap:8668", 8668), ("ulagent:7896", 7896), ("ulagent:4041", 4041)];
