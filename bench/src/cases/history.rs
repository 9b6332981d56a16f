use std::sync::Arc;

use anyhow::Result;
use serde_json::Value;

use super::{Bench, Row, seed};
use crate::{
    load::{Requests, call, request},
    mesh::{Mesh, json_headers, tenant_headers},
};

const METER: &str = "urn:ngsi-ld:Meter:1";
/// Points per request while the history is made.
const BATCH: u64 = 500;
/// Entities that insert one point per request.
const WRITERS: u64 = 1000;

/// Inserts, and the two reads over a long series.
pub(super) fn history(bench: &Bench) -> Result<Vec<Row>> {
    let mesh = bench.mesh()?;
    let notify = ("insert", "history insert, 1 point per notification");
    let insert = bench.compare(notify, &mesh, mesh.time_series(), &single_points())?;
    let notify = ("insert-batch", "history insert, 100 points per notification");
    let batch = bench.compare(notify, &mesh, mesh.time_series(), &hundred_points())?;
    let batch = Row { per_request: 100, ..batch };

    let count = bench.sizes.points;
    fill(&mesh, count)?;
    let path = format!("/v2/entities/{METER}/attrs/power?type=Meter&lastN=100");
    expect_values(&mesh, &path, 100)?;
    let last = (("last", format!("lastN=100 of {count} points")), seed::get(&path));
    let last = bench.compare(last.0, &mesh, mesh.time_series(), &last.1)?;

    let path = format!("/v2/entities/{METER}/attrs/power?type=Meter&aggrMethod=avg&aggrPeriod=hour");
    expect_values(&mesh, &path, usize::try_from(count / 3600)?)?;
    let hourly = (("hourly", format!("hourly average of {count} points")), seed::get(&path));
    let hourly = bench.compare(hourly.0, &mesh, mesh.time_series(), &hourly.1)?;
    Ok(vec![insert, batch, last, hourly])
}

fn single_points() -> Requests {
    notifications(1)
}

fn hundred_points() -> Requests {
    notifications(100)
}

/// Notifications of `count` points each, every one of another second.
fn notifications(count: u64) -> Requests {
    let headers = json_headers();
    Arc::new(move |n, out| {
        let entity = format!("urn:ngsi-ld:Writer:{}", seed::spread(n, WRITERS));
        let body = seed::points(&entity, n * count, count);
        request(out, "POST", "/v2/notify", &headers, body.as_bytes());
    })
}

/// Writes the long series.
fn fill(mesh: &Mesh, count: u64) -> Result<()> {
    let headers = json_headers();
    let requests: Requests = Arc::new(move |n, out| {
        let first = n * BATCH;
        let body = seed::points(METER, first, BATCH.min(count - first));
        request(out, "POST", "/v2/notify", &headers, body.as_bytes());
    });
    mesh.fill(mesh.time_series(), count.div_ceil(BATCH), "making history", &requests)?;
    Ok(())
}

/// The figure is of no use when the answer is empty.
fn expect_values(mesh: &Mesh, path: &str, least: usize) -> Result<()> {
    let (status, _, body) =
        call(mesh.time_series(), |out| request(out, "GET", path, &tenant_headers(), &[]))?;
    let body: Value = serde_json::from_slice(&body)?;
    let found = body["values"].as_array().map_or(0, Vec::len);
    anyhow::ensure!(status == 200 && found >= least, "{path}: {status}, {found} values, wanted {least}");
    Ok(())
}
