//! The tables, as Markdown.

use std::fmt::Write as _;

use super::{
    Report, aims, document,
    format::{count, mebibytes, nanos, time},
    plot,
};
use crate::{
    cases::{Authorization, FanOut, Faults, Journey, Million, Row, Scaling},
    floor::GROUP,
    load::Capacity,
};

/// A Markdown table whose columns line up.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = head
        .iter()
        .enumerate()
        .map(|(column, title)| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([title.chars().count()]).max().unwrap_or(0)
        })
        .collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> =
            cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
        format!("| {} |\n", padded.join(" | "))
    };
    let mut out = line(&mut head.iter().copied());
    let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    out += &line(&mut rules.iter().map(String::as_str));
    for row in rows {
        out += &line(&mut row.iter().map(String::as_str));
    }
    out
}

/// Everything that was measured.
pub(super) fn all(report: &Report) -> String {
    let results = &report.results;
    let mut out = circumstances(report);
    if !results.rows.is_empty() {
        section(&mut out, "Requests", &requests(&results.rows));
    }
    if let Some(million) = &results.million {
        section(
            &mut out,
            &format!("Among {} entities", count(million.entities as f64)),
            &large_world(million),
        );
    }
    section(&mut out, "The store's floor", &commits(report));
    if !results.journeys.is_empty() {
        section(&mut out, "From a device to a point", &journeys(&results.journeys));
    }
    if let Some(fan_out) = &results.fan_out {
        section(&mut out, "Notifications", &notifications(fan_out));
    }
    if let Some(faults) = &results.faults {
        section(&mut out, "Endpoints that hang or are away", &bad_endpoints(faults));
    }
    if let Some(authorization) = &results.authorization {
        section(&mut out, "What the gateway adds", &gateway(authorization));
    }
    if !results.scaling.is_empty() {
        let all: Vec<String> = results.scaling.iter().map(growth).collect();
        section(&mut out, "As the world grows", &all.join("\n"));
    }
    let aims: Vec<Vec<String>> = aims::aims(report)
        .into_iter()
        .map(|aim| vec![aim.what, aim.wanted, aim.found, if aim.met { "yes" } else { "**no**" }.to_owned()])
        .collect();
    if !aims.is_empty() {
        section(&mut out, "Aims", &table(&["aim", "wanted", "found", "met"], &aims));
    }
    out
}

fn section(out: &mut String, title: &str, text: &str) {
    writeln!(out, "\n## {title}\n\n{}", text.trim_end()).expect("a string takes all text");
}

fn circumstances(report: &Report) -> String {
    let of = &report.circumstances;
    format!(
        "Machine: {}; the load generator runs on the same cores.\n\
         Commit {} ({}), measured on {} with `{}`; load average before the run: {:.1}.\n\
         {} connections; a maximum is the highest constant rate whose p99 is under {} ms; p50, p99 and CPU are taken at 70 % of it.\n",
        of.machine,
        of.commit,
        of.profile,
        of.date,
        of.command,
        of.load_before,
        of.connections,
        of.p99_limit_millis,
    )
}

fn requests(rows: &[Row]) -> String {
    let head =
        ["request", "by", "requests/s", "p50", "p99", "CPU/request", "RSS", "share", "generator CPU", "load"];
    let rows: Vec<Vec<String>> = rows
        .iter()
        .flat_map(|row| {
            let share = format!("{:.2}", row.share());
            [
                capacity(&row.title, "mesh", &row.mesh, share),
                capacity("", "bare handler", &row.floor, String::new()),
            ]
        })
        .collect();
    table(&head, &rows)
}

fn capacity(title: &str, by: &str, capacity: &Capacity, share: String) -> Vec<String> {
    let steady = &capacity.steady;
    let generator = steady.generator_cpu.as_secs_f64() / steady.elapsed.as_secs_f64() * 100.0;
    let mark = if capacity.kept_limit { "" } else { " (p99 over the limit)" };
    vec![
        title.to_owned(),
        by.to_owned(),
        format!("{}{mark}", count(capacity.maximum)),
        time(steady.p50()),
        time(steady.p99()),
        time(capacity.cpu),
        mebibytes(capacity.resident),
        share,
        format!("{generator:.0} %"),
        format!("{:.1}", capacity.load_average),
    ]
}

fn commits(report: &Report) -> String {
    let rates = &report.commits;
    let mut rows = vec![
        vec!["append 4 KiB, fdatasync".to_owned(), count(rates.syncs)],
        vec!["SQLite (WAL, synchronous=FULL), one row per commit".to_owned(), count(rates.single)],
        vec![format!("the same, {GROUP} rows per commit: rows"), count(rates.grouped)],
    ];
    if let Some(postgres) = &report.results.postgres {
        rows.push(vec!["PostgreSQL, one connection, one row per commit".to_owned(), count(postgres.single)]);
        rows.push(vec![format!("the same, {GROUP} rows per commit: rows"), count(postgres.grouped)]);
    }
    table(&["what", "per second"], &rows)
}

