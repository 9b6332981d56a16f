//! What devices send: whose it is, whether it may, what it means, and on to the broker.

use std::sync::Arc;

use bytes::Bytes;
use proto::v1::UpdateAction;
use scope::{Scope, Tenant};
use serde_json::Map;
use soft_state::Verdict;

use crate::{
    agent::Agent,
    delivery::Delivered,
    device::{ApiKey, Device},
    error::Error,
    measure::Times,
    metrics::Metrics,
    registry::{KnownDevice, KnownGroup},
    store::StoreError,
    ultralight::{self, Payload},
};

/// How many devices of one id are looked at when the default key is used: more than one is refused anyway.
const MANY: u32 = 2;

/// One request of a device.
#[derive(Debug)]
pub struct DeviceRequest<'a> {
    /// South path it came to.
    pub resource: &'a str,
    pub api_key: ApiKey,
    pub device_id: &'a str,
    /// `t`: time of all its measures.
    pub time: Option<&'a str>,
    /// Tenant of `Fiware-Service`, when the header is there.
    pub tenant: Option<Tenant>,
    pub payload: Bytes,
}

/// Who sent it.
struct Sender {
    group: Option<Arc<KnownGroup>>,
    device: Arc<KnownDevice>,
}

impl Agent {
    /// Takes the measures of one request; answers when they are committed or durable.
    pub async fn take_measures(&self, request: &DeviceRequest<'_>) -> Result<(), Error> {
        let outcome = self.taken(request).await;
        let word = match &outcome {
            Ok(Some(Delivered::Committed)) => "committed",
            Ok(Some(Delivered::Diverted)) => "diverted",
            Ok(None) => "empty",
            Err(Error::Unavailable(_) | Error::Internal(_)) => "unavailable",
            Err(_) => "refused",
        };
        Metrics::count(&self.metrics.measures, word);
        outcome.map(|_| ())
    }

    async fn taken(&self, request: &DeviceRequest<'_>) -> Result<Option<Delivered>, Error> {
        let arrived_us = self.clock.now_us();
        let group = self.group_of(request).await?;
        if let Some(group) = &group {
            self.check_tenant(request, &group.group.scope.tenant)?;
            self.check_tenant_rate(&group.group.scope.tenant).await?;
            self.check_device_rate(&group.group.scope, request.device_id).await?;
        }
        let limits = ultralight::Limits {
            groups: self.config.measure.max_groups,
            measures: self.config.measure.max_measures,
        };
        let text = std::str::from_utf8(&request.payload).map_err(|_| Error::NotText)?;
        let parsed = ultralight::parse(text, self.config.autocast, limits);
        // Whose it is comes before what it says: without a right to be here nobody learns more.
        let sender = match group {
            Some(group) => self.sender_in(group, request, parsed.is_ok()).await?,
            None => self.sender_by_default_key(request).await?,
        };
        let groups = match parsed? {
            Payload::Measures(groups) => groups,
            Payload::CommandResult { command, .. } if sender.device.device.has_command(&command) => {
                return Err(Error::CommandsNotAvailable(command));
            }
            Payload::CommandResult { command, .. } => return Err(Error::CommandNotFound(command)),
        };
        let device = &sender.device.device;
        let mapping = sender.device.mapping(sender.group.as_deref(), self.defaults());
        let writes = mapping.apply(groups, Times { given: request.time, arrived_us })?;
        if writes.is_empty() {
            return Ok(None);
        }
        let updates = self.updates(&device.scope, writes, UpdateAction::Append)?;
        Ok(Some(self.delivery.submit(device.key(), updates, arrived_us).await?))
    }

    /// The group of the request's key; `None` for the default key without a group.
    async fn group_of(&self, request: &DeviceRequest<'_>) -> Result<Option<Arc<KnownGroup>>, Error> {
        let mut found = self.registry.find_group(request.resource, &request.api_key).await?;
        let is_default_resource = request.resource == self.config.default_resource;
        if found.is_none() && is_default_resource {
            found = self.registry.find_group("", &request.api_key).await?;
        }
        let default_key = &self.config.default_key;
        let by_default = is_default_resource
            && !default_key.is_empty()
            && request.api_key.expose() == default_key.expose();
        if found.is_none() && !by_default {
            return Err(Error::GroupNotFound { resource: request.resource.to_owned() });
        }
        Ok(found)
    }

    async fn sender_in(
        &self,
        group: Arc<KnownGroup>,
        request: &DeviceRequest<'_>,
        may_create: bool,
    ) -> Result<Sender, Error> {
        let scope = &group.group.scope;
        if let Some(device) = self.known_device(scope, request).await? {
            return Ok(Sender { device, group: Some(group) });
        }
        if !group.group.autoprovision() || !may_create {
            return match may_create {
                true => Err(Error::DeviceNotFound(request.device_id.to_owned())),
                // The payload's own error is the one to tell; a device that sends rubbish is not created.
                false => Ok(Sender {
                    device: Arc::new(KnownDevice::new(self.unknown_device(scope, request))),
                    group: Some(group),
                }),
            };
        }
        let device = self.autoprovision(&group, request).await?;
        Ok(Sender { device, group: Some(group) })
    }

