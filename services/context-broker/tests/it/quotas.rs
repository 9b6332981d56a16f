//! Quotas of tenants: off unless configured, then with a clear error.

use context_broker::{Config, Limits, QuotaConfig, TenantQuota};

use crate::broker::{Broker, Request, request};

async fn with(quotas: QuotaConfig) -> Broker {
    Broker::configured(Config { quotas, ..Config::default() }).await
}

fn of(tenant: &str, sent: Request) -> Request {
    sent.header("Fiware-Service", tenant)
}

fn entity(tenant: &str, line: &str, id: u32) -> Request {
    of(tenant, request(line).json(&format!(r#"{{"id":"E{id}","type":"T"}}"#)))
}

#[tokio::test]
async fn entities_stop_at_the_limit_of_their_tenant() {
    let few = TenantQuota { tenant: "few".to_owned(), limits: Limits { entities: 1, ..Limits::default() } };
    let broker = with(QuotaConfig { entities: 3, tenants: vec![few], ..Default::default() }).await;
    let create = "POST /v2/entities";
    for id in 0..3 {
        broker.expect(entity("a", create, id), 201, "").await;
    }
    let text = "the tenant has as many entities as it may have: 3";
    broker.refuses(entity("a", create, 3), 413, "NoResourcesAvailable", text).await;
    let append = r#"{"actionType":"append","entities":[{"id":"E9","type":"T"}]}"#;
    let batch = of("a", request("POST /v2/op/update").json(append));
    broker.refuses(batch, 413, "NoResourcesAvailable", text).await;
    // What is there can still be written, and what goes makes room.
    broker.expect(entity("a", "POST /v2/entities?options=upsert", 1), 204, "").await;
    broker.expect(of("a", request("DELETE /v2/entities/E0")), 204, "").await;
    broker.expect(entity("a", create, 3), 201, "").await;

    broker.expect(entity("few", create, 0), 201, "").await;
    let text = "the tenant has as many entities as it may have: 1";
    broker.refuses(entity("few", create, 1), 413, "NoResourcesAvailable", text).await;
    broker.expect(entity("b", create, 0), 201, "").await;
}

#[tokio::test]
async fn subscriptions_and_registrations_stop_at_their_limits() {
    let broker = with(QuotaConfig { subscriptions: 1, registrations: 1, ..Default::default() }).await;
    let subscription =
        r#"{"subject":{"entities":[{"id":"E"}]},"notification":{"http":{"url":"http://127.0.0.1:9/"}}}"#;
    let registration =
        r#"{"dataProvided":{"entities":[{"id":"E"}]},"provider":{"http":{"url":"http://127.0.0.1:9/v2"}}}"#;
    for (kind, body) in [("subscriptions", subscription), ("registrations", registration)] {
        let line = format!("POST /v2/{kind}");
        let created = broker.send(request(&line).json(body)).await;
        assert_eq!(created.status, 201, "{}", created.body);
        let text = format!("the tenant has as many {kind} as it may have: 1");
        broker.refuses(request(&line).json(body), 413, "NoResourcesAvailable", &text).await;
        let path = created.header("location").unwrap();
        broker.expect(request(&format!("DELETE {path}")), 204, "").await;
        assert_eq!(broker.send(request(&line).json(body)).await.status, 201, "{kind}: there is room again");
    }
}

#[tokio::test]
async fn requests_above_the_rate_are_told_to_come_again() {
    let broker =
        with(QuotaConfig { requests_per_second: 0.001, requests_burst: 2.0, ..Default::default() }).await;
    let list = |tenant: &str| of(tenant, request("GET /v2/entities"));
    for _ in 0..2 {
        broker.expect(list("a"), 200, "[]").await;
    }
    let refused = broker.send(list("a")).await;
    let body = r#"{"error":"TooManyRequests","description":"the tenant may make 0.001 requests a second"}"#;
    assert_eq!((refused.status, refused.body.as_str()), (429, body));
    assert_eq!(refused.header("retry-after"), Some("1"));
    broker.expect(list("b"), 200, "[]").await;
    assert_eq!(broker.send(of("a", request("GET /version"))).await.status, 200, "only NGSI is counted");
}

#[tokio::test]
async fn without_configuration_nothing_is_limited() {
    let broker = Broker::start().await;
    for id in 0..50 {
        broker.expect(entity("a", "POST /v2/entities", id), 201, "").await;
    }
}
