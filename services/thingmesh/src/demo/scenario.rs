//! Scenarios `versions` and `basic-sense` against a gateway, step by step, each with what must be observed
//! (contracts/mesh.md 10 and 11).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Result;
use http::StatusCode;
use serde_json::Value;

use super::{
    board::Board,
    client::{Answer, Caller, Http},
    factory::{self, Device, FACTORIES, Factory},
};

/// Makes a token for a tenant.
pub(crate) type Mint = Arc<dyn Fn(&str) -> Result<String> + Send + Sync>;

/// A step that was observed, and whether it was as it must be.
#[derive(Clone, Debug)]
pub(crate) struct Check {
    pub(crate) name: String,
    /// `None` = as expected; else what was seen.
    pub(crate) fault: Option<String>,
}

pub(crate) struct Scenario {
    http: Http,
    mint: Mint,
    board: Arc<Board>,
    pub(crate) checks: Vec<Check>,
}

/// What was acknowledged for one attribute of one entity of one tenant.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent {
    pub(crate) values: Vec<u32>,
}

/// By (tenant, entity, attribute).
pub(crate) type Ledger = BTreeMap<(&'static str, &'static str, &'static str), Sent>;

impl Scenario {
    pub(crate) fn new(http: Http, mint: Mint, board: Arc<Board>) -> Self {
        Self { http, mint, board, checks: Vec::new() }
    }

    fn check(&mut self, name: impl Into<String>, fault: Option<String>) {
        let check = Check { name: name.into(), fault };
        self.board.checked(&check);
        self.checks.push(check);
    }

    fn expect(&mut self, name: impl Into<String>, answer: &Answer, statuses: &[u16]) {
        let fault = (!statuses.contains(&answer.status.as_u16()))
            .then(|| format!("{} {}, wanted {statuses:?}", answer.status, answer.body));
        self.check(name, fault);
    }

    /// Who speaks for a factory, without service path.
    pub(crate) fn caller(&self, factory: &Factory) -> Result<Caller> {
        Ok(Caller {
            token: Some((self.mint)(factory.tenant)?),
            tenant: Some(factory.tenant.to_owned()),
            path: None,
        })
    }

    /// The three open version endpoints, and that nothing else is open.
    pub(crate) async fn versions(&mut self) -> Result<()> {
        let nobody = Caller::default();
        for (path, key) in [
            ("/orion/version", "/orion/version"),
            ("/quantumleap/version", "/version"),
            ("/iota-north/iot/about", "/libVersion"),
        ] {
            let answer = self.http.get(&nobody, path).await?;
            let found = answer.body.pointer(key).is_some_and(Value::is_string);
            let fine = answer.status == StatusCode::OK && found;
            self.check(
                format!("GET {path} is open"),
                (!fine).then(|| format!("{} {}", answer.status, answer.body)),
            );
        }
        let answer = self.http.get(&nobody, "/orion/v2/entities").await?;
        self.expect("entities without a token are refused", &answer, &[401]);
        Ok(())
    }

    /// Step 1: groups and devices; their entities exist afterwards.
    pub(crate) async fn provision(&mut self) -> Result<()> {
        for factory in &FACTORIES {
            let whole = self.caller(factory)?;
            let caller = whole.with_path(factory.path);
            let tenant = factory.tenant;

            let answer = self.http.post(&caller, "/iota-north/iot/services", &factory.group()).await?;
            self.expect(format!("{tenant}: group provisioned"), &answer, &[201, 409]);
            let answer = self.http.get(&caller, "/iota-north/iot/services").await?;
            self.count(format!("{tenant}: one group listed"), &answer, 1);

            let answer = self.http.post(&caller, "/iota-north/iot/devices", &factory.provisioning()).await?;
            self.expect(format!("{tenant}: devices provisioned"), &answer, &[201, 409]);
            let answer = self.http.get(&caller, "/iota-north/iot/devices").await?;
            self.count(format!("{tenant}: all devices listed"), &answer, factory.devices.len());

            let answer = self.http.get(&whole, "/orion/v2/entities").await?;
            let found: Vec<&str> =
                answer.body.as_array().into_iter().flatten().filter_map(|e| e["id"].as_str()).collect();
            let wanted: Vec<&str> = factory.devices.iter().map(|device| device.entity).collect();
            let fault =
                (sorted(&found) != sorted(&wanted)).then(|| format!("found {found:?}, wanted {wanted:?}"));
            self.check(format!("{tenant}: entities exist after provisioning"), fault);
        }
        Ok(())
    }

    fn count(&mut self, name: String, answer: &Answer, wanted: usize) {
        let count = answer.body["count"].as_u64();
        let fault = (answer.status != StatusCode::OK || count != Some(wanted as u64))
            .then(|| format!("{} {}, wanted count {wanted}", answer.status, answer.body));
        self.check(name, fault);
    }

    /// Step 2: everything goes into the time series.
    pub(crate) async fn subscribe(&mut self) -> Result<()> {
        for factory in &FACTORIES {
            let (tenant, caller) = (factory.tenant, self.caller(factory)?);
            let answer = self.http.post(&caller, "/orion/v2/subscriptions", &factory::subscription()).await?;
            self.expect(format!("{tenant}: subscribed"), &answer, &[201]);
            let id = answer
                .location
                .as_deref()
                .and_then(|location| location.rsplit('/').next())
                .unwrap_or_default();
            let listed = self.http.get(&caller, "/orion/v2/subscriptions?limit=1000").await?;
            let mine =
                listed.body.as_array().into_iter().flatten().any(|subscription| subscription["id"] == id);
            let fault = (id.is_empty() || !mine).then(|| format!("{:?} not in the list", answer.location));
            self.check(format!("{tenant}: subscription listed"), fault);
        }
        Ok(())
    }

    /// Step 2 where it has not been done yet: a demo that is started again does not subscribe again.
    pub(crate) async fn subscribe_once(&mut self) -> Result<()> {
        let caller = self.caller(&FACTORIES[0])?;
        let listed = self.http.get(&caller, "/orion/v2/subscriptions").await?;
        if listed.body.as_array().is_some_and(|subscriptions| !subscriptions.is_empty()) {
            return Ok(());
        }
        self.subscribe().await
    }

    /// Step 3: one measure of each device a second, `rounds` times or until `stop` resolves. Returns what was acknowledged.
    pub(crate) async fn sense(
        &mut self,
        rounds: Option<u32>,
        stop: impl Future<Output = ()>,
    ) -> Result<Ledger> {
        let mut ledger = Ledger::new();
        let mut ticker = tokio::time::interval(Duration::from_secs(1));
        ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        tokio::pin!(stop);
        let mut round = 0;
        while rounds.is_none_or(|rounds| round < rounds) {
            tokio::select! {
                _ = ticker.tick() => {}
                () = &mut stop => break,
            }
            for (index, factory) in FACTORIES.iter().enumerate() {
                // Odd values in one factory and even ones in the other: a leak would show.
                let draw = || 2 * rand::random_range(1..=5u32) - u32::from(index == 0);
                let caller = self.caller(factory)?;
                for device in factory.devices {
                    self.measure(&caller, factory, device, (draw(), draw()), &mut ledger).await;
                }
            }
            self.observe_refusal().await?;
            round += 1;
        }
        Ok(ledger)
    }

    #[allow(clippy::disallowed_names, reason = "the scenario's attributes are called so")]
    async fn measure(
        &self,
        caller: &Caller,
        factory: &Factory,
        device: &Device,
        (foo, bar): (u32, u32),
        ledger: &mut Ledger,
    ) {
        let path = format!("/iota-south/iot/d?k={}&i={}", factory.api_key, device.id);
        let answer = self.http.post_text(caller, &path, device.measure(foo, bar)).await;
        let taken = matches!(&answer, Ok(answer) if answer.status == StatusCode::OK);
        self.board.measured(factory.tenant, taken);
        if taken {
            for attribute in device.attributes() {
                let value = if *attribute == "foo" { foo } else { bar };
                ledger.entry((factory.tenant, device.entity, attribute)).or_default().values.push(value);
            }
        }
    }

    /// Each factory tries the other's header with its own token, once a round.
    async fn observe_refusal(&mut self) -> Result<()> {
        for (own, other) in [(0, 1), (1, 0)] {
            let mut caller = self.caller(&FACTORIES[own])?;
            caller.tenant = Some(FACTORIES[other].tenant.to_owned());
            // No answer at all is counted with the measures; here only what was decided counts.
            if let Ok(answer) = self.http.get(&caller, "/orion/v2/entities").await {
                self.board.refused(FACTORIES[own].tenant, answer.status.as_u16());
            }
        }
        Ok(())
    }

    /// What must be seen in the end: the last values, every point once, and nothing of the other factory.
    pub(crate) async fn verify(&mut self, ledger: &Ledger, from: &str) -> Result<()> {
        for factory in &FACTORIES {
            let caller = self.caller(factory)?;
            for ((_, entity, attribute), sent) in
                ledger.iter().filter(|((tenant, _, _), _)| *tenant == factory.tenant)
            {
                self.verify_current(&caller, factory, entity, attribute, sent).await?;
                self.verify_history(&caller, factory, entity, attribute, sent, from).await?;
            }
        }
        for (own, other) in [(0, 1), (1, 0)] {
            let mut caller = self.caller(&FACTORIES[own])?;
            caller.tenant = Some(FACTORIES[other].tenant.to_owned());
            for path in [
                "/orion/v2/entities",
                "/quantumleap/v2/entities/urn:ngsi:bot:2/attrs/foo",
                "/iota-north/iot/devices",
            ] {
                let answer = self.http.get(&caller, path).await?;
                let name = format!(
                    "{}'s token with header {} is refused at {path}",
                    FACTORIES[own].tenant, FACTORIES[other].tenant
                );
                self.expect(name, &answer, &[403]);
            }
            let foreign = &FACTORIES[other];
            let caller = self.caller(&FACTORIES[own])?;
            let path = format!("/iota-south/iot/d?k={}&i={}", foreign.api_key, foreign.devices[0].id);
            let answer = self.http.post_text(&caller, &path, foreign.devices[0].measure(1, 1)).await?;
            self.expect(
                format!("{}'s token with {}'s API key is refused", FACTORIES[own].tenant, foreign.tenant),
                &answer,
                &[403],
            );
        }
        Ok(())
    }

    async fn verify_current(
        &mut self,
        caller: &Caller,
        factory: &Factory,
        entity: &str,
        attribute: &str,
        sent: &Sent,
    ) -> Result<()> {
        let answer = self.http.get(caller, &format!("/orion/v2/entities/{entity}")).await?;
        let value = &answer.body[attribute]["value"];
        let last = sent.values.last().copied().map(Value::from).unwrap_or_default();
        let stamped = answer.body["TimeInstant"]["value"].is_string();
        let fault =
            (value != &last || !stamped).then(|| format!("{} {}, wanted {last}", answer.status, answer.body));
        self.check(format!("{}: {entity} holds the last {attribute}", factory.tenant), fault);
        Ok(())
    }

    async fn verify_history(
        &mut self,
        caller: &Caller,
        factory: &Factory,
        entity: &str,
        attribute: &str,
        sent: &Sent,
        from: &str,
    ) -> Result<()> {
        let path = format!("/quantumleap/v2/entities/{entity}/attrs/{attribute}/value?fromDate={from}");
        // The history follows the broker by some milliseconds: wait for it, but not for ever.
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        let wanted: Vec<Value> = sent.values.iter().copied().map(Value::from).collect();
        let fault = loop {
            let answer = self.http.get(caller, &path).await?;
            let points: Vec<Value> = answer.body["values"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|value| !value.is_null())
                .cloned()
                .collect();
            if points == wanted {
                break None;
            }
            if points.len() > wanted.len() || tokio::time::Instant::now() > deadline {
                break Some(format!("{} points {points:?}, wanted {wanted:?}", answer.status));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let points = sent.values.len();
        self.check(
            format!("{}: history of {entity} {attribute} has its {points} points, each once", factory.tenant),
            fault,
        );
        Ok(())
    }
}

fn sorted<'a>(ids: &[&'a str]) -> Vec<&'a str> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids
}
