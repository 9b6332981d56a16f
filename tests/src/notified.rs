//! What every receiver of notifications must have seen in the end, whatever was killed in between.
//!
//! Writers count their entities up, one request after the other; each request carries a correlator that names its value. A
//! campaign knows which subscription each of these changes is due to.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use http::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    client::{Caller, Client},
    oracle::{Ledger, Sent, Series},
    receiver::{Arrival, Receiver, Temper},
    until::until,
};

const TENANT: &str = "alpha";
const PATH: &str = "/plant";
/// Entities with a writer of their own.
const SINGLE: usize = 4;
/// Entities that one request changes together.
const TOGETHER: usize = 3;
const PAUSE: Duration = Duration::from_millis(6);
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(40);
/// Notifications to one endpoint that may be under way at a kill: requests at once, and those made and not recorded yet.
const UNDER_WAY: u64 = 32 + 256;

/// A subscription and who receives for it.
struct Subscribed {
    name: &'static str,
    id: String,
    receiver: Receiver,
    due: Due,
    /// Values above these were sent after it was there, by entity; empty: it was there before all.
    since: BTreeMap<String, i64>,
}

/// Running updates with their subscriptions.
pub struct Campaign {
    brokers: Vec<Client>,
    subscribed: Vec<Subscribed>,
    pub ledger: Ledger,
    stop: CancellationToken,
    writers: JoinSet<()>,
}

fn entity_of(writer: usize) -> String {
    format!("urn:meter:{writer}")
}

fn series(entity: &str) -> Series {
    let (tenant, entity_type, attribute) = (TENANT.to_owned(), "Meter".to_owned(), "n".to_owned());
    Series { tenant, entity_type, entity: entity.to_owned(), attribute }
}

fn caller() -> Caller {
    Caller::of(TENANT).at(PATH)
}

/// Whether a change of this entity to this value is due.
type Due = fn(entity: &str, value: i64) -> bool;

fn subscriptions() -> Vec<(&'static str, Temper, Value, Due)> {
    let all = json!([{ "idPattern": "urn:meter:.*", "type": "Meter" }]);
    vec![
        ("everything", Temper::Steady, json!({ "subject": { "entities": all } }), |_, _| true),
        (
            "one attribute, to a fickle receiver",
            Temper::Fickle,
            json!({
                "subject": { "entities": all, "condition": { "attrs": ["n"] } },
                "notification": { "attrs": ["n"], "onlyChangedAttrs": true },
            }),
            |_, _| true,
        ),
        (
            "one entity, to a slow receiver",
            Temper::Slow,
            json!({
                "subject": { "entities": [{ "id": "urn:meter:1", "type": "Meter" }] },
                "notification": { "attrsFormat": "keyValues" },
            }),
            |entity, _| entity == "urn:meter:1",
        ),
        (
            "what a query lets through",
            Temper::Fickle,
            json!({ "subject": { "entities": all, "condition": { "expression": { "q": "n>40;n<100000000" } } } }),
            |_, value| value > 40,
        ),
        (
            "what a query keeps out",
            Temper::Steady,
            json!({ "subject": { "entities": all, "condition": { "expression": { "q": "n<0" } } } }),
            |_, _| false,
        ),
    ]
}

impl Campaign {
    /// Makes entities and subscriptions (all brokers must be up) and starts to write.
    pub async fn start(brokers: Vec<Client>) -> Self {
        let first = &brokers[0];
        for writer in 0..SINGLE + TOGETHER {
            let entity =
                json!({ "id": entity_of(writer), "type": "Meter", "n": { "type": "Number", "value": 0 } });
            first.post("/v2/entities", &caller(), &entity).await.expect(201);
        }
        let mut campaign = Self {
            brokers,
            subscribed: Vec::new(),
            ledger: Ledger::default(),
            stop: CancellationToken::new(),
            writers: JoinSet::new(),
        };
        for (name, temper, body, due) in subscriptions() {
            campaign.subscribe(name, temper, body, due).await;
        }
        for writer in 0..SINGLE {
            campaign.spawn(vec![entity_of(writer)]);
        }
        campaign.spawn((SINGLE..SINGLE + TOGETHER).map(entity_of).collect());
        campaign
    }

    /// One more subscription, while changes come: due to it is what is sent once it is there.
    pub async fn subscribe_late(&mut self) {
        let subject = json!({ "subject": { "entities": [{ "idPattern": ".*", "typePattern": "^Met" }] } });
        self.subscribe("a latecomer", Temper::Slow, subject, |_, _| true).await;
        let last = |sent: Sent| sent.sent.last().copied().unwrap_or_default();
        let since = self.ledger.series().into_iter().map(|(series, sent)| (series.entity, last(sent)));
        self.subscribed.last_mut().expect("just subscribed").since = since.collect();
    }

