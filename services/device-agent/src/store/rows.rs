use ::store::StoreError;
use bus::Outgoing;
use scope::{Scope, ServicePath, Tenant};
use serde_json::{Map, Value};

use super::{Diverted, Mark};
use crate::device::{ApiKey, Device, DeviceKey, Group};

/// Columns of a group, in the order of [`group`].
pub(super) type GroupRow = (String, String, String, String, String, String, i64);
/// Columns of a device, in the order of [`device`].
pub(super) type DeviceRow = (String, String, String, String, String, i64);

pub(super) fn group(row: GroupRow) -> Result<Group, StoreError> {
    let (resource, api_key, tenant, path, id, body, created_us) = row;
    Ok(Group {
        id,
        scope: scope(&tenant, &path)?,
        resource,
        api_key: ApiKey::new(&api_key),
        body: object(&body)?,
        created_us,
    })
}

pub(super) fn device(row: DeviceRow) -> Result<Device, StoreError> {
    let (tenant, path, id, api_key, body, created_us) = row;
    let api_key = (!api_key.is_empty()).then(|| ApiKey::new(&api_key));
    Ok(Device { scope: scope(&tenant, &path)?, id, api_key, body: object(&body)?, created_us })
}

pub(super) fn device_key(tenant: &str, path: &str, id: &str) -> Result<DeviceKey, StoreError> {
    let scope = scope(tenant, path)?;
    Ok(DeviceKey { tenant: scope.tenant, path: scope.path, device_id: id.into() })
}

pub(super) fn mark(bytes: &[u8]) -> Result<Mark, StoreError> {
    bytes.try_into().map_err(|_| StoreError::Internal("a mark is 16 bytes".into()))
}

/// The key column of a device without a key.
pub(super) fn key_text(key: Option<&ApiKey>) -> &str {
    key.map_or("", ApiKey::expose)
}

/// What an insert that skips a device already there means.
pub(super) fn inserted(rows: u64) -> Result<(), StoreError> {
    if rows == 1 { Ok(()) } else { Err(StoreError::Conflict("the device is there already".into())) }
}

pub(super) fn body_text(body: &Map<String, Value>) -> String {
    serde_json::to_string(body).unwrap_or_default()
}

pub(super) fn outgoing(measures: &[Diverted]) -> Vec<Outgoing> {
    let record = |measure: &Diverted| Outgoing {
        tenant: measure.device.tenant.clone(),
        key: format!("{}{}/{}", measure.device.tenant, measure.device.path, measure.device.device_id).into(),
        payload: measure.payload.clone(),
        headers: measure.headers.clone(),
    };
    measures.iter().map(record).collect()
}

/// The last mark of each device, sorted: rows are locked in one order everywhere.
pub(super) fn last_marks(measures: &[Diverted]) -> std::collections::BTreeMap<DeviceKey, Mark> {
    measures.iter().map(|measure| (measure.device.clone(), measure.mark)).collect()
}

fn scope(tenant: &str, path: &str) -> Result<Scope, StoreError> {
    let wrong = |error: String| StoreError::Internal(format!("stored scope: {error}"));
    let tenant = Tenant::from_header(Some(tenant)).map_err(|error| wrong(error.to_string()))?;
    let path = ServicePath::parse(path).map_err(|error| wrong(error.to_string()))?;
    Ok(Scope::new(tenant, path))
}

fn object(text: &str) -> Result<Map<String, Value>, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Internal(format!("stored body: {error}")))
}
