//! Sends rows and compares.

use serde_json::Value;
use service_kit::Clock;

use super::{
    sheet::{Case, Expected, MADE, Row, SINK, Sheet},
    told,
};
use crate::{
    broker::{Broker, NOW_US, Reply, Request, request},
    sink::Sink,
};

#[derive(Debug, Default)]
pub(super) struct Score {
    pub(super) rows: usize,
    pub(super) held: usize,
    pub(super) pending: usize,
    pub(super) failed: Vec<String>,
    tenants: usize,
}

/// What the rows of a case share.
struct Stage {
    tenant: String,
    /// The path of the subscription or registration that was created last.
    made: Option<String>,
    sink: Option<Sink>,
}

/// `notifies`: whether the broker reads its own events; cases with a receiver are for those only.
pub(super) async fn sheet(broker: &Broker, notifies: bool, name: &str, sheet: &Sheet, score: &mut Score) {
    for case in sheet.cases.iter().filter(|case| notifies || !case.sink) {
        let place = format!("{name}.yaml ({}), {}", sheet.contract, case.name);
        let mut stage = None;
        for line in case.rows.iter().flat_map(Row::lines) {
            let stage = match &mut stage {
                Some(stage) if !case.fresh => &mut *stage,
                slot => slot.insert(prepare(broker, case, &place, score).await),
            };
            let outcome = row(broker, stage, &stage.fill(&line)).await;
            count(score, &place, &line, outcome);
        }
    }
}

impl Stage {
    /// The row with the paths and addresses of this stage.
    fn fill(&self, row: &Row) -> Row {
        let filled = |text: &String| self.filled(text);
        Row { send: filled(&row.send), json: row.json.as_ref().map(filled), ..row.clone() }
    }

    fn filled(&self, text: &str) -> String {
        let sink = self.sink.as_ref().map_or_else(|| SINK.to_owned(), |sink| sink.url(""));
        text.replace(MADE, self.made.as_deref().unwrap_or(MADE)).replace(SINK, &sink)
    }

    /// A text with `ID` for the id of what was created last, and the receiver's address as rows write it.
    fn neutral(&self, text: &str) -> String {
        let id = self.made.as_deref().and_then(|path| path.rsplit('/').next());
        let text = id.map_or_else(|| text.to_owned(), |id| text.replace(id, "ID"));
        match &self.sink {
            Some(sink) => text.replace(&sink.url(""), SINK),
            None => text,
        }
    }
}

fn count(score: &mut Score, place: &str, line: &Row, outcome: Result<(), String>) {
    score.rows += 1;
    score.held += usize::from(outcome.is_ok());
    let request = format!("{} {}", line.send, line.json.as_ref().or(line.text.as_ref()).map_or("", |b| b));
    match (&line.pending, outcome) {
        (None, Ok(())) => {}
        (Some(_), Err(_)) => score.pending += 1,
        (None, Err(why)) => score.failed.push(format!("{place}\n    {request}\n    {why}")),
        (Some(reason), Ok(())) => {
            let reason = reason.get();
            score.failed.push(format!("{place}\n    {request}\n    holds, but is pending: {reason}"));
        }
    }
}

/// A new tenant with the entities that the case begins with.
async fn prepare(broker: &Broker, case: &Case, place: &str, score: &mut Score) -> Stage {
    score.tenants += 1;
    let tenant = format!("t{}", score.tenants);
    broker.clock.set_us(NOW_US + case.begins * 1_000_000);
    for entity in &case.given {
        let create = request("POST /v2/entities").header("Fiware-Service", &tenant).json(entity);
        let reply = send(broker, create).await;
        assert_eq!(reply.status, 201, "{place}: {entity}: {}", reply.body);
    }
    let sink = if case.sink { Some(Sink::start().await) } else { None };
    Stage { tenant, made: None, sink }
}

/// One millisecond passes with each request.
async fn send(broker: &Broker, request: Request) -> Reply {
    let reply = broker.send(request).await;
    broker.clock.set_us(broker.clock.now_us() + 1_000);
    reply
}

async fn row(broker: &Broker, stage: &mut Stage, row: &Row) -> Result<(), String> {
    if let Some(seconds) = row.at {
        #[allow(clippy::cast_possible_truncation, reason = "seconds of a test")]
        let after_us = (seconds * 1e6) as i64;
        broker.clock.set_us(NOW_US + after_us);
    }
    let reply = send(broker, built(row, &stage.tenant)).await;
    let named =
        |path: &&str| path.starts_with("/v2/subscriptions/") || path.starts_with("/v2/registrations/");
    if let Some(path) = reply.header("location").filter(named) {
        stage.made = Some(path.to_owned());
    }
    let error = row.error.as_ref().map(|error| error_of(error.get()));
    let wanted = match (&row.status, &error) {
        (Some(status), _) => *status.get(),
        (None, Some((word, _))) if row.then.is_none() => status_of(word),
        _ => 200,
    };
    if reply.status != wanted {
        return Err(format!("status {}, not {wanted}: {}", reply.status, reply.body));
    }
    for (name, wanted) in &row.answer {
        let found = reply.header(name);
        if found != wanted.as_deref() {
            return Err(format!("header {name} is {found:?}, not {wanted:?}"));
        }
    }
    if let Some(sink) = &mut stage.sink {
        let mut received = Vec::with_capacity(row.told.len());
        for _ in &row.told {
            received.push(sink.next().await);
        }
        let neutral: Vec<String> = received.iter().map(|one| stage.neutral(&one.body)).collect();
        told::compare(&row.told, &received, &neutral)?;
    }
    let mut reply = match &row.then {
        None => reply,
        Some(line) => {
            send(broker, addressed(request(&encoded(&stage.filled(line))), row, &stage.tenant)).await
        }
    };
    reply.body = stage.neutral(&reply.body);
    compare(row, error, &reply)
}

