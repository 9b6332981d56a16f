//! ngsi-v2.md 1: administration, statistics, cross-origin requests.

use context_broker::{AdministrationConfig, Config};
use serde_json::{Value, json};
use service_kit::Clock;
use tokio::net::TcpListener;

use crate::{
    broker::{Broker, Reply, Request, request},
    sink::Sink,
};

const OK: u16 = 200;

fn body(reply: &Reply) -> Value {
    serde_json::from_str(&reply.body).unwrap()
}

async fn with(administration: AdministrationConfig) -> Broker {
    Broker::configured(Config { administration, ..Config::default() }).await
}

async fn allow(broker: &Broker, line: &str, allow: &str) {
    let sent = request(line).header("Content-Length", "0");
    let reply = broker.send(sent).await;
    assert_eq!((reply.status, reply.header("allow")), (405, Some(allow)), "{line}");
}

#[tokio::test]
async fn the_log_is_shown_and_set_by_url_alone() {
    let broker = Broker::start().await;
    for (query, expected) in [
        ("", r#"{"error":"log config missing"}"#),
        ("?level=LOUD", r#"{"error":"invalid log level"}"#),
        ("?lineMaxSize=0", r#"{"error":"invalid lineMaxSize, lineMaxSize should be an integer number > 0"}"#),
        (
            "?level=ERROR&infoPayloadMaxSize=many",
            r#"{"error":"invalid infoPayloadMaxSize, infoPayloadMaxSize should be an integer number > 0"}"#,
        ),
    ] {
        broker.expect(request(&format!("PUT /admin/log{query}")), 400, expected).await;
    }
    let shown = r#"{"level":"INFO","infoPayloadMaxSize":5120,"lineMaxSize":32768,"deprecate":false}"#;
    broker.expect(request("GET /admin/log"), OK, shown).await;
    broker.expect(request("PUT /admin/log?level=warning&lineMaxSize=100&deprecate=true"), OK, "").await;
    let shown = r#"{"level":"WARN","infoPayloadMaxSize":5120,"lineMaxSize":100,"deprecate":true}"#;
    broker.expect(request("GET /admin/log"), OK, shown).await;
    broker.expect(request("PUT /admin/log?level=INFO"), OK, "").await;
    allow(&broker, "DELETE /admin/log", "PUT").await;
}

#[tokio::test]
async fn trace_levels_are_kept_as_ranges() {
    let broker = Broker::start().await;
    for (line, expected) in [
        ("GET /log/trace", r#"{"tracelevels":"empty"}"#),
        ("PUT /log/trace/1-5,9", r#"{"tracelevels":"1-5,9"}"#),
        ("GET /log/trace", r#"{"tracelevels":"1-5, 9"}"#),
        ("DELETE /log/trace/2-4", r#"{"tracelevels_removed":"2-4"}"#),
        ("GET /log/trace", r#"{"tracelevels":"1, 5, 9"}"#),
        ("PUT /log/trace/x", r#"{"tracelevels":"poorly formatted trace level string"}"#),
        ("DELETE /log/trace", r#"{"tracelevels":"all trace levels off"}"#),
        ("GET /log/trace", r#"{"tracelevels":"empty"}"#),
    ] {
        broker.expect(request(line), OK, expected).await;
    }
    allow(&broker, "PUT /log/trace", "GET, DELETE").await;
    allow(&broker, "GET /log/trace/1", "PUT, DELETE").await;
}

#[tokio::test]
async fn all_semaphores_are_free() {
    let broker = Broker::start().await;
    let shown = body(&broker.send(request("GET /admin/sem")).await);
    let shown = shown.as_object().unwrap();
    assert_eq!(shown.len(), 13);
    assert!(shown.values().all(|one| *one == json!({"status": "free"})), "{shown:?}");
    allow(&broker, "DELETE /admin/sem", "GET").await;
}

#[tokio::test]
async fn transactions_are_counted_per_service_and_path() {
    let broker = Broker::start().await;
    let create =
        || request("POST /v2/entities").header("Fiware-Service", "Acme").header("Fiware-ServicePath", "/a");
    let entity = r#"{"id":"E","type":"T"}"#;
    broker.expect(create().json(entity), 201, "").await;
    assert_eq!(broker.send(create().json(entity)).await.status, 422);
    broker.expect(request("GET /v2/entities"), OK, "[]").await;
    let shown = body(&broker.send(request("GET /admin/metrics")).await);
    let acme = &shown["services"]["acme"]["subservs"]["a"];
    assert_eq!(
        (
            &acme["incomingTransactions"],
            &acme["incomingTransactionErrors"],
            &acme["incomingTransactionRequestSize"]
        ),
        (&json!(2), &json!(1), &json!(2 * entity.len()))
    );
    let default = &shown["services"]["default-service"]["subservs"]["root-subserv"];
    assert_eq!(
        (&default["incomingTransactions"], &default["incomingTransactionResponseSize"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(default.get("incomingTransactionErrors"), None, "zeros are left out");
    assert_eq!(shown["sum"]["sum"]["incomingTransactions"], json!(3));
    assert!(broker.send(request("GET /admin/metrics?reset=true")).await.body.contains("acme"));
    let nothing = json!({"services": {}, "sum": {"subservs": {}, "sum": {}}});
    assert_eq!(body(&broker.send(request("GET /admin/metrics")).await), nothing);
    broker.expect(request("GET /v2/entities"), OK, "[]").await;
    broker.expect(request("DELETE /admin/metrics"), 204, "").await;
    assert_eq!(body(&broker.send(request("GET /admin/metrics")).await), nothing);
}

#[tokio::test]
async fn notifications_are_outgoing_transactions_of_their_service_and_path() {
    let broker = Broker::start().await;
    let mut sink = Sink::start().await;
    let closed = {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}/", free.local_addr().unwrap())
    };
    let of = |tenant: &str, line: &str| {
        request(line).header("Fiware-Service", tenant).header("Fiware-ServicePath", "/a")
    };
    for (tenant, url) in [("acme", sink.url("/in")), ("other", closed)] {
        let notification = json!({"http": {"url": url}});
        let body = json!({"subject": {"entities": [{"idPattern": ".*"}]}, "notification": notification});
        let made = broker.send(of(tenant, "POST /v2/subscriptions").json(&body.to_string())).await;
        assert_eq!(made.status, 201, "{}", made.body);
        let entity = of(tenant, "POST /v2/entities").json(r#"{"id":"E","type":"T"}"#);
        broker.expect(entity, 201, "").await;
    }
    let told = sink.next().await;
    let shown = broker
        .until("/admin/metrics", |shown| {
            let place = |tenant: &str| shown["services"][tenant]["subservs"]["a"].clone();
            place("acme")["outgoingTransactions"].is_number()
                && place("other")["outgoingTransactionErrors"].is_number()
        })
        .await;
    let acme = &shown["services"]["acme"]["subservs"]["a"];
    assert_eq!(
        (&acme["outgoingTransactions"], &acme["outgoingTransactionRequestSize"]),
        (&json!(1), &json!(told.body.len()))
    );
    assert_eq!(acme.get("outgoingTransactionErrors"), None);
    let other = &shown["services"]["other"]["subservs"]["a"];
    assert_eq!(other["outgoingTransactions"], other["outgoingTransactionErrors"], "each try is one");
}

#[tokio::test]
async fn transactions_can_be_left_uncounted() {
    let broker = with(AdministrationConfig { transaction_metrics: false, ..Default::default() }).await;
    broker.refuses(request("GET /admin/metrics"), 400, "BadRequest", "metrics desactivated").await;
}

#[tokio::test]
async fn statistics_show_the_blocks_that_were_switched_on() {
    let broker = Broker::start().await;
    let times = r#"{"uptime_in_secs":0,"measuring_interval_in_secs":0}"#;
    broker.expect(request("GET /statistics"), OK, times).await;
    let all = AdministrationConfig {
        statistics_counters: true,
        statistics_semaphores: true,
        statistics_timing: true,
        statistics_queue: true,
        ..Default::default()
    };
    let broker = with(all).await;
    broker.given(r#"{"id":"E","type":"T"}"#).await;
    assert_eq!(broker.send(request("GET /v2/entities/E")).await.status, OK);
    broker.clock.set_us(broker.clock.now_us() + 61_000_000);
    assert_eq!(broker.send(request("GET /nothing")).await.status, 400);
    let shown = body(&broker.send(request("GET /statistics")).await);
    assert_eq!(
        shown["counters"],
        json!({
            "jsonRequests": 1, "noPayloadRequests": 2,
            "requests": {"/v2/entities": {"POST": 1}, "/v2/entities/{id}": {"GET": 1}}, "invalidRequests": 1,
        })
    );
    assert_eq!((&shown["uptime_in_secs"], &shown["measuring_interval_in_secs"]), (&json!(61), &json!(61)));
    assert!(shown["timing"]["accumulated"]["total"].as_f64().unwrap() > 0.0);
    assert_eq!(shown["semWait"]["subCache"], json!(0.0));
    assert_eq!(shown["notifQueue"]["size"], json!(0));
    let full = body(&broker.send(request("GET /statistics?options=fullCounters")).await);
    assert_eq!(
        (&full["counters"]["textRequests"], &full["counters"]["notificationsSent"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(full["counters"]["deprecatedFeatures"], json!({"ngsiv1Forwarding": 0}));
    let reset = r#"{"message":"All statistics counter reset"}"#;
    broker.expect(request("DELETE /statistics"), OK, reset).await;
    let shown = body(&broker.send(request("GET /statistics")).await);
    assert_eq!((&shown["uptime_in_secs"], &shown["measuring_interval_in_secs"]), (&json!(61), &json!(0)));
    assert_eq!(shown["counters"]["requests"], json!({"/statistics": {"DELETE": 1}}));
}

#[tokio::test]
async fn the_cache_of_subscriptions_is_counted() {
    let broker = Broker::start().await;
    let subscription = r#"{"subject":{"entities":[{"idPattern":".*"}]},"notification":{"http":{"url":"http://127.0.0.1:9/"}}}"#;
    let created = broker.send(request("POST /v2/subscriptions").json(subscription)).await;
    let path = created.header("location").unwrap().to_owned();
    let id = path.rsplit('/').next().unwrap();
    let shown = body(&broker.send(request("GET /cache/statistics")).await);
    assert_eq!((&shown["ids"], &shown["inserts"], &shown["items"]), (&json!(id), &json!(1), &json!(1)));
    assert!(shown["refresh"].as_u64().unwrap() >= 1);
    broker.expect(request(&format!("PATCH {path}")).json(r#"{"throttling":1}"#), 204, "").await;
    broker.expect(request(&format!("DELETE {path}")), 204, "").await;
    let shown = body(&broker.send(request("GET /cache/statistics")).await);
    assert_eq!((&shown["updates"], &shown["removes"], &shown["items"]), (&json!(1), &json!(1), &json!(0)));
    broker
        .expect(request("DELETE /cache/statistics"), OK, r#"{"message":"All statistics counter reset"}"#)
        .await;
    let zero = json!({"ids": "", "refresh": 0, "inserts": 0, "removes": 0, "updates": 0, "items": 0});
    assert_eq!(body(&broker.send(request("GET /cache/statistics")).await), zero);
}

#[tokio::test]
async fn the_subscriptions_in_the_cache_are_listed_up_to_a_hundred() {
    let broker = Broker::start().await;
    let subscription = r#"{"subject":{"entities":[{"idPattern":".*"}]},"notification":{"http":{"url":"http://127.0.0.1:9/"}}}"#;
    let mut ids = Vec::new();
    for _ in 0..100 {
        let made = broker.send(request("POST /v2/subscriptions").json(subscription)).await;
        ids.push(made.header("location").unwrap().rsplit('/').next().unwrap().to_owned());
    }
    let shown = body(&broker.send(request("GET /cache/statistics")).await);
    let mut listed: Vec<_> = shown["ids"].as_str().unwrap().split(", ").map(str::to_owned).collect();
    listed.sort();
    ids.sort();
    assert_eq!(listed, ids);
    broker.send(request("POST /v2/subscriptions").json(subscription)).await;
    let shown = body(&broker.send(request("GET /cache/statistics")).await);
    assert_eq!((&shown["ids"], &shown["items"]), (&json!("too many subscriptions"), &json!(101)));
}

fn from(origin: &str, line: &str) -> Request {
    request(line).header("Origin", origin)
}

#[tokio::test]
async fn pages_of_the_configured_origin_may_call_the_api() {
    let cors_origin = "http://app.example".to_owned();
    let broker = with(AdministrationConfig { cors_origin, cors_max_age_s: 600, ..Default::default() }).await;
    let preflight = broker.send(from("http://app.example", "OPTIONS /v2/entities")).await;
    assert_eq!((preflight.status, preflight.body.as_str()), (200, ""));
    for (name, value) in [
        ("access-control-allow-origin", "http://app.example"),
        ("access-control-allow-methods", "GET, POST, OPTIONS"),
        ("access-control-max-age", "600"),
        ("access-control-expose-headers", "Fiware-Correlator, Fiware-Total-Count, Location"),
    ] {
        assert_eq!(preflight.header(name), Some(value), "{name}");
    }
    assert!(preflight.header("access-control-allow-headers").unwrap().contains("Fiware-Servicepath"));

    let read = broker.send(from("http://app.example", "GET /v2/entities")).await;
    assert_eq!(read.header("access-control-allow-origin"), Some("http://app.example"));
    assert_eq!(read.header("access-control-max-age"), None, "only for OPTIONS");
    for sent in [
        from("http://other.example", "GET /v2/entities"),
        from("http://app.example", "GET /version"),
        request("GET /v2/entities"),
    ] {
        let reply = broker.send(sent.clone()).await;
        assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, None), "{sent:?}");
    }
    allow(&broker, "DELETE /v2/types", "GET, OPTIONS").await;
    allow(&broker, "DELETE /version", "GET").await;
}

#[tokio::test]
async fn every_origin_or_none() {
    let all = with(AdministrationConfig { cors_origin: "__ALL".to_owned(), ..Default::default() }).await;
    let read = all.send(from("http://any.example", "GET /v2/types")).await;
    assert_eq!(read.header("access-control-allow-origin"), Some("*"));
    let none = Broker::start().await;
    let read = none.send(from("http://any.example", "GET /v2/types")).await;
    assert_eq!(read.header("access-control-allow-origin"), None);
    assert_eq!(none.send(from("http://any.example", "OPTIONS /v2/types")).await.status, 405);
}
