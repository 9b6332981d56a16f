//! `thingmesh copy`: moves what a broker holds into another one, through NGSIv2 alone.
//!
//! ```text
//! source ── GET, page by page ──► entity ──► batches of one service path ──► POST op/update ──► target
//!              └─ service paths ──► paths ──► subscriptions, registrations ──► those it lacks ──► POST
//! ```
//!
//! Nothing is ever changed in the source. Entities go first, so that no subscription tells of their arrival; registrations
//! go last, so that nothing is forwarded that is on its way. A second run changes nothing but what differs.

mod arguments;
mod broker;
mod connection;
mod definition;
mod definitions;
mod entities;
mod entity;
mod listing;
mod paths;
mod report;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
pub(crate) use arguments::CopyArgs;
use arguments::Kind;
use broker::Broker;
use definitions::DefinitionCopy;
use entities::{EntityCopy, Purpose};
use paths::{KnownPaths, Resource};
use report::{Report, Tally, named};
use scope::{ServicePath, Tenant};
use service_kit::Clock;

/// Copies tenant after tenant and tells what became of each. The code is a failure when something is left undone.
pub(crate) async fn run(args: &CopyArgs, clock: &dyn Clock) -> Result<ExitCode> {
    let run = Run::new(args, clock)?;
    let mut is_whole = true;
    for tenant in &tenants(&args.service)? {
        let mut report = Report::new(tenant, args.dry_run);
        let copied = run.tenant(&mut report).await;
        println!("{report}");
        // Another tenant may be open to us where this one is not.
        if let Err(error) = &copied {
            eprintln!("thingmesh: {}: {error:#}", named(tenant));
        }
        is_whole &= copied.is_ok() && report.is_whole();
    }
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Run<'a> {
    args: &'a CopyArgs,
    source: Broker,
    target: Broker,
    service_paths: Vec<ServicePath>,
    clock: &'a dyn Clock,
}

impl<'a> Run<'a> {
    fn new(args: &'a CopyArgs, clock: &'a dyn Clock) -> Result<Self> {
        let source = Broker::new("from", &args.from, &args.header_from)?;
        let target = Broker::new("to", &args.to, &args.header_to)?;
        if source.base() == target.base() {
            bail!("--from and --to are the same broker");
        }
        let parse =
            |text: &String| ServicePath::parse(text).with_context(|| format!("--service-path {text:?}"));
        let service_paths = args.service_paths.iter().map(parse).collect::<Result<_>>()?;
        Ok(Self { args, source, target, service_paths, clock })
    }

    fn wants(&self, kind: Kind) -> bool {
        self.args.only.contains(&kind)
    }

    async fn tenant(&self, report: &mut Report<'_>) -> Result<()> {
        let tenant = report.tenant;
        // Both ends, before anything is done.
        let checked = self.source.check(tenant).await?;
        self.target.check(tenant).await?;
        let mut known = KnownPaths::new(&self.service_paths);
        let purpose = match (self.wants(Kind::Entities), self.args.dry_run) {
            (false, _) => Purpose::Paths,
            (true, true) => Purpose::DryRun,
            (true, false) => Purpose::Write,
        };
        let ends = (&self.source, &self.target);
        let lists = (&mut known, &mut report.gaps);
        let mut entities = EntityCopy::new(ends, tenant, purpose, &self.service_paths, lists);
        let copied = entities.run(checked).await;
        let tally = entities.tally;
        report.entities = (purpose != Purpose::Paths).then_some(tally);
        copied?;
        for (kind, resource) in
            [(Kind::Subscriptions, Resource::Subscriptions), (Kind::Registrations, Resource::Registrations)]
        {
            if !self.wants(kind) {
                continue;
            }
            let copy = DefinitionCopy {
                source: &self.source,
                target: &self.target,
                tenant,
                resource,
                known: &known,
                dry_run: self.args.dry_run,
                now_us: self.clock.now_us(),
            };
            let mut tally = Tally::default();
            let copied = copy.run(&mut tally).await;
            match resource {
                Resource::Subscriptions => report.subscriptions = Some(tally),
                Resource::Registrations => report.registrations = Some(tally),
            }
            copied?;
        }
        Ok(())
    }
}

/// The tenants that are named, or the default one.
fn tenants(services: &[String]) -> Result<Vec<Tenant>> {
    if services.is_empty() {
        return Ok(vec![Tenant::from_header(None)?]);
    }
    let parse =
        |name: &String| Tenant::from_header(Some(name)).with_context(|| format!("--service {name:?}"));
    services.iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_name_it_is_the_default_tenant() {
        assert!(tenants(&[]).unwrap()[0].is_default());
        let named = tenants(&["Acme".to_owned(), String::new()]).unwrap();
        assert_eq!(named.iter().map(Tenant::as_str).collect::<Vec<_>>(), ["acme", ""]);
        assert!(tenants(&["a-b".to_owned()]).is_err());
    }
}
