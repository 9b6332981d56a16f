//! Load of several tenants: devices, direct writers, counters, and subscriptions that come and go.
//!
//! Every value is used once in the whole run, so that a value in the wrong place tells where it came from.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    client::{Answer, Caller, Client},
    oracle::{Ledger, Sent, Series, counter_faults},
    sink::Sink,
    until::until,
};

pub const TENANTS: [&str; 3] = ["alpha", "beta", "gamma"];
const PATH: &str = "/plant";
const DEVICES: usize = 2;
const DIRECT_WRITERS: usize = 1;
/// Both raise one counter.
const COUNTER_WRITERS: usize = 2;
const PAUSE: Duration = Duration::from_millis(10);
/// After a failure: a process is being restarted.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(50);
const HISTORY_PAGE: usize = 5_000;

/// The ways in: one or more replicas of each service, with tokens when they ask for them.
#[derive(Clone, Default)]
pub struct Entrances {
    pub broker: Vec<Client>,
    pub north: Vec<Client>,
    pub south: Vec<Client>,
    pub series: Vec<Client>,
    pub tokens: BTreeMap<String, String>,
}

impl Entrances {
    /// One gateway, with the prefixes of its routes.
    pub fn gateway(base: &str, tokens: BTreeMap<String, String>) -> Self {
        let behind = |prefix: &str| vec![Client::new(format!("{base}{prefix}"))];
        Self {
            broker: behind("/orion"),
            north: behind("/iota-north"),
            south: behind("/iota-south"),
            series: behind("/quantumleap"),
            tokens,
        }
    }

    pub fn caller(&self, tenant: &str) -> Caller {
        let caller = Caller::of(tenant);
        match self.tokens.get(tenant) {
            Some(token) => caller.with_token(token),
            None => caller,
        }
    }

    pub fn broker(&self) -> &Client {
        any(&self.broker)
    }

    pub fn north(&self) -> &Client {
        any(&self.north)
    }

    pub fn south(&self) -> &Client {
        any(&self.south)
    }

    pub fn series(&self) -> &Client {
        any(&self.series)
    }
}

fn any(replicas: &[Client]) -> &Client {
    &replicas[rand::random_range(0..replicas.len())]
}

/// Of one subscription that came and went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Churned {
    Made,
    DeleteSent,
    Deleted,
}

/// Running load.
pub struct Load {
    entrances: Entrances,
    sink: Arc<Sink>,
    pub ledger: Ledger,
    churned: Arc<Mutex<BTreeMap<(String, String), Churned>>>,
    stop: CancellationToken,
    writers: JoinSet<()>,
}

impl Load {
    /// Provisions everything (all services must be up) and starts to write.
    pub async fn start(entrances: Entrances) -> Self {
        let sink = Arc::new(Sink::start().await);
        for tenant in TENANTS {
            provision(&entrances, tenant, &sink.url()).await;
        }
        let mut load = Self {
            entrances,
            sink,
            ledger: Ledger::default(),
            churned: Arc::default(),
            stop: CancellationToken::new(),
            writers: JoinSet::new(),
        };
        for (index, tenant) in TENANTS.into_iter().enumerate() {
            let base = (index as i64 + 1) * 100_000_000;
            for device in 0..DEVICES {
                load.spawn_device(tenant, device, base + device as i64 * 10_000_000);
            }
            for writer in 0..DIRECT_WRITERS {
                load.spawn_direct(tenant, writer, base + 50_000_000 + writer as i64 * 10_000_000);
            }
            for _ in 0..COUNTER_WRITERS {
                load.spawn_counter(tenant);
            }
            load.spawn_churn(tenant);
        }
        load
    }

    fn spawn_device(&mut self, tenant: &'static str, device: usize, base: i64) {
        let series = device_series(tenant, device);
        let path = format!("/iot/d?k={}&i=dev{device}", api_key(tenant));
        let (entrances, caller) = (self.entrances.clone(), self.entrances.caller(tenant));
        self.spawn_writer(series, base, move |value| {
            let (entrances, caller, path) = (entrances.clone(), caller.clone(), path.clone());
            async move {
                let body = ("text/plain", format!("v|{value}").into());
                entrances.south().try_send(Method::POST, &path, &caller, Some(body)).await
            }
        });
    }

