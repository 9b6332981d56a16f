use std::time::Duration;

use service_kit::Code;

use crate::{measure::BadTimestamp, store::StoreError, ultralight::ParseError};

/// What the agent answers instead of doing what was asked. Texts go to clients: they hold no API key and no body.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("Some headers were missing from the request: {}", list(.0))]
    MissingHeaders(Vec<&'static str>),
    #[error("{0}")]
    BadHeader(String),
    /// The text after the original's sentence says what is wrong.
    #[error("Wrong syntax in request: Errors found validating request. {0}")]
    WrongSyntax(String),
    #[error("the body is not JSON: {0}")]
    NotJson(String),
    #[error("The request was not well formed:Missing attributes: {}", list(.0))]
    MissingAttributes(Vec<&'static str>),
    #[error("The following mandatory configuration parameters were missing: {}", list(.0))]
    MissingConfigParams(Vec<&'static str>),
    #[error("A device configuration already exists for resource {resource} and this API Key")]
    DuplicateGroup { resource: String },
    #[error("A device with the same pair (Service, DeviceId) was found: {0}")]
    DuplicateDevice(String),
    #[error("Couldn't find device group for fields: [\"resource\",\"apikey\"] and resource: {resource:?}")]
    GroupNotFound { resource: String },
    #[error("Couldn't find device group for fields: [\"service\",\"subservice\"]")]
    NoGroups,
    #[error("No device was found with id:{0}")]
    DeviceNotFound(String),
    #[error("The declared service didn't match the stored one in the entity")]
    MismatchedService,
    #[error("Request error connecting to the Context Broker: {0}")]
    BadRequest(String),
    #[error("Some of the mandatory params weren't found in the request: {}", list(.0))]
    MandatoryParams(Vec<&'static str>),
    #[error("Unsupported content type in the context request: {0}")]
    UnsupportedType(String),
    #[error("There was a syntax error in the Ultralight request: {0}")]
    Parse(#[from] ParseError),
    #[error("the payload is not text: it holds bytes that are not UTF-8")]
    NotText,
    #[error(transparent)]
    BadTimestamp(#[from] BadTimestamp),
    #[error("the request is larger than {limit} bytes")]
    PayloadTooLarge { limit: u64 },
    #[error("the request body did not arrive")]
    BodyNotReceived,
    #[error("the API key does not belong to the tenant of the request")]
    TenantMismatch,
    #[error("too many measures: try again later")]
    RateLimited(Duration),
    #[error("The command [{0}] is not declared for this device")]
    CommandNotFound(String),
    #[error("results of commands are not taken yet: command [{0}]")]
    CommandsNotAvailable(String),
    /// The broker refused it and will refuse it again.
    #[error("{description}")]
    Broker { code: Code, error: String, description: String },
    /// Nothing was stored; the same request may succeed later.
    #[error("{0}")]
    Unavailable(String),
    #[error("internal error")]
    Internal(String),
}

impl Error {
    pub fn code(&self) -> Code {
        match self {
            Self::DuplicateGroup { .. } | Self::DuplicateDevice(_) => Code::Conflict,
            Self::GroupNotFound { .. } | Self::NoGroups | Self::DeviceNotFound(_) => Code::NotFound,
            Self::MismatchedService | Self::TenantMismatch => Code::Forbidden,
            Self::PayloadTooLarge { .. } => Code::TooLarge,
            Self::RateLimited(_) => Code::TooMany,
            Self::Broker { code: Code::Unauthenticated | Code::Forbidden, .. } => Code::Internal,
            Self::Broker { code, .. } => *code,
            Self::Unavailable(_) => Code::Unavailable,
            Self::Internal(_) | Self::CommandsNotAvailable(_) => Code::Internal,
            _ => Code::BadRequest,
        }
    }

    /// The error's name in answers (iot-agent 1 and 2.1).
    pub fn name(&self) -> &'static str {
        match self {
            Self::MissingHeaders(_) => "MISSING_HEADERS",
            Self::WrongSyntax(_) => "WRONG_SYNTAX",
            Self::NotJson(_) => "SyntaxError",
            Self::MissingAttributes(_) => "MISSING_ATTRIBUTES",
            Self::MissingConfigParams(_) => "MISSING_CONFIG_PARAMS",
            Self::DuplicateGroup { .. } => "DUPLICATE_GROUP",
            Self::DuplicateDevice(_) => "DUPLICATE_DEVICE_ID",
            Self::GroupNotFound { .. } | Self::NoGroups => "DEVICE_GROUP_NOT_FOUND",
            Self::DeviceNotFound(_) => "DEVICE_NOT_FOUND",
            Self::MismatchedService => "MISMATCHED_SERVICE",
            Self::BadRequest(_) | Self::BadHeader(_) | Self::BodyNotReceived => "BAD_REQUEST",
            Self::MandatoryParams(_) => "MANDATORY_PARAMS_NOT_FOUND",
            Self::UnsupportedType(_) => "UNSUPPORTED_TYPE",
            Self::Parse(_) | Self::NotText => "PARSE_ERROR",
            Self::BadTimestamp(_) => "BAD_TIMESTAMP",
            Self::PayloadTooLarge { .. } => "PayloadTooLargeError",
            Self::TenantMismatch => "TENANT_MISMATCH",
            Self::RateLimited(_) => "TOO_MANY_REQUESTS",
            Self::CommandNotFound(_) => "COMMAND_NOT_FOUND",
            Self::CommandsNotAvailable(_) => "COMMANDS_NOT_AVAILABLE",
            Self::Broker { code: Code::Unauthenticated | Code::Forbidden, .. } => "ACCESS_FORBIDDEN",
            Self::Broker { code: Code::NotFound, .. } => "DEVICE_NOT_FOUND",
            Self::Broker { .. } => "ENTITY_GENERIC_ERROR",
            Self::Unavailable(_) => "SERVICE_UNAVAILABLE",
            Self::Internal(_) => "INTERNAL_ERROR",
        }
    }

    /// When the same request may succeed.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited(after) => Some(*after),
            Self::Unavailable(_) => Some(Duration::from_secs(1)),
            _ => None,
        }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        if error.is_retryable() {
            tracing::warn!(%error, "store away");
            Self::Unavailable("the store is away: try again later".into())
        } else {
            Self::Internal(error.to_string())
        }
    }
}

/// A list of names as JSON text.
fn list(names: &[&str]) -> String {
    serde_json::to_string(names).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_shown_as_the_originals_do() {
        let text = Error::MissingHeaders(vec!["fiware-service", "fiware-servicepath"]).to_string();
        assert_eq!(
            text,
            r#"Some headers were missing from the request: ["fiware-service","fiware-servicepath"]"#
        );
    }

    #[test]
    fn answers_of_the_broker_get_the_originals_names() {
        let broker = |code| Error::Broker { code, error: String::new(), description: String::new() };
        for (code, name, answered) in [
            (Code::Forbidden, "ACCESS_FORBIDDEN", Code::Internal),
            (Code::NotFound, "DEVICE_NOT_FOUND", Code::NotFound),
            (Code::BadRequest, "ENTITY_GENERIC_ERROR", Code::BadRequest),
            (Code::Unprocessable, "ENTITY_GENERIC_ERROR", Code::Unprocessable),
        ] {
            assert_eq!((broker(code).name(), broker(code).code()), (name, answered));
        }
    }
}
