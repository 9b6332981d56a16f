//! ngsi-v2.md 9: forwarding, to real providers over HTTP.

use std::sync::Arc;

use context_broker::{Config, ForwardingConfig};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Barrier};

use crate::{
    broker::{Broker, Reply, Request, request},
    provider::{Behaviour, Provider},
    secure::SecureSink,
};

const METER: &str = r#"[{"id":"m1","type":"Meter","power":{"type":"Number","value":9,"metadata":{}},"volt":{"type":"Number","value":5,"metadata":{}}}]"#;
const NOT_FOUND: &str = "The requested entity has not been found. Check type and id";

async fn impatient() -> Broker {
    let forwarding = ForwardingConfig { timeout_ms: 300, max_message_bytes: 10_000, ..Default::default() };
    Broker::configured(Config { forwarding, ..Config::default() }).await
}

/// Registers `url` for entities and attributes; the path of the registration.
async fn register(broker: &Broker, url: &str, entities: Value, attrs: &[&str]) -> String {
    register_as(broker, request("POST /v2/registrations"), url, entities, attrs, false).await
}

async fn register_as(
    broker: &Broker,
    sent: Request,
    url: &str,
    entities: Value,
    attrs: &[&str],
    legacy: bool,
) -> String {
    let body = json!({
        "dataProvided": {"entities": entities, "attrs": attrs},
        "provider": {"http": {"url": url}, "legacyForwarding": legacy},
    });
    let reply = broker.send(sent.json(&body.to_string())).await;
    assert_eq!(reply.status, 201, "{}", reply.body);
    reply.header("location").unwrap().to_owned()
}

fn m1() -> Value {
    json!([{"id": "m1", "type": "Meter"}])
}

fn body(reply: &Reply) -> Value {
    serde_json::from_str(&reply.body).unwrap()
}

async fn get(broker: &Broker, path: &str) -> Value {
    let reply = broker.send(request(&format!("GET {path}"))).await;
    assert_eq!(reply.status, 200, "{path}: {}", reply.body);
    body(&reply)
}

