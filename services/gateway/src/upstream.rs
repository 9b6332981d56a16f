//! The services behind the gateway: in this process or another.

use std::{collections::BTreeMap, time::Duration};

use axum::{Router, body::Body};
use http::{Request, Response, Uri, uri};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tower::{BoxError, ServiceExt, util::BoxCloneSyncService};

/// A service behind the gateway; the same type for both places.
pub type Upstream = BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

/// Services by the `host:port` of their destination in `istio/`.
pub type Upstreams = BTreeMap<String, Upstream>;

/// A service in this process.
pub fn local(router: Router) -> Upstream {
    BoxCloneSyncService::new(ServiceExt::<Request<Body>>::map_err(router, |never| match never {}))
}

/// A service in another process, at `http://host:port`.
pub fn remote(url: &str) -> Result<Upstream, String> {
    let base: Uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
    let authority = base.authority().cloned().filter(|_| base.scheme() == Some(&uri::Scheme::HTTP));
    let authority = authority.ok_or_else(|| format!("{url}: an upstream is http://host:port"))?;
    if !matches!(base.path(), "" | "/") || base.query().is_some() {
        return Err(format!("{url}: an upstream has no path of its own"));
    }
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(Duration::from_secs(2)));
    connector.set_nodelay(true);
    let client: Client<HttpConnector, Body> = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(30))
        .build(connector);
    let send = tower::service_fn(move |mut request: Request<Body>| {
        let (client, authority) = (client.clone(), authority.clone());
        async move {
            let mut parts = std::mem::take(request.uri_mut()).into_parts();
            parts.scheme = Some(uri::Scheme::HTTP);
            parts.authority = Some(authority);
            *request.uri_mut() = Uri::from_parts(parts)?;
            *request.version_mut() = http::Version::HTTP_11;
            let response = client.request(request).await?;
            Ok::<_, BoxError>(response.map(Body::new))
        }
    });
    Ok(BoxCloneSyncService::new(send))
}

/// Adds the upstreams of the configuration, `orion:1026=http://10.0.0.5:1026` each.
pub(crate) fn with_configured(mut upstreams: Upstreams, configured: &[String]) -> Result<Upstreams, String> {
    for entry in configured {
        let (name, url) = entry
            .split_once('=')
            .ok_or_else(|| format!("{entry}: an upstream is host:port=http://host:port"))?;
        upstreams.insert(name.to_owned(), remote(url)?);
    }
    Ok(upstreams)
}
