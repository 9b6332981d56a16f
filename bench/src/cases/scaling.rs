use std::{sync::Arc, time::Duration};

use anyhow::Result;

use super::{Bench, Row, broker, seed};
use crate::{
    load::{Load, Requests, drive, request},
    machine,
    mesh::{Mesh, json_headers, tenant_headers},
};

/// Rate at which the latency of a step is taken, requests per second.
const CALM_RATE: f64 = 500.0;

/// One kind of request in a world of one size.
#[derive(Clone, Debug)]
pub struct Point {
    pub size: u64,
    /// Answered per second in a closed loop.
    pub rate: f64,
    /// Server CPU per request in it.
    pub cpu: Duration,
    /// At a low rate.
    pub p50: Duration,
    pub p99: Duration,
    pub load_average: f64,
}

/// How figures change as the world grows.
#[derive(Clone, Debug)]
pub struct Scaling {
    /// Of what there is more and more.
    pub of: &'static str,
    /// By kind of request.
    pub series: Vec<(&'static str, Vec<Point>)>,
}

/// PATCH and GET among more and more entities.
pub(super) fn entities(bench: &Bench) -> Result<Scaling> {
    let mesh = bench.mesh()?;
    let (mut made, mut patch, mut get) = (0, Vec::new(), Vec::new());
    for &size in &bench.sizes.entity_steps {
        mesh.fill(mesh.broker(), seed::batches(made, size), "making entities", &seed::rooms(made, size))?;
        made = size;
        patch.push(point(bench, &mesh, size, &seed::patches(size))?);
        get.push(point(bench, &mesh, size, &seed::gets(size, "", tenant_headers()))?);
    }
    Ok(Scaling { of: "entities", series: vec![("PATCH one attribute", patch), ("GET by id", get)] })
}

/// PATCH beside more and more subscriptions that don't match.
pub(super) fn subscriptions(bench: &Bench) -> Result<Scaling> {
    let mesh = broker::with_rooms(bench, 1000)?;
    let (mut made, mut patch) = (0, Vec::new());
    for &size in &bench.sizes.subscription_steps {
        mesh.fill(mesh.broker(), size - made, "subscribing", &subscribe(made))?;
        made = size;
        patch.push(point(bench, &mesh, size, &seed::patches(1000))?);
    }
    Ok(Scaling { of: "subscriptions that don't match", series: vec![("PATCH one attribute", patch)] })
}

/// The most of them, as one row of requests.
pub(super) fn beside_subscriptions(bench: &Bench) -> Result<Row> {
    let count = bench.sizes.subscription_steps.last().copied().unwrap_or_default();
    let rooms = bench.sizes.entities;
    let mesh = broker::with_rooms(bench, rooms)?;
    mesh.fill(mesh.broker(), count, "subscribing", &subscribe_to_rooms())?;
    let title = format!("PATCH beside {count} subscriptions on its type");
    bench.compare(("patch-subscribed", title), &mesh, mesh.broker(), &seed::patches(rooms))
}

/// Subscriptions to rooms, none of which matches a change of the temperature: to other rooms by id and by pattern, and to
/// another attribute of all rooms.
fn subscribe_to_rooms() -> Requests {
    Arc::new(|n, out| {
        let (entity, attribute) = match n % 3 {
            0 => (format!(r#""id":"urn:ngsi-ld:Room:x{n}""#), "temperature"),
            1 => (format!(r#""idPattern":"^urn:ngsi-ld:Room:x{n}.*""#), "temperature"),
            _ => (r#""idPattern":".*""#.to_owned(), "humidity"),
        };
        let body = format!(
            r#"{{"subject":{{"entities":[{{{entity},"type":"Room"}}],"condition":{{"attrs":["{attribute}"]}}}},"notification":{{"http":{{"url":"http://127.0.0.1:9/none"}},"attrs":["temperature"]}}}}"#
        );
        request(out, "POST", "/v2/subscriptions", &json_headers(), body.as_bytes());
    })
}

/// Subscriptions of every kind that the index tells apart, none of which matches a room's temperature.
fn subscribe(from: u64) -> Requests {
    Arc::new(move |n, out| {
        let n = from + n;
        let subject = match n % 4 {
            0 => format!(r#"{{"entities":[{{"id":"urn:ngsi-ld:Shop:{n}","type":"Shop"}}]}}"#),
            1 => format!(r#"{{"entities":[{{"idPattern":".*","type":"Shop{n}"}}]}}"#),
            2 => format!(r#"{{"entities":[{{"idPattern":"^urn:ngsi-ld:Shop:{n}.*","type":"Shop"}}]}}"#),
            _ => format!(
                r#"{{"entities":[{{"id":"urn:ngsi-ld:Room:x{n}","type":"Room"}}],"condition":{{"attrs":["co2"]}}}}"#
            ),
        };
        let body = format!(
            r#"{{"subject":{subject},"notification":{{"http":{{"url":"http://127.0.0.1:9/none"}},"attrs":["temperature"]}}}}"#
        );
        request(out, "POST", "/v2/subscriptions", &json_headers(), body.as_bytes());
    })
}

fn point(bench: &Bench, mesh: &Mesh, size: u64, requests: &Requests) -> Result<Point> {
    let target = bench.target(mesh.broker());
    let run = |load| drive(target, requests, load)?.all_well("scaling");
    run(Load::Closed { duration: bench.effort.warm_up })?;
    let before = mesh.server.cpu()?;
    let closed = run(Load::Closed { duration: bench.effort.step })?;
    let cpu = mesh.server.cpu()?.saturating_sub(before).div_f64(closed.done.max(1) as f64);
    let calm = run(Load::Open { rate: CALM_RATE, duration: bench.effort.step })?;
    Ok(Point {
        size,
        rate: closed.rate(),
        cpu,
        p50: calm.p50(),
        p99: calm.p99(),
        load_average: machine::load_average(),
    })
}
