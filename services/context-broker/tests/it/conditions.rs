//! ngsi-v2.md 8: which changes trigger a subscription and what its notification says, through the REST API.

use serde_json::{Value, json};

use crate::{
    broker::{Broker, request},
    sink::Sink,
};

/// Creates a subscription on entities of type `T`.
async fn subscribed(broker: &Broker, url: &str, condition: Value, notification: Value) -> String {
    let mut subject = json!({"entities": [{"idPattern": ".*", "type": "T"}]});
    if !condition.is_null() {
        subject["condition"] = condition;
    }
    let mut notification = notification;
    if notification.get("httpCustom").is_none() {
        notification["http"] = json!({"url": url});
    }
    let body = json!({"subject": subject, "notification": notification});
    let reply = broker.send(request("POST /v2/subscriptions").json(&body.to_string())).await;
    assert_eq!(reply.status, 201, "{}", reply.body);
    reply.header("location").unwrap().to_owned()
}

/// What is done to entity `E`, one after the other; the letter names it in the expectations.
const STEPS: [(char, &str, &str); 7] = [
    ('C', "POST /v2/entities", r#"{"id":"E","type":"T","a":{"value":1},"b":{"value":"x"}}"#),
    ('c', "PATCH /v2/entities/E/attrs", r#"{"a":{"value":2}}"#),
    ('u', "PATCH /v2/entities/E/attrs", r#"{"a":{"value":2}}"#),
    ('f', "PATCH /v2/entities/E/attrs?options=forcedUpdate", r#"{"a":{"value":2}}"#),
    ('m', "PATCH /v2/entities/E/attrs", r#"{"a":{"value":2,"metadata":{"m":{"value":5}}}}"#),
    ('r', "DELETE /v2/entities/E/attrs/b", ""),
    ('D', "DELETE /v2/entities/E", ""),
];

/// A subscription that is told of everything marks where a step ends in the one stream of its receiver.
#[tokio::test]
async fn conditions_decide_which_changes_are_told() {
    let cases = [
        (json!(null), "Ccfmr"),
        (json!({"attrs": ["a"]}), "Ccfm"),
        (json!({"attrs": ["b"]}), "Cr"),
        (json!({"attrs": ["other"]}), ""),
        (json!({"attrs": []}), "Ccfmr"),
        (json!({"alterationTypes": ["entityCreate"]}), "C"),
        (json!({"alterationTypes": ["entityChange"]}), "cfmr"),
        (json!({"alterationTypes": ["entityUpdate"]}), "cufmr"),
        (json!({"alterationTypes": ["entityUpdate", "entityDelete"], "attrs": ["a"]}), "cufmD"),
        (json!({"alterationTypes": ["entityDelete"], "attrs": ["other"]}), "D"),
        (json!({"notifyOnMetadataChange": false}), "Ccfr"),
        (json!({"expression": {"q": "a==1"}}), "C"),
        (json!({"expression": {"q": "a>1;b==x"}}), "cfm"),
        (json!({"expression": {"mq": "a.m>4"}}), "mr"),
        (json!({"expression": {"q": "a==2", "mq": "a.m"}}), "mr"),
        (json!({"jexlExpression": "a == 2 && b == 'x'"}), "cfm"),
        (json!({"jexlExpression": "metadata.a.previousValue < a"}), "c"),
        (json!({"jexlExpression": "no expression ("}), ""),
        (json!({"expression": {"q": "a==2"}, "jexlExpression": "type == 'T'"}), "cfmr"),
    ];
    for (condition, expected) in cases {
        assert_eq!(told(&condition).await, expected, "{condition}");
    }
}

/// The letters of the steps that a subscription with `condition` is told of.
async fn told(condition: &Value) -> String {
    let broker = Broker::start().await;
    let (mut sink, mut marks) = (Sink::start().await, Sink::start().await);
    let path = subscribed(&broker, &sink.url("/"), condition.clone(), json!({})).await;
    let all = json!({"alterationTypes": ["entityCreate", "entityUpdate", "entityDelete"]});
    subscribed(&broker, &marks.url("/"), all, json!({})).await;
    let mut letters = String::new();
    for (letter, line, body) in STEPS {
        let step = if body.is_empty() { request(line) } else { request(line).json(body) };
        let reply = broker.send(step).await;
        assert!(matches!(reply.status, 201 | 204), "{letter}: {}", reply.body);
        marks.next().await;
        // Both were stored in one transaction: what there is to tell is on its way, or was delivered.
        let quiet = format!("{path}?options=deliveryHealth");
        broker.until(&quiet, |shown| shown["deliveryHealth"]["pending"] == 0).await;
        if sink.took() {
            letters.push(letter);
        }
    }
    letters
}

#[tokio::test]
async fn a_place_can_be_the_condition() {
    let broker = Broker::start().await;
    let mut sink = Sink::start().await;
    let near = json!({"expression": {"georel": "near;maxDistance:1000", "geometry": "point", "coords": "40.4,-3.7"}});
    let path = subscribed(&broker, &sink.url("/"), near.clone(), json!({"attrsFormat": "keyValues"})).await;
    let shown = broker.until(&path, |_| true).await;
    assert_eq!(shown["subject"]["condition"]["expression"], near["expression"]);
    for (id, place) in [("far", "41, -3.7"), ("near", "40.401, -3.7")] {
        let at = format!(r#"{{"id":"{id}","type":"T","at":{{"type":"geo:point","value":"{place}"}}}}"#);
        broker.given(&at).await;
    }
    assert!(sink.next().await.body.contains(r#""id":"near""#));
}

#[tokio::test]
async fn the_content_is_what_the_fields_say() {
    const ID: &str = r#""id":"E","type":"T""#;
    let whole = |entity: &str| format!(r#"{{"subscriptionId":"ID","data":[{{{ID}{entity}}}]}}"#);
    let short = |entity: &str| format!("{{{ID}{entity}}}");
    let cases = [
        (
            json!({}),
            whole(concat!(
                r#","a":{"type":"Number","value":2,"metadata":{}}"#,
                r#","b":{"type":"Text","value":"x","metadata":{"unit":{"type":"Text","value":"m"}}}"#,
            )),
        ),
        (json!({"attrsFormat": "keyValues"}), whole(r#","a":2,"b":"x""#)),
        (json!({"attrsFormat": "simplifiedKeyValues"}), short(r#","a":2,"b":"x""#)),
        (json!({"attrsFormat": "values"}), r#"{"subscriptionId":"ID","data":[[2,"x"]]}"#.to_owned()),
        (
            json!({"attrsFormat": "values", "attrs": ["b", "a"]}),
            r#"{"subscriptionId":"ID","data":[["x",2]]}"#.to_owned(),
        ),
        (
            json!({"attrsFormat": "simplifiedNormalized", "attrs": ["a"]}),
            short(r#","a":{"type":"Number","value":2,"metadata":{}}"#),
        ),
        (json!({"attrsFormat": "keyValues", "exceptAttrs": ["a"]}), whole(r#","b":"x""#)),
        (json!({"attrsFormat": "keyValues", "onlyChangedAttrs": true}), whole(r#","a":2"#)),
        (
            json!({"attrsFormat": "keyValues", "attrs": ["b", "a"], "onlyChangedAttrs": true}),
            whole(r#","a":2"#),
        ),
        (
            json!({"attrsFormat": "keyValues", "attrs": ["c", "a"], "covered": true}),
            whole(r#","c":null,"a":2"#),
        ),
        (
            json!({"attrs": ["c"], "covered": true}),
            whole(r#","c":{"type":"None","value":null,"metadata":{}}"#),
        ),
        (json!({"attrsFormat": "keyValues", "attrs": ["c", "a"]}), whole(r#","a":2"#)),
        (
            json!({"attrsFormat": "keyValues", "attrs": ["alterationType", "servicePath", "a"], "onlyChangedAttrs": true}),
            whole(r#","alterationType":"entityChange","servicePath":"/","a":2"#),
        ),
        (
            json!({"attrsFormat": "keyValues", "attrs": ["dateCreated", "*"]}),
            whole(r#","dateCreated":"2026-01-31T10:00:00.000Z","a":2,"b":"x""#),
        ),
        (
            json!({"attrs": ["a"], "metadata": ["previousValue", "actionType"]}),
            whole(concat!(
                r#","a":{"type":"Number","value":2,"metadata":{"previousValue":{"type":"Number","value":1},"#,
                r#""actionType":{"type":"Text","value":"update"}}}"#,
            )),
        ),
        (
            json!({"attrs": ["b"], "metadata": ["dateCreated", "*"]}),
            whole(concat!(
                r#","b":{"type":"Text","value":"x","metadata":{"dateCreated":{"type":"DateTime","#,
                r#""value":"2026-01-31T10:00:00.000Z"},"unit":{"type":"Text","value":"m"}}}"#,
            )),
        ),
        (
            json!({"attrs": ["b"], "metadata": ["other"]}),
            whole(r#","b":{"type":"Text","value":"x","metadata":{}}"#),
        ),
    ];
    let broker = Broker::start().await;
    let mut sink = Sink::start().await;
    broker
        .given(r#"{"id":"E","type":"T","a":{"value":1},"b":{"value":"x","metadata":{"unit":{"value":"m"}}}}"#)
        .await;
    for (notification, expected) in cases {
        let path = subscribed(&broker, &sink.url("/"), json!(null), notification.clone()).await;
        let change = request("PATCH /v2/entities/E/attrs").json(r#"{"a":{"value":2}}"#);
        broker.expect(change, 204, "").await;
        let body = sink.next().await.body.replace(path.rsplit('/').next().unwrap(), "ID");
        assert_eq!(body, expected, "{notification}");
        broker.expect(request(&format!("DELETE {path}")), 204, "").await;
        broker.expect(request("PATCH /v2/entities/E/attrs").json(r#"{"a":{"value":1}}"#), 204, "").await;
    }
}

#[tokio::test]
async fn templates_of_custom_notifications_are_expressions() {
    let broker = Broker::start().await;
    let mut sink = Sink::start().await;
    let custom = json!({
        "url": sink.url("/${id|lowercase}"), "method": "PATCH",
        "qs": {"${type|lowercase}": "${a+1}"}, "headers": {"X-Sum": "${a + b|len}", "Accept": ""},
        "json": {"text": "a is ${a}", "n": "${a}", "old": "${metadata.a.previousValue}", "none": "${missing}", "list": ["${b}"]}
    });
    subscribed(&broker, "", json!({"attrs": ["a"]}), json!({"httpCustom": custom})).await;
    broker.given(r#"{"id":"E","type":"T","a":{"value":1},"b":{"value":"xyz"}}"#).await;
    let received = sink.next().await;
    assert_eq!(received.line, "PATCH /e?t=2 HTTP/1.1");
    assert_eq!(received.body, r#"{"text":"a is 1","n":1,"old":null,"none":null,"list":["xyz"]}"#);
    assert_eq!((received.header("x-sum"), received.header("accept")), (Some("4"), None));
    assert_eq!(received.header("content-type"), Some("application/json"));
    broker.expect(request("PATCH /v2/entities/E/attrs").json(r#"{"a":{"value":7}}"#), 204, "").await;
    let body: Value = serde_json::from_str(&sink.next().await.body).unwrap();
    assert_eq!((&body["n"], &body["old"]), (&json!(7), &json!(1)));
}

#[tokio::test]
async fn bodies_of_custom_notifications_are_as_the_contract_says() {
    let cases = [
        (json!({"payload": "a%3D${a}"}), "a=1", "text/plain", "custom"),
        (json!({"payload": null}), "", "", "custom"),
        (json!({"payload": ""}), "ORDINARY", "application/json; charset=utf-8", "normalized"),
        (json!({"json": ["${a}"]}), "[1]", "application/json", "custom"),
        (
            json!({"ngsi": {"id": "n-${id}", "a": {"value": "${a*10}", "type": "Tens"}}}),
            r#"{"subscriptionId":"ID","data":[{"id":"n-E","type":"T","a":{"type":"Tens","value":10,"metadata":{}}}]}"#,
            "application/json; charset=utf-8",
            "normalized",
        ),
        (json!({"ngsi": {}}), "ORDINARY", "application/json; charset=utf-8", "normalized"),
    ];
    let ordinary = r#"{"subscriptionId":"ID","data":[{"id":"E","type":"T","a":{"type":"Number","value":1,"metadata":{}}}]}"#;
    let broker = Broker::start().await;
    let mut sink = Sink::start().await;
    for (template, body, content_type, format) in cases {
        let mut custom = template.clone();
        custom["url"] = json!(sink.url("/"));
        let path = subscribed(&broker, "", json!(null), json!({"httpCustom": custom})).await;
        broker.given(r#"{"id":"E","type":"T","a":{"value":1}}"#).await;
        let received = sink.next().await;
        let body = body.replace("ORDINARY", ordinary);
        assert_eq!(received.body.replace(path.rsplit('/').next().unwrap(), "ID"), body, "{template}");
        assert_eq!(received.header("content-type").unwrap_or_default(), content_type, "{template}");
        assert_eq!(received.header("ngsiv2-attrsformat"), Some(format), "{template}");
        broker.expect(request(&format!("DELETE {path}")), 204, "").await;
        broker.expect(request("DELETE /v2/entities/E"), 204, "").await;
    }
}
