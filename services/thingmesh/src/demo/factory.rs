//! The two factories of scenario `basic-sense`: who they are and what their devices send.

use serde_json::{Value, json};

/// A tenant with its group and devices.
pub(crate) struct Factory {
    pub(crate) tenant: &'static str,
    pub(crate) path: &'static str,
    pub(crate) api_key: &'static str,
    pub(crate) devices: &'static [Device],
}

/// A device and the entity that it feeds. Its measures are called `bar_name` and `foo_name` on the wire.
pub(crate) struct Device {
    pub(crate) id: &'static str,
    pub(crate) entity: &'static str,
    pub(crate) foo_name: &'static str,
    pub(crate) bar_name: &'static str,
    /// Which of its attributes it senses.
    pub(crate) senses: Senses,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Senses {
    Foo,
    Bar,
    Both,
}

/// Two tenants hold an entity of the same id on purpose: what one writes the other must never see.
pub(crate) const FACTORIES: [Factory; 2] = [
    Factory {
        tenant: "manufracture",
        path: "/floor1",
        api_key: "3z4w",
        devices: &[
            Device {
                id: "foodev",
                entity: "urn:ngsi:bot:1",
                foo_name: "f",
                bar_name: "b",
                senses: Senses::Foo,
            },
            Device {
                id: "bardev",
                entity: "urn:ngsi:bot:2",
                foo_name: "f",
                bar_name: "b",
                senses: Senses::Bar,
            },
        ],
    },
    Factory {
        tenant: "smithereens",
        path: "/",
        api_key: "5d4z",
        devices: &[Device {
            id: "foobie",
            entity: "urn:ngsi:bot:2",
            foo_name: "f1",
            bar_name: "b1",
            senses: Senses::Both,
        }],
    },
];

impl Factory {
    pub(crate) fn group(&self) -> Value {
        json!({ "services": [{
            "apikey": self.api_key,
            "cbroker": "http://orion:1026",
            "entity_type": "Bot",
            "resource": "/iot/d",
        }] })
    }

    pub(crate) fn provisioning(&self) -> Value {
        let devices: Vec<Value> = self.devices.iter().map(Device::provisioning).collect();
        json!({ "devices": devices })
    }
}

impl Device {
    fn provisioning(&self) -> Value {
        json!({
            "device_id": self.id,
            "entity_name": self.entity,
            "entity_type": "Bot",
            "timezone": "Europe/Zurich",
            "attributes": [
                { "object_id": self.foo_name, "name": "foo", "type": "Integer" },
                { "object_id": self.bar_name, "name": "bar", "type": "Integer" },
            ],
            "static_attributes": [{ "name": "category", "type": "Text", "value": "sensor" }],
        })
    }

    /// The Ultralight text of one measure.
    #[allow(clippy::disallowed_names, reason = "the scenario's attributes are called so")]
    pub(crate) fn measure(&self, foo: u32, bar: u32) -> String {
        let (f, b) = (self.foo_name, self.bar_name);
        match self.senses {
            Senses::Foo => format!("{f}|{foo}"),
            Senses::Bar => format!("{b}|{bar}"),
            Senses::Both => format!("{b}|{bar}|{f}|{foo}"),
        }
    }

    /// The attributes that a measure sets.
    pub(crate) fn attributes(&self) -> &'static [&'static str] {
        match self.senses {
            Senses::Foo => &["foo"],
            Senses::Bar => &["bar"],
            Senses::Both => &["foo", "bar"],
        }
    }
}

/// The body of the subscription of scenario step 2: every entity, to the time series.
pub(crate) fn subscription() -> Value {
    json!({
        "description": "History of everything",
        "subject": { "entities": [{ "idPattern": ".*" }] },
        "notification": { "http": { "url": "http://quantumleap:8668/v2/notify" } },
    })
}
