//! ngsi-v2.md 11: what Orion's start flags change, where no other test has them.

use serde_json::json;

use crate::{
    broker::{Broker, request},
    sink::Sink,
};

#[tokio::test]
async fn without_multiservice_the_tenant_of_a_request_is_not_looked_at() {
    let broker = Broker::with(|config| config.multiservice = false).await;
    let create = request("POST /v2/entities").header("Fiware-Service", "acme");
    broker.expect(create.json(r#"{"id":"E","type":"T"}"#), 201, "").await;
    for tenant in ["other", "no-tenant!"] {
        let read = request("GET /v2/entities").header("Fiware-Service", tenant);
        broker.expect(read, 200, r#"[{"id":"E","type":"T"}]"#).await;
    }
}

#[tokio::test]
async fn without_custom_notifications_templates_are_sent_as_plain_ones() {
    let broker = Broker::with(|config| config.notification.custom = false).await;
    let mut sink = Sink::start().await;
    let custom = json!({"url": sink.url("/${id}"), "method": "PUT", "payload": "n is ${n}"});
    let body = json!({"subject": {"entities": [{"id": "E"}]}, "notification": {"httpCustom": custom}});
    let made = broker.send(request("POST /v2/subscriptions").json(&body.to_string())).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let id = made.header("location").unwrap().rsplit('/').next().unwrap();
    broker.given(r#"{"id":"E","type":"T","n":{"value":1}}"#).await;
    let received = sink.next().await;
    assert_eq!(
        received.body,
        format!(
            r#"{{"subscriptionId":"{id}","data":[{{"id":"E","type":"T","n":{{"type":"Number","value":1,"metadata":{{}}}}}}]}}"#
        )
    );
    assert!(received.line.contains("${id}") || received.line.contains("%7Bid%7D"), "{}", received.line);
    assert_eq!(received.header("ngsiv2-attrsformat"), Some("normalized"));
}
