use std::{
    collections::BTreeMap,
    sync::{Arc, RwLock},
};

/// What the process needs to serve, and whether it is there. `/readyz` is 200 when everything is.
#[derive(Clone, Default)]
pub struct Readiness(Arc<RwLock<BTreeMap<String, Result<(), String>>>>);

impl Readiness {
    pub fn new() -> Self {
        Self::default()
    }

    /// Declares a need that will be set later: until then the process is not ready.
    pub fn expect(&self, need: &str) {
        let mut needs = self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        needs.entry(need.to_owned()).or_insert_with(|| Err("starting".to_owned()));
    }

    /// Records the state of one need, such as `context-broker.store`. Unknown needs are not ready until first set.
    pub fn set(&self, need: &str, state: Result<(), String>) {
        let mut needs = self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let before = needs.insert(need.to_owned(), state.clone());
        if before.as_ref().map(Result::is_ok) != Some(state.is_ok()) {
            match &state {
                Ok(()) => tracing::info!(need, "ready"),
                Err(reason) => tracing::warn!(need, reason, "not ready"),
            }
        }
    }

    /// All needs with their state.
    pub fn snapshot(&self) -> BTreeMap<String, Result<(), String>> {
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    pub fn is_ready(&self) -> bool {
        let needs = self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        !needs.is_empty() && needs.values().all(Result::is_ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expected_need_keeps_the_process_from_being_ready_until_it_is_set() {
        let readiness = Readiness::new();
        readiness.set("bus", Ok(()));
        readiness.expect("services");
        readiness.expect("bus");
        assert!(!readiness.is_ready());
        readiness.set("services", Ok(()));
        assert!(readiness.is_ready());
    }
}
