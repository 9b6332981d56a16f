//! Groups and devices as the north API changes them (iot-agent 1.2, 1.3; decision 16).

use proto::v1::UpdateAction;
use scope::{Scope, ServicePath, Tenant};
use serde_json::{Map, Value};
use service_kit::Code;

use crate::{
    agent::Agent,
    device::{ApiKey, Device, Group, GroupDraft, device_body, idle_expressions},
    error::Error,
    measure::Mapping,
    store::{Page, StoreError},
};

/// Places of expressions that one warning names.
const NAMED_EXPRESSIONS: usize = 8;

impl Agent {
    /// Creates all groups or none.
    pub async fn create_groups(&self, scope: &Scope, drafts: Vec<GroupDraft>) -> Result<(), Error> {
        let resource = drafts.first().map_or(String::new(), |draft| draft.resource.clone());
        let now_us = self.clock.now_us();
        let groups: Vec<Group> = drafts
            .into_iter()
            .zip(now_us..)
            .map(|(draft, created_us)| Group {
                id: new_id(),
                scope: scope.clone(),
                resource: draft.resource,
                api_key: draft.api_key,
                body: draft.body,
                created_us,
            })
            .collect();
        let inserted = self.registry.store().insert_groups(&groups).await;
        self.registry.groups_changed();
        match inserted {
            Err(StoreError::Conflict(_)) => return Err(Error::DuplicateGroup { resource }),
            other => other?,
        }
        for group in &groups {
            warn_of_expressions(scope, "group", &group.id, &idle_expressions(&group.body));
        }
        Ok(())
    }

    pub async fn list_groups(
        &self,
        tenant: &Tenant,
        path: Option<&ServicePath>,
        page: Page,
    ) -> Result<(Vec<Group>, u64), Error> {
        Ok(self.registry.store().list_groups(tenant, path, page).await?)
    }

    /// The group of resource and key, if it is the caller's.
    async fn own_group(&self, scope: &Scope, resource: &str, key: &ApiKey) -> Result<Group, Error> {
        let found = self.registry.store().group_of_key(resource, key).await?;
        let group = found.ok_or_else(|| Error::GroupNotFound { resource: resource.to_owned() })?;
        if group.scope == *scope { Ok(group) } else { Err(Error::MismatchedService) }
    }

    /// Changes the given fields of a group.
    pub async fn update_group(
        &self,
        scope: &Scope,
        resource: &str,
        key: &ApiKey,
        mut given: Map<String, Value>,
    ) -> Result<(), Error> {
        let mut group = self.own_group(scope, resource, key).await?;
        let mut take = |field: &str| match given.shift_remove(field) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        if let Some(key) = take("apikey") {
            group.api_key = ApiKey::new(&key);
        }
        if let Some(resource) = take("resource") {
            group.resource = resource;
        }
        let expressions = idle_expressions(&given);
        group.body.extend(group_body(given));
        let replaced = self.registry.store().replace_group(resource, key, &group).await;
        self.registry.groups_changed();
        match replaced {
            Ok(true) => {
                warn_of_expressions(scope, "group", &group.id, &expressions);
                Ok(())
            }
            Ok(false) => Err(Error::GroupNotFound { resource: resource.to_owned() }),
            Err(StoreError::Conflict(_)) => Err(Error::DuplicateGroup { resource: group.resource }),
            Err(error) => Err(error.into()),
        }
    }

    pub async fn delete_group(
        &self,
        scope: &Scope,
        resource: &str,
        key: &ApiKey,
        with_devices: bool,
    ) -> Result<(), Error> {
        self.own_group(scope, resource, key).await?;
        let deleted = self.registry.store().delete_group(scope, resource, key, with_devices).await;
        self.registry.groups_changed();
        if with_devices {
            self.registry.all_devices_changed();
        }
        if deleted? { Ok(()) } else { Err(Error::GroupNotFound { resource: resource.to_owned() }) }
    }