    async fn subscribe(&mut self, name: &'static str, temper: Temper, mut body: Value, due: Due) {
        let receiver = Receiver::start(temper).await;
        body["notification"]["http"] = json!({ "url": receiver.url() });
        let path = "/v2/subscriptions";
        // A broker may be away for a moment; the answer of one that is killed is not known, so that it may be there twice.
        let id = until("a subscription is taken", Duration::from_secs(20), || async {
            let broker = self.any();
            let body = Some(("application/json", body.to_string().into()));
            let answer = broker.try_send(Method::POST, path, &caller(), body).await?;
            let location = answer.header("location").filter(|_| answer.status == 201).map(str::to_owned);
            location.ok_or_else(|| format!("{} {}", answer.status, answer.text()))
        })
        .await;
        let id = id.rsplit('/').next().unwrap_or_default().to_owned();
        self.subscribed.push(Subscribed { name, id, receiver, due, since: BTreeMap::new() });
    }

    fn any(&self) -> &Client {
        &self.brokers[rand::random_range(0..self.brokers.len())]
    }

    /// One value after the other, each once; all entities in one request.
    fn spawn(&mut self, entities: Vec<String>) {
        let (brokers, ledger, stop) = (self.brokers.clone(), self.ledger.clone(), self.stop.clone());
        let entities: Arc<[String]> = entities.into();
        self.writers.spawn(async move {
            for value in 1.. {
                if stop.is_cancelled() {
                    return;
                }
                let broker = &brokers[rand::random_range(0..brokers.len())];
                for entity in &*entities {
                    ledger.sending(&series(entity), value);
                }
                let answer = write(broker, &entities, value).await;
                let mut taken = true;
                for entity in &*entities {
                    let answer = answer.clone();
                    let (status, text) =
                        (answer.as_ref().map(|a| a.status), answer.as_ref().map(|a| a.text()));
                    let text = text.unwrap_or_default();
                    taken &= ledger
                        .answered(&series(entity), value, status.map_err(Clone::clone), || text.clone());
                }
                tokio::time::sleep(if taken { PAUSE } else { PAUSE_AFTER_FAILURE }).await;
            }
        });
    }

    /// Waits until the next `changes` are acknowledged and at least one receiver got something new.
    pub async fn comes_through(&self, changes: usize) {
        let arrived = || self.subscribed.iter().map(|one| one.receiver.count()).sum::<usize>();
        let (written, before) = (self.ledger.acknowledged() + changes, arrived());
        until("changes and notifications come through", Duration::from_secs(60), || async {
            let (now, arrived) = (self.ledger.acknowledged(), arrived());
            if now >= written && arrived > before {
                Ok(())
            } else {
                Err(format!(
                    "{now} of {written} changes, {} arrivals; {}",
                    arrived - before,
                    self.ledger.summary()
                ))
            }
        })
        .await;
    }

    /// Stops writing, waits until everything due has arrived (as long as something comes within `patience`), then gives all
    /// that is wrong after `kills`.
    pub async fn judge(mut self, kills: u64, patience: Duration) -> Vec<String> {
        self.stop.cancel();
        while let Some(ended) = self.writers.join_next().await {
            ended.expect("no writer panics");
        }
        println!("{}", self.ledger.summary());
        let mut faults = self.ledger.wrong_answers();
        for one in &self.subscribed {
            self.settle(one, patience).await;
            let found = self.faults(one, kills);
            faults.extend(found.into_iter().take(5).map(|fault| format!("{}: {fault}", one.name)));
            if let Err(fault) = self.counted(one).await {
                faults.push(format!("{}: {fault}", one.name));
            }
        }
        faults
    }

