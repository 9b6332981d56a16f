//! `thingmesh copy`: what a broker holds is in another one afterwards, once, however often it is run.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::{collections::HashMap, time::Duration};

use axum::{
    Json, Router,
    extract::Query,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};
use serde_json::{Value, json};
use thingmesh_tests::{
    client::{Caller, Client},
    mesh::{Mesh, Options},
    process::{Finished, run},
};

const LIMIT: Duration = Duration::from_secs(120);
/// More than one page of a list.
const MANY: usize = 1100;
/// Nobody listens there, and nothing is expected to.
const NOWHERE: &str = "http://127.0.0.1:9/in";

/// Two meshes: one that is copied and one that is empty.
async fn meshes(folder: &tempfile::TempDir, target: Options) -> Option<(Mesh, Mesh)> {
    let source = Mesh::start(&folder.path().join("source"), Options::default()).await?;
    let target = Mesh::start(&folder.path().join("target"), target).await?;
    Some((source, target))
}

fn copy(mesh: &Mesh, from: &str, to: &str, more: &[&str]) -> Finished {
    let mut arguments = vec!["copy", "--from", from, "--to", to];
    arguments.extend(more);
    tokio::task::block_in_place(|| run(mesh.program(), &arguments, &[], LIMIT))
}

#[track_caller]
fn expect(finished: &Finished, code: i32) {
    assert_eq!(finished.status.code(), Some(code), "{}{}", finished.stdout, finished.stderr);
}

/// All of a list, page by page.
async fn listed(broker: &Client, caller: &Caller, target: &str) -> Vec<Value> {
    let mut all = Vec::new();
    loop {
        let page = format!("{target}&limit=1000&offset={}&options=count", all.len());
        let answer = broker.get(&page, caller).await.expect(200);
        let total: usize = answer.header("fiware-total-count").unwrap().parse().unwrap();
        all.extend(answer.json().as_array().unwrap().iter().cloned());
        if all.len() >= total {
            assert_eq!(all.len(), total);
            return all;
        }
    }
}

/// All entities of a tenant with all that a copy keeps, in an order that does not depend on their age.
async fn entities(broker: &Client, tenant: &str) -> Vec<Value> {
    let mut all = listed(broker, &Caller::of(tenant), "/v2/entities?attrs=dateExpires,servicePath,*").await;
    all.sort_by_key(|entity| {
        format!("{} {} {}", entity["servicePath"]["value"], entity["id"], entity["type"])
    });
    all
}

/// Compares both views of a tenant: with the builtins that a copy keeps, and with what users made only.
async fn same_entities(source: &Client, target: &Client, tenant: &str) {
    assert_eq!(entities(source, tenant).await, entities(target, tenant).await, "{tenant}");
    let (mut expected, mut copied) = (
        listed(source, &Caller::of(tenant), "/v2/entities?attrs=*").await,
        listed(target, &Caller::of(tenant), "/v2/entities?attrs=*").await,
    );
    for all in [&mut expected, &mut copied] {
        all.sort_by_key(Value::to_string);
    }
    assert_eq!(expected, copied, "{tenant}");
}

/// What is at exactly this path, less ids and counters, in a fixed order.
async fn definitions(broker: &Client, tenant: &str, path: &str, target: &str) -> Vec<Value> {
    let caller = Caller::of(tenant).at(path);
    let mut all = listed(broker, &caller, &format!("{target}?")).await;
    for item in &mut all {
        let item = item.as_object_mut().unwrap();
        item.remove("id");
        item.remove("forwardingInformation");
        if let Some(notification) = item.get_mut("notification") {
            let counters =
                ["timesSent", "failsCounter", "lastNotification", "lastFailure", "lastFailureReason"];
            notification.as_object_mut().unwrap().retain(|name, _| !counters.contains(&name.as_str()));
        }
    }
    all.sort_by_key(Value::to_string);
    all
}

