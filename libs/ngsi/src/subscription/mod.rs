//! Subscriptions (ngsi-v2.md 8): what they say, when they match, what they send.
//!
//! ```text
//! body ─ parse ─► Subscription ─ definition_json ─► store ─ parse ─► Subscription
//!                      ├─ matches(&ChangeView)
//!                      ├─ notification(&ChangeView) ─► how, URL, headers, body
//!                      └─ write_subscription(counters) ─► GET
//! ```
//!
//! A text with macros is compiled once, when its subscription is read.

mod content;
mod delivery;
mod encoding;
mod macros;
mod matching;
mod model;
mod ngsi_patch;
mod parse;
mod show;
mod target;

pub use delivery::{Envelope, Means, Notification};
pub use macros::{JexlCondition, MacroJson, MacroText};
pub use matching::ChangeView;
pub use model::{
    AttrsFormat, Condition, GeoCondition, NotificationSpec, Status, Subject, SubjectEntity, Subscription,
    SubscriptionPatch,
};
pub use ngsi_patch::NgsiPatch;
pub use show::{Counters, DeliveryHealth, write_subscription};
pub use target::{
    Custom, CustomPayload, KafkaKey, KafkaTarget, Login, MqttTarget, SaslMechanism, SecurityProtocol, Target,
    Transport,
};

/// Length of a subscription id: lower-case hex digits.
pub const ID_LEN: usize = 24;

/// Checks an id as it comes in a URL.
pub fn check_id(id: &str) -> Result<(), crate::Error> {
    if id.len() != ID_LEN {
        return Err(crate::Error::bad_request("Invalid subscription ID: bad length - 24 chars expected"));
    }
    if !id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(crate::Error::bad_request(
            "Invalid subscription ID: bad character - only hexadecimal digits are allowed",
        ));
    }
    Ok(())
}
