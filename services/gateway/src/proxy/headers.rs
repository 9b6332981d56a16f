use http::{HeaderMap, HeaderName, HeaderValue, header};

/// Headers of one connection, not of the message (RFC 9110 7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Says which tenant the policy let pass. Only the policy may say so.
const AUTH_TENANT: HeaderName = HeaderName::from_static("x-auth-tenant");
const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Removes what ends at this hop, including what `Connection` names.
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP).chain([&PROXY_CONNECTION]) {
        headers.remove(name);
    }
}

/// Makes the client's headers fit for a service: no claims that only the mesh may make, and where the request came from.
pub(super) fn prepare(
    headers: &mut HeaderMap,
    original_path: &str,
    from_policy: &[(HeaderName, HeaderValue)],
) {
    remove_hop_by_hop(headers);
    let internal: Vec<HeaderName> = headers
        .keys()
        .filter(|name| **name == AUTH_TENANT || name.as_str().starts_with("x-envoy-"))
        .cloned()
        .collect();
    for name in &internal {
        headers.remove(name);
    }
    if let Ok(path) = HeaderValue::from_str(original_path) {
        headers.insert(ORIGINAL_PATH, path);
    }
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
    if let Some(host) = headers.get(header::HOST).cloned() {
        headers.insert(FORWARDED_HOST, host);
    }
    if !headers.contains_key(REQUEST_ID)
        && let Ok(id) = HeaderValue::from_str(&uuid::Uuid::new_v4().to_string())
    {
        headers.insert(REQUEST_ID, id);
    }
    for (name, value) in from_policy {
        headers.insert(name.clone(), value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(rows: &[(&'static str, &'static str)]) -> HeaderMap {
        rows.iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn what_belongs_to_the_connection_stays_behind() {
        let mut headers = headers(&[
            ("connection", "close, X-Mine"),
            ("x-mine", "1"),
            ("te", "trailers"),
            ("accept", "*/*"),
        ]);
        remove_hop_by_hop(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
    }

    #[test]
    fn claims_of_the_client_are_replaced_by_the_policys() {
        let mut headers = headers(&[
            ("x-auth-tenant", "evil"),
            ("x-envoy-original-path", "/evil"),
            ("x-auth-token", "kept"),
            ("host", "mesh"),
        ]);
        prepare(&mut headers, "/orion/v2", &[(AUTH_TENANT, HeaderValue::from_static("acme"))]);
        assert_eq!(headers["x-auth-tenant"], "acme");
        assert_eq!(headers["x-envoy-original-path"], "/orion/v2");
        assert_eq!(headers["x-auth-token"], "kept");
        assert_eq!(headers["x-forwarded-host"], "mesh");
    }

    #[test]
    fn on_an_open_path_no_tenant_is_claimed() {
        let mut headers = headers(&[("x-auth-tenant", "evil")]);
        prepare(&mut headers, "/orion/version", &[]);
        assert!(!headers.contains_key("x-auth-tenant"));
    }
}
