use std::sync::Arc;

use proto::v1::{EntityUpdate, UpdateAction};
use scope::Scope;
use service_kit::{Clock, RequestContext};
use soft_state::SoftState;

use crate::{
    Config,
    delivery::Delivery,
    device::{Device, Group},
    error::Error,
    measure::{Defaults, EntityWrite},
    metrics::Metrics,
    registry::Registry,
};

/// The agent behind its APIs. Provisioning is in `provision`, what devices send in `intake`.
pub struct Agent {
    pub(crate) config: Config,
    pub(crate) registry: Registry,
    pub(crate) delivery: Delivery,
    pub(crate) soft_state: Arc<dyn SoftState>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
}

impl Agent {
    pub(crate) fn defaults(&self) -> Defaults {
        Defaults { timestamp: self.config.timestamp, explicit: self.config.explicit_attrs }
    }

    /// Updates for the broker, each with a measure id of its own.
    pub(crate) fn updates(
        &self,
        scope: &Scope,
        writes: Vec<EntityWrite>,
        action: UpdateAction,
    ) -> Result<Vec<EntityUpdate>, Error> {
        let limit = self.config.measure.max_update_bytes;
        let too_large = || Error::PayloadTooLarge { limit: limit as u64 };
        let context = RequestContext::current();
        let mut total = 0;
        let mut updates = Vec::with_capacity(writes.len());
        for write in writes {
            // No attributes are no bytes: the broker takes an empty object for a mistake.
            let attributes = match write.attributes.is_empty() {
                true => Vec::new(),
                false => serde_json::to_vec(&write.attributes)
                    .map_err(|error| Error::Internal(error.to_string()))?,
            };
            total += attributes.len();
            // A request of many groups may hold more than one update may, but not without end.
            if attributes.len() > limit || total > limit.saturating_mul(8) {
                return Err(too_large());
            }
            let mut update = EntityUpdate {
                tenant: scope.tenant.to_string(),
                service_path: scope.path.to_string(),
                action: action.into(),
                entity_id: write.id,
                entity_type: write.entity_type,
                attributes: attributes.into(),
                measure_id: uuid::Uuid::new_v4().as_bytes().to_vec().into(),
                ..EntityUpdate::default()
            };
            if let Some(context) = &context {
                update.correlator = context.correlator.to_string();
                update.traceparent = context.trace.traceparent();
                update.tracestate.clone_from(&context.trace.state);
            }
            updates.push(update);
        }
        Ok(updates)
    }

    /// Fills in what a device leaves open (iot-agent 1.3, defaults).
    pub(crate) fn complete(&self, device: &mut Device, group: Option<&Group>) {
        let entity_type = device
            .text("entity_type")
            .or_else(|| group.and_then(|group| group.text("entity_type")))
            .unwrap_or(&self.config.default_type)
            .to_owned();
        if device.text("entity_name").is_none() {
            let conjunction = group.map_or(":", Group::conjunction);
            let name = format!("{entity_type}{conjunction}{}", device.id);
            device.body.insert("entity_name".into(), name.into());
        }
        device.body.insert("entity_type".into(), entity_type.into());
        if device.text("transport").is_none() {
            let transport =
                group.and_then(|group| group.text("transport")).unwrap_or(&self.config.default_transport);
            device.body.insert("transport".into(), transport.into());
        }
        if device.text("transport") == Some("HTTP") {
            let pushed =
                device.text("endpoint").or_else(|| group.and_then(|group| group.text("endpoint"))).is_some();
            device.body.insert("polling".into(), (!pushed).into());
        }
        let commands = group.and_then(|group| group.body.get("commands")?.as_array());
        if let Some(commands) = commands.filter(|commands| !commands.is_empty()) {
            let mut own =
                device.body.get("commands").and_then(|own| own.as_array().cloned()).unwrap_or_default();
            for command in commands {
                if own.iter().all(|own| own.get("name") != command.get("name")) {
                    own.push(command.clone());
                }
            }
            device.body.insert("commands".into(), own.into());
        }
    }
}
