//! Puts the `X-Auth-Token` where its reference stands: at the last moment, in memory only.

use crate::tokens::{SealedToken, Tokens};

use super::pending::Pending;

const HEADER: &str = "x-auth-token";

/// The message with its token. A token that can't be opened any more is left out: the receiver decides what that means.
pub(super) fn reveal(pending: &Pending, sealed: &SealedToken, tokens: &Tokens, now_us: i64) -> Pending {
    let token = tokens.open(sealed, now_us);
    if token.is_none() {
        tracing::debug!(subscription = %pending.subscription.id, "X-Auth-Token too old, sent without it");
    }
    fill_in(pending, &sealed.reference, token.as_deref().unwrap_or_default())
}

fn fill_in(pending: &Pending, reference: &str, token: &str) -> Pending {
    let mut revealed = pending.clone();
    let target = &mut revealed.target;
    target.url = target.url.replace(reference, &percent_encoded(token));
    let is_json = target.headers.iter().any(|(name, value)| {
        name.eq_ignore_ascii_case("content-type") && value.starts_with("application/json")
    });
    for (_, value) in &mut target.headers {
        *value = value.replace(reference, token);
    }
    target.headers.retain(|(name, value)| name != HEADER || !value.is_empty());
    if let Ok(body) = std::str::from_utf8(&pending.body)
        && body.contains(reference)
    {
        let text = if is_json || body.starts_with(['{', '[']) { json_text(token) } else { token.to_owned() };
        revealed.body = body.replace(reference, &text).into();
    }
    revealed
}

fn percent_encoded(token: &str) -> String {
    percent_encoding::utf8_percent_encode(token, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// As it stands between the quotes of a JSON text.
fn json_text(token: &str) -> String {
    let quoted = serde_json::Value::from(token).to_string();
    quoted.trim_start_matches('"').strip_suffix('"').unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use scope::Tenant;

    use super::*;
    use crate::{
        notification::pending::{SubscriptionKey, Target},
        subscription::SubscriptionId,
    };

    const REFERENCE: &str = "token-0123";

    fn pending(body: &str) -> Pending {
        let id = SubscriptionId::parse("0123456789abcdef01234567").unwrap();
        Pending {
            seq: 1,
            subscription: SubscriptionKey { tenant: Tenant::default(), id },
            revision: 1,
            lane: String::new(),
            target: Target {
                method: "POST".to_owned(),
                url: format!("http://h/?t={REFERENCE}"),
                headers: vec![
                    (HEADER.to_owned(), REFERENCE.to_owned()),
                    ("authorization".to_owned(), format!("Bearer {REFERENCE}")),
                ],
                timeout_ms: 0,
                message: None,
                token: None,
            },
            body: body.to_owned().into(),
            commit_time_us: 0,
            attempts: 0,
        }
    }

    #[test]
    fn the_token_stands_wherever_its_reference_stood() {
        let revealed = fill_in(&pending(r#"{"t":"token-0123"}"#), REFERENCE, "a\"b c");
        assert_eq!(revealed.target.url, "http://h/?t=a%22b%20c");
        assert_eq!(revealed.target.headers[0].1, "a\"b c");
        assert_eq!(revealed.target.headers[1].1, "Bearer a\"b c");
        assert_eq!(&*revealed.body, br#"{"t":"a\"b c"}"#);
        assert_eq!(&*fill_in(&pending("t=token-0123"), REFERENCE, "a\"").body, b"t=a\"");
    }

    #[test]
    fn without_a_token_there_is_no_header() {
        let revealed = fill_in(&pending("t=token-0123"), REFERENCE, "");
        assert!(revealed.target.headers.iter().all(|(name, _)| name != HEADER));
        assert_eq!(&*revealed.body, b"t=");
    }
}
