//! ngsi-v2.md 2: what holds for every request.

use crate::broker::{Broker, request};

const LAMP: &str = r#"{"id":"lamp1","type":"Lamp","level":3}"#;

#[tokio::test]
async fn unknown_paths_and_wrong_methods_are_refused() {
    let broker = Broker::start().await;
    let unknown = "Service not found. Check your URL as probably it is wrong.";
    for path in ["/", "/v1/queryContext", "/ngsi10/updateContext", "/v2/nothing", "/v2/entities/E/nothing"] {
        broker.refuses(request(&format!("GET {path}")), 400, "BadRequest", unknown).await;
    }
    for (line, allow) in [
        ("DELETE /version", "GET"),
        ("DELETE /v2", "GET"),
        ("DELETE /v2/entities", "POST, GET"),
        ("HEAD /v2/entities", "POST, GET"),
        ("OPTIONS /v2/entities/E", "GET, DELETE"),
        ("DELETE /v2/entities/E/attrs", "GET, PATCH, POST, PUT"),
        ("DELETE /v2/entities/E/attrs/A/value", "GET, PUT"),
        ("DELETE /v2/types", "GET"),
        ("DELETE /v2/types/T", "GET"),
        ("GET /v2/op/update", "POST"),
        ("GET /v2/op/query/", "POST"),
    ] {
        let reply = broker.send(request(line)).await;
        assert_eq!((reply.status, reply.header("allow")), (405, Some(allow)), "{line}");
        if !line.starts_with("HEAD") {
            assert_eq!(reply.body, r#"{"error":"MethodNotAllowed","description":"method not allowed"}"#);
        }
    }
    let patch = request("PATCH /v2/entities/E/attrs/A").json("{}");
    assert_eq!(broker.send(patch).await.header("allow"), Some("GET, PUT, DELETE"));
}

#[tokio::test]
async fn empty_and_forbidden_parts_of_a_path_are_named() {
    let broker = Broker::start().await;
    for (line, description) in [
        ("GET /v2/entities//attrs", "entity id length: 0, min length supported: 1"),
        ("GET /v2/entities/E/attrs//value", "attribute name length: 0, min length supported: 1"),
        ("GET /v2/types//", "entity type length: 0, min length supported: 1"),
        ("GET /v2/entities/a%3Cb", "invalid character in URI"),
        ("GET /v2/entities/a(b)", "invalid character in URI"),
        ("GET /v2/entities?type=a%3Bb", "invalid character in URI parameter"),
        ("GET /v2/entities?q=", "Empty right-hand-side for URI param /q/"),
        ("GET /v2/entities?options=foo", "Invalid value for URI param /options/"),
        ("GET /v2/entities?limit=-1", "Bad pagination limit: /-1/ [must be a positive integer number]"),
        ("GET /v2/entities?limit=1001", "Bad pagination limit: /1001/ [max: 1000]"),
        ("GET /v2/entities?offset=x", "Bad pagination offset: /x/ [must be a decimal number]"),
    ] {
        broker.refuses(request(line), 400, "BadRequest", description).await;
    }
}

#[tokio::test]
async fn a_body_needs_a_length_and_a_known_type() {
    let broker = Broker::start().await;
    let no_length = "Zero/No Content-Length in PUT/POST/PATCH request";
    for line in ["POST /v2/entities", "PATCH /v2/entities/E/attrs", "PUT /version"] {
        broker.refuses(request(line), 411, "ContentLengthRequired", no_length).await;
        let zero = request(line).header("Content-Length", "0");
        broker.refuses(zero, 411, "ContentLengthRequired", no_length).await;
    }
    let text = request("POST /v2/entities").header("Content-Type", "text/plain").body(LAMP);
    broker.refuses(text, 415, "UnsupportedMediaType", "not supported content type: text/plain").await;
    let unnamed = request("POST /v2/entities").body(LAMP);
    let description = "Content-Type header not used, default application/octet-stream is not supported";
    broker.refuses(unnamed, 415, "UnsupportedMediaType", description).await;
    let with_charset = request("POST /v2/entities?options=keyValues")
        .header("Content-Type", "application/json; charset=utf-8")
        .body(LAMP);
    broker.expect(with_charset, 201, "").await;
    for method in ["GET", "DELETE"] {
        let typed = request(&format!("{method} /v2/entities/E")).header("Content-Type", "application/json");
        let description =
            "Orion accepts no payload for GET/DELETE requests. HTTP header Content-Type is thus forbidden";
        broker.refuses(typed, 400, "BadRequest", description).await;
    }
}

#[tokio::test]
async fn chunked_bodies_are_read_and_bounded_like_others() {
    let broker = Broker::start().await;
    let chunked = |body: &str| {
        let bytes = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        request("POST /v2/entities?options=keyValues")
            .header("Content-Type", "application/json")
            .header("Transfer-Encoding", "chunked")
            .raw_body(bytes.as_bytes())
    };
    broker.expect(chunked(LAMP), 201, "").await;
    assert_eq!(broker.send(chunked(&" ".repeat(1_048_577))).await.status, 413);
    let empty = request("POST /v2/entities")
        .header("Content-Type", "application/json")
        .header("Transfer-Encoding", "chunked")
        .raw_body(b"0\r\n\r\n");
    assert_eq!(broker.send(empty).await.status, 411);
}

#[tokio::test]
async fn a_body_above_the_limit_is_refused_unread() {
    let broker = Broker::start().await;
    let big = request("POST /v2/entities")
        .header("Content-Type", "application/json")
        .header("Content-Length", "1048577");
    let description = "payload size: 1048577, max size supported: 1048576";
    broker.refuses(big, 413, "RequestEntityTooLarge", description).await;
    let exact = format!("{LAMP}{}", " ".repeat(1_048_576 - LAMP.len()));
    broker.expect(request("POST /v2/entities?options=keyValues").json(&exact), 201, "").await;
}

#[tokio::test]
async fn accept_decides_what_can_be_answered() {
    let broker = Broker::start().await;
    let entities = |accept: &str| request("GET /v2/entities").header("Accept", accept);
    for accept in
        ["*/*", "application/*", "application/json", "text/plain, application/json", "image/png, */*;q=0.1"]
    {
        broker.expect(entities(accept), 200, "[]").await;
    }
    for (accept, status, error, description) in [
        ("image/png", 406, "NotAcceptable", "no acceptable mime-type in accept header"),
        ("text/plain", 406, "NotAcceptable", "acceptable MIME types: application/json"),
        ("", 400, "BadRequest", "empty accept header"),
        ("application/json;q", 400, "BadRequest", "missing equal-sign after q in accept header"),
        ("application/json;x=1", 400, "BadRequest", "q missing in accept header"),
        ("application/json;q=x", 400, "BadRequest", "qvalue in accept header is not a number"),
    ] {
        let description = description.replace('=', "&#61;");
        broker.refuses(entities(accept), status, error, &description).await;
    }
}

#[tokio::test]
async fn bad_json_is_a_parse_error() {
    let broker = Broker::start().await;
    for body in ["{", "nonsense", "{\"id\":1,}", "\u{7f}"] {
        let bad = request("POST /v2/entities").json(body);
        broker.refuses(bad, 400, "ParseError", "Errors found in incoming JSON buffer").await;
    }
    let not_utf8 = request("POST /v2/entities")
        .header("Content-Type", "application/json")
        .header("Content-Length", "4")
        .raw_body(b"\"\xff\xfe\"");
    broker.refuses(not_utf8, 400, "ParseError", "Errors found in incoming JSON buffer").await;
    let nested = |levels: usize| {
        let value = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        request("POST /v2/entities?options=upsert").json(&format!(r#"{{"id":"E","a":{{"value":{value}}}}}"#))
    };
    assert_eq!(broker.send(nested(50)).await.status, 204);
    let description = "attribute or metadata value has overpassed maximum nesting limit: 50";
    broker.refuses(nested(51), 400, "ParseError", description).await;
    broker.refuses(nested(100_000), 400, "ParseError", description).await;
}

#[tokio::test]
async fn checks_come_in_the_order_of_the_original() {
    let broker = Broker::start().await;
    // Each request has two faults; the first of the contract's order is told.
    for (bad, status, part) in [
        (request("GET /v2/entities/a%3C").header("Fiware-ServicePath", "x"), 400, "invalid character in URI"),
        (
            request("POST /v2/entities").header("Fiware-ServicePath", "x").header("Content-Type", "a/b"),
            400,
            "absolute",
        ),
        (
            request("POST /v2/entities?options=x").header("Content-Type", "a/b").body("{}"),
            415,
            "content type",
        ),
        (request("GET /v2/entities?options=x").header("Accept", ""), 400, "options"),
        (
            request("POST /v2/entities").header("Accept", "").header("Content-Type", "application/json"),
            400,
            "accept",
        ),
        (request("PUT /nothing"), 411, "Content-Length"),
        (request("DELETE /v2/entities").header("Fiware-Service", "a-b"), 405, "method"),
        (request("POST /v2/entities").header("Fiware-Service", "a-b").json("{"), 400, "tenant"),
    ] {
        let reply = broker.send(bad.clone()).await;
        assert_eq!(reply.status, status, "{bad:?} {}", reply.body);
        assert!(reply.body.contains(part), "{bad:?} {}", reply.body);
    }
}

#[tokio::test]
async fn tenants_are_folded_checked_and_kept_apart() {
    let broker = Broker::start().await;
    let create =
        request("POST /v2/entities?options=keyValues").header("fiware-service", "Factory").json(LAMP);
    broker.expect(create, 201, "").await;
    for (tenant, found) in [("factory", true), ("FACTORY", true), ("other", false)] {
        let reply = broker.send(request("GET /v2/entities").header("FIWARE-Service", tenant)).await;
        assert_eq!(reply.body != "[]", found, "{tenant}");
    }
    broker.expect(request("GET /v2/entities"), 200, "[]").await;
    for (tenant, description) in [
        ("a-b", "bad character in tenant name - only underscore and alphanumeric characters are allowed"),
        (&"a".repeat(51), "bad length - a tenant name can be max 50 characters long"),
    ] {
        broker
            .refuses(
                request("GET /v2/entities").header("Fiware-Service", tenant),
                400,
                "BadRequest",
                description,
            )
            .await;
    }
}

#[tokio::test]
async fn the_correlator_is_kept_or_made() {
    let broker = Broker::start().await;
    let kept = broker.send(request("GET /v2/entities").header("Fiware-Correlator", "abc")).await;
    assert_eq!(kept.header("fiware-correlator"), Some("abc"));
    for line in ["GET /v2/entities", "GET /nothing", "POST /v2/entities"] {
        let made = broker.send(request(line)).await;
        assert_eq!(made.header("fiware-correlator").map(str::len), Some(36), "{line}");
    }
}

#[tokio::test]
async fn version_and_entry_point_are_answered() {
    let broker = Broker::start().await;
    let reply = broker.send(request("GET /version")).await;
    let body: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
    let orion = body["orion"].as_object().unwrap();
    let names: Vec<_> = orion.keys().map(String::as_str).collect();
    let expected = [
        "version",
        "uptime",
        "git_hash",
        "compile_time",
        "compiled_by",
        "compiled_in",
        "release_date",
        "machine",
        "doc",
    ];
    assert_eq!(names, expected);
    assert!(orion.values().all(serde_json::Value::is_string));
    let version: Vec<_> = body["orion"]["version"].as_str().unwrap().split('.').collect();
    assert!(version.len() == 3 && version.iter().all(|part| part.parse::<u32>().is_ok()), "{version:?}");
    assert_eq!(body["orion"]["uptime"], "0 d, 0 h, 0 m, 0 s");
    broker
        .expect(
            request("GET /v2"),
            200,
            r#"{"entities_url":"/v2/entities","types_url":"/v2/types","subscriptions_url":"/v2/subscriptions","registrations_url":"/v2/registrations"}"#,
        )
        .await;
}

#[tokio::test]
async fn answers_carry_their_headers() {
    let broker = Broker::start().await;
    let created = broker.expect(request("POST /v2/entities?options=keyValues").json(LAMP), 201, "").await;
    assert_eq!(created.header("location"), Some("/v2/entities/lamp1?type=Lamp"));
    assert_eq!(created.header("content-length"), Some("0"));
    let read = broker.send(request("GET /v2/entities/lamp1")).await;
    assert_eq!(read.header("content-type"), Some("application/json"));
    let updated =
        broker.send(request("PATCH /v2/entities/lamp1/attrs?options=keyValues").json(r#"{"level":4}"#)).await;
    assert_eq!(
        (updated.status, updated.header("content-length"), updated.header("content-type")),
        (204, None, None)
    );
}

#[tokio::test]
async fn reason_phrases_are_those_of_rfc_9110() {
    let broker = Broker::start().await;
    broker.given(r#"{"id":"E","type":"T"}"#).await;
    let two = r#"{"id":"G","a":{"type":"geo:point","value":"1,2"},"b":{"type":"geo:point","value":"1,2"}}"#;
    for (body, status, reason) in [
        (r#"{"id":"E","type":"T"}"#, 422, "Unprocessable Content"),
        (two, 413, "Content Too Large"),
        ("{}", 400, "Bad Request"),
        (r#"{"id":"H"}"#, 201, "Created"),
    ] {
        let reply = broker.send(request("POST /v2/entities").json(body)).await;
        assert_eq!((reply.status, reply.reason.as_str()), (status, reason), "{}", reply.body);
    }
}

#[tokio::test]
async fn whoever_is_refused_by_the_head_can_send_the_whole_body_and_reads_why() {
    let broker = Broker::start().await;
    let body = format!(r#"{{"id":"E","a":{{"value":"{}"}}}}"#, "x".repeat(900_000));
    let json = "Content-Type: application/json\r\n";
    for (line, headers, status) in [
        ("POST /v2/entities", format!("{json}Fiware-ServicePath: a\r\n"), 400),
        ("POST /v2/entities", "Content-Type: text/xml\r\n".to_owned(), 415),
        ("POST /v2/entities?limit=x", json.to_owned(), 400),
        ("POST /v2/nothing", json.to_owned(), 400),
        ("POST /version", json.to_owned(), 405),
        ("POST /v2/entities", format!("{json}Fiware-Service: a-b\r\n"), 400),
    ] {
        for _ in 0..3 {
            let head =
                format!("{line} HTTP/1.1\r\nHost: h\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
            let answer = broker.raw_slowly(&head, &body).await.unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line} {headers}: {answer}");
        }
    }
}
