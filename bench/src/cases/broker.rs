use anyhow::Result;

use super::{Bench, Row, seed};
use crate::mesh::{Mesh, tenant_headers};

/// Entities per request of [`batch`].
const BATCH: u64 = 100;

/// PATCH of one attribute, and GET by id.
pub(super) fn one_entity(bench: &Bench) -> Result<Vec<Row>> {
    let count = bench.sizes.entities;
    let mesh = with_rooms(bench, count)?;
    let patch =
        bench.compare(("patch", "PATCH one attribute"), &mesh, mesh.broker(), &seed::patches(count))?;
    let gets = seed::gets(count, "", tenant_headers());
    let get = bench.compare(("get", "GET entity by id"), &mesh, mesh.broker(), &gets)?;
    Ok(vec![patch, get])
}

/// A page of 100 of many entities.
pub(super) fn list(bench: &Bench) -> Result<Row> {
    let count = bench.sizes.listed;
    let mesh = with_rooms(bench, count)?;
    let title = format!("list 100 of {count} entities");
    let requests = seed::get("/v2/entities?type=Room&limit=100");
    Ok(Row { per_request: 100, ..bench.compare(("list", title), &mesh, mesh.broker(), &requests)? })
}

/// `op/update` of a hundred entities, one attribute each.
pub(super) fn batch(bench: &Bench) -> Result<Row> {
    let count = bench.sizes.entities;
    let mesh = with_rooms(bench, count)?;
    let requests = seed::updates(count, BATCH);
    let row = bench.compare(
        ("batch", format!("op/update of {BATCH} entities")),
        &mesh,
        mesh.broker(),
        &requests,
    )?;
    Ok(Row { per_request: BATCH, ..row })
}

/// A fresh mesh with rooms.
pub(super) fn with_rooms(bench: &Bench, count: u64) -> Result<Mesh> {
    let mesh = bench.mesh()?;
    mesh.fill(mesh.broker(), seed::batches(0, count), "making entities", &seed::rooms(0, count))?;
    Ok(mesh)
}
