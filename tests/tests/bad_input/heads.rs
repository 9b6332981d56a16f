//! Paths, methods and headers that nobody knows, that lack, or that say two things.

use serde_json::json;
use thingmesh_tests::{
    client::{Answer, Caller, Client},
    mesh::Options,
    raw,
};

use crate::place::{Place, shortened};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_paths_and_methods_are_refused_in_each_dialect() {
    let Some(place) = Place::open(Options::default()).await else { return };
    let mesh = &place.mesh;
    let caller = Caller::of("bad").at("/bad");
    let inside = caller.clone().with_token(&place.token);
    let (gateway, broker) = (Client::new(mesh.gateway()), Client::new(mesh.broker()));
    let (north, south, series) =
        (Client::new(mesh.north()), Client::new(mesh.south()), Client::new(mesh.series()));
    let unknown = |answer: &Answer, status: u16, word: &str| {
        assert_eq!(answer.status, status, "{}", answer.text());
        assert!(answer.text().contains(word), "{}", answer.text());
    };
    unknown(&broker.get("/nothing/here", &caller).await, 400, "Service not found");
    unknown(&gateway.get("/orion/nothing/here", &inside).await, 400, "Service not found");
    unknown(&broker.delete("/v2/entities", &caller).await, 405, "method not allowed");
    unknown(&gateway.delete("/orion/v2/entities", &inside).await, 405, "method not allowed");
    unknown(&gateway.get("/nothing", &inside).await, 404, "");
    unknown(&north.get("/iot/nothing", &caller).await, 404, "");
    unknown(&north.patch("/iot/services", &caller, &json!({})).await, 404, "");
    unknown(&south.get("/nothing", &caller).await, 404, "");
    unknown(&series.get("/v2/nothing", &caller).await, 404, "about:blank");
    let refused = series.delete("/v2/notify", &caller).await;
    unknown(&refused, 405, "about:blank");
    assert!(refused.header("allow").is_some());
    for door in place.doors() {
        for line in ["BREW / HTTP/1.1", "GET * HTTP/1.1", "OPTIONS * HTTP/1.1"] {
            let more = door.headers.as_str();
            let request =
                format!("{line}\r\nHost: mesh\r\nConnection: close\r\nFiware-Service: bad\r\n{more}\r\n");
            let answer = raw::exchange(door.port, request.as_bytes()).await;
            let status = raw::status(&answer);
            assert!(
                (400..500).contains(&status) || status == 501,
                "{} {line}: {}",
                door.name,
                shortened(&answer)
            );
        }
        for line in ["nonsense", "GET /v2/entities", "GET /v2/entities HTTP/9.9", "\u{0}\u{1}\u{2}"] {
            let answer = raw::exchange(door.port, format!("{line}\r\n\r\n").as_bytes()).await;
            assert!(
                answer.is_empty() || raw::status(&answer) == 400,
                "{} {line}: {}",
                door.name,
                shortened(&answer)
            );
        }
    }
    place.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_and_malformed_headers_are_named() {
    let Some(place) = Place::open(Options::default()).await else { return };
    let broker = Client::new(place.mesh.broker());
    let long = "a".repeat(51);
    for (tenant, word) in
        [("a-b", "bad character in tenant name"), ("ä", "tenant"), (long.as_str(), "bad length")]
    {
        let answer = broker.get("/v2/entities", &Caller::of(tenant)).await.expect(400);
        assert!(answer.text().contains(word), "{tenant}: {}", answer.text());
    }
    for (path, word) in
        [("relative", "Only /absolute/"), ("/a/$", "illegal character"), ("/a//b", "empty component")]
    {
        let answer = broker.get("/v2/entities", &Caller::of("bad").at(path)).await.expect(400);
        assert!(answer.text().contains(word), "{path}: {}", answer.text());
    }
    let north = Client::new(place.mesh.north());
    let answer = north.get("/iot/devices", &Caller::nobody()).await.expect(400);
    assert!(answer.text().contains("MISSING_HEADERS"), "{}", answer.text());
    north.get("/iot/devices", &Caller::of("a-b").at("/x")).await.expect(400);
    let series = Client::new(place.mesh.series());
    series.get("/v2/entities", &Caller::of("a-b")).await.expect(400);

    let gateway = Client::new(place.mesh.gateway());
    let entities = "/orion/v2/entities";
    for token in ["", "x", "a.b.c", "eyJhbGciOiJub25lIn0.eyJ0ZW5hbnQiOiJiYWQifQ."] {
        let answer = gateway.get(entities, &Caller::of("bad").with_token(token)).await.expect(401);
        assert!(answer.header("www-authenticate").is_some(), "{token:?}");
        assert!(answer.json().is_object(), "{token:?}: {}", answer.text());
    }
    let large = Caller::of("bad").with_token(&"x".repeat(20_000));
    assert!((400..500).contains(&gateway.get(entities, &large).await.status));
    gateway.get(entities, &Caller::nobody().with_token(&place.token)).await.expect(403);
    gateway.get(entities, &Caller::of("BAD").with_token(&place.token)).await.expect(403);
    let twice = Caller::of("bad").with_token(&place.token).with("fiware-service", "good");
    gateway.get(entities, &twice).await.expect(403);
    let twice = Caller::of("good").with_token(&place.token).with("fiware-service", "bad");
    gateway.get(entities, &twice).await.expect(403);

    for door in place.doors() {
        let huge = format!(
            "GET / HTTP/1.1\r\nHost: mesh\r\nConnection: close\r\nX-Huge: {}\r\n\r\n",
            "x".repeat(200_000)
        );
        let answer = raw::exchange(door.port, huge.as_bytes()).await;
        assert!(
            answer.is_empty() || matches!(raw::status(&answer), 400 | 431),
            "{}: {}",
            door.name,
            shortened(&answer)
        );
        let both = door.head("POST", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n");
        let answer = raw::exchange(door.port, format!("{both}0\r\n\r\n").as_bytes()).await;
        // RFC 9112 6.3: refused, or taken as chunked; in no case as two requests.
        assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{}: smuggling: {}", door.name, shortened(&answer));
    }
    place.close().await;
}
