//! What travels with a request across every hop: its place in a trace, and its correlator.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

pub const CORRELATOR: &str = "fiware-correlator";
const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
const B3: &str = "b3";
const X_B3_TRACE_ID: &str = "x-b3-traceid";
const X_B3_SPAN_ID: &str = "x-b3-spanid";
const X_B3_SAMPLED: &str = "x-b3-sampled";
const MAX_CORRELATOR: usize = 256;
const MAX_TRACESTATE: usize = 512;

/// A place in a trace, as W3C trace context defines it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceContext {
    pub trace_id: u128,
    pub span_id: u64,
    pub sampled: bool,
    pub state: String,
}

impl TraceContext {
    /// A new trace, for a request that came without one.
    pub fn generate(sampled: bool) -> Self {
        Self {
            trace_id: rand::random::<u128>().max(1),
            span_id: rand::random::<u64>().max(1),
            sampled,
            state: String::new(),
        }
    }

    /// Reads W3C `traceparent`, else B3 (single header or `x-b3-*`). What does not parse counts as absent.
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(context) = text(TRACEPARENT).and_then(Self::parse) {
            let state = text(TRACESTATE).filter(|state| state.len() <= MAX_TRACESTATE).unwrap_or_default();
            return Some(Self { state: state.to_owned(), ..context });
        }
        if let Some(single) = text(B3) {
            let mut parts = single.split('-');
            return Self::b3(parts.next()?, parts.next()?, parts.next());
        }
        Self::b3(text(X_B3_TRACE_ID)?, text(X_B3_SPAN_ID)?, text(X_B3_SAMPLED))
    }

    /// Reads the text of a `traceparent`.
    pub fn parse(traceparent: &str) -> Option<Self> {
        let mut parts = traceparent.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if version.len() != 2 || version == "ff" || trace.len() != 32 || span.len() != 16 || flags.len() != 2
        {
            return None;
        }
        let flags = u8::from_str_radix(flags, 16).ok()?;
        Self {
            trace_id: hex128(trace)?,
            span_id: hex64(span)?,
            sampled: flags & 1 == 1,
            state: String::new(),
        }
        .valid()
    }

    fn b3(trace: &str, span: &str, sampled: Option<&str>) -> Option<Self> {
        if !matches!(trace.len(), 16 | 32) || span.len() != 16 {
            return None;
        }
        let sampled = !matches!(sampled, Some("0" | "false"));
        Self { trace_id: hex128(trace)?, span_id: hex64(span)?, sampled, state: String::new() }.valid()
    }

    fn valid(self) -> Option<Self> {
        (self.trace_id != 0 && self.span_id != 0).then_some(self)
    }

    /// The text of a `traceparent`.
    pub fn traceparent(&self) -> String {
        let mut text = String::with_capacity(55);
        text.push_str("00-");
        push_hex(&mut text, &self.trace_id.to_be_bytes());
        text.push('-');
        push_hex(&mut text, &self.span_id.to_be_bytes());
        text.push_str(if self.sampled { "-01" } else { "-00" });
        text
    }

    /// Writes W3C and B3 headers.
    pub fn inject(&self, headers: &mut HeaderMap) {
        let mut set = |name: &'static str, text: &str| {
            if let Ok(value) = HeaderValue::from_str(text) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        set(TRACEPARENT, &self.traceparent());
        set(X_B3_TRACE_ID, &format!("{:032x}", self.trace_id));
        set(X_B3_SPAN_ID, &format!("{:016x}", self.span_id));
        set(X_B3_SAMPLED, if self.sampled { "1" } else { "0" });
        if !self.state.is_empty() {
            set(TRACESTATE, &self.state);
        }
    }
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)]);
        text.push(DIGITS[usize::from(byte & 15)]);
    }
}

