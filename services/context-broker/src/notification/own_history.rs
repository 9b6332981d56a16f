//! Which notification targets are the mesh's own time series (decision 18).

use crate::HistoryConfig;

const DEFAULT_PORT: u16 = 8668;
const PATH: &str = "/v2/notify";

/// The addresses that mean it; empty: it does not run in this composition.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnHistory {
    addresses: Vec<(String, u16)>,
}

impl OwnHistory {
    pub(crate) fn new(config: &HistoryConfig) -> Self {
        if !config.enabled {
            return Self::default();
        }
        let address = |text: &String| match text.rsplit_once(':').map(|(host, port)| (host, port.parse())) {
            Some((host, Ok(port))) => (host.to_ascii_lowercase(), port),
            _ => (text.to_ascii_lowercase(), DEFAULT_PORT),
        };
        Self { addresses: config.hosts.iter().map(address).collect() }
    }

    pub(crate) fn is_meant_by(&self, url: &str) -> bool {
        if self.addresses.is_empty() {
            return false;
        }
        let Ok(url) = url::Url::parse(url) else { return false };
        let Some(host) = url.host_str() else { return false };
        let port = url.port_or_known_default().unwrap_or_default();
        url.scheme() == "http"
            && url.path().trim_end_matches('/') == PATH
            && url.query().is_none()
            && self.addresses.iter().any(|(own, own_port)| own == host && *own_port == port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_addresses_and_path_are_the_history() {
        let hosts = vec!["quantumleap".to_owned(), "127.0.0.1:9668".to_owned()];
        let own = OwnHistory::new(&HistoryConfig { enabled: true, hosts: hosts.clone() });
        for (url, expected) in [
            ("http://quantumleap:8668/v2/notify", true),
            ("http://QuantumLeap:8668/v2/notify/", true),
            ("http://127.0.0.1:9668/v2/notify", true),
            ("http://quantumleap/v2/notify", false),
            ("http://quantumleap:8668/v2/notify?flush=1", false),
            ("http://quantumleap:8668/v2/entities", false),
            ("http://other:8668/v2/notify", false),
        ] {
            assert_eq!(own.is_meant_by(url), expected, "{url}");
        }
        let elsewhere = OwnHistory::new(&HistoryConfig { enabled: false, hosts });
        assert!(!elsewhere.is_meant_by("http://quantumleap:8668/v2/notify"));
    }
}