fn compare(row: &Row, error: Option<(String, String)>, reply: &Reply) -> Result<(), String> {
    let exact = match &error {
        Some((word, text)) => {
            if row.then.is_some() && reply.status != status_of(word) {
                return Err(format!("status {}, not {}: {}", reply.status, status_of(word), reply.body));
            }
            Some(format!(r#"{{"error":"{word}","description":"{}"}}"#, escaped(text)))
        }
        None => row.body.as_ref().map(|body| body.get().clone()),
    };
    if let Some(wanted) = exact
        && reply.body != wanted
    {
        return Err(format!("answers {}\n        not {wanted}", reply.body));
    }
    if let Some(like) = row.like.as_ref().map(Expected::get) {
        let part: Value = serde_json::from_str(like).map_err(|error| format!("{like}: {error}"))?;
        let whole: Value =
            serde_json::from_str(&reply.body).map_err(|error| format!("{error}: {}", reply.body))?;
        if !has(&whole, &part) {
            return Err(format!("answers {}\n        without {like}", reply.body));
        }
    }
    if let Some(wanted) = row.ids.as_ref().map(Expected::get) {
        let listed: Vec<Value> =
            serde_json::from_str(&reply.body).map_err(|error| format!("{error}: {}", reply.body))?;
        let ids: Vec<&str> = listed.iter().filter_map(|entity| entity["id"].as_str()).collect();
        if ids.join(" ") != *wanted {
            return Err(format!("lists {}\n        not {wanted}", ids.join(" ")));
        }
    }
    Ok(())
}

fn has(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(key, part)| whole.get(key).is_some_and(|whole| has(whole, part)))
        }
        (whole, part) => whole == part,
    }
}

fn built(row: &Row, tenant: &str) -> Request {
    let request = addressed(request(&encoded(&row.send)), row, tenant);
    let request =
        row.headers.iter().fold(
            request,
            |request, (name, value)| {
                if is_place(name) { request } else { request.header(name, value) }
            },
        );
    match (&row.json, &row.text, &row.raw) {
        (Some(body), ..) => request.json(body),
        (_, Some(body), _) => request.header("Content-Type", "text/plain").body(body),
        (.., Some(body)) => request.body(body),
        _ => request,
    }
}

fn is_place(name: &str) -> bool {
    name.eq_ignore_ascii_case("fiware-service") || name.eq_ignore_ascii_case("fiware-servicepath")
}

/// Adds tenant and service path: those that the row names, or the case's tenant.
fn addressed(request: Request, row: &Row, tenant: &str) -> Request {
    let named = |wanted: &str| row.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
    let request = match named("fiware-service") {
        Some((name, value)) => request.header(name, value),
        None => request.header("Fiware-Service", tenant),
    };
    match named("fiware-servicepath") {
        Some((name, value)) => request.header(name, value),
        None => request,
    }
}

/// `METHOD target` with the characters of the target encoded that a URL can't hold.
fn encoded(line: &str) -> String {
    let (method, target) = line.split_once(' ').unwrap();
    let mut text = format!("{method} ");
    for c in target.chars() {
        match c {
            ' ' | '<' | '>' | '"' | '#' | '|' | '^' | '`' | '{' | '}' | '\\' => {
                text.push_str(&format!("%{:02X}", u32::from(c)));
            }
            c if !c.is_ascii() => c.to_string().bytes().for_each(|b| text.push_str(&format!("%{b:02X}"))),
            c => text.push(c),
        }
    }
    text
}

fn error_of(text: &str) -> (String, String) {
    match text.split_once(": ") {
        Some((word, rest)) if status_of(word) != 0 => (word.to_owned(), rest.to_owned()),
        _ => ("BadRequest".to_owned(), text.to_owned()),
    }
}

/// Section 10 of the contract; 0: no such word.
fn status_of(word: &str) -> u16 {
    match word {
        "BadRequest" | "ParseError" => 400,
        "NotFound" => 404,
        "MethodNotAllowed" => 405,
        "NotAcceptable" => 406,
        "TooManyResults" => 409,
        "ContentLengthRequired" => 411,
        "RequestEntityTooLarge" | "NoResourcesAvailable" => 413,
        "UnsupportedMediaType" => 415,
        "Unprocessable" | "PartialUpdate" => 422,
        "InternalServerError" => 500,
        "NotImplemented" => 501,
        _ => 0,
    }
}

/// Inside an error's JSON: the forbidden characters as HTML, a backslash as JSON writes it.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' | '=' | ';' | '(' | ')' => out.push_str(&format!("&#{};", u32::from(c))),
            '\\' => out.push_str("\\\\"),
            c => out.push(c),
        }
    }
    out
}
