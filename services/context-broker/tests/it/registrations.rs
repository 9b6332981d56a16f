//! ngsi-v2.md 9: registrations.

use serde_json::{Value, json};

use crate::broker::{Broker, Request, request};

const BODY: &str = r#"{"description":"meter","dataProvided":{"entities":[{"id":"m1","type":"Meter"}],"attrs":["power"]},"provider":{"http":{"url":"http://cp.example:4000/v2"}},"expires":"2040-01-01T00:00:00Z"}"#;

async fn create(broker: &Broker, sent: Request) -> String {
    let reply = broker.send(sent).await;
    assert_eq!((reply.status, reply.body.as_str()), (201, ""));
    reply.header("location").unwrap().to_owned()
}

#[tokio::test]
async fn a_registration_is_created_shown_changed_and_deleted() {
    let broker = Broker::start().await;
    let path = create(&broker, request("POST /v2/registrations").json(BODY)).await;
    let id = path.strip_prefix("/v2/registrations/").unwrap();
    assert!(id.len() == 24 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{id}");
    let shown = format!(
        r#"{{"id":"{id}","description":"meter","dataProvided":{{"entities":[{{"id":"m1","type":"Meter"}}],"attrs":["power"]}},"provider":{{"http":{{"url":"http://cp.example:4000/v2"}},"supportedForwardingMode":"all","legacyForwarding":false}},"expires":"2040-01-01T00:00:00.000Z","status":"active"}}"#
    );
    broker.expect(request(&format!("GET {path}")), 200, &shown).await;
    let listed =
        broker.expect(request("GET /v2/registrations?options=count"), 200, &format!("[{shown}]")).await;
    assert_eq!(listed.header("fiware-total-count"), Some("1"));

    let patch = r#"{"provider":{"http":{"url":"http://other/v2"},"legacyForwarding":true},"expires":""}"#;
    broker.expect(request(&format!("PATCH {path}")).json(patch), 204, "").await;
    let changed: Value =
        serde_json::from_str(&broker.send(request(&format!("GET {path}"))).await.body).unwrap();
    assert_eq!(changed["provider"]["legacyForwarding"], json!(true));
    assert_eq!((changed.get("expires"), &changed["description"]), (None, &json!("meter")));

    broker.expect(request(&format!("DELETE {path}")), 204, "").await;
    for line in ["GET", "DELETE"] {
        let gone = request(&format!("{line} {path}"));
        let text = "The requested registration has not been found. Check id";
        broker.refuses(gone, 404, "NotFound", text).await;
    }
    broker.expect(request("GET /v2/registrations?"), 200, "[]").await;
}

#[tokio::test]
async fn bad_registrations_are_named() {
    let broker = Broker::start().await;
    let bad = |body: &str| request("POST /v2/registrations").json(body);
    for (body, text) in [
        ("{}", "empty payload"),
        (r#"{"provider":{"http":{"url":"http://a"}}}"#, "the field /dataProvided/ is missing in payload"),
        (r#"{"dataProvided":{}}"#, "/dataProvided/ is empty"),
        (
            r#"{"dataProvided":{"entities":[{"id":"E"}]},"provider":{}}"#,
            "/provider/ must contain a field /http/",
        ),
    ] {
        broker.refuses(bad(body), 400, "BadRequest", text).await;
    }
    let pattern = BODY.replace(r#""id":"m1""#, r#""idPattern":"m.*""#);
    broker.refuses(bad(&pattern), 501, "NotImplemented", "Unsupported idPattern").await;
    let text = "Invalid registration ID: bad length - 24 chars expected";
    broker.refuses(request("GET /v2/registrations/abc"), 400, "BadRequest", text).await;
}

#[tokio::test]
async fn registrations_belong_to_a_tenant_and_a_path() {
    let broker = Broker::start().await;
    let at = |line: &str, tenant: &str, path: &str| {
        request(line).header("Fiware-Service", tenant).header("Fiware-ServicePath", path)
    };
    let path = create(&broker, at("POST /v2/registrations", "acme", "/a").json(BODY)).await;
    create(&broker, at("POST /v2/registrations", "acme", "/b").json(BODY)).await;
    let count = |sent: Request| {
        let broker = &broker;
        async move {
            let reply = broker.send(sent).await;
            reply.header("fiware-total-count").map(str::to_owned)
        }
    };
    let list = "GET /v2/registrations?options=count&limit=0";
    for (sent, expected) in [
        (at(list, "acme", "/a"), "1"),
        (at(list, "acme", "/"), "0"),
        (at(list, "acme", "/#"), "2"),
        (request(list).header("Fiware-Service", "acme"), "2"),
        (request(list), "0"),
    ] {
        assert_eq!(count(sent.clone()).await.as_deref(), Some(expected), "{sent:?}");
    }
    let one = |tenant: &str| request(&format!("GET {path}")).header("Fiware-Service", tenant);
    assert_eq!(broker.send(one("acme")).await.status, 200, "by id the path does not matter");
    assert_eq!(broker.send(one("other")).await.status, 404);
    let wild = at("POST /v2/registrations", "acme", "/a/#").json(BODY);
    assert_eq!(broker.send(wild).await.status, 400);
}
