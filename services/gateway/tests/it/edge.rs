use serde_json::json;

use crate::{
    client::{get, send},
    mesh::Mesh,
};

#[tokio::test]
async fn each_prefix_reaches_its_service_without_it() {
    let mesh = Mesh::start().await;
    let token = mesh.bearer("acme");
    for (path, service, behind) in [
        ("/orion/v2/entities?limit=1", "orion:1026", "/v2/entities?limit=1"),
        ("/orion", "orion:1026", "/"),
        ("/orion/", "orion:1026", "/"),
        ("/quantumleap/v2/types", "quantumleap:8668", "/v2/types"),
        ("/iota-south/iot/d?k=1&i=2", "ulagent:7896", "/iot/d?k=1&i=2"),
        ("/iota-north/iot/services", "ulagent:4041", "/iot/services"),
    ] {
        let answer = get(mesh.http(), path, &[("authorization", &token), ("fiware-service", "acme")]).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert_eq!((&answer.json()["service"], &answer.json()["path"]), (&json!(service), &json!(behind)));
        assert_eq!(answer.json()["headers"]["x-auth-tenant"], "acme");
        assert_eq!(answer.json()["headers"]["x-envoy-original-path"], path);
    }
}

#[tokio::test]
async fn version_pages_are_open_and_nothing_else() {
    let mesh = Mesh::start().await;
    for (path, status) in [
        ("/orion/version", 200),
        ("/quantumleap/version?x", 200),
        ("/iota-north/iot/about", 200),
        ("/orion/version/", 401),
        ("/orion/version;a", 401),
        ("/orion/Version", 401),
        ("/iota-south/version", 401),
        ("/orion/version/../v2/entities", 401),
        ("/orion/v2/../version", 200),
        ("//orion//version", 200),
        ("/orion%2fversion", 200),
    ] {
        assert_eq!(get(mesh.http(), path, &[]).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn a_refusal_says_why_in_json() {
    let mesh = Mesh::start().await;
    let anonymous = get(mesh.http(), "/orion/v2/entities", &[("fiware-service", "acme")]).await;
    assert_eq!(anonymous.status, 401);
    assert_eq!(anonymous.header("www-authenticate"), Some("Bearer error=\"invalid_token\""));
    assert_eq!(anonymous.json()["error"], "Unauthorized");
    let token = mesh.bearer("acme");
    let other = [("authorization", token.as_str()), ("fiware-service", "other")];
    let forbidden = get(mesh.http(), "/orion/v2/entities", &other).await;
    assert_eq!(forbidden.status, 403);
    assert_eq!(forbidden.header("content-type"), Some("application/json"));
    assert_eq!(forbidden.json(), json!({"error": "Forbidden", "description": "tenant mismatch"}));
}

#[tokio::test]
async fn strict_compat_refuses_with_a_bare_403() {
    let mesh = Mesh::with(|config, _| config.strict_compat = true, crate::mesh::echoes()).await;
    let answer = get(mesh.http(), "/orion/v2/entities", &[]).await;
    assert_eq!((answer.status, answer.body.as_str()), (403, ""));
    assert_eq!(answer.header("www-authenticate"), None);
}

#[tokio::test]
async fn a_path_that_no_route_knows_is_not_found_with_and_without_a_token() {
    let mesh = Mesh::start().await;
    let token = mesh.bearer("acme");
    for path in ["/", "/orionfoo", "/ORION/v2", "/orion/../secret", "/version"] {
        for headers in [&[][..], &[("authorization", token.as_str()), ("fiware-service", "other")]] {
            let answer = get(mesh.http(), path, headers).await;
            assert_eq!((answer.status, answer.body.as_str()), (404, ""), "{path}");
        }
    }
}

#[tokio::test]
async fn a_malformed_path_is_refused_with_words() {
    let mesh = Mesh::start().await;
    let answer = get(mesh.http(), "/orion/version%00", &[]).await;
    let words = "the path is malformed: it can be neither routed nor judged";
    assert_eq!((answer.status, answer.json()), (400, json!({"error": "BadRequest", "description": words})));
}

#[tokio::test]
async fn what_a_client_claims_about_itself_does_not_pass() {
    let mesh = Mesh::start().await;
    let token = mesh.bearer("acme");
    let headers = [
        ("authorization", token.as_str()),
        ("fiware-service", "acme"),
        ("x-auth-tenant", "evil"),
        ("x-envoy-internal", "true"),
        ("x-mine", "1"),
        ("connection", "x-mine"),
        ("x-auth-token", "kept"),
    ];
    let seen = send(mesh.http(), "POST", "/orion/v2/entities", &headers, "{}").await.json();
    assert_eq!(seen["headers"]["x-auth-tenant"], "acme");
    assert_eq!(seen["headers"]["x-envoy-internal"], json!(null));
    assert_eq!(seen["headers"]["x-mine"], json!(null));
    assert_eq!(seen["headers"]["x-auth-token"], "kept");
    assert_eq!(seen["headers"]["authorization"], token);
    assert_eq!((&seen["method"], &seen["body"]), (&json!("POST"), &json!("{}")));
    let open = get(mesh.http(), "/orion/version", &[("x-auth-tenant", "evil")]).await.json();
    assert_eq!(open["headers"]["x-auth-tenant"], json!(null));
}

#[tokio::test]
async fn two_tenants_in_one_request_are_none() {
    let mesh = Mesh::start().await;
    let token = mesh.bearer("acme");
    for second in ["other", "acme", ""] {
        let headers =
            [("authorization", token.as_str()), ("fiware-service", "acme"), ("fiware-service", second)];
        let answer = get(mesh.http(), "/orion/v2/entities", &headers).await;
        assert_eq!(answer.status, 403, "{second:?}");
    }
}

#[tokio::test]
async fn the_trace_goes_on_and_both_propagations_go_out() {
    let mesh = Mesh::start().await;
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = [("traceparent", parent), ("fiware-correlator", "abc")];
    let answer = get(mesh.http(), "/orion/version", &headers).await;
    let seen = answer.json();
    let traceparent = seen["headers"]["traceparent"].as_str().unwrap();
    assert!(traceparent.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"), "{traceparent}");
    assert_eq!(seen["headers"]["x-b3-traceid"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(seen["headers"]["fiware-correlator"], "abc");
    assert_eq!(answer.header("fiware-correlator"), Some("abc"));
}

#[tokio::test]
async fn decisions_and_answers_are_counted() {
    let mesh = Mesh::start().await;
    let token = mesh.bearer("acme");
    let headers = [("authorization", token.as_str()), ("fiware-service", "acme")];
    for _ in 0..2 {
        get(mesh.http(), "/orion/v2/entities", &headers).await;
    }
    get(mesh.http(), "/orion/v2/entities", &[]).await;
    get(mesh.http(), "/orion/version", &[]).await;
    let text = mesh.metrics.encode();
    for line in [
        "thingmesh_gateway_decisions_total{outcome=\"Allowed\",asker=\"Http\"} 2",
        "thingmesh_gateway_decisions_total{outcome=\"Unauthenticated\",asker=\"Http\"} 1",
        "thingmesh_gateway_decisions_total{outcome=\"Open\",asker=\"Http\"} 1",
        "thingmesh_gateway_token_verifications_total 1",
        "thingmesh_gateway_token_cache_hits_total 1",
        "thingmesh_gateway_upstream_responses_total{route=\"orion\",status=\"2xx\"} 3",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}
