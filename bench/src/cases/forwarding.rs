use anyhow::Result;
use serde_json::json;

use super::{Bench, Row, seed};
use crate::{
    floor::{Canned, Floor},
    load::{Requests, request},
    mesh::{Mesh, json_headers},
};

/// What the providers have.
const REMOTE: &str = r#"[{"id":"urn:ngsi-ld:Meter:1","type":"Remote","temperature":{"type":"Number","value":21.5,"metadata":{}}}]"#;

/// A query and an update that a context provider on loopback answers; the provider is a bare handler.
pub(super) fn forwarding(bench: &Bench) -> Result<Vec<Row>> {
    let mesh = bench.mesh()?;
    let answer =
        Canned { status: 200, content_type: "application/json".to_owned(), body: REMOTE.as_bytes().to_vec() };
    let asked = Floor::start(&bench.own_program, &answer)?;
    register(&mesh, "Remote", &asked)?;
    let told = Floor::start(&bench.own_program, &Canned { status: 204, ..Canned::default() })?;
    register(&mesh, "RemoteActuator", &told)?;

    let query = seed::get("/v2/entities/urn:ngsi-ld:Meter:1?type=Remote");
    let query = bench.compare(("forward-query", "GET entity, forwarded"), &mesh, mesh.broker(), &query)?;
    let update = bench.compare(("forward-update", "PATCH, forwarded"), &mesh, mesh.broker(), &patches())?;
    Ok(vec![query, update])
}

fn register(mesh: &Mesh, entity_type: &str, provider: &Floor) -> Result<()> {
    let registration = json!({
        "dataProvided": { "entities": [{ "idPattern": ".*", "type": entity_type }], "attrs": ["temperature"] },
        "provider": { "http": { "url": format!("http://{}/v2", provider.address) } },
    });
    mesh.post(mesh.broker(), "/v2/registrations", &registration)
}

fn patches() -> Requests {
    let headers = json_headers();
    std::sync::Arc::new(move |n, out| {
        let body = format!(r#"{{"temperature":{{"type":"Number","value":{n}}}}}"#);
        let path = "/v2/entities/urn:ngsi-ld:Meter:1/attrs?type=RemoteActuator";
        request(out, "PATCH", path, &headers, body.as_bytes());
    })
}
