//! The embedded ingress: the one guarded way into the mesh, defined by the files that Istio and OPA read in a cluster.
//!
//! ```text
//! client ─► normalise ─► route (istio/) ─┬─ open path ──────────────┐
//!                                        └─ policy (opa/) ─ allowed ─┴─► headers cleaned ─► service
//! Envoy ──► ext_authz v3 ─────────────────► the same policy
//! ```
//! No route and no rule is written in this crate. What `istio/` says and this can't do is an error at start. The path is
//! normalised once; routes and rules see the same value.

mod authz;
mod config;
mod definition;
mod guard;
pub mod issuer;
mod keyring;
mod metrics;
pub mod normalize;
pub mod policy;
mod proxy;
pub mod routes;
pub mod upstream;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use envoy_types::ext_authz::v3::pb::AuthorizationServer;
use service_kit::{Readiness, Running, Tasks, grpc, http as kit_http, metrics::Metrics};
use tokio::net::TcpListener;

pub use config::Config;
pub use definition::Definition;
pub use issuer::DevelopmentIssuer;
pub use metrics::GatewayMetrics;
pub use upstream::{Upstream, Upstreams};

use guard::Guard;
use keyring::{KeySource, Keyring};
use policy::{Policy, PolicySettings};
use proxy::Proxy;
use routes::Edge;

/// The logical service's name in spans and metrics.
pub const SERVICE: &str = "gateway";

/// What the gateway works with.
pub struct Deps {
    /// Services in this process, by the `host:port` of their destination in `istio/`, such as `orion:1026`.
    pub upstreams: Upstreams,
    /// Its tokens are accepted; `None` in a cluster, where an issuer of its own runs.
    pub development_issuer: Option<DevelopmentIssuer>,
    pub readiness: Readiness,
    pub metrics: Metrics,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("gateway: cannot listen on {address}")]
    Listen { address: String, source: std::io::Error },
    #[error("gateway: {0}")]
    Definition(String),
    #[error("gateway: {0}")]
    Routes(#[from] routes::RouteError),
    #[error("gateway: {0}")]
    Policy(#[from] policy::PolicyError),
    #[error("gateway: {0}")]
    Upstream(String),
    #[error("gateway: {0}")]
    Keys(String),
}

/// Starts the gateway. Addresses: `http` the guarded way in, `authz` the ext_authz server.
pub async fn start(config: Config, deps: Deps) -> Result<Running, StartError> {
    let http = listen(&config.host, config.port).await?;
    let authz = listen(&config.host, config.authz_port).await?;
    let addresses = BTreeMap::from([("http", address(&http)?), ("authz", address(&authz)?)]);

    let definition = definition(&config).map_err(StartError::Definition)?;
    let edge = Edge::read(&definition.resources, &definition.mesh_config)?;
    let upstreams =
        upstream::with_configured(deps.upstreams, &config.upstreams).map_err(StartError::Upstream)?;
    if let Some(route) = edge.routes().iter().find(|route| !upstreams.contains_key(&route.upstream)) {
        let missing = format!("route {} goes to {}, which is not known here", route.name, route.upstream);
        return Err(StartError::Upstream(missing));
    }

    let metrics = GatewayMetrics::register(&deps.metrics);
    let sources = key_sources(&config, deps.development_issuer.as_ref()).map_err(StartError::Keys)?;
    let policy = policy(&config, &definition, &sources, &metrics)?;
    let keyring = Arc::new(Keyring::new(
        sources,
        policy.clone(),
        Duration::from_secs(config.key_refresh_min_seconds),
        deps.readiness,
        metrics.clone(),
    ));
    let guard = Guard { policy, keyring: keyring.clone(), metrics };

    let tasks = Tasks::new();
    let (interval, stop) = (Duration::from_secs(config.key_refresh_seconds.max(1)), tasks.stop_token());
    tasks.spawn("gateway keys", async move {
        keyring.keep_fresh(interval, stop).await;
        Ok::<(), std::convert::Infallible>(())
    });
    let checker = AuthorizationServer::new(authz::ExtAuthz { guard: guard.clone() });
    grpc::serve(&tasks, authz, checker, grpc::GrpcListener { service: SERVICE, descriptors: &[] });
    let proxy = Proxy { edge, guard, upstreams, max_body_bytes: config.max_body_bytes };
    let listener = kit_http::HttpListener {
        service: SERVICE,
        name: "http",
        limits: config.limits,
        refuse: proxy::refuse(),
        metrics: deps.metrics,
    };
    kit_http::serve(&tasks, http, proxy::router(proxy), listener);
    Ok(Running::new(SERVICE, addresses, tasks))
}

fn definition(config: &Config) -> Result<Definition, String> {
    if config.definition_dir.is_empty() {
        Ok(Definition::compiled_in())
    } else {
        Definition::read(Path::new(&config.definition_dir))
    }
}

fn policy(
    config: &Config,
    definition: &Definition,
    sources: &[KeySource],
    metrics: &GatewayMetrics,
) -> Result<Arc<Policy>, StartError> {
    let settings = PolicySettings {
        issuer: config.issuer.clone(),
        audiences: config.audiences.clone(),
        strict_compat: config.strict_compat,
        token_cache_entries: config.token_cache_entries,
    };
    let keys = keyring::fixed_keys(sources);
    let policy =
        Policy::new(&definition.policy.name, &definition.policy.text, settings, &keys, metrics.clone())?;
    Ok(Arc::new(policy))
}

fn key_sources(config: &Config, issuer: Option<&DevelopmentIssuer>) -> Result<Vec<KeySource>, String> {
    let mut sources: Vec<KeySource> =
        issuer.map(|issuer| KeySource::Fixed(issuer.jwks().clone())).into_iter().collect();
    if !config.jwks_file.is_empty() {
        sources.push(KeySource::File(config.jwks_file.clone().into()));
    }
    if !config.jwks_url.is_empty() {
        let uri: http::Uri = config.jwks_url.parse().map_err(|error| format!("jwks_url: {error}"))?;
        if uri.scheme_str() != Some("http") {
            return Err(
                "jwks_url: only http:// is supported; for https:// have the keys written to jwks_file".into(),
            );
        }
        sources.push(KeySource::Url(uri));
    }
    if sources.is_empty() {
        return Err("no keys: set jwks_url or jwks_file, or run with the development issuer".into());
    }
    Ok(sources)
}

async fn listen(host: &str, port: u16) -> Result<TcpListener, StartError> {
    let listening = TcpListener::bind((host, port)).await;
    listening.map_err(|source| StartError::Listen { address: format!("{host}:{port}"), source })
}

fn address(listener: &TcpListener) -> Result<std::net::SocketAddr, StartError> {
    listener.local_addr().map_err(|source| StartError::Listen { address: "socket".into(), source })
}