    async fn settle(&self, one: &Subscribed, patience: Duration) {
        let (mut seen, mut since) = (0, Instant::now());
        while self.missing(one) > 0 && since.elapsed() < patience {
            if one.receiver.count() > seen {
                (seen, since) = (one.receiver.count(), Instant::now());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What is due of an entity: acknowledged values, and those that may come besides.
    fn due(&self, one: &Subscribed, entity: &str, sent: &Sent) -> (BTreeSet<i64>, BTreeSet<i64>) {
        let since = one.since.get(entity).copied().unwrap_or_default();
        let must = sent.acknowledged.iter().copied().filter(|n| *n > since && (one.due)(entity, *n));
        let may = sent.sent.iter().copied().filter(|n| (one.due)(entity, *n));
        (must.collect(), may.collect())
    }

    fn missing(&self, one: &Subscribed) -> usize {
        let seen: BTreeSet<(String, i64)> = one.receiver.arrivals().iter().filter_map(change).collect();
        let lacks = |(series, sent): (Series, Sent)| {
            let (must, _) = self.due(one, &series.entity, &sent);
            must.into_iter().filter(|n| !seen.contains(&(series.entity.clone(), *n))).count()
        };
        self.ledger.series().into_iter().map(lacks).sum()
    }

    fn faults(&self, one: &Subscribed, kills: u64) -> Vec<String> {
        let arrivals = one.receiver.arrivals();
        let mut faults = Vec::new();
        let mut by_entity: BTreeMap<String, Vec<(i64, &Arrival)>> = BTreeMap::new();
        for arrival in &arrivals {
            match change(arrival) {
                Some((entity, value)) => by_entity.entry(entity).or_default().push((value, arrival)),
                None => faults.push(format!("unreadable: {}", String::from_utf8_lossy(&arrival.body))),
            }
        }
        let (mut all, mut repeated) = (0, 0);
        for (series, sent) in self.ledger.series() {
            let (must, may) = self.due(one, &series.entity, &sent);
            let seen = by_entity.remove(&series.entity).unwrap_or_default();
            all += seen.len();
            let sent = Sent { sent: may.into_iter().collect(), acknowledged: must.into_iter().collect() };
            let values: Vec<i64> = seen.iter().map(|(value, _)| *value).collect();
            let found = sent.delivery_faults(&values);
            faults.extend(found.into_iter().map(|fault| format!("{}: {fault}", series.entity)));
            repeated += repetitions(&seen, &series.entity, &mut faults);
        }
        faults.extend(by_entity.keys().map(|entity| format!("{entity} was never written")));
        println!("{}: {all} arrived, {repeated} of them again, {} refused", one.name, one.receiver.refused());
        let excused = one.receiver.refused() + kills * UNDER_WAY;
        if repeated > excused {
            faults.push(format!("{repeated} repetitions; refusals and kills excuse {excused}"));
        }
        faults
    }

    /// The subscription has counted what arrived: each once, however often it came.
    async fn counted(&self, one: &Subscribed) -> Result<(), String> {
        let path = format!("/v2/subscriptions/{}?options=deliveryHealth", one.id);
        let mut fault = String::new();
        for _ in 0..200 {
            let seen = self.any().get(&path, &caller()).await.expect(200).json();
            let arrivals = one.receiver.arrivals();
            let distinct = arrivals.iter().filter_map(change).collect::<BTreeSet<_>>().len() as u64;
            let notification = &seen["notification"];
            let times_sent = notification["timesSent"].as_u64().unwrap_or_default();
            let told_of_success = distinct == 0 || notification["lastSuccess"].is_string();
            let nothing_waits = seen["deliveryHealth"]["pending"] == 0;
            if times_sent == distinct && told_of_success && nothing_waits {
                return Ok(());
            }
            fault = format!("{distinct} different notifications arrived, but it shows {seen}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(fault)
    }
}

async fn write(broker: &Client, entities: &[String], value: i64) -> Result<crate::client::Answer, String> {
    let correlator = correlator(&entities[0], value);
    let caller = caller().with("fiware-correlator", &correlator);
    let n = json!({ "type": "Number", "value": value });
    if let [entity] = entities {
        let body = Some(("application/json", json!({ "n": n }).to_string().into()));
        let path = format!("/v2/entities/{entity}/attrs?type=Meter");
        return broker.try_send(Method::PATCH, &path, &caller, body).await;
    }
    let all: Vec<Value> =
        entities.iter().map(|entity| json!({ "id": entity, "type": "Meter", "n": n })).collect();
    let body = json!({ "actionType": "update", "entities": all });
    let body = Some(("application/json", body.to_string().into()));
    broker.try_send(Method::POST, "/v2/op/update", &caller, body).await
}

fn correlator(first: &str, value: i64) -> String {
    format!("{first}-{value}")
}

/// The entity and value that a notification tells.
fn change(arrival: &Arrival) -> Option<(String, i64)> {
    let body: Value = serde_json::from_slice(&arrival.body).ok()?;
    let entity = body["data"].as_array().filter(|data| data.len() == 1)?.first()?.clone();
    let n = &entity["n"];
    let value = n.as_i64().or_else(|| n["value"].as_f64().map(|value| value as i64))?;
    Some((entity["id"].as_str()?.to_owned(), value))
}

/// Counts repetitions: each must be what came before, to the letter, and every arrival must name the request that caused it.
fn repetitions(seen: &[(i64, &Arrival)], entity: &str, faults: &mut Vec<String>) -> u64 {
    let together: Vec<String> = (SINGLE..SINGLE + TOGETHER).map(entity_of).collect();
    let first_entity = if together.iter().any(|one| one == entity) { &together[0] } else { entity };
    let mut known: BTreeMap<i64, &Arrival> = BTreeMap::new();
    let mut repeated = 0;
    for (value, arrival) in seen {
        let cause = correlator(first_entity, *value);
        if arrival.correlator.split("; ").next() != Some(&cause) {
            faults.push(format!("{entity} {value} names {:?} as its cause", arrival.correlator));
        }
        match known.get(value) {
            None => drop(known.insert(*value, arrival)),
            Some(before) => {
                repeated += 1;
                if before.body != arrival.body || before.correlator != arrival.correlator {
                    faults.push(format!("{entity} {value} came again, but changed: {before:?}, {arrival:?}"));
                }
            }
        }
    }
    repeated
}