fn hex128(text: &str) -> Option<u128> {
    text.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

fn hex64(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

/// What the current request carries; inherited by everything that is done because of it.
#[derive(Clone, Debug)]
pub struct RequestContext {
    pub trace: TraceContext,
    /// `Fiware-Correlator`: the client's, or a new UUID.
    pub correlator: Arc<str>,
    /// Where the broker keeps the request's `X-Auth-Token`; never the token.
    pub token_ref: Option<Arc<str>>,
    /// The logical service at work, such as `context-broker`.
    pub service: &'static str,
}

tokio::task_local! {
    static CURRENT: RequestContext;
}

impl RequestContext {
    /// Reads what an inbound request carries and makes up the rest.
    pub fn from_headers(service: &'static str, headers: &HeaderMap) -> Self {
        let correlator = headers.get(CORRELATOR).and_then(|value| value.to_str().ok());
        let correlator = match correlator.filter(|text| !text.is_empty() && text.len() <= MAX_CORRELATOR) {
            Some(text) => text.into(),
            None => new_correlator(),
        };
        let trace = TraceContext::from_headers(headers).unwrap_or_else(|| TraceContext::generate(true));
        Self { trace, correlator, token_ref: None, service }
    }

    /// The context of work that no request caused.
    pub fn background(service: &'static str) -> Self {
        Self { trace: TraceContext::generate(true), correlator: new_correlator(), token_ref: None, service }
    }

    /// The context of the request being handled by this task, if any.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// Runs `work` as part of this request.
    pub async fn run<F: Future>(self, work: F) -> F::Output {
        CURRENT.scope(self, work).await
    }

    /// Writes the headers of an outbound request made because of this one.
    pub fn inject(&self, headers: &mut HeaderMap) {
        self.trace.inject(headers);
        if let Ok(value) = HeaderValue::from_str(&self.correlator) {
            headers.insert(HeaderName::from_static(CORRELATOR), value);
        }
    }
}

/// A random UUID. It need not be hard to guess, so it does not cost a call of the kernel.
fn new_correlator() -> Arc<str> {
    let uuid = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
    (&*uuid.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer())).into()
}

/// Reads the current request's context without cloning it.
pub(crate) fn with_current<R>(read: impl FnOnce(&RequestContext) -> R) -> Option<R> {
    CURRENT.try_with(read).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(rows: &[(&'static str, &str)]) -> HeaderMap {
        rows.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn w3c_and_both_forms_of_b3_come_in_and_both_go_out() {
        let expected = TraceContext {
            trace_id: 0x4bf92f3577b34da6a3ce929d0e0e4736,
            span_id: 0x00f067aa0ba902b7,
            sampled: true,
            state: String::new(),
        };
        let w3c = format!("00-{TRACE}-00f067aa0ba902b7-01");
        let single = format!("{TRACE}-00f067aa0ba902b7-1");
        for rows in [
            vec![("traceparent", w3c.as_str())],
            vec![("b3", single.as_str())],
            vec![("x-b3-traceid", TRACE), ("x-b3-spanid", "00f067aa0ba902b7"), ("x-b3-sampled", "1")],
        ] {
            assert_eq!(TraceContext::from_headers(&headers(&rows)), Some(expected.clone()), "{rows:?}");
        }
        let mut out = HeaderMap::new();
        expected.inject(&mut out);
        assert_eq!(out["traceparent"], w3c);
        assert_eq!(out["x-b3-traceid"], TRACE);
        assert!(!out.contains_key("tracestate"));
    }

    #[test]
    fn sixty_four_bit_ids_are_padded() {
        let context =
            TraceContext::from_headers(&headers(&[("b3", "a3ce929d0e0e4736-00f067aa0ba902b7-0")])).unwrap();
        assert_eq!(context.trace_id, 0xa3ce929d0e0e4736);
        assert!(!context.sampled);
    }

    #[test]
    fn what_does_not_parse_counts_as_absent() {
        for bad in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::from_headers(&headers(&[("traceparent", bad)])), None, "{bad}");
        }
    }

    #[test]
    fn a_correlator_is_kept_or_made() {
        let kept = RequestContext::from_headers("x", &headers(&[("fiware-correlator", "abc")]));
        assert_eq!(&*kept.correlator, "abc");
        let made = RequestContext::from_headers("x", &HeaderMap::new());
        assert_eq!(made.correlator.len(), 36);
    }
}
