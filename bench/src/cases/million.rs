//! Queries in a world of a million entities, which all parts share.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::{Bench, Row, seed};
use crate::{
    floor::{Canned, Floor},
    load::{Capacity, Effort, Load, Requests, Target, call, drive},
    machine,
    mesh::{Mesh, TENANT},
    process::Server,
};

/// Metres within which a client with a map looks, and within which everything is.
const CLOSE: u32 = 500;
const WIDE: u32 = 50_000;
/// Requests of a kind that are sent one after the other.
const FEWEST: f64 = 3.0;
const MOST: f64 = 1000.0;

/// What was found in the large world.
#[derive(Clone, Debug)]
pub struct Million {
    pub entities: u64,
    /// How long making them took, over HTTP.
    pub made_in: Duration,
    /// Bytes of the data folder after it.
    pub on_disk: u64,
    /// Memory of the whole mesh after making them, and at most after any of the rows.
    pub resident_made: u64,
    pub resident: u64,
    pub rows: Vec<Row>,
}

/// A mesh with the entities.
pub(super) struct World {
    mesh: Mesh,
    made_in: Duration,
    on_disk: u64,
    resident_made: u64,
}

/// Measures one part and adds what it finds.
pub(super) fn part(bench: &Bench, part: &str, found: &mut Option<Million>) -> Result<()> {
    let world = world(bench)?;
    let rows = match part {
        "point" => point(bench, world)?,
        "filter" => filter(bench, world)?,
        "near" => near(bench, world)?,
        _ => pages(bench, world)?,
    };
    let found = found.get_or_insert_with(|| Million {
        entities: bench.sizes.million,
        made_in: world.made_in,
        on_disk: world.on_disk,
        resident_made: world.resident_made,
        resident: world.resident_made,
        rows: Vec::new(),
    });
    found.rows.extend(rows);
    found.resident = found.resident.max(world.mesh.server.resident()?);
    Ok(())
}

fn world(bench: &Bench) -> Result<&World> {
    if let Some(world) = bench.world.get() {
        return Ok(world);
    }
    let config = format!(
        "[[context-broker.attribute_indexes]]\ntenant = \"{TENANT}\"\ntype = \"Room\"\nattribute = \"serial\"\n"
    );
    let mesh = bench.mesh_with(&config)?;
    let count = bench.sizes.million;
    let rooms = seed::placed_rooms(0, count);
    let made_in = mesh.fill(mesh.broker(), seed::batches(0, count), "making entities", &rooms)?;
    let (on_disk, resident_made) = (bytes_in(mesh.data_dir())?, mesh.server.resident()?);
    Ok(bench.world.get_or_init(|| World { mesh, made_in, on_disk, resident_made }))
}

/// Of all files directly in a folder.
fn bytes_in(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in folder.read_dir()? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}

/// One entity by its id, and by id and type.
fn point(bench: &Bench, world: &World) -> Result<Vec<Row>> {
    let count = bench.sizes.million;
    let by_id = move |n| format!("/v2/entities/{}", seed::room(seed::spread(n, count)));
    let by_type = move |n| format!("/v2/entities/{}?type=Room", seed::room(seed::spread(n, count)));
    let listed = move |n| format!("/v2/entities?id={}&type=Room", seed::room(seed::spread(n, count)));
    Ok(vec![
        quick(bench, world, ("point", "GET entity by id"), 1, seed::get_each(by_id))?,
        quick(bench, world, ("point-type", "GET entity by id and type"), 1, seed::get_each(by_type))?,
        quick(bench, world, ("point-list", "list of one id"), 1, seed::get_each(listed))?,
    ])
}

/// `q` over an attribute with an index, and over one without.
fn filter(bench: &Bench, world: &World) -> Result<Vec<Row>> {
    let count = bench.sizes.million;
    let serial = move |n| format!("/v2/entities?type=Room&q=serial==SN-{:012}", seed::spread(n, count));
    let humid = |n| format!("/v2/entities?type=Room&q=humidity=={}", n % 100);
    let none = |n| format!("/v2/entities?type=Room&q=humidity=={}", 1000 + n % 100);
    Ok(vec![
        quick(bench, world, ("indexed", "q, attribute with an index: one match"), 1, seed::get_each(serial))?,
        quick(
            bench,
            world,
            ("filtered", "q, no index: 20 of the 1 % that match"),
            20,
            seed::get_each(humid),
        )?,
        slow(bench, world, ("scanned", "q, no index: no match, all are read"), 0, seed::get_each(none))?,
    ])
}

