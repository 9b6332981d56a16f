//! ngsi-v2.md 6: writes to attributes.

use crate::broker::{Broker, request};

const NO_ENTITY: &str = "The requested entity has not been found. Check type and id";
const NO_ATTRIBUTE: &str = "The entity does not have such an attribute";

async fn broker_with(attributes: &str) -> Broker {
    let broker = Broker::start().await;
    broker.given(&format!(r#"{{"id":"E","type":"T",{attributes}}}"#)).await;
    broker
}

async fn holds(broker: &Broker, key_values: &str) {
    let expected = format!(r#"{{"id":"E","type":"T",{key_values}}}"#);
    broker.expect(request("GET /v2/entities/E?options=keyValues"), 200, &expected).await;
}

#[tokio::test]
async fn a_patch_writes_what_exists_and_tells_the_rest() {
    let broker = broker_with(r#""a":{"value":1}"#).await;
    broker.expect(request("PATCH /v2/entities/E/attrs").json(r#"{"a":{"value":2}}"#), 204, "").await;
    for (line, body, error, description) in [
        (
            "/v2/entities/E/attrs?type=T",
            r#"{"c":{"value":1},"d":{"value":1}}"#,
            "Unprocessable",
            "do not exist: E/T - [ c, d ]",
        ),
        ("/v2/entities/E/attrs", r#"{"c":{"value":1}}"#, "Unprocessable", "do not exist: E - [ c ]"),
        (
            "/v2/entities/E/attrs",
            r#"{"a":{"value":5},"c":{"value":1}}"#,
            "PartialUpdate",
            "do not exist: E - [ c ]",
        ),
    ] {
        broker.refuses(request(&format!("PATCH {line}")).json(body), 422, error, description).await;
    }
    holds(&broker, r#""a":5"#).await;
}

#[tokio::test]
async fn a_post_appends_and_strictly_only_what_is_new() {
    let broker = broker_with(r#""a":{"value":1}"#).await;
    broker
        .expect(request("POST /v2/entities/E/attrs").json(r#"{"a":{"value":2},"b":{"value":3}}"#), 204, "")
        .await;
    let strict = |body: &str| request("POST /v2/entities/E/attrs?options=append&type=T").json(body);
    let text = "one or more of the attributes in the request already exist: E/T";
    broker
        .refuses(
            strict(r#"{"a":{"value":9},"b":{"value":9}}"#),
            422,
            "Unprocessable",
            &format!("{text} - [ a, b ]"),
        )
        .await;
    broker
        .refuses(
            strict(r#"{"a":{"value":9},"c":{"value":4}}"#),
            422,
            "PartialUpdate",
            &format!("{text} - [ a ]"),
        )
        .await;
    broker.expect(strict(r#"{"d":{"value":5}}"#), 204, "").await;
    holds(&broker, r#""a":2,"b":3,"c":4,"d":5"#).await;
}

#[tokio::test]
async fn a_put_replaces_all() {
    let broker = broker_with(r#""a":{"value":1},"b":{"value":2}"#).await;
    broker.expect(request("PUT /v2/entities/E/attrs?options=keyValues").json(r#"{"c":"x"}"#), 204, "").await;
    holds(&broker, r#""c":"x""#).await;
}

#[tokio::test]
async fn missing_entities_are_not_made_by_writes_to_attributes() {
    let broker = Broker::start().await;
    let body = r#"{"a":{"value":1}}"#;
    for method in ["POST", "PATCH", "PUT"] {
        broker
            .refuses(
                request(&format!("{method} /v2/entities/X/attrs")).json(body),
                404,
                "NotFound",
                NO_ENTITY,
            )
            .await;
    }
    for bad in [
        request("GET /v2/entities/X/attrs"),
        request("GET /v2/entities/X/attrs/a"),
        request("DELETE /v2/entities/X/attrs/a"),
        request("PUT /v2/entities/X/attrs/a").json(r#"{"value":1}"#),
    ] {
        broker.refuses(bad, 404, "NotFound", NO_ENTITY).await;
    }
}

#[tokio::test]
async fn one_attribute_is_read_written_and_deleted() {
    let broker = broker_with(r#""a":{"value":1}"#).await;
    broker.expect(request("PUT /v2/entities/E/attrs/a").json(r#"{"value":2,"type":"Num"}"#), 204, "").await;
    let shown = r#"{"type":"Num","value":2,"metadata":{}}"#;
    broker.expect(request("GET /v2/entities/E/attrs/a"), 200, shown).await;
    for missing in [
        request("GET /v2/entities/E/attrs/x"),
        request("DELETE /v2/entities/E/attrs/x"),
        request("PUT /v2/entities/E/attrs/x").json(r#"{"value":1}"#),
    ] {
        broker.refuses(missing, 404, "NotFound", NO_ATTRIBUTE).await;
    }
    broker.expect(request("DELETE /v2/entities/E/attrs/a"), 204, "").await;
    broker.expect(request("GET /v2/entities/E/attrs"), 200, "{}").await;
}

#[tokio::test]
async fn bad_bodies_are_named() {
    let broker = broker_with(r#""a":{"value":1}"#).await;
    for (line, body, description) in [
        ("PATCH /v2/entities/E/attrs", "{}", "empty payload"),
        ("PATCH /v2/entities/E/attrs", "[]", "not a JSON object"),
        ("PATCH /v2/entities/E/attrs", r#"{"id":"E"}"#, "entity id specified in payload"),
        ("POST /v2/entities/E/attrs", r#"{"type":"T"}"#, "entity type specified in payload"),
        (
            "PATCH /v2/entities/E/attrs",
            r#"{"a":3}"#,
            "attribute must be a JSON object, unless keyValues option is used",
        ),
        ("PATCH /v2/entities/E/attrs", r#"{"a":{"value":1},"a":{"value":2}}"#, "duplicated attribute /a/"),
        ("PUT /v2/entities/E/attrs/id", r#"{"value":1}"#, "invalid input, &#39;id&#39; as attribute"),
        ("PUT /v2/entities/E/attrs/a", "[1]", "not a JSON object"),
    ] {
        broker.refuses(request(line).json(body), 400, "BadRequest", description).await;
    }
}

#[tokio::test]
async fn metadata_is_merged_unless_overridden() {
    let broker = broker_with(r#""a":{"value":1,"metadata":{"m":{"value":1},"n":{"value":2}}}"#).await;
    let patch =
        |options: &str, body: &str| request(&format!("PATCH /v2/entities/E/attrs{options}")).json(body);
    broker.expect(patch("", r#"{"a":{"value":1,"metadata":{"m":{"value":5}}}}"#), 204, "").await;
    let both = r#"{"type":"Number","value":1,"metadata":{"m":{"type":"Number","value":5},"n":{"type":"Number","value":2}}}"#;
    broker.expect(request("GET /v2/entities/E/attrs/a"), 200, both).await;
    broker
        .expect(
            patch("?options=overrideMetadata", r#"{"a":{"value":1,"metadata":{"n":{"value":7}}}}"#),
            204,
            "",
        )
        .await;
    let one = r#"{"type":"Number","value":1,"metadata":{"n":{"type":"Number","value":7}}}"#;
    broker.expect(request("GET /v2/entities/E/attrs/a"), 200, one).await;
    let dated = r#"{"type":"Number","value":1,"metadata":{"dateCreated":{"type":"DateTime","value":"2026-01-31T10:00:00.000Z"}}}"#;
    broker.expect(request("GET /v2/entities/E/attrs/a?metadata=dateCreated"), 200, dated).await;
}

#[tokio::test]
async fn operators_update_in_place() {
    let broker = broker_with(r#""n":{"value":1},"l":{"value":[1]}"#).await;
    let patch = |body: &str| request("PATCH /v2/entities/E/attrs").json(body);
    broker.expect(patch(r#"{"n":{"value":{"$inc":2}},"l":{"value":{"$push":2}}}"#), 204, "").await;
    broker
        .expect(request("PATCH /v2/entities/E/attrs?options=keyValues").json(r#"{"n":{"$mul":2}}"#), 204, "")
        .await;
    holds(&broker, r#""n":6,"l":[1,2]"#).await;
    broker.refuses(patch(r#"{"n":{"value":{"$inc":"k"}}}"#), 400, "BadRequest", "$inc needs a number").await;
    holds(&broker, r#""n":6,"l":[1,2]"#).await;
}

#[tokio::test]
async fn increments_from_many_clients_are_all_counted() {
    let broker = broker_with(r#""n":{"value":0}"#).await;
    let increment =
        || broker.send(request("PATCH /v2/entities/E/attrs").json(r#"{"n":{"value":{"$inc":1}}}"#));
    let replies = futures::future::join_all((0..100).map(|_| increment())).await;
    assert!(replies.iter().all(|reply| reply.status == 204));
    holds(&broker, r#""n":100"#).await;
}
