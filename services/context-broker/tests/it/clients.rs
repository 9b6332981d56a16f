//! ngsi-v2.md, appendix: what unmodified clients send.

use crate::broker::{Broker, request};

#[tokio::test]
async fn urls_come_with_slashes_encodings_and_line_breaks() {
    let broker = Broker::start().await;
    let created = request("POST /v2/entities/?options=keyValues").json(r#"{"id":"js:1","type":"T","a":1}"#);
    broker.expect(created, 201, "").await;
    let shown = r#"{"id":"js:1","type":"T","a":1}"#;
    for line in [
        "GET /v2/entities/js%3A1?options=keyValues",
        "GET /v2/entities/js:1/?options=keyValues",
        "GET /v2/entities/js:1?options=keyValues%0A",
        "GET /v2/entities/js:1?options=keyValues&",
    ] {
        broker.expect(request(line), 200, shown).await;
    }
    let list = format!("[{shown}]");
    for line in [
        "GET /v2/entities?options=count%2CkeyValues&limit=1000",
        "GET /v2/entities/?options=keyValues&q=a%3E0%3Ba%3C2",
        "GET /v2/entities/?type=T&options=keyValues,count&limit=100",
        // as curl sends what people write
        "GET /v2/entities?options=keyValues&q=a>0;a<2",
        "GET /v2/entities?options=keyValues&type=T ",
    ] {
        broker.expect(request(line), 200, &list).await;
    }
    broker.expect(request("GET /v2/entities?attrs=__NONE"), 200, r#"[{"id":"js:1","type":"T"}]"#).await;
}

#[tokio::test]
async fn headers_come_in_any_case_and_odd_ones_are_ignored() {
    let broker = Broker::start().await;
    let create = request("POST /v2/entities")
        .header("FIWARE-Service", "Acme")
        .header("fiware-servicepath", "/floor1")
        .header("X-Auth-Token", "NULL")
        .json(r#"{"id":"E","type":"String"}"#);
    broker.expect(create, 201, "").await;
    let read = request("GET /v2/entities/E").header("fiware-service", "acme");
    broker.expect(read, 200, r#"{"id":"E","type":"String"}"#).await;
    let delete = request("DELETE /v2/entities/E")
        .header("Fiware-Service", "acme")
        .header("Fiware-ServicePath", "/floor1")
        .header("Content-Length", "0");
    broker.expect(delete, 204, "").await;
}
