//! Where a notification may go: link-local addresses are refused always, before and after name resolution (decision 6).

use std::{
    future::Future,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
};

use hyper_util::client::legacy::connect::dns::Name;
use tower::Service;

/// The address may not be reached from here.
#[derive(Debug, thiserror::Error)]
#[error("link-local address refused")]
pub(super) struct Refused;

/// The name has no address.
#[derive(Debug, thiserror::Error)]
#[error("name not resolved: {0}")]
pub(super) struct Unresolved(#[source] io::Error);

/// Whether `address` is one that a notification never goes to: 169.254.0.0/16 (where clouds keep their credentials),
/// fe80::/10, and both written as IPv4 in IPv6.
pub(super) fn is_refused(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || embedded_v4(v6).is_some_and(|v4| v4.is_link_local()),
    }
}

/// IPv4-mapped, IPv4-compatible and NAT64 forms.
fn embedded_v4(v6: Ipv6Addr) -> Option<std::net::Ipv4Addr> {
    let [a, b, c, d, e, f, high, low] = v6.segments();
    let nat64 = [a, b, c, d, e, f] == [0x64, 0xff9b, 0, 0, 0, 0];
    v6.to_ipv4().or_else(|| {
        nat64.then(|| {
            let ([h1, h2], [l1, l2]) = (high.to_be_bytes(), low.to_be_bytes());
            std::net::Ipv4Addr::new(h1, h2, l1, l2)
        })
    })
}

/// Checks a host that is written as an address; a name passes and is checked once it is resolved.
pub(super) fn check_host(host: &str) -> Result<(), Refused> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(address) if is_refused(address) => Err(Refused),
        _ => Ok(()),
    }
}

/// The addresses of a host that may be reached.
pub(super) async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let found = tokio::net::lookup_host((host, port)).await?;
    let allowed: Vec<SocketAddr> = found.filter(|address| !is_refused(address.ip())).collect();
    if allowed.is_empty() { Err(io::Error::other(Refused)) } else { Ok(allowed) }
}

/// Whether one of the addresses of a host may not be reached; a name without addresses is nobody's.
pub(super) async fn is_refused_host(host: &str) -> bool {
    match tokio::net::lookup_host((host, 0)).await {
        Ok(mut found) => found.any(|address| is_refused(address.ip())),
        Err(_) => false,
    }
}

/// Resolves names with the system's resolver and drops refused addresses.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct GuardedResolver;

impl Service<Name> for GuardedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await.map_err(Unresolved)?;
            let allowed: Vec<SocketAddr> = found.filter(|address| !is_refused(address.ip())).collect();
            if allowed.is_empty() { Err(Refused.into()) } else { Ok(allowed.into_iter()) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_addresses_are_refused_in_every_spelling() {
        for host in [
            "169.254.169.254",
            "[fe80::1]",
            "[::ffff:169.254.169.254]",
            "[::169.254.0.1]",
            "[64:ff9b::a9fe:a9fe]",
        ] {
            assert!(check_host(host).is_err(), "{host}");
        }
        for host in ["127.0.0.1", "10.0.0.1", "[::1]", "169.255.0.1", "sink.example", "[2001:db8::1]"] {
            assert!(check_host(host).is_ok(), "{host}");
        }
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_a_link_local_address_is_refused() {
        // The resolver of the C library reads a bare number as an address: 2851995649 is 169.254.0.1.
        let name: Name = "2851995649".parse().unwrap();
        let error = GuardedResolver.call(name).await.map(|_| ()).unwrap_err();
        assert!(error.is::<Refused>(), "{error}");
    }
}
