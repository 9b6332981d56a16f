//! Scenario `basic-sense` (contracts/mesh.md 11), the same steps in both modes.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use crate::{
    load::{Entrances, history},
    oracle::Series,
    until::until,
};

struct Factory {
    tenant: &'static str,
    path: &'static str,
    api_key: &'static str,
    /// Device, entity, measure name of `foo`, of `bar`, and whether it senses each.
    devices: &'static [(&'static str, &'static str, &'static str, &'static str, bool, bool)],
}

const FACTORIES: [Factory; 2] = [
    Factory {
        tenant: "manufracture",
        path: "/floor1",
        api_key: "3z4w",
        devices: &[
            ("foodev", "urn:ngsi:bot:1", "f", "b", true, false),
            ("bardev", "urn:ngsi:bot:2", "f", "b", false, true),
        ],
    },
    Factory {
        tenant: "smithereens",
        path: "/",
        api_key: "5d4z",
        devices: &[("foobie", "urn:ngsi:bot:2", "f1", "b1", true, true)],
    },
];

pub const SCENARIO_TENANTS: [&str; 2] = ["manufracture", "smithereens"];

/// Provisions, subscribes, senses `rounds` times and checks what each tenant then sees.
///
/// # Panics
/// At the first observation that is not as it must be.
pub async fn basic_sense(entrances: &Entrances, rounds: i64) {
    for factory in &FACTORIES {
        provision(entrances, factory).await;
        subscribe(entrances, factory).await;
    }
    let mut sent: BTreeMap<Series, Vec<i64>> = BTreeMap::new();
    for round in 1..=rounds {
        for (index, factory) in FACTORIES.iter().enumerate() {
            sense(entrances, factory, 2 * round + index as i64, &mut sent).await;
        }
    }
    for (series, values) in &sent {
        let points = until("the whole history", Duration::from_secs(20), || async {
            let points = history(entrances, series).await?;
            if points.len() >= values.len() { Ok(points) } else { Err(format!("{series:?} {points:?}")) }
        })
        .await;
        assert_eq!(&points, values, "{series:?}");
    }
}

async fn provision(entrances: &Entrances, factory: &Factory) {
    let caller = entrances.caller(factory.tenant).at(factory.path);
    let group = json!({ "services": [{
        "apikey": factory.api_key, "cbroker": "http://orion:1026", "entity_type": "Bot", "resource": "/iot/d",
    }] });
    entrances.north().post("/iot/services", &caller, &group).await.expect(201);
    let groups = entrances.north().get("/iot/services", &caller).await.expect(200).json();
    assert_eq!(groups["count"], 1, "{groups}");

    let device = |&(id, entity, foo_name, bar_name, ..): &(&str, &str, &str, &str, bool, bool)| {
        json!({
            "device_id": id, "entity_name": entity, "entity_type": "Bot", "timezone": "Europe/Zurich",
            "attributes": [
                { "object_id": foo_name, "name": "foo", "type": "Integer" },
                { "object_id": bar_name, "name": "bar", "type": "Integer" },
            ],
            "static_attributes": [{ "name": "category", "type": "Text", "value": "sensor" }],
        })
    };
    let devices: Vec<Value> = factory.devices.iter().map(device).collect();
    entrances.north().post("/iot/devices", &caller, &json!({ "devices": devices })).await.expect(201);
    let listed = entrances.north().get("/iot/devices", &caller).await.expect(200).json();
    assert_eq!(listed["count"], factory.devices.len(), "{listed}");

    // No service path: all paths.
    let everywhere = entrances.caller(factory.tenant);
    let entities = entrances.broker().get("/v2/entities", &everywhere).await.expect(200).json();
    let entities = entities.as_array().cloned().unwrap_or_default();
    assert_eq!(entities.len(), factory.devices.len(), "{entities:?}");
    for entity in &entities {
        assert_eq!(entity["foo"]["value"], Value::Null, "not sensed yet: {entity}");
    }
}

async fn subscribe(entrances: &Entrances, factory: &Factory) {
    let caller = entrances.caller(factory.tenant);
    let subscription = json!({
        "subject": { "entities": [{ "idPattern": ".*" }] },
        "notification": { "http": { "url": "http://quantumleap:8668/v2/notify" } },
    });
    let made = entrances.broker().post("/v2/subscriptions", &caller, &subscription).await.expect(201);
    assert!(made.header("location").is_some_and(|location| location.starts_with("/v2/subscriptions/")));
    let listed = entrances.broker().get("/v2/subscriptions", &caller).await.expect(200).json();
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
}

async fn sense(entrances: &Entrances, factory: &Factory, value: i64, sent: &mut BTreeMap<Series, Vec<i64>>) {
    let caller = entrances.caller(factory.tenant);
    for &(device, entity, foo_name, bar_name, senses_foo, senses_bar) in factory.devices {
        let measures: Vec<(&str, &str)> = [(senses_foo, foo_name, "foo"), (senses_bar, bar_name, "bar")]
            .iter()
            .filter(|it| it.0)
            .map(|it| (it.1, it.2))
            .collect();
        let text: Vec<String> = measures.iter().map(|(name, _)| format!("{name}|{value}")).collect();
        let path = format!("/iot/d?k={}&i={device}", factory.api_key);
        entrances.south().post_text(&path, &caller, &text.join("|")).await.expect(200);
        // The device is answered once the context is committed: every broker shows it now.
        let read = entrances
            .broker()
            .get(&format!("/v2/entities/{entity}?type=Bot"), &caller)
            .await
            .expect(200)
            .json();
        for (_, attribute) in measures {
            assert_eq!(read[attribute]["value"], value, "{} reads its write: {read}", factory.tenant);
            let series = Series {
                tenant: factory.tenant.to_owned(),
                entity_type: "Bot".to_owned(),
                entity: entity.to_owned(),
                attribute: attribute.to_owned(),
            };
            sent.entry(series).or_default().push(value);
        }
        assert!(read["TimeInstant"]["value"].is_string(), "{read}");
        assert_eq!(read["category"]["value"], "sensor");
    }
}