fn large_world(million: &Million) -> String {
    let rows = requests(&million.rows);
    format!(
        "Here p50, p99 and CPU are taken at half of the maximum. Offsets, counts, orders and full reads are asked for one after the other, the \
         others over all connections. Rooms have a place in a square of half a degree, so that about 340 of a million are within \
         500 m.\n\n{rows}\nMade over HTTP in {} ({}/s); {} on the disk; memory of the mesh {} afterwards, {} at most after the figures.",
        time(million.made_in),
        count(million.entities as f64 / million.made_in.as_secs_f64()),
        mebibytes(million.on_disk),
        mebibytes(million.resident_made),
        mebibytes(million.resident),
    )
}

fn journeys(journeys: &[Journey]) -> String {
    let rows: Vec<Vec<String>> = journeys
        .iter()
        .flat_map(|journey| {
            let legs = [
                ("device has its answer", &journey.acknowledged),
                ("entity readable", &journey.readable),
                ("point queryable", &journey.queryable),
            ];
            legs.map(|(leg, seen)| {
                let quantile = |quantile| nanos(seen.value_at_quantile(quantile));
                vec![
                    journey.title.clone(),
                    leg.to_owned(),
                    quantile(0.5),
                    quantile(0.99),
                    seen.len().to_string(),
                ]
            })
        })
        .collect();
    table(&["measures", "from sending to", "p50", "p99", "measures followed"], &rows)
}

fn notifications(fan_out: &FanOut) -> String {
    let quantile = |quantile| nanos(fan_out.latency.value_at_quantile(quantile));
    let rows = [vec![
        count(fan_out.notifications_per_second),
        count(fan_out.floor_per_second),
        quantile(0.5),
        quantile(0.99),
        time(fan_out.cpu),
        mebibytes(fan_out.resident),
        format!("{:.1}", fan_out.load_average),
    ]];
    let head = [
        "notifications/s",
        "bare receiver takes/s",
        "change to tenth notification, p50",
        "p99",
        "CPU/notification",
        "RSS",
        "load",
    ];
    format!("Each change of an entity is told to 10 receivers over HTTP.\n\n{}", table(&head, &rows))
}

/// What bad endpoints cost the others.
fn bad_endpoints(faults: &Faults) -> String {
    let intro = format!(
        "{} entities, {} subscriptions to {} endpoints, {} updates/s. In the first row each is told to three endpoints, and \
         nobody else is subscribed; in the second to two more; in the third these hang or refuse connections: {} and {} of \
         all. Deliveries are those to the endpoints of the first row, the same ones in all three.\n\n",
        count(faults.entities as f64),
        count(faults.subscriptions as f64),
        faults.endpoints,
        faults.rate,
        faults.bad,
        faults.bad,
    );
    let rows: Vec<Vec<String>> = faults
        .phases
        .iter()
        .map(|phase| {
            vec![
                phase.title.to_owned(),
                time(phase.cpu),
                time(phase.updates.p50()),
                time(phase.updates.p99()),
                nanos(phase.deliveries.value_at_quantile(0.5)),
                nanos(phase.deliveries.value_at_quantile(0.99)),
                mebibytes(phase.resident),
                format!("{:.1}", phase.load_average),
            ]
        })
        .collect();
    let head =
        ["endpoints", "CPU/update", "update p50", "p99", "update to delivery p50", "p99", "RSS", "load"];
    format!(
        "{intro}{}\nThe last row costs × {:.2} of the second, and × {:.2} of the first, in which less is told. The subscriptions were made one by one over {} connections in {} ({}/s). At the end {} notifications were dropped beyond the bound, {} wait; of {} subscriptions {} say that their receiver fails.\n",
        table(&head, &rows),
        faults.growth(),
        faults.growth_of_the_good(),
        faults.connections,
        time(faults.subscribing),
        count(faults.subscribed_per_second()),
        faults.dropped,
        faults.pending,
        faults.listed,
        faults.failing,
    )
}

fn gateway(authorization: &Authorization) -> String {
    let row = |what: &str, seen: &hdrhistogram::Histogram<u64>| {
        vec![what.to_owned(), nanos(seen.value_at_quantile(0.5)), nanos(seen.value_at_quantile(0.99))]
    };
    let rows = [
        row("GET entity, broker's own port", &authorization.direct),
        row("GET entity, gateway with token", &authorization.guarded),
        row("GET version, broker's own port", &authorization.open_direct),
        row("GET version, gateway, open path", &authorization.open_routed),
    ];
    let medians = format!(
        "Medians: the gateway adds {}, of which routing {} and authorization {}.",
        time(authorization.added()),
        time(authorization.routing()),
        time(authorization.deciding())
    );
    format!("{}\n{medians}", table(&["at 500 requests/s", "p50", "p99"], &rows))
}

fn growth(scaling: &Scaling) -> String {
    let rows: Vec<Vec<String>> = scaling
        .series
        .iter()
        .flat_map(|(kind, points)| {
            points.iter().map(move |point| {
                vec![
                    (*kind).to_owned(),
                    count(point.size as f64),
                    count(point.rate),
                    time(point.cpu),
                    time(point.p50),
                    time(point.p99),
                    format!("{:.1}", point.load_average),
                ]
            })
        })
        .collect();
    let head = [
        "request",
        scaling.of,
        "requests/s, closed loop",
        "CPU/request",
        "p50 at 500/s",
        "p99 at 500/s",
        "load",
    ];
    let picture = document::picture(scaling.of, &plot::file_name(scaling));
    format!("{}\n{picture}\n", table(&head, &rows))
}
