//! How a broker is reached: its URL, and connections to it, plain or over TLS.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use url::Url;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Shorter than servers usually keep a connection that nobody uses.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) type Client = legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// The base URL, as all paths are appended to it.
pub(super) fn base(url: &str) -> Result<String> {
    // The URL is not repeated in the error: it may hold a password.
    let url = Url::parse(url).context("not a URL such as http://orion:1026")?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        bail!("not an http or https URL");
    }
    if !url.username().is_empty() || url.password().is_some() {
        bail!("user and password are not taken from the URL: give a header `Authorization: Basic …`");
    }
    if url.query().is_some() || url.fragment().is_some() {
        bail!("a base URL has no query and no fragment");
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// The system's certificate authorities are read only when they are needed: that takes its time.
pub(super) fn client(secure: bool) -> Result<Client> {
    let mut roots = rustls::RootCertStore::empty();
    if secure {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
    let mut below = HttpConnector::new();
    below.set_connect_timeout(Some(CONNECT_TIMEOUT));
    below.set_nodelay(true);
    below.enforce_http(false);
    let above = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1();
    let mut client = legacy::Client::builder(TokioExecutor::new());
    client.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE_TIMEOUT);
    Ok(client.build(above.wrap_connector(below)))
}

/// An error with all that caused it: "client error (Connect)" alone helps nobody.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_may_have_a_path_and_no_secrets() {
        assert_eq!(base("http://orion:1026").unwrap(), "http://orion:1026");
        assert_eq!(base("https://mesh/orion/").unwrap(), "https://mesh/orion");
        for bad in ["orion:1026", "ftp://orion", "http://u:hunter2@orion", "http://orion/?a=b", "", "orion"] {
            let error = base(bad).unwrap_err();
            assert!(!format!("{error:#}").contains("hunter2"), "{error:#}");
        }
    }
}
