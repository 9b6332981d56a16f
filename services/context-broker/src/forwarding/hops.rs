//! Keeps a request from going round: providers may be brokers that have this one for a provider.
//!
//! Brokers of this kind pass `Via` on: who finds itself there, or too many others, forwards no more. Other brokers pass
//! the correlator on, to which each adds `; cbfwd=N`: a request whose correlator begins with one that is on its way
//! from here has come back.

use std::collections::HashSet;

use parking_lot::Mutex;

use super::Caller;

const KIND: &str = "thingmesh-";
const SUFFIX: &str = "; cbfwd=";

pub(super) struct Hops {
    /// The name of this process in `Via`.
    own: String,
    max: usize,
    /// Correlators of forwards that are not answered yet.
    passing: Mutex<HashSet<String>>,
}

/// A forward on its way.
pub(super) struct Passing<'a> {
    hops: &'a Hops,
    correlator: &'a str,
}

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        self.hops.passing.lock().remove(self.correlator);
    }
}

impl Hops {
    pub(super) fn new(max: usize) -> Self {
        Self { own: format!("{KIND}{:016x}", rand::random::<u64>()), max, passing: Mutex::default() }
    }

    pub(super) fn pass<'a>(&'a self, correlator: &'a str) -> Passing<'a> {
        self.passing.lock().insert(correlator.to_owned());
        Passing { hops: self, correlator }
    }

    /// What `Via` says to the next.
    pub(super) fn via(&self, caller: &Caller) -> String {
        match caller.via.as_ref().and_then(|via| via.to_str().ok()) {
            Some(before) => format!("{before}, 1.1 {}", self.own),
            None => format!("1.1 {}", self.own),
        }
    }

    pub(super) fn looped(&self, caller: &Caller) -> bool {
        let via = caller.via.as_ref().and_then(|via| via.to_str().ok()).unwrap_or_default();
        let others = via.split(',').filter_map(|hop| hop.split_whitespace().nth(1));
        let ours: Vec<&str> = others.filter(|name| name.starts_with(KIND)).collect();
        ours.len() >= self.max
            || ours.contains(&self.own.as_str())
            || self.is_passing(&caller.cause.correlator)
    }

    fn is_passing(&self, correlator: &str) -> bool {
        if !correlator.contains(SUFFIX) {
            return false;
        }
        let passing = self.passing.lock();
        let ends = correlator.match_indices(SUFFIX).map(|(at, _)| at).chain([correlator.len()]);
        ends.filter_map(|end| correlator.get(..end)).any(|prefix| passing.contains(prefix))
    }
}

#[cfg(test)]
mod tests {
    use scope::Tenant;
    use service_kit::RequestContext;

    use super::*;

    fn caller(via: Option<&str>, correlator: &str) -> Caller {
        let cause = RequestContext { correlator: correlator.into(), ..RequestContext::background("test") };
        Caller {
            tenant: Tenant::default(),
            service_path: None,
            auth_token: None,
            via: via.map(|via| via.parse().unwrap()),
            cause,
            skip: false,
        }
    }

    #[test]
    fn a_request_that_was_here_is_known_by_its_via() {
        let hops = Hops::new(3);
        let first = caller(None, "c");
        assert!(!hops.looped(&first));
        let via = hops.via(&first);
        assert!(hops.looped(&caller(Some(&via), "d")));
        let other = Hops::new(3);
        assert!(!other.looped(&caller(Some(&via), "d")));
        assert!(!other.looped(&caller(Some(&format!("{via}, 1.0 some.proxy, 1.1 thingmesh-2")), "d")));
        assert!(
            other.looped(&caller(Some(&format!("{via}, 1.1 thingmesh-1, 1.1 thingmesh-2")), "d")),
            "too far"
        );
    }

    #[test]
    fn a_request_that_is_on_its_way_is_known_by_its_correlator() {
        let hops = Hops::new(3);
        {
            let _passing = hops.pass("c; cbfwd=1");
            assert!(hops.looped(&caller(None, "c; cbfwd=1")));
            assert!(hops.looped(&caller(None, "c; cbfwd=1; cbfwd=3")));
            assert!(!hops.looped(&caller(None, "c; cbfwd=2")), "another forward of the same request");
            assert!(!hops.looped(&caller(None, "c; cbfwd=12")));
            assert!(!hops.looped(&caller(None, "c")), "the client sent it again");
        }
        assert!(!hops.looped(&caller(None, "c; cbfwd=1")), "it was answered");
    }
}
