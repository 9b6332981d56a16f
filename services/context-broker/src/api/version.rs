//! `/version` and `/v2`.

use serde_json::json;

use super::{Answer, Api, Call};
use crate::COMPATIBLE_VERSION;

pub(super) fn version(api: &Api, call: &Call) -> Answer {
    let seconds = (api.core.now_us() - api.started_us).max(0) / 1_000_000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    let mut orion = json!({
        "version": COMPATIBLE_VERSION,
        "uptime": format!("{days} d, {hours} h, {minutes} m, {} s", seconds % 60),
        "git_hash": "none",
        "compile_time": "none",
        "compiled_by": "thingmesh",
        "compiled_in": concat!("context-broker ", env!("CARGO_PKG_VERSION")),
        "release_date": "none",
        "machine": std::env::consts::ARCH,
        "doc": "https://fiware-orion.rtfd.io/en/4.7.0/",
    });
    if call.params.option("libVersions") {
        orion["libversions"] = json!({"context-broker": env!("CARGO_PKG_VERSION")});
    }
    Answer::Json(json!({"orion": orion}).to_string().into_bytes())
}

pub(super) fn entry_point() -> Answer {
    let urls = json!({
        "entities_url": "/v2/entities",
        "types_url": "/v2/types",
        "subscriptions_url": "/v2/subscriptions",
        "registrations_url": "/v2/registrations",
    });
    Answer::Json(urls.to_string().into_bytes())
}