    /// The device of the request's id and key; else the one without a key, which takes this one.
    async fn known_device(
        &self,
        scope: &Scope,
        request: &DeviceRequest<'_>,
    ) -> Result<Option<Arc<KnownDevice>>, Error> {
        let known = self.registry.find_devices(scope, request.device_id).await?;
        if let Some(device) =
            known.iter().find(|known| known.device.api_key.as_ref() == Some(&request.api_key))
        {
            return Ok(Some(device.clone()));
        }
        let Some(device) = known.iter().find(|known| known.device.api_key.is_none()) else { return Ok(None) };
        if !self.registry.store().claim_key(&device.device, &request.api_key).await? {
            tracing::debug!(device = request.device_id, "another measure gave the device its key");
        }
        self.registry.device_changed(scope, request.device_id);
        Ok(Some(device.clone()))
    }

    async fn autoprovision(
        &self,
        group: &KnownGroup,
        request: &DeviceRequest<'_>,
    ) -> Result<Arc<KnownDevice>, Error> {
        let mut device = self.unknown_device(&group.group.scope, request);
        self.complete(&mut device, Some(&group.group));
        let inserted = self.registry.store().insert_device(&device).await;
        self.registry.device_changed(&device.scope, &device.id);
        match inserted {
            Ok(()) => {
                self.metrics.devices_created.inc();
                Ok(Arc::new(KnownDevice::new(device)))
            }
            // Another first measure was quicker, or the device was provisioned just now, perhaps without a key.
            Err(StoreError::Conflict(_)) => {
                let known = self.known_device(&device.scope, request).await?;
                known.ok_or(Error::DeviceNotFound(device.id))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn unknown_device(&self, scope: &Scope, request: &DeviceRequest<'_>) -> Device {
        Device {
            scope: scope.clone(),
            id: request.device_id.to_owned(),
            api_key: Some(request.api_key.clone()),
            body: Map::new(),
            created_us: self.clock.now_us(),
        }
    }

    /// The default key without a group: the device is looked up by its id over all tenants and must be the only one
    /// (iot-agent 2.1). The key is public, so it opens only devices that nothing else guards: provisioned with this very
    /// key, or without one in a scope that has no group.
    async fn sender_by_default_key(&self, request: &DeviceRequest<'_>) -> Result<Sender, Error> {
        let not_found = || Error::DeviceNotFound(request.device_id.to_owned());
        let found = self.registry.store().devices_anywhere(request.device_id, MANY).await?;
        let [device] = <[Device; 1]>::try_from(found).map_err(|_| not_found())?;
        match &device.api_key {
            Some(key) if *key == request.api_key => {}
            Some(_) => return Err(not_found()),
            None => {
                let one = crate::store::Page { limit: 1, offset: 0 };
                let scope = &device.scope;
                let (_, groups) =
                    self.registry.store().list_groups(&scope.tenant, Some(&scope.path), one).await?;
                if groups > 0 {
                    return Err(not_found());
                }
            }
        }
        self.check_tenant(request, &device.scope.tenant)?;
        self.check_tenant_rate(&device.scope.tenant).await?;
        self.check_device_rate(&device.scope, request.device_id).await?;
        Ok(Sender { group: None, device: Arc::new(KnownDevice::new(device)) })
    }

    /// A key may only be used with its own tenant's header (decision 5).
    fn check_tenant(&self, request: &DeviceRequest<'_>, owner: &Tenant) -> Result<(), Error> {
        match &request.tenant {
            Some(tenant) if tenant != owner => Err(Error::TenantMismatch),
            _ => Ok(()),
        }
    }

    async fn check_tenant_rate(&self, tenant: &Tenant) -> Result<(), Error> {
        self.check_rate(tenant, "measures", self.config.measure.tenant_limit(), "tenant").await
    }

    async fn check_device_rate(&self, scope: &Scope, device_id: &str) -> Result<(), Error> {
        let Some(rate) = self.config.measure.device_limit() else { return Ok(()) };
        let name = format!("measures{}:{device_id}", scope.path);
        self.check_rate(&scope.tenant, &name, Some(rate), "device").await
    }

    async fn check_rate(
        &self,
        tenant: &Tenant,
        name: &str,
        rate: Option<soft_state::Rate>,
        whose: &'static str,
    ) -> Result<(), Error> {
        let Some(rate) = rate else { return Ok(()) };
        match self.soft_state.take(tenant, name, rate, 1.0).await {
            Ok(Verdict::Allowed) => Ok(()),
            Ok(Verdict::RetryAfter(after)) => {
                Metrics::count(&self.metrics.rate_limited, whose);
                Err(Error::RateLimited(after))
            }
            // A limit protects; it must not become an outage of its own.
            Err(error) => {
                self.metrics.rate_limit_unknown.inc();
                tracing::debug!(%error, "rate limit not checked");
                Ok(())
            }
        }
    }
}