async fn ids(broker: &Client, tenant: &str, target: &str) -> Vec<String> {
    let all = listed(broker, &Caller::of(tenant), &format!("{target}?")).await;
    all.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

async fn append(broker: &Client, tenant: &str, path: &str, entities: &[Value]) {
    let body = json!({ "actionType": "append", "entities": entities });
    broker
        .post("/v2/op/update?options=overrideMetadata", &Caller::of(tenant).at(path), &body)
        .await
        .expect(204);
}

async fn fill_entities(broker: &Client) {
    for tenant in ["alpha", "beta"] {
        append(broker, tenant, "/", &[json!({
            "id": "same", "type": "Thing", "n": { "type": "Number", "value": 1.5,
            "metadata": { "unit": { "type": "Text", "value": "C" }, "at": { "type": "DateTime", "value": "2026-01-31T10:00:00Z" } } },
        })])
        .await;
    }
    let kinds = json!([
        { "id": "same", "type": "Thing", "n": { "type": "Number", "value": 2 } },
        { "id": "same", "type": "Other", "nothing": { "type": "None", "value": null } },
        { "id": "place", "type": "Place",
          "location": { "type": "geo:json", "value": { "type": "Point", "coordinates": [-3.7, 40.4] } } },
        { "id": "short", "type": "Thing", "dateExpires": { "type": "DateTime", "value": "2040-01-01T00:00:00Z" } },
        { "id": "deep", "type": "Thing", "tree": { "type": "StructuredValue",
          "value": { "a": [1, 2.25, "x", { "b": null, "c": true }], "d": {} } } },
        { "id": "date", "type": "Thing", "when": { "type": "DateTime", "value": "2026-05-05T05:05:05.500Z" },
          "free": { "type": "TextUnrestricted", "value": "a = (b) <c>" } },
        { "id": "bare", "type": "Thing" },
    ]);
    append(broker, "alpha", "/a/b", kinds.as_array().unwrap()).await;
    let many: Vec<Value> = (0..MANY)
        .map(|n| json!({ "id": format!("m{n}"), "type": "Meter", "n": { "type": "Number", "value": n } }))
        .collect();
    for part in many.chunks(400) {
        append(broker, "alpha", "/a", part).await;
    }
}

fn subscription(description: &str, notification: &Value) -> Value {
    json!({
        "description": description,
        "subject": { "entities": [{ "idPattern": ".*", "type": "Meter" }], "condition": { "attrs": ["n"] } },
        "notification": notification,
    })
}

async fn fill_definitions(broker: &Client) {
    let http = json!({ "http": { "url": NOWHERE }, "attrsFormat": "keyValues" });
    let custom = json!({
        "httpCustom": { "url": NOWHERE, "headers": { "x-from": "${id}" }, "method": "PUT", "json": { "n": "${n}" } },
    });
    let mqtt = json!({
        "mqtt": { "url": "mqtt://127.0.0.1:9", "topic": "t", "user": "someone", "passwd": "hunter2" },
    });
    let mut expired = subscription("expired", &http);
    expired["expires"] = json!("2020-01-01T00:00:00Z");
    let mut paused = subscription("below", &custom);
    paused["status"] = json!("inactive");
    paused["throttling"] = json!(5);
    paused["expires"] = json!("2040-01-01T00:00:00Z");
    for (path, body) in [
        (Some("/"), subscription("root", &http)),
        (Some("/a"), subscription("here", &http)),
        (Some("/a"), subscription("password", &mqtt)),
        (Some("/a/#"), paused),
        // The same as another but for its path, and twice the same: each is one of its own.
        (Some("/a/#"), subscription("here", &http)),
        (None, subscription("everything", &http)),
        (None, subscription("everything", &http)),
        (None, expired),
    ] {
        let caller = path.map_or(Caller::of("alpha"), |path| Caller::of("alpha").at(path));
        broker.post("/v2/subscriptions", &caller, &body).await.expect(201);
    }
    let registration = json!({
        "description": "meters elsewhere",
        "dataProvided": { "entities": [{ "id": "far", "type": "Meter" }], "attrs": ["power"] },
        "provider": { "http": { "url": "http://127.0.0.1:9/v2" } }, "expires": "2040-01-01T00:00:00Z",
    });
    broker.post("/v2/registrations", &Caller::of("alpha").at("/a"), &registration).await.expect(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_a_broker_holds_is_in_the_other_and_a_second_run_doubles_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let Some((source_mesh, target_mesh)) = meshes(&folder, Options::default()).await else { return };
    let (source, target) = (Client::new(source_mesh.broker()), Client::new(target_mesh.broker()));
    fill_entities(&source).await;
    fill_definitions(&source).await;
    let run_copy = |more: &[&str]| {
        let tenants = ["--service", "alpha", "--service", "beta"];
        copy(&source_mesh, source.base(), target.base(), &[&tenants[..], more].concat())
    };

    let tried = run_copy(&["--dry-run"]);
    expect(&tried, 0);
    assert!(tried.stdout.contains(&format!("entities: {} to copy, 0 failed", MANY + 8)), "{}", tried.stdout);
    for (tenant, list) in
        [("alpha", "/v2/entities"), ("alpha", "/v2/subscriptions"), ("beta", "/v2/entities")]
    {
        assert!(ids(&target, tenant, list).await.is_empty(), "a dry run writes nothing: {list}");
    }

    let first = run_copy(&[]);
    expect(&first, 0);
    for told in [
        format!("entities: {} copied, 0 failed", MANY + 8),
        "subscriptions: 7 copied, 0 already there, 1 expired, 0 failed; 1 of them inactive until their password is set; \
         2 of them for all service paths"
            .to_owned(),
        "registrations: 1 copied, 0 already there, 0 expired, 0 failed".to_owned(),
        "(password) is now /v2/subscriptions/".to_owned(),
        "tenant beta:\n  entities: 1 copied, 0 failed".to_owned(),
    ] {
        assert!(first.stdout.contains(&told), "no {told:?} in\n{}", first.stdout);
    }
    for tenant in ["alpha", "beta"] {
        same_entities(&source, &target, tenant).await;
    }
    same_definitions(&source, &target).await;

    // What changed since, among it metadata that is gone, comes with the next run.
    append(
        &source,
        "alpha",
        "/a",
        &[json!({ "id": "m7", "type": "Meter", "n": { "type": "Number", "value": -7 } })],
    )
    .await;
    append(
        &source,
        "beta",
        "/",
        &[json!({ "id": "same", "type": "Thing", "n": { "type": "Number", "value": 3 } })],
    )
    .await;
    let held = ids(&target, "alpha", "/v2/subscriptions").await;
    let second = run_copy(&[]);
    expect(&second, 0);
    for told in [
        "subscriptions: 0 copied, 7 already there, 1 expired, 0 failed\n",
        "registrations: 0 copied, 1 already there, 0 expired, 0 failed\n",
    ] {
        assert!(second.stdout.contains(told), "no {told:?} in\n{}", second.stdout);
    }
    for tenant in ["alpha", "beta"] {
        same_entities(&source, &target, tenant).await;
    }
    assert_eq!(held, ids(&target, "alpha", "/v2/subscriptions").await);
    same_definitions(&source, &target).await;

    // Of two that are the same but for their path, and of two that are the same: the one that is gone comes back.
    for (path, description) in [("/a", "here"), ("/#", "everything")] {
        let there = listed(&target, &Caller::of("alpha").at(path), "/v2/subscriptions?").await;
        let gone = there.iter().find(|item| item["description"] == description).unwrap();
        let one = format!("/v2/subscriptions/{}", gone["id"].as_str().unwrap());
        target.delete(&one, &Caller::of("alpha")).await.expect(204);
    }
    let third = run_copy(&["--only", "subscriptions"]);
    expect(&third, 0);
    let told = "subscriptions: 2 copied, 5 already there, 1 expired, 0 failed";
    assert!(third.stdout.contains(told), "no {told:?} in\n{}", third.stdout);
    same_definitions(&source, &target).await;
}

/// Compares path by path; the copy lacks what has expired and pauses what lacks its password.
async fn same_definitions(source: &Client, target: &Client) {
    for (path, number) in [("/", 1), ("/a", 2), ("/a/#", 2), ("/#", 8)] {
        let mut expected = definitions(source, "alpha", path, "/v2/subscriptions").await;
        assert_eq!(expected.len(), number, "{path}: {expected:?}");
        expected.retain(|item| item["description"] != "expired");
        for item in &mut expected {
            if item["description"] == "password" {
                item["status"] = json!("inactive");
            }
        }
        expected.sort_by_key(Value::to_string);
        assert_eq!(definitions(target, "alpha", path, "/v2/subscriptions").await, expected, "{path}");
    }
    let expected = definitions(source, "alpha", "/a", "/v2/registrations").await;
    assert_eq!(expected.len(), 1);
    assert_eq!(definitions(target, "alpha", "/a", "/v2/registrations").await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entity_that_is_refused_is_named_and_keeps_no_other_out() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::default().set("context-broker.max_entity_bytes=5000");
    let Some((source_mesh, target_mesh)) = meshes(&folder, options).await else { return };
    let (source, target) = (Client::new(source_mesh.broker()), Client::new(target_mesh.broker()));
    let text = "x".repeat(10_000);
    append(
        &source,
        "alpha",
        "/a",
        &[
            json!({ "id": "one", "type": "Thing", "n": { "type": "Number", "value": 1 } }),
            json!({ "id": "big", "type": "Thing", "text": { "type": "Text", "value": text } }),
            json!({ "id": "two", "type": "Thing", "n": { "type": "Number", "value": 2 } }),
        ],
    )
    .await;

    let finished = copy(&source_mesh, source.base(), target.base(), &["--service", "alpha"]);
    expect(&finished, 1);
    let named = "tenant alpha: entity big of type Thing at /a failed: 413";
    assert!(finished.stdout.contains(named), "no {named:?} in\n{}", finished.stdout);
    assert!(finished.stdout.contains("entities: 2 copied, 1 failed"), "{}", finished.stdout);
    let mut expected = entities(&source, "alpha").await;
    expected.retain(|entity| entity["id"] != "big");
    assert_eq!(entities(&target, "alpha").await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateway_takes_a_copy_with_a_token_and_errors_never_show_it() {
    let folder = tempfile::tempdir().unwrap();
    let Some((source_mesh, target_mesh)) = meshes(&folder, Options::default()).await else { return };
    let (source, target) = (Client::new(source_mesh.broker()), Client::new(target_mesh.broker()));
    append(
        &source,
        "alpha",
        "/a",
        &[json!({ "id": "one", "type": "Thing", "n": { "type": "Number", "value": 1 } })],
    )
    .await;
    let gateway = format!("{}/orion", target_mesh.gateway());

    let token = target_mesh.token("beta");
    let header = format!("Authorization: Bearer {token}");
    let refused =
        copy(&source_mesh, source.base(), &gateway, &["--service", "alpha", "--header-to", &header]);
    expect(&refused, 1);
    assert!(refused.stderr.contains("403") && refused.stderr.contains("--header-to"), "{}", refused.stderr);
    assert!(!format!("{refused:?}").contains(&token), "a token was shown");

    let header = format!("Authorization: Bearer {}", target_mesh.token("alpha"));
    let finished =
        copy(&source_mesh, source.base(), &gateway, &["--service", "alpha", "--header-to", &header]);
    expect(&finished, 0);
    let copied = entities(&target, "alpha").await;
    assert_eq!(copied.len(), 1);
    assert_eq!(copied, entities(&source, "alpha").await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_away_or_no_broker_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mesh) = Mesh::start(folder.path(), Options::default()).await else { return };
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let away = format!("http://{}", socket.local_addr().unwrap());
    let finished = copy(&mesh, &away, &mesh.broker(), &[]);
    expect(&finished, 1);
    assert!(finished.stderr.contains(&format!("{away} does not answer")), "{}", finished.stderr);

    let finished = copy(&mesh, &mesh.admin(), &mesh.broker(), &[]);
    expect(&finished, 1);
    assert!(finished.stderr.contains("answered GET /v2/entities with 404"), "{}", finished.stderr);

    let finished = copy(&mesh, &mesh.broker(), &mesh.broker(), &[]);
    expect(&finished, 1);
    assert!(finished.stderr.contains("the same broker"), "{}", finished.stderr);
}

/// What an Orion of 2019 answers: it neither shows service paths nor knows `skipForwarding`.
async fn old_entities(Query(query): Query<HashMap<String, String>>, headers: HeaderMap) -> Response {
    if query.get("options").is_some_and(|options| options.contains("skipForwarding")) {
        let words = json!({ "error": "BadRequest", "description": "Invalid value for URI param /options/" });
        return (StatusCode::BAD_REQUEST, Json(words)).into_response();
    }
    let entity = |id: &str| json!({ "id": id, "type": "Thing", "n": { "type": "Number", "value": 1, "metadata": {} } });
    let (root, below) = (vec![entity("one")], vec![entity("one"), entity("two")]);
    let shown = match headers.get("fiware-servicepath").map(|path| path.to_str().unwrap()) {
        None => [root, below].concat(),
        Some("/") => root,
        Some("/old") => below,
        Some(_) => Vec::new(),
    };
    counted(&query, shown)
}

fn counted(query: &HashMap<String, String>, all: Vec<Value>) -> Response {
    let number = |name: &str, default| query.get(name).map_or(default, |text| text.parse().unwrap());
    let total = all.len().to_string();
    let page: Vec<Value> = all.into_iter().skip(number("offset", 0)).take(number("limit", 20)).collect();
    ([("fiware-total-count", total)], Json(page)).into_response()
}

/// A broker with these entities and nothing else.
async fn broker_like(entities: MethodRouter) -> String {
    let nothing = |Query(query): Query<HashMap<String, String>>| async move { counted(&query, Vec::new()) };
    let router = Router::new()
        .route("/v2/entities", entities)
        .route("/v2/subscriptions", get(nothing))
        .route("/v2/registrations", get(nothing));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_broker_is_read_at_the_paths_that_are_named_and_what_is_missing_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mesh) = Mesh::start(folder.path(), Options::default()).await else { return };
    let old = broker_like(get(old_entities)).await;
    let target = Client::new(mesh.broker());

    let finished = copy(&mesh, &old, target.base(), &["--service", "alpha"]);
    expect(&finished, 1);
    let told = "2 entities are at service paths that this broker does not tell";
    assert!(finished.stdout.contains(told), "no {told:?} in\n{}", finished.stdout);
    assert_eq!(entities(&target, "alpha").await.len(), 1);

    let finished = copy(&mesh, &old, target.base(), &["--service", "alpha", "--service-path", "/old"]);
    expect(&finished, 0);
    let copied: Vec<String> = entities(&target, "alpha")
        .await
        .iter()
        .map(|entity| format!("{}{}", entity["servicePath"]["value"], entity["id"]))
        .collect();
    assert_eq!(copied, [r#""/""one""#, r#""/old""one""#, r#""/old""two""#]);
}

fn shown(id: &str) -> Value {
    json!({ "id": id, "type": "Thing", "servicePath": { "type": "Text", "value": "/a", "metadata": {} } })
}

/// Three entities, of which the first is deleted once it was read: the third is then the second.
async fn shrinking_entities(Query(query): Query<HashMap<String, String>>) -> Response {
    if query["limit"] == "1" || query.get("offset").is_some_and(|offset| offset == "0") {
        return ([("fiware-total-count", "3")], Json([shown("one"), shown("two")])).into_response();
    }
    counted(&query, vec![shown("two"), shown("three")])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_shrinks_while_it_is_read_is_told_as_not_whole() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mesh) = Mesh::start(folder.path(), Options::default()).await else { return };
    let shrinking = broker_like(get(shrinking_entities)).await;
    let finished = copy(&mesh, &shrinking, &mesh.broker(), &["--service", "alpha"]);
    expect(&finished, 1);
    for told in ["entities: 2 copied, 0 failed", "not whole: the list of entities changed"] {
        assert!(finished.stdout.contains(told), "no {told:?} in\n{}", finished.stdout);
    }
}

/// More than 64 MiB for whoever asks for more than 300 entities at once.
async fn large_entities(Query(query): Query<HashMap<String, String>>) -> Response {
    let limit: usize = query["limit"].parse().unwrap();
    if limit > 300 {
        return ([("fiware-total-count", "2")], " ".repeat(65 * 1024 * 1024)).into_response();
    }
    counted(&query, vec![shown("one"), shown("two")])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_is_too_large_is_asked_for_in_smaller_ones() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mesh) = Mesh::start(folder.path(), Options::default()).await else { return };
    let large = broker_like(get(large_entities)).await;
    let finished = copy(&mesh, &large, &mesh.broker(), &["--service", "alpha"]);
    expect(&finished, 0);
    assert_eq!(entities(&Client::new(mesh.broker()), "alpha").await.len(), 2);
}
