//! The paths of the API and the methods they take (ngsi-v2.md 1).

use std::borrow::Cow;

use http::Method;
use ngsi::Error;
use percent_encoding::percent_decode_str;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    Version,
    EntryPoint,
    Entities,
    Entity,
    Attributes,
    Attribute,
    Value,
    Types,
    Type,
    Subscriptions,
    Subscription,
    BatchUpdate,
    BatchQuery,
    Notify,
    Registrations,
    Registration,
    AdminLog,
    LogTrace,
    LogTraceLevels,
    Semaphores,
    AdminMetrics,
    Statistics,
    CacheStatistics,
}

/// The variable parts of a path, decoded: entity id or type or subscription id, then attribute name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) first: String,
    pub(super) second: String,
}

impl Resource {
    /// As metrics and spans write it.
    pub(super) fn template(self) -> &'static str {
        match self {
            Self::Version => "/version",
            Self::EntryPoint => "/v2",
            Self::Entities => "/v2/entities",
            Self::Entity => "/v2/entities/{entity}",
            Self::Attributes => "/v2/entities/{entity}/attrs",
            Self::Attribute => "/v2/entities/{entity}/attrs/{attribute}",
            Self::Value => "/v2/entities/{entity}/attrs/{attribute}/value",
            Self::Types => "/v2/types",
            Self::Type => "/v2/types/{type}",
            Self::Subscriptions => "/v2/subscriptions",
            Self::Subscription => "/v2/subscriptions/{subscription}",
            Self::BatchUpdate => "/v2/op/update",
            Self::BatchQuery => "/v2/op/query",
            Self::Notify => "/v2/op/notify",
            Self::Registrations => "/v2/registrations",
            Self::Registration => "/v2/registrations/{registration}",
            Self::AdminLog => "/admin/log",
            Self::LogTrace => "/log/trace",
            Self::LogTraceLevels => "/log/trace/{levels}",
            Self::Semaphores => "/admin/sem",
            Self::AdminMetrics => "/admin/metrics",
            Self::Statistics => "/statistics",
            Self::CacheStatistics => "/cache/statistics",
        }
    }

    /// How `/statistics` names the path.
    pub(super) fn counted_as(self) -> &'static str {
        match self {
            Self::Entity => "/v2/entities/{id}",
            Self::Attributes => "/v2/entities/{id}/attrs",
            Self::Attribute => "/v2/entities/{id}/attrs/{attr}",
            Self::Value => "/v2/entities/{id}/attrs/{attr}/value",
            Self::Subscription => "/v2/subscriptions/{id}",
            Self::Registration => "/v2/registrations/{id}",
            other => other.template(),
        }
    }

    /// `Allow` of a 405.
    pub(super) fn allow(self) -> &'static str {
        match self {
            Self::Version | Self::EntryPoint | Self::Types | Self::Type => "GET",
            Self::Entities | Self::Subscriptions | Self::Registrations => "POST, GET",
            // PATCH of a registration works too; the original has none.
            Self::Entity | Self::Registration => "GET, DELETE",
            Self::Attributes => "GET, PATCH, POST, PUT",
            Self::Attribute => "GET, PUT, DELETE",
            Self::Value => "GET, PUT",
            Self::Subscription => "GET, DELETE, PATCH",
            Self::BatchUpdate | Self::BatchQuery | Self::Notify => "POST",
            // GET works too; the original does not say so.
            Self::AdminLog => "PUT",
            Self::LogTraceLevels => "PUT, DELETE",
            Self::Semaphores => "GET",
            Self::LogTrace | Self::AdminMetrics | Self::Statistics | Self::CacheStatistics => "GET, DELETE",
        }
    }

    pub(super) fn allows(self, method: &Method) -> bool {
        let untold = match self {
            Self::AdminLog => method == Method::GET,
            Self::Registration => method == Method::PATCH,
            _ => false,
        };
        untold || self.allow().split(", ").any(|allowed| allowed == method.as_str())
    }

    /// Whether browsers may be let in: they are for NGSIv2 only.
    pub(super) fn is_ngsi(self) -> bool {
        self.template().starts_with("/v2")
    }

    /// The methods, in the order in which the answer to `OPTIONS` names them.
    pub(super) fn options(self) -> String {
        let allow = match self.allow() {
            "POST, GET" => "GET, POST",
            other => other,
        };
        format!("{allow}, OPTIONS")
    }

    /// Whether a PUT needs no body.
    pub(super) fn is_set_by_url(self) -> bool {
        matches!(self, Self::AdminLog | Self::LogTrace | Self::LogTraceLevels)
    }

    /// The resource that a path names, whatever its variable parts are, and those: still percent-encoded. A trailing slash is
    /// tolerated.
    fn named(path: &str) -> Option<(Self, [&str; 2])> {
        let path = path.strip_prefix('/').unwrap_or(path);
        let path = path.strip_suffix('/').unwrap_or(path);
        let mut segments = [""; 6];
        let mut count = 0;
        for segment in path.split('/') {
            *segments.get_mut(count)? = segment;
            count += 1;
        }
        Some(match segments.get(..count).unwrap_or_default() {
            ["version"] => (Self::Version, [""; 2]),
            ["v2"] => (Self::EntryPoint, [""; 2]),
            ["v2", "entities"] => (Self::Entities, [""; 2]),
            ["v2", "entities", id] => (Self::Entity, [id, ""]),
            ["v2", "entities", id, "attrs"] => (Self::Attributes, [id, ""]),
            ["v2", "entities", id, "attrs", name] => (Self::Attribute, [id, name]),
            ["v2", "entities", id, "attrs", name, "value"] => (Self::Value, [id, name]),
            ["v2", "types"] => (Self::Types, [""; 2]),
            ["v2", "types", name] => (Self::Type, [name, ""]),
            ["v2", "subscriptions"] => (Self::Subscriptions, [""; 2]),
            ["v2", "subscriptions", id] => (Self::Subscription, [id, ""]),
            ["v2", "op", "update"] => (Self::BatchUpdate, [""; 2]),
            ["v2", "op", "query"] => (Self::BatchQuery, [""; 2]),
            ["v2", "op", "notify"] => (Self::Notify, [""; 2]),
            ["v2", "registrations"] => (Self::Registrations, [""; 2]),
            ["v2", "registrations", id] => (Self::Registration, [id, ""]),
            ["admin", "log"] => (Self::AdminLog, [""; 2]),
            ["admin", "sem"] => (Self::Semaphores, [""; 2]),
            ["admin", "metrics"] => (Self::AdminMetrics, [""; 2]),
            ["log", "trace"] => (Self::LogTrace, [""; 2]),
            ["log", "trace", levels] => (Self::LogTraceLevels, [levels, ""]),
            ["statistics"] => (Self::Statistics, [""; 2]),
            ["cache", "statistics"] => (Self::CacheStatistics, [""; 2]),
            _ => return None,
        })
    }

    /// The resource of a path; its variable parts may be wrong.
    pub(super) fn of_path(path: &str) -> Option<Self> {
        Self::named(path).map(|(resource, _)| resource)
    }

    /// The resource of a path, with its variable parts decoded and checked. None: no such path.
    pub(super) fn find(path: &str) -> Result<Option<(Self, Parts)>, Error> {
        let Some((resource, [first, second])) = Self::named(path) else { return Ok(None) };
        let parts = match resource {
            Self::Entity | Self::Attributes => Parts::one(entity_id(first)?),
            Self::Attribute | Self::Value => Parts::two(first, second)?,
            Self::Type => Parts::one(entity_type(first)?),
            Self::Subscription | Self::Registration | Self::LogTraceLevels => {
                Parts::one(decode(first)?.into_owned())
            }
            _ => Parts::default(),
        };
        Ok(Some((resource, parts)))
    }
}

