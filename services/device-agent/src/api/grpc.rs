//! What neighbours ask the agent: `thingmesh.v1.DeviceAgent`. API keys stay here.

use std::sync::Arc;

use proto::v1;
use scope::{Scope, ServicePath, Tenant};
use tonic::{Request, Response, Status};

use crate::{
    agent::Agent,
    device::{ApiKey, Device},
    error::Error,
    store::Page,
};

const DEFAULT_PAGE: u32 = 20;
const MAX_PAGE: u32 = 1_000;

/// The generated server's implementation.
pub struct DeviceAgentApi(pub Arc<Agent>);

#[tonic::async_trait]
impl v1::device_agent_server::DeviceAgent for DeviceAgentApi {
    async fn get_device(
        &self,
        request: Request<v1::GetDeviceRequest>,
    ) -> Result<Response<v1::Device>, Status> {
        let request = request.into_inner();
        let scope = scope(&request.tenant, &request.service_path)?;
        let key = (!request.api_key.is_empty()).then(|| ApiKey::new(&request.api_key));
        let device = self.0.get_device(&scope, &request.device_id, key.as_ref()).await.map_err(status)?;
        Ok(Response::new(shown(&device)))
    }

    async fn list_devices(
        &self,
        request: Request<v1::ListDevicesRequest>,
    ) -> Result<Response<v1::ListDevicesReply>, Status> {
        let request = request.into_inner();
        let scope = scope(&request.tenant, &request.service_path)?;
        let limit = if request.limit == 0 { DEFAULT_PAGE } else { request.limit };
        if limit > MAX_PAGE {
            return Err(Status::invalid_argument(format!("limit is at most {MAX_PAGE}")));
        }
        let page = Page { limit, offset: request.offset };
        let (devices, total) = self.0.list_devices(&scope, page).await.map_err(status)?;
        Ok(Response::new(v1::ListDevicesReply { devices: devices.iter().map(shown).collect(), total }))
    }
}

fn scope(tenant: &str, path: &str) -> Result<Scope, Status> {
    let wrong = |error: String| Status::invalid_argument(error);
    let tenant = Tenant::from_header(Some(tenant)).map_err(|error| wrong(error.to_string()))?;
    let path = if path.is_empty() { "/" } else { path };
    Ok(Scope::new(tenant, ServicePath::parse(path).map_err(|error| wrong(error.to_string()))?))
}

fn shown(device: &Device) -> v1::Device {
    let mut body = device.to_json();
    if let Some(fields) = body.as_object_mut() {
        fields.shift_remove("apikey");
    }
    v1::Device {
        device_id: device.id.clone(),
        service_path: device.scope.path.to_string(),
        entity_name: device.entity_name().to_owned(),
        entity_type: device.entity_type().to_owned(),
        transport: device.text("transport").unwrap_or_default().to_owned(),
        body: body.to_string(),
    }
}

fn status(error: Error) -> Status {
    if let Error::Internal(reason) = &error {
        tracing::error!(reason, "call failed");
    }
    Status::new(error.code().grpc_code(), error.to_string())
}