    /// Creates a device, and before it (unless switched off) its entity. In this order, because a repeat after a crash in
    /// between then finds no device and does both again; making sure of an entity twice changes nothing.
    pub async fn create_device(
        &self,
        scope: &Scope,
        id: String,
        given: Map<String, Value>,
    ) -> Result<(), Error> {
        let api_key =
            given.get("apikey").and_then(Value::as_str).filter(|key| !key.is_empty()).map(ApiKey::new);
        let mut device = Device {
            scope: scope.clone(),
            id,
            api_key,
            body: device_body(given),
            created_us: self.clock.now_us(),
        };
        let known = self.registry.store().find_devices(scope, &device.id).await?;
        if known.iter().any(|known| known.is_same_with(device.api_key.as_ref())) {
            return Err(Error::DuplicateDevice(device.id));
        }
        let expressions = idle_expressions(&device.body);
        let group = self.group_for(&device).await?;
        self.complete(&mut device, group.as_ref());
        self.ensure_entity(&device, group.as_ref()).await?;
        let inserted = self.registry.store().insert_device(&device).await;
        self.registry.device_changed(scope, &device.id);
        match inserted {
            Ok(()) => {
                self.metrics.devices_created.inc();
                warn_of_expressions(scope, "device", &device.id, &expressions);
                Ok(())
            }
            Err(StoreError::Conflict(_)) => Err(Error::DuplicateDevice(device.id)),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes sure that the device's entity has all its attributes; what is there keeps its value. When the broker is
    /// away this waits on the bus, before the device's measures.
    async fn ensure_entity(&self, device: &Device, group: Option<&Group>) -> Result<(), Error> {
        let wanted = device
            .flag("provisionEntity")
            .or_else(|| group.and_then(|group| group.flag("provisionEntity")))
            .unwrap_or(self.config.provision_entities);
        if !wanted {
            return Ok(());
        }
        let skeleton = Mapping::new(device, group, self.defaults()).skeleton(device.command_names());
        let updates = self.updates(&device.scope, vec![skeleton], UpdateAction::Ensure)?;
        match self.delivery.submit(device.key(), updates, self.clock.now_us()).await {
            Ok(_) => Ok(()),
            Err(Error::Broker { code, description, .. }) if code != Code::Internal => {
                Err(Error::BadRequest(description))
            }
            Err(error) => Err(error),
        }
    }

    /// The group whose defaults a provisioned device takes: of its key; else of its type; else the only or first one of
    /// its scope.
    async fn group_for(&self, device: &Device) -> Result<Option<Group>, Error> {
        let scope = &device.scope;
        let (groups, _) =
            self.registry.store().list_groups(&scope.tenant, Some(&scope.path), Page::ALL).await?;
        if let Some(key) = &device.api_key {
            return Ok(groups.into_iter().find(|group| group.api_key == *key));
        }
        let same_type = groups.iter().position(|group| {
            group.text("entity_type").is_some() && group.text("entity_type") == device.text("entity_type")
        });
        Ok(groups.into_iter().nth(same_type.unwrap_or(0)))
    }

    pub async fn list_devices(&self, scope: &Scope, page: Page) -> Result<(Vec<Device>, u64), Error> {
        Ok(self.registry.store().list_devices(scope, page).await?)
    }

    /// The device of this id, and key if one is given.
    pub async fn get_device(&self, scope: &Scope, id: &str, key: Option<&ApiKey>) -> Result<Device, Error> {
        let found = self.registry.store().find_devices(scope, id).await?;
        let fits = |device: &Device| key.is_none_or(|key| device.api_key.as_ref() == Some(key));
        found.into_iter().find(fits).ok_or_else(|| Error::DeviceNotFound(id.to_owned()))
    }

    /// Replaces the given fields, and adds what is new to the entity.
    pub async fn update_device(
        &self,
        scope: &Scope,
        id: &str,
        key: Option<&ApiKey>,
        given: Map<String, Value>,
    ) -> Result<(), Error> {
        let device = self.get_device(scope, id, key).await?;
        let mut changed = device.clone();
        let expressions = idle_expressions(&given);
        for (field, value) in given {
            if value.is_null() {
                changed.body.shift_remove(&field);
            } else {
                changed.body.extend(device_body(Map::from_iter([(field, value)])));
            }
        }
        let group = self.group_for(&changed).await?;
        self.complete(&mut changed, group.as_ref());
        self.ensure_entity(&changed, group.as_ref()).await?;
        let updated = self.registry.store().update_device(&device, &changed.body).await;
        self.registry.device_changed(scope, id);
        if !updated? {
            return Err(Error::DeviceNotFound(id.to_owned()));
        }
        warn_of_expressions(scope, "device", id, &expressions);
        Ok(())
    }

    pub async fn delete_device(&self, scope: &Scope, id: &str, key: Option<&ApiKey>) -> Result<(), Error> {
        let device = self.get_device(scope, id, key).await?;
        let deleted = self.registry.store().delete_device(&device).await;
        self.registry.device_changed(scope, id);
        if !deleted? {
            return Err(Error::DeviceNotFound(id.to_owned()));
        }
        self.metrics.devices_removed.inc();
        Ok(())
    }
}

/// Once for each group or device that is provisioned with expressions that do nothing, or gets new ones: its values will not
/// be what its owner meant.
fn warn_of_expressions(scope: &Scope, kind: &'static str, id: &str, places: &[String]) {
    if places.is_empty() {
        return;
    }
    let first: Vec<&String> = places.iter().take(NAMED_EXPRESSIONS).collect();
    tracing::warn!(
        tenant = scope.tenant.as_str(),
        path = scope.path.as_str(),
        kind,
        id,
        expressions = places.len(),
        ?first,
        "expressions are not evaluated: they cannot be read, or stand where none is evaluated yet"
    );
}

/// What is kept of a group as given: the rest is set from headers or shown from elsewhere.
pub(crate) fn group_body(mut given: Map<String, Value>) -> Map<String, Value> {
    for own in ["apikey", "resource", "service", "subservice", "_id", "creationDate"] {
        given.shift_remove(own);
    }
    given
}

/// 24 hexadecimal digits, as the originals' ids have.
fn new_id() -> String {
    let digits = uuid::Uuid::new_v4().simple().to_string();
    digits.chars().take(24).collect()
}
