//! `thingmesh.v1.DeviceAgent`.

use proto::v1::{GetDeviceRequest, ListDevicesRequest, device_agent_client::DeviceAgentClient};
use serde_json::{Value, json};
use service_kit::grpc;

use crate::{broker::FakeBroker, harness::Agent};

#[tokio::test]
async fn neighbours_see_devices_but_never_their_keys() {
    let agent = Agent::with_broker(&FakeBroker::default()).await;
    agent.device(("t", "/p"), json!({"device_id": "d", "apikey": "very-secret", "entity_type": "Bot"})).await;
    let neighbour = grpc::remote(&format!("http://{}", agent.running.addresses()["grpc"])).unwrap();
    let mut client = DeviceAgentClient::new(neighbour);
    let asked = GetDeviceRequest {
        tenant: "t".into(),
        service_path: "/p".into(),
        device_id: "d".into(),
        api_key: String::new(),
    };
    let device = client.get_device(asked.clone()).await.unwrap().into_inner();
    assert_eq!((device.entity_name.as_str(), device.entity_type.as_str()), ("Bot:d", "Bot"));
    assert!(!device.body.contains("very-secret"));
    assert_eq!(serde_json::from_str::<Value>(&device.body).unwrap()["device_id"], "d");

    let list = ListDevicesRequest { tenant: "t".into(), service_path: "/p".into(), limit: 0, offset: 0 };
    let reply = client.list_devices(list.clone()).await.unwrap().into_inner();
    assert_eq!((reply.total, reply.devices), (1, vec![device]));

    let foreign = GetDeviceRequest { tenant: "u".into(), ..asked };
    assert_eq!(client.get_device(foreign).await.unwrap_err().code(), tonic::Code::NotFound);
    let wrong = ListDevicesRequest { service_path: "nopath".into(), ..list };
    assert_eq!(client.list_devices(wrong).await.unwrap_err().code(), tonic::Code::InvalidArgument);
}
