//! Subscriptions (ngsi-v2.md 8): what they say, when they match, what they send.
//!
//! ```text
//! body ─ parse ─► Subscription ─ definition_json ─► store ─ parse ─► Subscription
//!                      ├─ matches(&ChangeView)
//!                      ├─ notification(&ChangeView) ─► method, URL, headers, body
//!                      └─ write_subscription(counters) ─► GET
//! ```
//!
//! Transports are `http` and `httpCustom`. `mqtt`, `kafka` and their custom forms, `jexlExpression` and geographic
//! expressions are refused with 501 `NotImplemented`: accepted but never served would be worse.

mod content;
mod delivery;
mod macros;
mod matching;
mod model;
mod parse;
mod show;

pub use delivery::{Envelope, Notification};
pub use matching::ChangeView;
pub use model::{
    AttrsFormat, Condition, CustomHttp, CustomPayload, HttpTarget, NotificationSpec, Status, Subject,
    SubjectEntity, Subscription, SubscriptionPatch,
};
pub use show::{Counters, write_subscription};

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
