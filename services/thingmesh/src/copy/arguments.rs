//! What `thingmesh copy` is told.

use std::fmt;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use http::{HeaderName, HeaderValue};

/// The arguments of `thingmesh copy`.
#[derive(Debug, Args)]
pub(crate) struct CopyArgs {
    /// Base URL of the broker that is read, such as http://orion:1026.
    #[arg(long, value_name = "URL")]
    pub(crate) from: String,
    /// Base URL of the broker that is written, such as http://127.0.0.1:1026, or http://127.0.0.1:8000/orion through
    /// the gateway.
    #[arg(long, value_name = "URL")]
    pub(crate) to: String,
    /// A tenant (Fiware-Service); may be repeated, and '' is the default tenant. Without it the default tenant only:
    /// no NGSIv2 broker has a list of its tenants, so each must be named.
    #[arg(long, value_name = "TENANT")]
    pub(crate) service: Vec<String>,
    /// A service path (Fiware-ServicePath) beside those at which entities are found; may be repeated. Helps to find where
    /// a subscription or registration belongs; an Orion before 3.11 does not say where its entities are, so that
    /// each path but / must be named.
    #[arg(long = "service-path", value_name = "PATH")]
    pub(crate) service_paths: Vec<String>,
    /// A header of all requests to the source, `Name: value`; may be repeated.
    #[arg(long, value_name = "HEADER")]
    pub(crate) header_from: Vec<HeaderLine>,
    /// A header of all requests to the target, such as `Authorization: Bearer …`; may be repeated.
    #[arg(long, value_name = "HEADER")]
    pub(crate) header_to: Vec<HeaderLine>,
    /// Copy these only.
    #[arg(long, value_name = "KINDS", value_delimiter = ',', default_values_t = Kind::ALL)]
    pub(crate) only: Vec<Kind>,
    /// Read both sides, write nothing, and say what would be done.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// What can be copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Entities,
    Subscriptions,
    Registrations,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Entities, Self::Subscriptions, Self::Registrations];
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Entities => "entities",
            Self::Subscriptions => "subscriptions",
            Self::Registrations => "registrations",
        })
    }
}

/// A header as it was given: a secret, which neither `Debug` nor an error shows.
#[derive(Clone)]
pub(crate) struct HeaderLine(String);

impl HeaderLine {
    /// Its name and value. No error repeats what was given: it is a secret.
    pub(super) fn parse(&self) -> Result<(HeaderName, HeaderValue)> {
        let (name, value) = self.0.split_once(':').context("not of the form `Name: value`")?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).ok().context("not the name of a header")?;
        let ours =
            ["fiware-service", "fiware-servicepath", "content-type", "content-length", "accept", "host"];
        if ours.contains(&name.as_str()) {
            bail!("{name} is set by the copy itself; tenants are named with --service");
        }
        let mut value = HeaderValue::from_str(value.trim()).ok().context("not the value of a header")?;
        value.set_sensitive(true);
        Ok((name, value))
    }
}

impl From<String> for HeaderLine {
    fn from(line: String) -> Self {
        Self(line)
    }
}

impl fmt::Debug for HeaderLine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_line_is_read_and_never_repeated_in_an_error() {
        let line = |text: &str| HeaderLine::from(text.to_owned());
        let (name, value) = line("Authorization: Bearer a:b").parse().unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("authorization", "Bearer a:b"));
        for bad in ["hunter2", "x y: hunter2", "Fiware-Service: hunter2", "X-Auth-Token: hunter2\nx"] {
            let error = line(bad).parse().unwrap_err();
            assert!(!format!("{error:#}").contains("hunter2"), "{error:#}");
        }
        assert!(!format!("{:?}", line("X-Auth-Token: hunter2")).contains("hunter2"));
    }
}
