use serde::{Deserialize, Serialize};
use service_kit::http::HttpLimits;

/// Settings of the gateway; the defaults are those of a mesh on one machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address to listen on.
    pub host: String,
    /// Port of the guarded way in; 0: any.
    pub port: u16,
    /// Port of the ext_authz server that an Envoy may ask; 0: any.
    pub authz_port: u16,
    /// Folder that holds `istio/` and `opa/`; empty: the ones compiled in.
    pub definition_dir: String,
    /// Key set of the issuer, as a file; empty: none. Read again when it may have changed.
    pub jwks_file: String,
    /// Key set of the issuer, as an `http://` URL inside the mesh; empty: none.
    pub jwks_url: String,
    /// The only accepted `iss`; empty: not looked at.
    pub issuer: String,
    /// A token must be for one of these; empty: not looked at.
    pub audiences: Vec<String>,
    /// Refuse with a bare 403, as the first FIWARE policy did.
    pub strict_compat: bool,
    /// Tokens remembered as genuine.
    pub token_cache_entries: u64,
    /// The keys are read again this often.
    pub key_refresh_seconds: u64,
    /// And earlier for a token with an unknown `kid`, but not more often than this.
    pub key_refresh_min_seconds: u64,
    /// Largest request body in bytes; the services have limits of their own below it.
    pub max_body_bytes: u64,
    /// Destinations of `istio/` in other processes: `orion:1026=http://10.0.0.5:1026`. Those not named are in this one.
    pub upstreams: Vec<String>,
    pub limits: HttpLimits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".into(),
            port: 8000,
            authz_port: 9191,
            definition_dir: String::new(),
            jwks_file: String::new(),
            jwks_url: String::new(),
            issuer: String::new(),
            audiences: Vec::new(),
            strict_compat: false,
            token_cache_entries: 10_000,
            key_refresh_seconds: 300,
            key_refresh_min_seconds: 10,
            max_body_bytes: 10 * 1024 * 1024,
            upstreams: Vec::new(),
            // The routes' own timeouts are shorter: they answer first.
            limits: HttpLimits { request_timeout_ms: 60_000, ..HttpLimits::default() },
        }
    }
}
