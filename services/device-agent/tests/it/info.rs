//! iot-agent 1.1.

use serde_json::json;

use crate::{broker::FakeBroker, harness::Agent};

#[tokio::test]
async fn about_and_version_say_what_and_where_it_is() {
    let agent = Agent::with_broker(&FakeBroker::default()).await;
    let port = agent.running.addresses()["north"].port();
    for path in ["/iot/about", "/version"] {
        let answer = agent.send("north", "GET", path, &[], "").await;
        let expected = json!({
            "libVersion": "4.14.0", "port": port, "baseRoot": "/", "version": env!("CARGO_PKG_VERSION"),
        });
        assert_eq!((answer.status, answer.json()), (200, expected), "{path}");
    }
}

#[tokio::test]
async fn it_is_ready_once_started() {
    let agent = Agent::with_broker(&FakeBroker::default()).await;
    let answer = agent.send("north", "GET", "/ready", &[], "").await;
    assert_eq!((answer.status, answer.text.as_str()), (200, "{}"));
}

#[tokio::test]
async fn the_log_level_is_shown_and_set() {
    let agent = Agent::with_broker(&FakeBroker::default()).await;
    for (query, status, text) in [
        ("?level=warning", 200, ""),
        ("?level=loud", 400, r#"{"error":"invalid log level"}"#),
        ("", 400, r#"{"error":"log level missing"}"#),
    ] {
        let answer = agent.send("north", "PUT", &format!("/admin/log{query}"), &[], "").await;
        assert_eq!((answer.status, answer.text.as_str()), (status, text), "{query}");
    }
    assert_eq!(agent.send("north", "GET", "/admin/log", &[], "").await.text, r#"{"level":"WARN"}"#);
}

#[tokio::test]
async fn unknown_paths_and_methods_are_a_page_with_404() {
    let agent = Agent::with_broker(&FakeBroker::default()).await;
    for (listener, method, path) in [
        ("north", "GET", "/nothing"),
        ("north", "PATCH", "/iot/services"),
        ("north", "DELETE", "/iot/devices"),
        ("south", "GET", "/"),
        ("south", "PUT", "/iot/d?k=a&i=b"),
    ] {
        let answer = agent.send(listener, method, path, &[], "").await;
        assert_eq!(answer.status, 404, "{method} {path}");
        assert!(answer.headers["content-type"].to_str().unwrap().starts_with("text/html"), "{method} {path}");
    }
}

#[tokio::test]
async fn every_answer_carries_the_correlator() {
    let agent = Agent::with_broker(&FakeBroker::default()).await;
    let kept = agent.send("north", "GET", "/iot/about", &[("fiware-correlator", "abc")], "").await;
    assert_eq!(kept.headers["fiware-correlator"], "abc");
    let made = agent.send("north", "GET", "/iot/services", &[], "").await;
    assert_eq!(made.headers["fiware-correlator"].len(), 36);
}

#[tokio::test]
async fn the_originals_counters_come_in_the_accepted_type() {
    let agent = Agent::with_broker(&FakeBroker::default()).await;
    for (accept, content_type) in [
        (None, Some("application/openmetrics-text; version=1.0.0; charset=utf-8")),
        (Some("*/*"), Some("text/plain; version=0.0.4; charset=utf-8")),
        (Some("image/png"), None),
    ] {
        let headers: Vec<_> = accept.map(|accept| ("accept", accept)).into_iter().collect();
        let answer = agent.send("north", "GET", "/metrics", &headers, "").await;
        match content_type {
            Some(expected) => {
                assert_eq!(answer.headers["content-type"], expected);
                assert!(
                    answer.text.starts_with("# HELP deviceCreationRequests global metric"),
                    "{}",
                    answer.text
                );
                assert!(answer.text.ends_with("# EOF\n"));
            }
            None => assert_eq!(answer.status, 406),
        }
    }
}
