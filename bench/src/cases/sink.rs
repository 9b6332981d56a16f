//! Where notifications end: counts them, and says when the last of a change came.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Result;
use axum::{Router, extract::State, http::StatusCode};
use bytes::Bytes;

/// A receiver on a thread of its own.
pub(super) struct Sink {
    pub(super) address: SocketAddr,
    seen: Arc<Seen>,
    /// Ends the receiver when dropped.
    _stop: tokio::sync::oneshot::Sender<()>,
}

#[derive(Default)]
struct Seen {
    state: Mutex<Arrivals>,
    changed: Condvar,
}

#[derive(Default)]
struct Arrivals {
    total: u64,
    /// By the value that the change set: how many notifications came, and when the last did.
    by_value: HashMap<u64, (u64, Instant)>,
    sample: Bytes,
}

impl Seen {
    fn state(&self) -> MutexGuard<'_, Arrivals> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink {
    pub(super) fn start() -> Result<Self> {
        let seen = Arc::new(Seen::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let router = Router::new().fallback(receive).with_state(seen.clone());
        std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    served = axum::serve(listener, router).into_future() => served,
                    _ = stopped => Ok(()),
                }
            })
        });
        Ok(Self { address, seen, _stop: stop })
    }

    /// Waits until `total` notifications have come since the last [`Sink::forget`].
    pub(super) fn wait_for(&self, total: u64, patience: Duration) -> Result<()> {
        let state = self.seen.state();
        let (state, _) = self
            .seen
            .changed
            .wait_timeout_while(state, patience, |state| state.total < total)
            .unwrap_or_else(PoisonError::into_inner);
        anyhow::ensure!(state.total >= total, "{} of {total} notifications after {patience:?}", state.total);
        Ok(())
    }

    pub(super) fn forget(&self) {
        let mut state = self.seen.state();
        state.total = 0;
        state.by_value.clear();
    }

    /// The body of one notification.
    pub(super) fn sample(&self) -> Bytes {
        self.seen.state().sample.clone()
    }

    /// When the last notification of the change to `value` came, if `wanted` have come.
    pub(super) fn complete(&self, value: u64, wanted: u64) -> Option<Instant> {
        self.seen.state().by_value.get(&value).filter(|(count, _)| *count >= wanted).map(|(_, at)| *at)
    }
}

async fn receive(State(seen): State<Arc<Seen>>, body: Bytes) -> StatusCode {
    let now = Instant::now();
    let value = changed_value(&body);
    let mut state = seen.state();
    state.total += 1;
    if let Some(value) = value {
        let entry = state.by_value.entry(value).or_insert((0, now));
        *entry = (entry.0 + 1, now);
    }
    if state.sample.is_empty() {
        state.sample = body;
    }
    drop(state);
    seen.changed.notify_all();
    StatusCode::OK
}

/// The number that the changed attribute holds: `"temperature":{…"value":N…}`.
pub(super) fn changed_value(body: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, rest) = text.split_once(r#""temperature":"#)?;
    let (_, rest) = rest.split_once(r#""value":"#)?;
    let end = rest.find(|c: char| !c.is_ascii_digit())?;
    rest.split_at(end).0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_changed_value_is_found_wherever_it_stands() {
        let body = br#"{"data":[{"id":"a","humidity":{"value":3},"temperature":{"type":"Number","value":77,"metadata":{}}}]}"#;
        assert_eq!(changed_value(body), Some(77));
        assert_eq!(changed_value(b"{}"), None);
    }
}
