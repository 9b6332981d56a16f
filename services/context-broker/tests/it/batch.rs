//! ngsi-v2.md 6: `op/update` and `op/query`.

use crate::broker::{Broker, Request, request};

fn update(action: &str, entities: &str) -> Request {
    request("POST /v2/op/update").json(&format!(r#"{{"actionType":"{action}","entities":[{entities}]}}"#))
}

const E1: &str = r#"{"id":"E1","type":"T","a":{"value":1}}"#;
const E2: &str = r#"{"id":"E2","type":"T","a":{"value":1}}"#;

#[tokio::test]
async fn every_action_works_on_several_entities() {
    let broker = Broker::start().await;
    broker.expect(update("append", &format!("{E1},{E2}")), 204, "").await;
    broker.expect(update("APPEND_STRICT", r#"{"id":"E1","type":"T","b":{"value":2}}"#), 204, "").await;
    broker
        .expect(
            update("update", r#"{"id":"E1","type":"T","a":{"value":5}},{"id":"E2","a":{"value":6}}"#),
            204,
            "",
        )
        .await;
    let list = request("GET /v2/entities?options=keyValues");
    broker
        .expect(list.clone(), 200, r#"[{"id":"E1","type":"T","a":5,"b":2},{"id":"E2","type":"T","a":6}]"#)
        .await;
    broker.expect(update("replace", r#"{"id":"E1","type":"T","c":{"value":7}}"#), 204, "").await;
    broker.expect(update("delete", r#"{"id":"E1","type":"T","c":{}},{"id":"E2","type":"T"}"#), 204, "").await;
    broker.expect(list, 200, r#"[{"id":"E1","type":"T"}]"#).await;
}

#[tokio::test]
async fn failures_are_gathered_in_one_answer() {
    let broker = Broker::start().await;
    broker.given(E1).await;
    broker.given(E2).await;
    let gone = r#"{"id":"F","type":"T","a":{"value":1}},{"id":"G","type":"T","a":{"value":1}}"#;
    let exist = "one or more of the attributes in the request already exist";
    for (action, entities, status, error, description) in [
        (
            "update",
            gone.to_owned(),
            404,
            "NotFound",
            "do not exist: F/T - [entity itself], G/T [entity itself]".to_owned(),
        ),
        (
            "delete",
            r#"{"id":"F","type":"T"}"#.to_owned(),
            404,
            "NotFound",
            "do not exist: F/T - [entity itself]".to_owned(),
        ),
        (
            "update",
            r#"{"id":"E1","type":"T","C":{"value":1},"D":{"value":1}},{"id":"G","type":"T","a":{"value":1}}"#
                .to_owned(),
            422,
            "Unprocessable",
            "do not exist: E1/T - [ C, D ], G/T [entity itself]".to_owned(),
        ),
        (
            "update",
            format!(r#"{E1},{{"id":"G","type":"T","a":{{"value":1}}}}"#),
            422,
            "PartialUpdate",
            "do not exist: G/T - [entity itself]".to_owned(),
        ),
        (
            "appendStrict",
            format!("{E1},{E2}"),
            422,
            "Unprocessable",
            format!("{exist}: E1/T - [ a ], E2/T - [ a ]"),
        ),
        (
            "appendStrict",
            format!(r#"{E1},{{"id":"E3","type":"T","a":{{"value":1}}}}"#),
            422,
            "PartialUpdate",
            format!("{exist}: E1/T - [ a ]"),
        ),
    ] {
        broker.refuses(update(action, &entities), status, error, &description).await;
    }
}

#[tokio::test]
async fn bad_batches_are_named() {
    let broker = Broker::start().await;
    for (body, description) in [
        ("{}", "empty payload"),
        (r#"{"entities":[]}"#, "Invalid JSON payload, mandatory field /actionType/ not found"),
        (r#"{"actionType":"append"}"#, "Invalid JSON payload, mandatory field /entities/ not found"),
        (
            r#"{"actionType":"foo","entities":[]}"#,
            "invalid update action type: right ones are: append, appendStric, delete, replace, update",
        ),
        (r#"{"actionType":"append","entities":[],"foo":1}"#, "Unrecognized field in JSON payload: /foo/"),
        (r#"{"actionType":"append","entities":[]}"#, "empty entities vector"),
        (r#"{"actionType":"append","entities":[3]}"#, "not a JSON object"),
        (r#"{"actionType":"append","entities":3}"#, "not a JSON array"),
    ] {
        broker.refuses(request("POST /v2/op/update").json(body), 400, "BadRequest", description).await;
    }
    assert_eq!(broker.send(update("append", r#"{"idPattern":".*"}"#)).await.status, 501);
}

#[tokio::test]
async fn a_query_in_a_body_selects_like_one_in_a_url() {
    let broker = Broker::start().await;
    for id in 1..=3 {
        broker.given(&format!(r#"{{"id":"E{id}","type":"T","a":{{"value":{id}}},"b":{{"value":0}}}}"#)).await;
    }
    let query = |options: &str, body: &str| request(&format!("POST /v2/op/query{options}")).json(body);
    for (body, expected) in [
        (
            r#"{"entities":[{"idPattern":".*","type":"T"}],"attrs":["a"]}"#,
            r#"[{"id":"E1","type":"T","a":1},{"id":"E2","type":"T","a":2},{"id":"E3","type":"T","a":3}]"#,
        ),
        (
            r#"{"entities":[{"id":"E1"},{"id":"E3","type":"T"}],"attrs":["a"]}"#,
            r#"[{"id":"E1","type":"T","a":1},{"id":"E3","type":"T","a":3}]"#,
        ),
        (r#"{"expression":{"q":"a>2"},"attrs":["a"]}"#, r#"[{"id":"E3","type":"T","a":3}]"#),
    ] {
        broker.expect(query("?options=keyValues", body), 200, expected).await;
    }
    let page = broker
        .send(query("?options=count,keyValues&limit=1&offset=1&orderBy=!a", r#"{"attrs":["a"]}"#))
        .await;
    assert_eq!(
        (page.body.as_str(), page.header("fiware-total-count")),
        (r#"[{"id":"E2","type":"T","a":2}]"#, Some("3"))
    );
    for (body, description) in [
        (r#"{"metadata":[]}"#, "Invalid JSON payload, no relevant fields found"),
        (r#"{"entities":[{"type":"T"}]}"#, "nor /id/ nor /idPattern/ present"),
        (r#"{"entities":3}"#, "/entities/ is not an array"),
        (r#"{"expression":{}}"#, "expression is empty"),
        (r#"{"expression":{"q":""}}"#, "q is empty"),
        (
            r#"{"entities":[{"id":"a","type":"b","typePattern":"c"}]}"#,
            "/entities/ element has both /type/ and /typePattern/",
        ),
        (r#"{"entities":[{"idPattern":"("}]}"#, "Invalid regex for entity idPattern"),
    ] {
        broker.refuses(query("", body), 400, "BadRequest", description).await;
    }
}