#[tokio::test]
async fn what_is_not_here_is_asked_of_its_provider_in_the_words_of_the_contract() {
    let broker = Broker::start().await;
    let provider = Provider::answering(METER).await;
    let within =
        |line: &str| request(line).header("Fiware-Service", "acme").header("Fiware-ServicePath", "/a");
    let path =
        register_as(&broker, within("POST /v2/registrations"), &provider.url(), m1(), &["power"], false)
            .await;
    let sent = within("GET /v2/entities/m1?type=Meter&attrs=power&options=keyValues")
        .header("X-Auth-Token", "secret")
        .header("Fiware-Correlator", "abc");
    let reply = broker.expect(sent, 200, r#"{"id":"m1","type":"Meter","power":9}"#).await;
    assert_eq!(reply.header("fiware-correlator"), Some("abc"));

    let seen = provider.only();
    assert_eq!(seen.path, "/v2/op/query");
    assert_eq!(seen.body, r#"{"entities":[{"id":"m1","type":"Meter"}],"attrs":["power"]}"#);
    for (name, value) in [
        ("fiware-correlator", "abc; cbfwd=1"),
        ("fiware-service", "acme"),
        ("fiware-servicepath", "/a"),
        ("x-auth-token", "secret"),
        ("accept", "application/json"),
    ] {
        assert_eq!(seen.header(name), Some(value), "{name}");
    }
    assert!(seen.header("user-agent").unwrap().starts_with("orion/4.7.0"));
    assert!(seen.header("traceparent").is_some());

    let shown = broker.send(request(&format!("GET {path}")).header("Fiware-Service", "acme")).await;
    let at = "2026-01-31T10:00:00.000Z";
    assert_eq!(
        body(&shown)["forwardingInformation"],
        json!({"timesSent": 1, "lastForwarding": at, "lastSuccess": at})
    );
    assert!(broker.metrics().contains(r#"forwards_total{kind="query",outcome="answered"} 1"#));
    let counted = get(&broker, "/admin/metrics").await;
    assert_eq!(counted["services"]["acme"]["subservs"]["a"]["outgoingTransactions"], json!(1));
    // Neither stored nor seen from another tenant or path.
    broker.refuses(request("GET /v2/entities/m1"), 404, "NotFound", NOT_FOUND).await;
    let elsewhere =
        request("GET /v2/entities/m1").header("Fiware-Service", "acme").header("Fiware-ServicePath", "/b");
    broker.refuses(elsewhere, 404, "NotFound", NOT_FOUND).await;
}

#[tokio::test]
async fn what_is_here_wins_and_what_is_here_whole_is_not_asked_for() {
    let broker = Broker::start().await;
    let provider = Provider::answering(METER).await;
    register(&broker, &provider.url(), m1(), &[]).await;
    broker.given(r#"{"id":"m1","type":"Meter","power":{"value":1}}"#).await;
    let whole = json!({"id": "m1", "type": "Meter", "power": 1, "volt": 5});
    assert_eq!(get(&broker, "/v2/entities/m1?options=keyValues").await, whole);
    assert_eq!(get(&broker, "/v2/entities?options=keyValues").await, json!([whole]));
    assert_eq!(get(&broker, "/v2/entities/m1/attrs/volt").await["value"], json!(5));
    broker.expect(request("GET /v2/entities/m1/attrs/volt/value"), 200, "5").await;
    let asked = provider.seen().len();
    assert_eq!(asked, 4);
    assert_eq!(get(&broker, "/v2/entities/m1/attrs/power").await["value"], json!(1));
    assert_eq!(get(&broker, "/v2/entities?id=m1&attrs=power&options=values").await, json!([[1]]));
    let local = json!({"id": "m1", "type": "Meter", "power": 1});
    assert_eq!(get(&broker, "/v2/entities/m1?options=keyValues,skipForwarding").await, local);
    assert_eq!(provider.seen().len(), asked, "nothing more was asked");
}

#[tokio::test]
async fn lists_have_what_is_here_first_and_pages_go_on_into_what_is_elsewhere() {
    let broker = Broker::start().await;
    let far = |n: u32| format!(r#"{{"id":"far{n}","type":"T","n":{{"type":"Number","value":{n}}}}}"#);
    let provider =
        Provider::answering(&format!("[{},{},{}]", far(1), far(2), r#"{"id":"x","type":"Other"}"#)).await;
    register(&broker, &provider.url(), json!([{"idPattern": ".*", "type": "T"}]), &[]).await;
    for n in 1..=2 {
        broker.given(&format!(r#"{{"id":"near{n}","type":"T","n":{{"value":{n}}}}}"#)).await;
    }
    let ids = |shown: &Value| -> Vec<String> {
        shown.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
    };
    let all = get(&broker, "/v2/entities?type=T").await;
    assert_eq!(ids(&all), ["near1", "near2", "far1", "far2"], "what was not asked for is left out");
    assert_eq!(ids(&get(&broker, "/v2/entities?type=T&offset=1&limit=2").await), ["near2", "far1"]);
    assert_eq!(ids(&get(&broker, "/v2/entities?type=T&offset=3").await), ["far2"]);
    assert_eq!(ids(&get(&broker, "/v2/entities?type=T&q=n%3E1").await), ["near2", "far2"]);
    let counted = broker.send(request("GET /v2/entities?type=T&options=count&limit=1")).await;
    assert_eq!(counted.header("fiware-total-count"), Some("4"));
    let query =
        request("POST /v2/op/query").json(r#"{"entities":[{"idPattern":".*","type":"T"}],"attrs":["n"]}"#);
    assert_eq!(ids(&body(&broker.send(query).await)), ["near1", "near2", "far1", "far2"]);
    let last = provider.seen().pop().unwrap();
    assert_eq!(last.body, r#"{"entities":[{"idPattern":".*","type":"T"}],"attrs":["n"]}"#);
    assert_eq!(get(&broker, "/v2/entities?type=Other").await, json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn providers_are_asked_side_by_side_and_exact_ids_win_over_patterns() {
    let broker = Broker::start().await;
    let barrier = Arc::new(Barrier::new(4));
    let entity =
        |n: usize| format!(r#"[{{"id":"m1","type":"Meter","who":{{"value":{n}}},"a{n}":{{"value":{n}}}}}]"#);
    let mut providers = Vec::new();
    for n in 0..4 {
        let provider = Provider::start(Behaviour::Together(barrier.clone(), entity(n))).await;
        let entities = if n == 3 { m1() } else { json!([{"idPattern": ".*"}]) };
        register(&broker, &provider.url(), entities, &[]).await;
        providers.push(provider);
    }
    // Each answers only when all were asked.
    let shown = get(&broker, "/v2/entities/m1?options=keyValues").await;
    assert_eq!(shown, json!({"id": "m1", "type": "Meter", "who": 3, "a3": 3, "a0": 0, "a1": 1, "a2": 2}));
    let mut correlators: Vec<String> = providers
        .iter()
        .map(|provider| provider.only().header("fiware-correlator").unwrap().to_owned())
        .map(|text| text.split("cbfwd=").nth(1).unwrap().to_owned())
        .collect();
    correlators.sort();
    assert_eq!(correlators, ["1", "2", "3", "4"]);
}

#[tokio::test]
async fn a_provider_over_https_is_asked_and_told_if_somebody_vouches_for_it() {
    let mut provider = SecureSink::start(METER).await;
    let broker = Broker::with(|config| config.notification.ca_file.clone_from(&provider.ca_file)).await;
    let path = register(&broker, &provider.url, m1(), &["power"]).await;
    let shown = get(&broker, "/v2/entities/m1?type=Meter&options=keyValues&attrs=power").await;
    assert_eq!(shown["power"], 9, "{shown}");
    assert_eq!(provider.received.recv().await.unwrap().line, "POST /in/op/query HTTP/1.1");
    let update = request("PATCH /v2/entities/m1/attrs?type=Meter").json(r#"{"power":{"value":4}}"#);
    broker.expect(update, 204, "").await;
    let told = provider.received.recv().await.unwrap();
    assert_eq!(told.line, "POST /in/op/update HTTP/1.1");
    assert!(told.body.contains(r#""actionType":"update""#), "{}", told.body);
    let information = &get(&broker, &path).await["forwardingInformation"];
    assert_eq!((&information["timesSent"], information.get("lastFailure")), (&json!(2), None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_fails_costs_its_part_only() {
    let broker = impatient().await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    let stranger = SecureSink::start(METER).await;
    let mut providers = Vec::new();
    let mut urls = vec![
        (dead, "unreachable"),
        ("http://169.254.169.254/v2".to_owned(), "refused"),
        (stranger.url.clone(), "untrusted"),
    ];
    for (behaviour, outcome) in [
        (Behaviour::Never, "timeout"),
        (Behaviour::Answer("[{".to_owned()), "answered"),
        (Behaviour::Answer(r#"{"not":"a list"}"#.to_owned()), "answered"),
        (Behaviour::Blank(20_000), "too_large"),
        (Behaviour::Status(500), "status"),
        (Behaviour::Status(404), "status"),
    ] {
        let provider = Provider::start(behaviour).await;
        urls.push((provider.url(), outcome));
        providers.push(provider);
    }
    broker.given(r#"{"id":"m1","type":"Meter","here":{"value":1}}"#).await;
    let good = Provider::answering(METER).await;
    for (url, outcome) in urls {
        let bad = register(&broker, &url, json!([{"idPattern": ".*", "type": "Meter"}]), &[]).await;
        let missing = request("GET /v2/entities/m2?type=Meter");
        broker.refuses(missing, 404, "NotFound", NOT_FOUND).await;
        let fine = register(&broker, &good.url(), m1(), &[]).await;
        let shown = get(&broker, "/v2/entities/m1?options=keyValues").await;
        assert_eq!(shown, json!({"id": "m1", "type": "Meter", "here": 1, "power": 9, "volt": 5}), "{url}");
        let information = &get(&broker, &bad).await["forwardingInformation"];
        assert_eq!((&information["timesSent"], information.get("lastSuccess")), (&json!(2), None), "{url}");
        assert!(information.get("lastFailure").is_some(), "{url}");
        let counted = format!(r#"forwards_total{{kind="query",outcome="{outcome}"}}"#);
        assert!(broker.metrics().contains(&counted), "{url}: {outcome}");
        for path in [bad, fine] {
            broker.expect(request(&format!("DELETE {path}")), 204, "").await;
        }
    }
}

#[tokio::test]
async fn updates_of_what_is_not_here_go_to_the_provider() {
    let broker = Broker::start().await;
    let provider = Provider::start(Behaviour::Status(204)).await;
    register(&broker, &provider.url(), m1(), &["power", "volt"]).await;
    broker.given(r#"{"id":"m1","type":"Meter","here":{"value":1}}"#).await;
    let patch = request("PATCH /v2/entities/m1/attrs?type=Meter")
        .json(r#"{"power":{"type":"Number","value":4},"here":{"value":2}}"#);
    broker.expect(patch, 204, "").await;
    let seen = provider.only();
    assert_eq!(seen.path, "/v2/op/update");
    assert_eq!(
        seen.body,
        r#"{"entities":[{"id":"m1","type":"Meter","power":{"type":"Number","value":4,"metadata":{}}}],"actionType":"update"}"#
    );
    let stored = get(&broker, "/v2/entities/m1?options=keyValues,skipForwarding").await;
    assert_eq!(
        stored,
        json!({"id": "m1", "type": "Meter", "here": 2}),
        "the part here was written, no other"
    );
    broker.expect(request("PUT /v2/entities/m1/attrs/volt").json(r#"{"value":7}"#), 204, "").await;
    let value =
        request("PUT /v2/entities/m1/attrs/volt/value").header("Content-Type", "text/plain").body("8");
    broker.expect(value, 204, "").await;
    let batch = r#"{"actionType":"update","entities":[{"id":"m1","type":"Meter","volt":{"value":1}}]}"#;
    broker.expect(request("POST /v2/op/update").json(batch), 204, "").await;
    assert_eq!(provider.seen().len(), 4);
    // Only updates are forwarded, and only what is registered.
    let append = r#"{"actionType":"append","entities":[{"id":"m2","type":"Meter","volt":{"value":1}}]}"#;
    broker.expect(request("POST /v2/op/update").json(append), 204, "").await;
    let other = request("PATCH /v2/entities/m1/attrs").json(r#"{"other":{"value":1}}"#);
    broker.refuses(other, 422, "Unprocessable", "do not exist: m1 - [ other ]").await;
    assert_eq!(provider.seen().len(), 4);
}

#[tokio::test]
async fn what_no_provider_took_is_named() {
    let broker = Broker::start().await;
    let (good, bad) =
        (Provider::start(Behaviour::Status(204)).await, Provider::start(Behaviour::Status(404)).await);
    let e1 = || json!([{"id": "E1", "type": "T1"}]);
    register(&broker, &good.url(), e1(), &["A1", "A3"]).await;
    register(&broker, &bad.url(), e1(), &["A2", "A4"]).await;
    let update = |names: &[&str]| {
        let mut entity = json!({"id": "E1", "type": "T1"});
        for name in names {
            entity[*name] = json!({"value": 1});
        }
        request("POST /v2/op/update").json(&json!({"actionType": "update", "entities": [entity]}).to_string())
    };
    let text = "Some of the following attributes were not updated: { E1-T1 : [A2, A4] }";
    broker.refuses(update(&["A1", "A2", "A3", "A4"]), 404, "PartialUpdate", text).await;
    broker.refuses(update(&["A2", "A4"]), 404, "NotFound", NOT_FOUND).await;
    broker.expect(update(&["A1", "A3"]), 204, "").await;
    assert_eq!(broker.send(update(&["A1"])).await.status, 204);
}

#[tokio::test]
async fn legacy_providers_are_spoken_to_in_their_own_words() {
    let broker = Broker::start().await;
    let found = r#"{"contextResponses":[{"contextElement":{"type":"Meter","isPattern":"false","id":"m1","attributes":[{"name":"power","type":"Number","value":"9"}]},"statusCode":{"code":"200","reasonPhrase":"OK"}}]}"#;
    let provider = Provider::answering(found).await;
    let post = || request("POST /v2/registrations");
    register_as(&broker, post(), &provider.url(), m1(), &["power"], true).await;
    let shown = get(&broker, "/v2/entities/m1?options=keyValues").await;
    assert_eq!(shown, json!({"id": "m1", "type": "Meter", "power": "9"}));
    let seen = provider.only();
    assert_eq!(seen.path, "/v2/queryContext");
    assert_eq!(
        seen.body,
        r#"{"entities":[{"type":"Meter","isPattern":"false","id":"m1"}],"attributes":["power"]}"#
    );
    let update = request("PUT /v2/entities/m1/attrs/power?type=Meter").json(r#"{"type":"Number","value":4}"#);
    broker.expect(update, 204, "").await;
    let seen = provider.seen().pop().unwrap();
    assert_eq!(seen.path, "/v2/updateContext");
    assert_eq!(
        seen.body,
        r#"{"contextElements":[{"type":"Meter","isPattern":"false","id":"m1","attributes":[{"name":"power","type":"Number","value":4}]}],"updateAction":"UPDATE"}"#
    );
}

#[tokio::test]
async fn modes_ends_and_limits_of_forwarding_hold() {
    let provider = Provider::answering(METER).await;
    let broker = Broker::start().await;
    let path = register(&broker, &provider.url(), m1(), &[]).await;
    let missing = || request("GET /v2/entities/m1");
    let patch = |body: &str| request(&format!("PATCH {path}")).json(body);
    let mode = |mode: &str| {
        json!({"provider": {"http": {"url": provider.url()}, "supportedForwardingMode": mode}}).to_string()
    };
    for closed in ["none", "update"] {
        broker.expect(patch(&mode(closed)), 204, "").await;
        broker.refuses(missing(), 404, "NotFound", NOT_FOUND).await;
    }
    broker.expect(patch(&mode("query")), 204, "").await;
    assert_eq!(broker.send(missing()).await.status, 200);
    broker.expect(patch(r#"{"expires":"2020-01-01T00:00:00Z"}"#), 204, "").await;
    broker.refuses(missing(), 404, "NotFound", NOT_FOUND).await;
    assert_eq!(provider.seen().len(), 1);

    for (limit, asked) in [(0, 0), (2, 2)] {
        let forwarding = ForwardingConfig { limit, ..Default::default() };
        let broker = Broker::configured(Config { forwarding, ..Config::default() }).await;
        let provider = Provider::answering(METER).await;
        for _ in 0..3 {
            register(&broker, &provider.url(), m1(), &[]).await;
        }
        broker.send(missing()).await;
        assert_eq!(provider.seen().len(), asked, "limit {limit}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_never_goes_round() {
    let (one, other) = (Broker::start().await, Broker::start().await);
    let all = || json!([{"idPattern": ".*"}]);
    register(&one, &other.url("/v2"), all(), &[]).await;
    register(&one, &one.url("/v2"), all(), &[]).await;
    register(&other, &one.url("/v2"), all(), &[]).await;
    one.refuses(request("GET /v2/entities/none"), 404, "NotFound", NOT_FOUND).await;
    other.given(r#"{"id":"E","type":"T","a":{"value":1}}"#).await;
    let shown = get(&one, "/v2/entities/E?options=keyValues").await;
    assert_eq!(shown, json!({"id": "E", "type": "T", "a": 1}));
    let update = request("PATCH /v2/entities/E/attrs").json(r#"{"a":{"value":2}}"#);
    one.expect(update, 204, "").await;
    assert_eq!(get(&other, "/v2/entities/E/attrs/a").await["value"], json!(2));
    let nowhere = request("PATCH /v2/entities/none/attrs").json(r#"{"a":{"value":2}}"#);
    one.refuses(nowhere, 404, "NotFound", NOT_FOUND).await;
    assert!(one.metrics().contains(r#"outcome="looped""#), "{}", one.metrics());
}

#[tokio::test]
async fn the_path_of_a_provider_is_kept_as_it_is_and_is_a_slash_when_there_is_none() {
    let broker = Broker::start().await;
    for (path, asked) in
        [("", "//op/query"), ("/", "//op/query"), ("/v2", "/v2/op/query"), ("/v2/", "/v2//op/query")]
    {
        let provider = Provider::answering(METER).await;
        let url = provider.url().replace("/v2", path);
        let registration = register(&broker, &url, m1(), &["power"]).await;
        get(&broker, "/v2/entities/m1").await;
        assert_eq!(provider.only().path, asked);
        broker.expect(request(&format!("DELETE {registration}")), 204, "").await;
    }
}