/// What is near, as a map asks for it.
fn near(bench: &Bench, world: &World) -> Result<Vec<Row>> {
    let around = |metres: u32, more: &'static str| {
        seed::get_each(move |n| {
            let (latitude, longitude) = seed::place(n.wrapping_mul(31).wrapping_add(5));
            format!(
                "/v2/entities?type=Room&georel=near;maxDistance:{metres}&geometry=point&coords={latitude:.5},{longitude:.5}&limit=20{more}"
            )
        })
    };
    let title = |metres, more: &str| format!("near {metres} m, the nearest 20{more}");
    Ok(vec![
        quick(bench, world, ("near", &title(CLOSE, "")), 0, around(CLOSE, ""))?,
        quick(bench, world, ("near-count", &title(CLOSE, ", counted")), 0, around(CLOSE, "&options=count"))?,
        quick(bench, world, ("near-wide", &title(WIDE, "")), 20, around(WIDE, ""))?,
    ])
}

/// Pages far behind the first, and pages in another order.
fn pages(bench: &Bench, world: &World) -> Result<Vec<Row>> {
    let offset = bench.sizes.million / 10 * 9;
    let deep = |more: &str| seed::get(&format!("/v2/entities?offset={offset}&limit=20{more}"));
    let first = |more: &str| seed::get(&format!("/v2/entities?limit=20{more}"));
    let title = |more: &str| format!("offset {offset}{more}");
    Ok(vec![
        slow(bench, world, ("deep", &title("")), 20, deep(""))?,
        slow(bench, world, ("deep-type", &title(", type")), 20, deep("&type=Room"))?,
        slow(
            bench,
            world,
            ("deep-ordered", &title(", orderBy temperature")),
            20,
            deep("&orderBy=temperature"),
        )?,
        slow(bench, world, ("ordered", "orderBy temperature, first 20"), 20, first("&orderBy=temperature"))?,
        slow(
            bench,
            world,
            ("newest", "orderBy !dateModified, first 20"),
            20,
            first("&orderBy=!dateModified"),
        )?,
        slow(bench, world, ("counted", "type, counted, first 20"), 20, first("&type=Room&options=count"))?,
    ])
}

/// A request that many can send at once.
fn quick(
    bench: &Bench,
    world: &World,
    row: (&'static str, &str),
    least: usize,
    requests: Requests,
) -> Result<Row> {
    let effort = Effort {
        step: bench.effort.step.div_f64(1.5),
        steady: bench.effort.steady.div_f64(1.5),
        share: 0.5,
        ..bench.effort
    };
    measured(bench, world, &effort, row, least, &requests)
}

/// One that may keep a core busy for as long as it takes: one after the other, so that the rate is what one client gets.
fn slow(
    bench: &Bench,
    world: &World,
    (key, title): (&'static str, &str),
    least: usize,
    requests: Requests,
) -> Result<Row> {
    let started = Instant::now();
    let answer = expect(world, key, least, &requests)?;
    let total = bench.effort.steady.div_duration_f64(started.elapsed()).clamp(FEWEST, MOST) as u64;
    let one_by_one = |address, server: &Server| {
        let before = server.cpu()?;
        let steady =
            drive(Target { address, connections: 1 }, &requests, Load::All { total })?.all_well(key)?;
        let cpu = server.cpu()?.saturating_sub(before).div_f64(steady.done.max(1) as f64);
        let (maximum, resident) = (steady.rate(), server.resident()?);
        let load_average = machine::load_average();
        anyhow::Ok(Capacity { maximum, kept_limit: true, steady, cpu, resident, load_average })
    };
    let mesh = one_by_one(world.mesh.broker(), &world.mesh.server)?;
    let floor = Floor::start(&bench.own_program, &answer)?;
    let floor = one_by_one(floor.address, &floor.server)?;
    Ok(Row { key, title: title.to_owned(), per_request: 1, mesh, floor })
}

fn measured(
    bench: &Bench,
    world: &World,
    effort: &Effort,
    row: (&'static str, &str),
    least: usize,
    requests: &Requests,
) -> Result<Row> {
    expect(world, row.0, least, requests)?;
    bench.compare_with(effort, row, &world.mesh, world.mesh.broker(), requests)
}

/// Asks once. The figure is of no use when the answer is not what was asked for.
fn expect(world: &World, key: &str, least: usize, requests: &Requests) -> Result<Canned> {
    let (status, content_type, body) = call(world.mesh.broker(), |out| requests(0, out))?;
    let json: serde_json::Value =
        serde_json::from_slice(&body).with_context(|| format!("{key}: {status}"))?;
    let found = json.as_array().map_or(1, Vec::len);
    anyhow::ensure!(status == 200 && found >= least, "{key}: {status}, {found} found: {json}");
    Ok(Canned { status, content_type, body })
}
