//! Request lines as people write them, over real sockets and the real parser: what they ask for arrives, and no body is touched.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use axum::{Router, body::Bytes, http::Uri};
use proptest::prelude::*;
use service_kit::{
    Tasks,
    http::{HttpLimits, HttpListener, refuse_ngsi, serve},
    metrics::Metrics,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// Answers with the target and the body of each request.
async fn start() -> (Tasks, std::net::SocketAddr) {
    let tasks = Tasks::new();
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let listener = HttpListener {
        service: "test",
        name: "http",
        limits: HttpLimits::default(),
        refuse: refuse_ngsi(),
        metrics: Metrics::new(),
    };
    let echo = |uri: Uri, body: Bytes| async move { [uri.to_string().as_bytes(), b"\n", &body].concat() };
    serve(&tasks, socket, Router::new().fallback(echo), listener);
    (tasks, address)
}

#[derive(Clone, Debug)]
struct Sent {
    target: String,
    body: String,
    /// Goes out in one piece with the request before, whose answer is not waited for.
    runs_on: bool,
    /// Where it is cut in pieces.
    cuts: Vec<prop::sample::Index>,
}

impl Sent {
    fn bytes(&self) -> String {
        match &*self.body {
            "" => format!("GET {} HTTP/1.1\r\nhost: x\r\n\r\n", self.target),
            body => {
                let length = body.len();
                format!("POST {} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}", self.target)
            }
        }
    }

    fn expected(&self) -> String {
        let target =
            self.target.replace('<', "%3C").replace('>', "%3E").replace('"', "%22").replace(' ', "%20");
        format!("{target}\n{}", self.body)
    }
}

/// Mostly as clients behave: one after the other.
fn sent() -> impl Strategy<Value = Sent> {
    let target = prop_oneof!["/[a-z]{0,3}[?]q=[a-z]{1,3}[<>\"= ]{1,3}[0-9]{1,2}", "/[a-z]{1,5}"];
    // What would be taken for a line if a body were taken for a request.
    let body = prop_oneof![
        Just(String::new()),
        "[a<> \n]{1,40}",
        "(GET /<> HTTP/1.1\r\n|POST /a b HTTP/1.1\r\n\r\n|\r\n|\n){1,4}"
    ];
    let cuts = prop::collection::vec(any::<prop::sample::Index>(), 0..4);
    (target, body, prop::bool::weighted(0.15), cuts).prop_map(|(target, body, runs_on, cuts)| Sent {
        target,
        body,
        runs_on,
        cuts,
    })
}

/// The status and the body of an answer; none when the connection has ended.
async fn answer(stream: &mut BufReader<TcpStream>) -> Option<(u16, String)> {
    let (mut status, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return None;
        }
        let line = line.trim_end().to_ascii_lowercase();
        match status {
            None => status = line.split(' ').nth(1).and_then(|status| status.parse().ok()),
            Some(status) if line.is_empty() => {
                let mut body = vec![0; length];
                stream.read_exact(&mut body).await.unwrap();
                return Some((status, String::from_utf8(body).unwrap()));
            }
            Some(_) => {
                if let Some(value) = line.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
        }
    }
}

/// Writes a run of requests in pieces.
async fn write(stream: &mut BufReader<TcpStream>, run: &[Sent]) {
    let bytes: String = run.iter().map(Sent::bytes).collect();
    let mut cuts: Vec<usize> =
        run.iter().flat_map(|sent| &sent.cuts).map(|cut| cut.index(bytes.len())).collect();
    cuts.push(bytes.len());
    cuts.sort_unstable();
    let mut from = 0;
    for cut in cuts {
        if stream.write_all(&bytes.as_bytes()[from..cut]).await.is_err() {
            return;
        }
        from = cut;
        // The server runs on the same thread, and reads this piece by itself.
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
    }
}

async fn check(address: std::net::SocketAddr, requests: &[Sent]) {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut stream = BufReader::new(stream);
    // Behind requests that went out together, nothing is certain; what needs no encoding is answered all the same.
    let mut is_certain = true;
    for run in requests.chunk_by(|_, next| next.runs_on) {
        write(&mut stream, run).await;
        for (at, sent) in run.iter().enumerate() {
            is_certain &= at == 0;
            let is_raw = sent.expected() != format!("{}\n{}", sent.target, sent.body);
            match answer(&mut stream).await {
                Some((200, body)) => assert_eq!(body, sent.expected()),
                refused => {
                    assert!(is_raw && !is_certain, "{sent:?} of {requests:?}: {refused:?}");
                    return;
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn what_was_asked_arrives_however_it_is_cut(requests in prop::collection::vec(sent(), 1..8)) {
        // Sockets are looked at after every step, so that a piece is read before the next one is written.
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().event_interval(1).build().unwrap();
        runtime.block_on(async {
            let (_tasks, address) = start().await;
            check(address, &requests).await;
        });
    }
}
