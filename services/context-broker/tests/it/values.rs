//! ngsi-v2.md 6: `…/value`.

use crate::broker::{Broker, request};

async fn broker() -> Broker {
    let broker = Broker::start().await;
    broker.given(r#"{"id":"E","n":{"type":"Num","value":26,"metadata":{"m":{"value":1}}},"s":{"value":"hi"},"o":{"value":{"k":1}}}"#).await;
    broker
}

#[tokio::test]
async fn a_value_is_read_as_the_client_accepts() {
    let broker = broker().await;
    for (name, accept, status, content_type, body) in [
        ("n", "*/*", 200, "text/plain", "26"),
        ("s", "text/plain", 200, "text/plain", "\"hi\""),
        ("s", "application/json, text/plain", 200, "text/plain", "\"hi\""),
        ("o", "*/*", 200, "application/json", r#"{"k":1}"#),
        ("o", "text/plain", 200, "text/plain", r#"{"k":1}"#),
        ("o", "text/plain, application/json", 200, "text/plain", r#"{"k":1}"#),
        ("o", "application/json, text/plain", 200, "application/json", r#"{"k":1}"#),
        (
            "s",
            "application/json",
            406,
            "application/json",
            r#"{"error":"NotAcceptable","description":"accepted MIME types: text/plain"}"#,
        ),
        (
            "x",
            "*/*",
            404,
            "application/json",
            r#"{"error":"NotFound","description":"The entity does not have such an attribute"}"#,
        ),
    ] {
        let get = request(&format!("GET /v2/entities/E/attrs/{name}/value")).header("Accept", accept);
        let reply = broker.expect(get, status, body).await;
        assert_eq!(reply.header("content-type"), Some(content_type), "{name} {accept}");
    }
}

#[tokio::test]
async fn a_value_is_written_as_text_or_as_json_and_type_and_metadata_stay() {
    let broker = broker().await;
    let put = |content_type: &str, body: &str| {
        request("PUT /v2/entities/E/attrs/n/value").header("Content-Type", content_type).body(body)
    };
    for (content_type, body, shown) in [
        ("text/plain", "27", "27"),
        ("text/plain", "\"new name\"", "\"new name\""),
        ("text/plain", "true", "true"),
        ("text/plain", "null", "null"),
        ("application/json", r#"{"k":[1.0]}"#, r#"{"k":[1]}"#),
        ("application/json", "[1,2]", "[1,2]"),
    ] {
        broker.expect(put(content_type, body), 204, "").await;
        broker.expect(request("GET /v2/entities/E/attrs/n/value"), 200, shown).await;
    }
    let shown = r#"{"type":"Num","value":[1,2],"metadata":{"m":{"type":"Number","value":1}}}"#;
    broker.expect(request("GET /v2/entities/E/attrs/n"), 200, shown).await;
    for (content_type, body, description) in [
        ("application/json", "6", "Neither JSON Object nor JSON Array for attribute::value"),
        ("text/plain", "word", "attribute value type not recognized"),
        ("text/plain", "\"open", "Missing citation-mark at end of string"),
        ("text/plain", "\"a<b\"", "Invalid characters in attribute value"),
    ] {
        broker.refuses(put(content_type, body), 400, "BadRequest", description).await;
    }
    let missing = request("PUT /v2/entities/E/attrs/x/value").header("Content-Type", "text/plain").body("1");
    broker.refuses(missing, 404, "NotFound", "The entity does not have such an attribute").await;
}
