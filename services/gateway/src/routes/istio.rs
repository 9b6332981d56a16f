use std::time::Duration;

use serde::{Deserialize, de::DeserializeOwned};

use super::{Edge, Pattern, Route};

/// A file of `istio/`, with its name for errors.
#[derive(Clone, Debug)]
pub struct EdgeFile {
    pub name: String,
    pub text: String,
}

#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    #[error("{file}: {reason}")]
    Syntax { file: String, reason: String },
    #[error("{file}: {kind} {name}: {reason}")]
    Unsupported { file: String, kind: String, name: String, reason: String },
    #[error("no {0} in the edge definition")]
    Missing(&'static str),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Resource {
    api_version: String,
    kind: String,
    metadata: Metadata,
    #[serde(default)]
    spec: yaml_serde::Value,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GatewaySpec {
    #[serde(rename = "selector")]
    _selector: yaml_serde::Value,
    servers: Vec<Server>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Server {
    port: ServerPort,
    hosts: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServerPort {
    #[serde(rename = "number")]
    _number: u16,
    #[serde(rename = "name")]
    _name: String,
    protocol: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VirtualServiceSpec {
    hosts: Vec<String>,
    gateways: Vec<String>,
    http: Vec<HttpRoute>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpRoute {
    name: String,
    #[serde(rename = "match")]
    matches: Vec<Match>,
    rewrite: Option<Rewrite>,
    route: Vec<Weighted>,
    timeout: Option<String>,
    retries: Option<Retries>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Match {
    uri: UriMatch,
}

/// One of the two.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UriMatch {
    exact: Option<String>,
    prefix: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rewrite {
    uri: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Weighted {
    destination: Destination,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Destination {
    host: String,
    port: DestinationPort,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DestinationPort {
    number: u16,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Retries {
    attempts: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AuthorizationSpec {
    #[serde(rename = "selector")]
    _selector: yaml_serde::Value,
    action: String,
    provider: Provider,
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Provider {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    to: Vec<To>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct To {
    operation: Operation,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Operation {
    not_paths: Vec<String>,
}

/// Mesh configuration is Istio's own: only what the edge depends on is looked at.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MeshConfig {
    path_normalization: PathNormalization,
    extension_providers: Vec<NamedProvider>,
}

#[derive(Deserialize)]
struct PathNormalization {
    normalization: String,
}

#[derive(Deserialize)]
struct NamedProvider {
    name: String,
}

/// Where a fault was found.
struct Origin<'f> {
    file: &'f str,
    resource: &'f Resource,
}

impl Origin<'_> {
    fn unsupported(&self, reason: impl Into<String>) -> RouteError {
        RouteError::Unsupported {
            file: self.file.to_owned(),
            kind: self.resource.kind.clone(),
            name: self.resource.metadata.name.clone(),
            reason: reason.into(),
        }
    }

    fn spec<T: DeserializeOwned>(&self) -> Result<T, RouteError> {
        yaml_serde::from_value(self.resource.spec.clone())
            .map_err(|error| self.unsupported(format!("not understood by the embedded gateway: {error}")))
    }
}

#[derive(Default)]
struct Found {
    gateways: Vec<String>,
    routes: Vec<Route>,
    used_gateways: Vec<(String, RouteErrorAt)>,
    open_paths: Option<(Vec<Pattern>, String, RouteErrorAt)>,
}

/// What is needed to report on a resource after it was read.
struct RouteErrorAt {
    file: String,
    kind: String,
    name: String,
}

impl RouteErrorAt {
    fn unsupported(self, reason: String) -> RouteError {
        RouteError::Unsupported { file: self.file, kind: self.kind, name: self.name, reason }
    }
}

impl From<&Origin<'_>> for RouteErrorAt {
    fn from(origin: &Origin<'_>) -> Self {
        Self {
            file: origin.file.to_owned(),
            kind: origin.resource.kind.clone(),
            name: origin.resource.metadata.name.clone(),
        }
    }
}

pub(super) fn read(files: &[EdgeFile], mesh_config: &EdgeFile) -> Result<Edge, RouteError> {
    let mesh: MeshConfig =
        yaml_serde::from_str(&mesh_config.text).map_err(|error| syntax(mesh_config, &error))?;
    if mesh.path_normalization.normalization != "DECODE_AND_MERGE_SLASHES" {
        let reason = "pathNormalization must be DECODE_AND_MERGE_SLASHES".into();
        return Err(RouteError::Syntax { file: mesh_config.name.clone(), reason });
    }
    let mut found = Found::default();
    for file in files {
        for document in yaml_serde::Deserializer::from_str(&file.text) {
            let resource = Resource::deserialize(document).map_err(|error| syntax(file, &error))?;
            read_resource(&Origin { file: &file.name, resource: &resource }, &mut found)?;
        }
    }
    if found.routes.is_empty() {
        return Err(RouteError::Missing("VirtualService"));
    }
    if let Some((gateway, at)) =
        found.used_gateways.into_iter().find(|(gateway, _)| !found.gateways.contains(gateway))
    {
        return Err(at.unsupported(format!("there is no Gateway {gateway}")));
    }
    let (open_paths, provider, at) = found.open_paths.ok_or(RouteError::Missing("AuthorizationPolicy"))?;
    if !mesh.extension_providers.iter().any(|known| known.name == provider) {
        return Err(at.unsupported(format!("the mesh configuration has no extension provider {provider}")));
    }
    Ok(Edge { routes: found.routes, open_paths })
}

fn syntax(file: &EdgeFile, error: &yaml_serde::Error) -> RouteError {
    RouteError::Syntax { file: file.name.clone(), reason: error.to_string() }
}

fn read_resource(origin: &Origin<'_>, found: &mut Found) -> Result<(), RouteError> {
    let group = origin.resource.api_version.split('/').next().unwrap_or_default();
    match (group, origin.resource.kind.as_str()) {
        ("networking.istio.io", "Gateway") => {
            check_gateway(origin)?;
            found.gateways.push(origin.resource.metadata.name.clone());
        }
        ("networking.istio.io", "VirtualService") => {
            let spec: VirtualServiceSpec = origin.spec()?;
            any_host(origin, &spec.hosts)?;
            found.used_gateways.extend(spec.gateways.into_iter().map(|name| (name, origin.into())));
            for route in spec.http {
                found.routes.push(read_route(origin, route)?);
            }
        }
        ("security.istio.io", "AuthorizationPolicy") => {
            if found.open_paths.is_some() {
                return Err(origin.unsupported("there is another AuthorizationPolicy already"));
            }
            let (open, provider) = read_policy(origin)?;
            found.open_paths = Some((open, provider, origin.into()));
        }
        // Between services in one process there is no network to guard.
        ("security.istio.io", "PeerAuthentication") => {}
        _ => return Err(origin.unsupported("this kind is not supported by the embedded gateway")),
    }
    Ok(())
}

fn check_gateway(origin: &Origin<'_>) -> Result<(), RouteError> {
    let spec: GatewaySpec = origin.spec()?;
    for server in &spec.servers {
        any_host(origin, &server.hosts)?;
        if server.port.protocol != "HTTP" {
            return Err(origin.unsupported(format!("protocol {} is not supported", server.port.protocol)));
        }
    }
    Ok(())
}

fn any_host(origin: &Origin<'_>, hosts: &[String]) -> Result<(), RouteError> {
    if hosts != ["*"] {
        return Err(origin.unsupported("hosts other than \"*\" are not supported"));
    }
    Ok(())
}

fn read_route(origin: &Origin<'_>, route: HttpRoute) -> Result<Route, RouteError> {
    let named = |reason: &str| origin.unsupported(format!("route {}: {reason}", route.name));
    let [Weighted { destination }] = route.route.as_slice() else {
        return Err(named("needs exactly one destination"));
    };
    if route.retries.as_ref().is_none_or(|retries| retries.attempts != 0) {
        return Err(named("retries must be {attempts: 0}: a repeated write may be a second write"));
    }
    let timeout = route.timeout.as_deref().map(|text| duration(text).ok_or_else(|| named("bad timeout")));
    let matches = route.matches.iter().map(|matched| match (&matched.uri.exact, &matched.uri.prefix) {
        (Some(path), None) => Ok(Pattern::Exact(path.clone())),
        (None, Some(path)) => Ok(Pattern::Prefix(path.clone())),
        _ => Err(named("a match needs either exact or prefix")),
    });
    let matches = matches.collect::<Result<_, _>>()?;
    Ok(Route {
        timeout: timeout.transpose()?.filter(|timeout| !timeout.is_zero()),
        upstream: format!("{}:{}", destination.host, destination.port.number),
        rewrite: route.rewrite.map(|rewrite| rewrite.uri),
        name: route.name,
        matches,
    })
}

fn read_policy(origin: &Origin<'_>) -> Result<(Vec<Pattern>, String), RouteError> {
    let spec: AuthorizationSpec = origin.spec()?;
    if spec.action != "CUSTOM" {
        return Err(origin.unsupported("only action CUSTOM is supported"));
    }
    let [Rule { to }] = spec.rules.as_slice() else {
        return Err(origin.unsupported("needs exactly one rule"));
    };
    let [To { operation }] = to.as_slice() else {
        return Err(origin.unsupported("needs exactly one operation"));
    };
    let open = operation.not_paths.iter().map(|path| {
        let (stem, pattern): (&str, fn(String) -> Pattern) = match path.strip_suffix('*') {
            Some(stem) => (stem, Pattern::Prefix),
            None => (path, Pattern::Exact),
        };
        if !stem.starts_with('/') || stem.contains(['*', '{']) {
            return Err(origin.unsupported(format!("path {path} is not supported: a path, or a path and *")));
        }
        Ok(pattern(stem.to_owned()))
    });
    Ok((open.collect::<Result<_, _>>()?, spec.provider.name))
}

/// Reads a duration such as `30s`, `0.5s` or `250ms`.
fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix('s')?, 1.0),
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * unit).ok()
}
