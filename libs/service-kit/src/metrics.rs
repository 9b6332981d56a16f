//! The registry behind `/metrics`. Each service registers its own metrics, named `thingmesh_<service>_<what>_<unit>`,
//! in its file `metrics.rs`.

use std::sync::{Arc, Mutex};

use prometheus_client::{metrics::histogram::Histogram, registry::Registry};

use crate::http::HttpMetrics;

/// Shared by all services of a process; metrics are registered once at start.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    http: HttpMetrics,
}

impl Metrics {
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let http = HttpMetrics::register(registry.sub_registry_with_prefix("thingmesh_http"));
        Self { registry: Arc::new(Mutex::new(registry)), http }
    }

    /// The metrics of all HTTP listeners.
    pub fn http(&self) -> &HttpMetrics {
        &self.http
    }

    /// Registers metrics under the prefix `thingmesh_<service>`, dashes turned to underscores.
    pub fn register(&self, service: &str, register: impl FnOnce(&mut Registry)) {
        let mut root = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        register(root.sub_registry_with_prefix(format!("thingmesh_{}", service.replace('-', "_"))));
    }

    /// All metrics as OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let root = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match prometheus_client::encoding::text::encode(&mut text, &root) {
            Ok(()) => text,
            Err(_) => String::new(),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// A histogram of seconds from 0.1 ms to 10 s.
pub fn seconds_histogram() -> Histogram {
    Histogram::new([
        0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    ])
}