impl Parts {
    fn one(first: String) -> Self {
        Self { first, second: String::new() }
    }

    fn two(id: &str, name: &str) -> Result<Self, Error> {
        let name = decode(name)?.into_owned();
        let first = entity_id(id)?;
        ngsi::parse::check_attribute_name(&name)?;
        Ok(Self { first, second: name })
    }
}

fn entity_id(text: &str) -> Result<String, Error> {
    let id = decode(text)?;
    ngsi::parse::check_entity_id(&id)?;
    Ok(id.into_owned())
}

fn entity_type(text: &str) -> Result<String, Error> {
    let name = decode(text)?;
    ngsi::parse::check_entity_type(&name)?;
    Ok(name.into_owned())
}

fn decode(text: &str) -> Result<Cow<'_, str>, Error> {
    percent_decode_str(text).decode_utf8().map_err(|_| invalid_character())
}

/// Refuses the forbidden characters in any part of a path.
pub(super) fn check_characters(path: &str) -> Result<(), Error> {
    if ngsi::parse::has_forbidden(&decode(path)?) {
        return Err(invalid_character());
    }
    Ok(())
}

fn invalid_character() -> Error {
    Error::bad_request("invalid character in URI")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_with_and_without_a_trailing_slash() {
        for (path, expected) in [
            ("/version", Some((Resource::Version, "", ""))),
            ("/v2/entities/", Some((Resource::Entities, "", ""))),
            ("/v2/entities/js%3A1", Some((Resource::Entity, "js:1", ""))),
            ("/v2/entities/E/attrs/A/value/", Some((Resource::Value, "E", "A"))),
            ("/v2/op/update/", Some((Resource::BatchUpdate, "", ""))),
            ("/", None),
            ("/v1/entities", None),
            ("/v2/entities/E/other", None),
            ("/v2/entities/E/attrs/A/value/x/y", None),
        ] {
            let found = Resource::find(path).unwrap();
            let expected = expected.map(|(resource, first, second)| {
                (resource, Parts { first: first.into(), second: second.into() })
            });
            assert_eq!(found, expected, "{path}");
        }
    }

    #[test]
    fn empty_and_long_parts_are_named() {
        let long = format!("/v2/entities/{}", "a".repeat(257));
        for (path, expected) in [
            ("/v2/entities//attrs", "entity id length: 0, min length supported: 1"),
            ("/v2/entities/E/attrs//value", "attribute name length: 0, min length supported: 1"),
            ("/v2/types//", "entity type length: 0, min length supported: 1"),
            (&long, "entity id length: 257, max length supported: 256"),
            ("/v2/entities/%ff", "invalid character in URI"),
        ] {
            assert_eq!(Resource::find(path).unwrap_err().description, expected, "{path}");
        }
    }

    const ALL: [Resource; 23] = [
        Resource::Version,
        Resource::EntryPoint,
        Resource::Entities,
        Resource::Entity,
        Resource::Attributes,
        Resource::Attribute,
        Resource::Value,
        Resource::Types,
        Resource::Type,
        Resource::Subscriptions,
        Resource::Subscription,
        Resource::BatchUpdate,
        Resource::BatchQuery,
        Resource::Notify,
        Resource::Registrations,
        Resource::Registration,
        Resource::AdminLog,
        Resource::LogTrace,
        Resource::LogTraceLevels,
        Resource::Semaphores,
        Resource::AdminMetrics,
        Resource::Statistics,
        Resource::CacheStatistics,
    ];

    #[test]
    fn every_template_leads_to_its_resource() {
        for resource in ALL {
            let path = resource.template().replace(['{', '}'], "");
            assert_eq!(Resource::find(&path).unwrap().unwrap().0, resource, "{path}");
        }
    }
}
