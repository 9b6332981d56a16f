//! ngsi-v2.md 4, 5 and 6: entities one by one.

use crate::broker::{Broker, NOW_US, request};

const NOT_FOUND: &str = "The requested entity has not been found. Check type and id";
const TOO_MANY: &str = "More than one matching entity. Please refine your query";

#[tokio::test]
async fn an_entity_is_created_read_in_all_formats_and_deleted() {
    let broker = Broker::start().await;
    broker.given(r#"{"id":"lamp1","type":"Lamp","level":{"type":"Number","value":3,"metadata":{}},"name":{"value":"a"}}"#).await;
    let level = r#""level":{"type":"Number","value":3,"metadata":{}}"#;
    let name = r#""name":{"type":"Text","value":"a","metadata":{}}"#;
    for (query, expected) in [
        ("", format!(r#"{{"id":"lamp1","type":"Lamp",{level},{name}}}"#)),
        ("?type=Lamp&attrs=name", format!(r#"{{"id":"lamp1","type":"Lamp",{name}}}"#)),
        ("?options=keyValues", r#"{"id":"lamp1","type":"Lamp","level":3,"name":"a"}"#.to_owned()),
        ("?options=values&attrs=name,level", r#"["a",3]"#.to_owned()),
        ("?options=unique", r#"[3,"a"]"#.to_owned()),
        ("?attrs=__NONE", r#"{"id":"lamp1","type":"Lamp"}"#.to_owned()),
        (
            "?attrs=dateCreated,servicePath&options=keyValues",
            r#"{"id":"lamp1","type":"Lamp","dateCreated":"2026-01-31T10:00:00.000Z","servicePath":"/"}"#
                .to_owned(),
        ),
    ] {
        broker.expect(request(&format!("GET /v2/entities/lamp1{query}")), 200, &expected).await;
    }
    broker.expect(request("GET /v2/entities/lamp1/attrs"), 200, &format!("{{{level},{name}}}")).await;
    broker.expect(request("DELETE /v2/entities/lamp1").header("Content-Length", "0"), 204, "").await;
    broker.refuses(request("GET /v2/entities/lamp1"), 404, "NotFound", NOT_FOUND).await;
    broker.refuses(request("DELETE /v2/entities/lamp1"), 404, "NotFound", NOT_FOUND).await;
}

#[tokio::test]
async fn creating_twice_is_refused_and_upsert_is_not() {
    let broker = Broker::start().await;
    broker.given(r#"{"id":"E","a":{"value":1}}"#).await;
    let again = request("POST /v2/entities").json(r#"{"id":"E","a":{"value":2}}"#);
    broker.refuses(again, 422, "Unprocessable", "Already Exists").await;
    let upsert = request("POST /v2/entities?options=upsert").json(r#"{"id":"E","b":{"value":2}}"#);
    let reply = broker.expect(upsert, 204, "").await;
    assert_eq!(reply.header("location"), Some("/v2/entities/E?type=Thing"));
    let both = r#"{"id":"E","type":"Thing","a":1,"b":2}"#;
    broker.expect(request("GET /v2/entities/E?options=keyValues"), 200, both).await;
}

#[tokio::test]
async fn one_id_with_two_types_needs_a_type() {
    let broker = Broker::start().await;
    broker.given(r#"{"id":"E","type":"A","n":{"value":1}}"#).await;
    broker.given(r#"{"id":"E","type":"B","n":{"value":2}}"#).await;
    let patch = r#"{"n":{"value":3}}"#;
    for ambiguous in [
        request("GET /v2/entities/E"),
        request("DELETE /v2/entities/E"),
        request("PATCH /v2/entities/E/attrs").json(patch),
        request("GET /v2/entities/E/attrs/n"),
    ] {
        broker.refuses(ambiguous, 409, "TooManyResults", TOO_MANY).await;
    }
    broker.expect(request("PATCH /v2/entities/E/attrs?type=B").json(patch), 204, "").await;
    broker
        .expect(request("GET /v2/entities/E?type=B&options=keyValues"), 200, r#"{"id":"E","type":"B","n":3}"#)
        .await;
    broker
        .expect(request("GET /v2/entities/E?type=A&options=keyValues"), 200, r#"{"id":"E","type":"A","n":1}"#)
        .await;
    broker.refuses(request("GET /v2/entities/E?type=C"), 404, "NotFound", NOT_FOUND).await;
}

#[tokio::test]
async fn bad_bodies_are_named() {
    let broker = Broker::start().await;
    let long = "a".repeat(257);
    let id_too_long = format!(r#"{{"id":"{long}"}}"#);
    let name_too_long = format!(r#"{{"id":"E","{long}":{{"value":1}}}}"#);
    for (body, description) in [
        ("{}", "entity id length: 0, min length supported: 1"),
        ("[]", "not a JSON object"),
        ("3", "not a JSON object"),
        (r#"{"id":""}"#, "entity id length: 0, min length supported: 1"),
        (r#"{"id":"E","type":""}"#, "entity type length: 0, min length supported: 1"),
        (id_too_long.as_str(), "entity id length: 257, max length supported: 256"),
        (name_too_long.as_str(), "attribute name length: 257, max length supported: 256"),
        (r#"{"id":3}"#, "Invalid JSON type for entity id"),
        (r#"{"id":"E","type":3}"#, "Invalid JSON type for entity type"),
        (r#"{"id":"a b"}"#, "Invalid characters in entity id"),
        (r#"{"id":"E","type":"a/b"}"#, "Invalid characters in entity type"),
        (r#"{"id":"E","a b":{"value":1}}"#, "Invalid characters in attribute name"),
        (r#"{"id":"E","a":{"type":"x y","value":1}}"#, "Invalid characters in attribute type"),
        (r#"{"id":"E","a":{"type":"","value":1}}"#, "attribute type length: 0, min length supported: 1"),
        (r#"{"id":"E","a":{"value":"a<b"}}"#, "Invalid characters in attribute value"),
        (r#"{"id":"E","a":{"value":{"k":["x(y"]}}}"#, "Invalid characters in attribute value"),
        (r#"{"id":"E","a":{"value":{"k'":1}}}"#, "Invalid characters in attribute value"),
        (
            r#"{"id":"E","a":{"value":1,"metadata":{"m ":{"value":1}}}}"#,
            "Invalid characters in metadata name",
        ),
        (
            r#"{"id":"E","a":{"value":1,"metadata":{"m":{"value":"a;"}}}}"#,
            "Invalid characters in metadata value",
        ),
        (
            r#"{"id":"E","a":{"value":1,"metadata":{"m":{"type":"a=","value":1}}}}"#,
            "Invalid characters in metadata type",
        ),
        (r#"{"id":"E","a":{"type":3,"value":1}}"#, "invalid JSON type for attribute type"),
        (
            r#"{"id":"E","a":{"value":1,"metadata":{"m":{"type":3}}}}"#,
            "invalid JSON type for attribute metadata type",
        ),
        (r#"{"id":"E","a":3}"#, "attribute must be a JSON object, unless keyValues option is used"),
        (r#"{"id":"E","a":{"foo":1}}"#, "unrecognized property for context attribute"),
        (
            r#"{"id":"E","a":{"value":1,"metadata":{"m":{"foo":1}}}}"#,
            "invalid JSON field for attribute metadata",
        ),
        (r#"{"id":"E","a":{"value":1,"metadata":3}}"#, "metadata must be a JSON object"),
        (r#"{"id":"E","a":{"value":1,"value":2}}"#, "duplicated value key in attribute"),
        (r#"{"id":"E","a":{"value":1},"a":{"value":2}}"#, "duplicated attribute /a/"),
        (r#"{"id":"E","a":{"type":"DateTime","value":"x"}}"#, "date has invalid format in attribute value"),
        (
            r#"{"id":"E","a":{"value":1,"metadata":{"m":{"type":"ISO8601","value":"x"}}}}"#,
            "date has invalid format in metadata value",
        ),
        (r#"{"id":"E","a":{"type":"geo:json","value":"x"}}"#, "geo:json needs an object or null as value"),
        (
            r#"{"id":"E","a":{"type":"geo:point","value":"x"}}"#,
            "error parsing location attribute: geo coordinates format error [see Orion user manual]: x",
        ),
        (
            r#"{"id":"E","dateExpires":{"type":"Text","value":"2040-01-01"}}"#,
            "error processing date expiration attribute, see log traces",
        ),
    ] {
        broker.refuses(request("POST /v2/entities").json(body), 400, "BadRequest", description).await;
    }
}

#[tokio::test]
async fn types_are_derived_and_values_shown_in_their_one_form() {
    let broker = Broker::start().await;
    for (sent, expected) in [
        (r#"{"value":1.0}"#, r#"{"type":"Number","value":1,"metadata":{}}"#),
        (r#"{"value":0.10}"#, r#"{"type":"Number","value":0.1,"metadata":{}}"#),
        (r#"{"value":true}"#, r#"{"type":"Boolean","value":true,"metadata":{}}"#),
        (r#"{"value":[1]}"#, r#"{"type":"StructuredValue","value":[1],"metadata":{}}"#),
        (r#"{"value":{"k":1}}"#, r#"{"type":"StructuredValue","value":{"k":1},"metadata":{}}"#),
        (r#"{"value":null}"#, r#"{"type":"None","value":null,"metadata":{}}"#),
        (r#"{"type":"Q"}"#, r#"{"type":"Q","value":null,"metadata":{}}"#),
        (r#"{"metadata":{}}"#, r#"{"type":"None","value":null,"metadata":{}}"#),
        (
            r#"{"type":"DateTime","value":"2026-01-31T10:00+02"}"#,
            r#"{"type":"DateTime","value":"2026-01-31T08:00:00.000Z","metadata":{}}"#,
        ),
        (r#"{"type":"DateTime","value":null}"#, r#"{"type":"DateTime","value":null,"metadata":{}}"#),
        (
            r#"{"type":"TextUnrestricted","value":"a<b"}"#,
            r#"{"type":"TextUnrestricted","value":"a<b","metadata":{}}"#,
        ),
        (
            r#"{"value":1,"metadata":{"m":{"value":"x"}}}"#,
            r#"{"type":"Number","value":1,"metadata":{"m":{"type":"Text","value":"x"}}}"#,
        ),
        (
            r#"{"type":"geo:json","value":{"type":"Feature","properties":{},"geometry":{"type":"Point","coordinates":[2,41]}}}"#,
            r#"{"type":"geo:json","value":{"type":"Point","coordinates":[2,41]},"metadata":{}}"#,
        ),
    ] {
        let body = format!(r#"{{"id":"E","a":{sent}}}"#);
        broker
            .expect(request("POST /v2/entities?options=upsert,overrideMetadata").json(&body), 204, "")
            .await;
        broker.expect(request("GET /v2/entities/E/attrs/a"), 200, expected).await;
    }
}

#[tokio::test]
async fn a_second_location_is_refused() {
    let broker = Broker::start().await;
    let two = r#"{"id":"E","a":{"type":"geo:point","value":"1,2"},"b":{"type":"geo:point","value":"1,2"}}"#;
    let description = "You cannot use more than one geo location attribute when creating an entity. Use ignoreType metadata if you want to add additional informative locations.";
    broker.refuses(request("POST /v2/entities").json(two), 413, "NoResourcesAvailable", description).await;
}

#[tokio::test]
async fn a_transient_entity_ends_at_its_date() {
    let broker = Broker::start().await;
    broker.given(r#"{"id":"E","dateExpires":{"value":"2026-01-31T10:00:10Z"},"a":{"value":1}}"#).await;
    broker
        .expect(request("GET /v2/entities/E?options=keyValues"), 200, r#"{"id":"E","type":"Thing","a":1}"#)
        .await;
    let shown = r#"{"id":"E","type":"Thing","dateExpires":"2026-01-31T10:00:10.000Z"}"#;
    broker.expect(request("GET /v2/entities/E?options=keyValues&attrs=dateExpires"), 200, shown).await;
    broker.clock.set_us(NOW_US + 10_000_000);
    broker.refuses(request("GET /v2/entities/E"), 404, "NotFound", NOT_FOUND).await;
    broker.expect(request("GET /v2/entities"), 200, "[]").await;
    broker.given(r#"{"id":"E","a":{"value":2}}"#).await;
}

/// `"a0":0,"a1":1,…`
fn numbered(count: usize) -> String {
    (0..count).map(|n| format!("\"a{n}\":{n}")).collect::<Vec<_>>().join(",")
}

#[tokio::test]
async fn an_entity_of_thousands_of_attributes_is_served_and_one_above_the_limit_refused() {
    let broker = Broker::start().await;
    let attributes = numbered(8_000);
    let body = format!(r#"{{"id":"E","type":"T",{attributes}}}"#);
    broker.expect(request("POST /v2/entities?options=keyValues").json(&body), 201, "").await;
    broker.expect(request("GET /v2/entities/E?options=keyValues"), 200, &body).await;
    let replace = request("PUT /v2/entities/E/attrs?options=keyValues").json(&format!("{{{attributes}}}"));
    broker.expect(replace, 204, "").await;
    let names: Vec<String> = (0..5_000).map(|n| format!("a{n}")).collect();
    let some = request(&format!("GET /v2/entities/E?options=values&attrs={},*", names.join(",")));
    let values: Vec<String> = (0..8_000).map(|n| n.to_string()).collect();
    broker.expect(some, 200, &format!("[{}]", values.join(","))).await;
    // What is stored of an attribute is larger than what was sent.
    let too_many = format!(r#"{{"id":"F",{}}}"#, numbered(10_000));
    let description = "entity size, max size supported: 1048576";
    let create = request("POST /v2/entities?options=keyValues").json(&too_many);
    broker.refuses(create, 413, "RequestEntityTooLarge", description).await;
}