    fn spawn_direct(&mut self, tenant: &'static str, writer: usize, base: i64) {
        let series = direct_series(tenant, writer);
        let path = format!("/v2/entities/{}/attrs?type=Meter", series.entity);
        self.spawn_patch(
            series,
            tenant,
            path,
            base,
            |value| json!({ "level": { "type": "Number", "value": value } }),
        );
    }

    fn spawn_counter(&mut self, tenant: &'static str) {
        let series = counter_series(tenant);
        let path = format!("/v2/entities/{}/attrs?type=Counter", series.entity);
        // The values of the ledger only number the requests here.
        self.spawn_patch(
            series,
            tenant,
            path,
            0,
            |_| json!({ "count": { "type": "Number", "value": { "$inc": 1 } } }),
        );
    }

    fn spawn_patch(
        &mut self,
        series: Series,
        tenant: &'static str,
        path: String,
        base: i64,
        body: impl Fn(i64) -> Value + Send + Sync + 'static,
    ) {
        let (entrances, caller) = (self.entrances.clone(), self.entrances.caller(tenant).at(PATH));
        let body = Arc::new(body);
        self.spawn_writer(series, base, move |value| {
            let (entrances, caller, path, body) =
                (entrances.clone(), caller.clone(), path.clone(), body.clone());
            async move {
                let body = ("application/json", body(value).to_string().into());
                entrances.broker().try_send(Method::PATCH, &path, &caller, Some(body)).await
            }
        });
    }

