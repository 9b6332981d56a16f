//! ngsi-v2.md 3.

use crate::broker::{Broker, Request, request};

fn at(path: &str, line: &str) -> Request {
    request(line).header("Fiware-ServicePath", path)
}

const E: &str = r#"{"id":"E","type":"T","a":{"value":1}}"#;

#[tokio::test]
async fn one_entity_may_live_in_several_paths() {
    let broker = Broker::start().await;
    for path in ["/", "/a", "/a/b/"] {
        broker.expect(at(path, "POST /v2/entities").json(E), 201, "").await;
    }
    for (path, count) in [("/", 1), ("/#", 3), ("/a", 1), ("/a/#", 2), ("/, /a/b", 2), ("/x/#", 0)] {
        let reply = broker.send(at(path, "GET /v2/entities")).await;
        let found: Vec<serde_json::Value> = serde_json::from_str(&reply.body).unwrap();
        assert_eq!(found.len(), count, "{path}");
    }
    assert_eq!(broker.send(request("GET /v2/entities/E")).await.status, 409);
    assert_eq!(broker.send(at("/a", "GET /v2/entities/E")).await.status, 200);
    broker.expect(at("/a", "PATCH /v2/entities/E/attrs").json(r#"{"a":{"value":2}}"#), 204, "").await;
    let shown = r#"{"id":"E","type":"T","a":2,"servicePath":"/a"}"#;
    broker.expect(at("/a", "GET /v2/entities/E?options=keyValues&attrs=a,servicePath"), 200, shown).await;
    broker.expect(request("DELETE /v2/entities/E"), 204, "").await;
    assert_eq!(broker.send(at("/", "GET /v2/entities/E")).await.status, 404);
    assert_eq!(broker.send(at("/a", "GET /v2/entities/E")).await.status, 200);
}

#[tokio::test]
async fn bad_paths_are_named() {
    let broker = Broker::start().await;
    let long = format!("/{}", "a".repeat(51));
    let many = ["/a"; 11].join(",");
    for (path, description) in [
        ("a", "Only /absolute/ Service Paths allowed [a service path must begin with /]"),
        ("/a//b", "empty component in ServicePath"),
        ("/1/2/3/4/5/6/7/8/9/10/11", "too many components in ServicePath"),
        (&long, "component-name too long in ServicePath"),
        ("/a-b", "a component of ServicePath contains an illegal character"),
        ("", "empty service path"),
        (&many, "too many service paths - a maximum of ten service paths is allowed"),
    ] {
        broker.refuses(at(path, "GET /v2/entities"), 400, "BadRequest", description).await;
    }
}

#[tokio::test]
async fn writes_go_to_one_path() {
    let broker = Broker::start().await;
    let attrs = r#"{"a":{"value":1}}"#;
    for (bad, description) in [
        (
            at("/a,/b", "PATCH /v2/entities/E/attrs").json(attrs),
            "more than one servicepath in patch update request is not allowed",
        ),
        (
            at("/a/#", "PATCH /v2/entities/E/attrs").json(attrs),
            "servicepath with wildcard # is not allowed in patch update request",
        ),
        (
            at("/a,/b", "DELETE /v2/entities/E"),
            "more than one servicepath is not allowed in DELETE operation",
        ),
        (
            at("/a/#", "DELETE /v2/entities/E"),
            "servicepath with wildcard # is not allowed in DELETE operation",
        ),
        (at("/a,/b", "POST /v2/entities").json(E), "more than one service path in context update request"),
    ] {
        broker.refuses(bad, 400, "BadRequest", description).await;
    }
}