    /// One value after the other, each once, until the load is stopped.
    fn spawn_writer<F>(&mut self, series: Series, base: i64, send: impl Fn(i64) -> F + Send + 'static)
    where
        F: Future<Output = Result<Answer, String>> + Send,
    {
        let (ledger, stop) = (self.ledger.clone(), self.stop.clone());
        self.writers.spawn(async move {
            for value in base + 1.. {
                if stop.is_cancelled() {
                    return;
                }
                ledger.sending(&series, value);
                let answer = send(value).await;
                let text = answer.as_ref().map(Answer::text).unwrap_or_default();
                let status = answer.map(|answer| answer.status);
                let taken = ledger.answered(&series, value, status, || text.clone());
                tokio::time::sleep(if taken { PAUSE } else { PAUSE_AFTER_FAILURE }).await;
            }
        });
    }

    /// Subscriptions that match nothing: every second one is deleted again.
    fn spawn_churn(&mut self, tenant: &'static str) {
        let (entrances, stop, churned) = (self.entrances.clone(), self.stop.clone(), self.churned.clone());
        let caller = self.entrances.caller(tenant);
        let mark = move |id: &str, state| {
            let key = (tenant.to_owned(), id.to_owned());
            churned.lock().expect("no writer panics here").insert(key, state);
        };
        self.writers.spawn(async move {
            let mut number = 0;
            while !stop.is_cancelled() && number < 400 {
                tokio::time::sleep(10 * PAUSE).await;
                let body = subscription(&format!("nobody-{number}"), "http://127.0.0.1:9/never").to_string();
                let body = Some(("application/json", body.into()));
                let made =
                    entrances.broker().try_send(Method::POST, "/v2/subscriptions", &caller, body).await;
                let Ok(made) = made else { continue };
                let location = made.header("location").filter(|_| made.status == 201).map(str::to_owned);
                let Some(id) = location.as_deref().and_then(|location| location.rsplit('/').next()) else {
                    continue;
                };
                mark(id, Churned::Made);
                number += 1;
                if number % 2 == 0 {
                    continue;
                }
                mark(id, Churned::DeleteSent);
                let path = format!("/v2/subscriptions/{id}");
                let gone = entrances.broker().try_send(Method::DELETE, &path, &caller, None).await;
                if gone.is_ok_and(|answer| answer.status == 204) {
                    mark(id, Churned::Deleted);
                }
            }
        });
    }

    /// Stops writing, waits until everything acknowledged has arrived (at most `limit`), then gives all that is wrong.
    pub async fn judge(mut self, limit: Duration) -> Vec<String> {
        self.stop.cancel();
        while let Some(ended) = self.writers.join_next().await {
            ended.expect("no writer panics");
        }
        println!("{}", self.ledger.summary());
        let mut faults = self.ledger.wrong_answers();
        faults.truncate(10);
        for (series, sent) in self.ledger.series() {
            let found = if series.attribute == "count" {
                self.judge_counter(&series, &sent, limit).await
            } else {
                self.judge_series(&series, &sent, limit).await
            };
            faults.extend(found.into_iter().take(5).map(|fault| format!("{series:?}: {fault}")));
        }
        faults.extend(self.judge_churn().await);
        faults
    }

    async fn judge_series(&self, series: &Series, sent: &Sent, limit: Duration) -> Vec<String> {
        // A measure that went by the bus is acknowledged before the entity holds it.
        let caught_up = |current: &Vec<i64>| current.iter().all(|value| sent.current_fault(*value).is_none());
        let current = self.settle(limit, async || Ok(vec![self.current(series).await]), caught_up).await;
        let mut faults: Vec<String> = current.iter().filter_map(|value| sent.current_fault(*value)).collect();
        let whole = |points: &Vec<i64>| sent.missing(points).is_empty();
        let points = self.settle(limit, async || self.history(series).await, whole).await;
        faults.extend(sent.history_faults(&points).into_iter().map(|fault| format!("history: {fault}")));
        let arrivals = self.settle(limit, async || Ok(self.sink.arrivals(series)), whole).await;
        faults.extend(sent.delivery_faults(&arrivals).into_iter().map(|fault| format!("sink: {fault}")));
        faults
    }

    async fn judge_counter(&self, series: &Series, sent: &Sent, limit: Duration) -> Vec<String> {
        let current = self.current(series).await;
        let whole = |points: &Vec<i64>| points.last() == Some(&current);
        let points = self.settle(limit, async || self.history(series).await, whole).await;
        let (acknowledged, all) = (sent.acknowledged.len() as i64, sent.sent.len() as i64);
        let mut faults = counter_faults(acknowledged, all, current, &points);
        let steps = Sent { sent: (0..=current).collect(), acknowledged: (0..=current).collect() };
        let arrivals = self
            .settle(limit, async || Ok(self.sink.arrivals(series)), |seen| steps.missing(seen).is_empty())
            .await;
        faults.extend(steps.delivery_faults(&arrivals).into_iter().map(|fault| format!("sink: {fault}")));
        faults
    }

    /// What is read once it is whole, or when the time is over: the faults then tell what lacks.
    async fn settle(
        &self,
        limit: Duration,
        read: impl AsyncFn() -> Result<Vec<i64>, String>,
        whole: impl Fn(&Vec<i64>) -> bool,
    ) -> Vec<i64> {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            let seen = read().await;
            let over = tokio::time::Instant::now() > deadline;
            match seen {
                Ok(seen) if over || whole(&seen) => return seen,
                Err(error) if over => panic!("cannot be read: {error}"),
                _ => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    async fn current(&self, series: &Series) -> i64 {
        current(&self.entrances, series).await
    }

    async fn history(&self, series: &Series) -> Result<Vec<i64>, String> {
        history(&self.entrances, series).await
    }

    async fn judge_churn(&self) -> Vec<String> {
        let churned = self.churned.lock().expect("no writer panics here").clone();
        let mut faults = Vec::new();
        for tenant in TENANTS {
            let mut present = Vec::new();
            for offset in (0..).step_by(1_000) {
                let path = format!("/v2/subscriptions?limit=1000&offset={offset}");
                let page = self
                    .entrances
                    .broker()
                    .get(&path, &self.entrances.caller(tenant))
                    .await
                    .expect(200)
                    .json();
                let page = page.as_array().cloned().unwrap_or_default();
                present.extend(
                    page.iter()
                        .map(|subscription| subscription["id"].as_str().unwrap_or_default().to_owned()),
                );
                if page.len() < 1_000 {
                    break;
                }
            }
            for ((_, id), state) in churned.iter().filter(|((owner, _), _)| owner == tenant) {
                match (state, present.contains(id)) {
                    (Churned::Made, false) => faults.push(format!("{tenant}: subscription {id} is lost")),
                    (Churned::Deleted, true) => {
                        faults.push(format!("{tenant}: subscription {id} was deleted, but is there"))
                    }
                    _ => {}
                }
            }
        }
        faults
    }
}

/// What the broker holds now.
///
/// # Panics
/// When it holds no number.
pub async fn current(entrances: &Entrances, series: &Series) -> i64 {
    let Series { tenant, entity_type, entity, attribute } = series;
    let path = format!("/v2/entities/{entity}/attrs/{attribute}/value?type={entity_type}");
    let caller = entrances.caller(tenant).with("accept", "text/plain");
    let answer = until("the current value", Duration::from_secs(20), || async {
        let answer = entrances.broker().try_send(Method::GET, &path, &caller, None).await?;
        if answer.status == 200 { Ok(answer) } else { Err(format!("{} {}", answer.status, answer.text())) }
    })
    .await;
    let text = answer.text();
    // A device that never got through still has its null.
    if text == "null" { 0 } else { text.parse().unwrap_or_else(|_| panic!("{series:?} holds {text}")) }
}

/// All points of a series, oldest first.
pub async fn history(entrances: &Entrances, series: &Series) -> Result<Vec<i64>, String> {
    let Series { tenant, entity_type, entity, attribute } = series;
    let mut points = Vec::new();
    loop {
        let offset = points.len();
        let path = format!(
            "/v2/entities/{entity}/attrs/{attribute}/value?type={entity_type}&limit={HISTORY_PAGE}&offset={offset}"
        );
        let answer = entrances.series().try_send(Method::GET, &path, &entrances.caller(tenant), None).await?;
        if answer.status != 200 {
            return Err(format!("{} {}", answer.status, answer.text()));
        }
        let page = answer.json()["values"].as_array().cloned().unwrap_or_default();
        points.extend(page.iter().cloned());
        if page.len() < HISTORY_PAGE {
            return Ok(points.iter().filter_map(Value::as_f64).map(|number| number as i64).collect());
        }
    }
}

fn series(tenant: &str, entity_type: &str, entity: String, attribute: &str) -> Series {
    let (tenant, entity_type, attribute) = (tenant.to_owned(), entity_type.to_owned(), attribute.to_owned());
    Series { tenant, entity_type, entity, attribute }
}

fn device_series(tenant: &str, device: usize) -> Series {
    series(tenant, "Sensor", format!("urn:sensor:{device}"), "value")
}

fn direct_series(tenant: &str, writer: usize) -> Series {
    series(tenant, "Meter", format!("urn:meter:{writer}"), "level")
}

/// The counter of a tenant.
pub fn counter_series(tenant: &str) -> Series {
    series(tenant, "Counter", "urn:counter:0".to_owned(), "count")
}

fn api_key(tenant: &str) -> String {
    format!("key-of-{tenant}")
}

fn subscription(id_pattern: &str, url: &str) -> Value {
    json!({
        "subject": { "entities": [{ "idPattern": id_pattern }] },
        "notification": { "http": { "url": url } },
    })
}

async fn provision(entrances: &Entrances, tenant: &str, sink: &str) {
    let caller = entrances.caller(tenant);
    // Without a service path: all paths. Made first, so that they cover every change.
    for url in ["http://quantumleap:8668/v2/notify", sink] {
        entrances.broker().post("/v2/subscriptions", &caller, &subscription("urn:.*", url)).await.expect(201);
    }
    let caller = caller.at(PATH);
    let group = json!({ "services": [{
        "apikey": api_key(tenant), "cbroker": "http://orion:1026", "entity_type": "Sensor", "resource": "/iot/d",
    }] });
    entrances.north().post("/iot/services", &caller, &group).await.expect(201);
    let device = |index: usize| {
        json!({
            "device_id": format!("dev{index}"),
            "entity_name": format!("urn:sensor:{index}"),
            "entity_type": "Sensor",
            "transport": "HTTP",
            "attributes": [{ "object_id": "v", "name": "value", "type": "Number" }],
        })
    };
    let devices: Vec<Value> = (0..DEVICES).map(device).collect();
    entrances.north().post("/iot/devices", &caller, &json!({ "devices": devices })).await.expect(201);
    for writer in 0..DIRECT_WRITERS {
        let entity = json!({ "id": format!("urn:meter:{writer}"), "type": "Meter" });
        entrances.broker().post("/v2/entities", &caller, &entity).await.expect(201);
        let first = json!({ "level": { "type": "Number", "value": null } });
        let path = format!("/v2/entities/urn:meter:{writer}/attrs?type=Meter");
        entrances.broker().post(&path, &caller, &first).await.expect(204);
    }
    let counter =
        json!({ "id": "urn:counter:0", "type": "Counter", "count": { "type": "Number", "value": 0 } });
    entrances.broker().post("/v2/entities", &caller, &counter).await.expect(201);
}
