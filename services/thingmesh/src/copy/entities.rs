//! The entities of a tenant: listed page by page, written in batches, one by one where a batch is refused.

use std::{
    collections::{BTreeSet, HashSet},
    hash::{BuildHasher, RandomState},
};

use anyhow::{Context, Result};
use scope::{ServicePath, Tenant};

use super::{
    broker::{Broker, Checked, Failure, Place, UPDATE},
    entity::{Entity, SERVICE_PATH, Shown, Unreadable, append_request, batches},
    listing::Listing,
    paths::KnownPaths,
    report::{Tally, named},
};

/// `*` is what users made; the two builtins are what a copy needs besides.
const WHOLE: &str = "dateExpires,servicePath,*";

/// What is done with the entities that are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Write,
    /// Count only.
    DryRun,
    /// Learn the service paths only, for what is copied after.
    Paths,
}

/// A copy of the entities of one tenant.
pub(super) struct EntityCopy<'a> {
    source: &'a Broker,
    target: &'a Broker,
    tenant: &'a Tenant,
    purpose: Purpose,
    /// Paths that the command line names.
    named: &'a [ServicePath],
    known: &'a mut KnownPaths,
    pub(super) tally: Tally,
    gaps: &'a mut Vec<String>,
    /// What was listed so far, by hash: pages overlap when the list changes, or where equal sort keys have no order.
    seen: HashSet<u64>,
    hasher: RandomState,
}

impl<'a> EntityCopy<'a> {
    pub(super) fn new(
        (source, target): (&'a Broker, &'a Broker),
        tenant: &'a Tenant,
        purpose: Purpose,
        named: &'a [ServicePath],
        (known, gaps): (&'a mut KnownPaths, &'a mut Vec<String>),
    ) -> Self {
        let (tally, seen, hasher) = (Tally::default(), HashSet::new(), RandomState::new());
        Self { source, target, tenant, purpose, named, known, tally, gaps, seen, hasher }
    }

    /// Does it. What failed for one entity is counted and told; an error is what ends the tenant's copy. `checked` is what
    /// the source showed at first.
    pub(super) async fn run(&mut self, checked: Checked) -> Result<()> {
        if checked.shows_paths {
            return self.list(checked.options, None).await;
        }
        let mut paths: BTreeSet<ServicePath> = self.named.iter().cloned().collect();
        paths.insert(ServicePath::root());
        for path in &paths {
            self.list(checked.options, Some(path)).await?;
        }
        let missing = checked.total.saturating_sub(self.seen.len() as u64);
        if missing > 0 {
            self.gaps.push(format!(
                "{missing} entities are at service paths that this broker does not tell (Orion before 3.11): name them \
                 with --service-path"
            ));
        }
        Ok(())
    }

    async fn list(&mut self, options: &str, at: Option<&ServicePath>) -> Result<()> {
        let attrs = if self.purpose == Purpose::Paths { SERVICE_PATH } else { WHOLE };
        let target = format!("/v2/entities?attrs={attrs}&options={options}");
        let place = Place { tenant: self.tenant, path: at.map(ServicePath::as_str) };
        let mut listing = Listing::new(self.source, place, &target);
        let before = self.seen.len();
        let mut read = 0;
        while let Some(page) = listing.next::<Shown>().await? {
            read += page.len();
            let mut entities = Vec::with_capacity(page.len());
            for shown in page {
                match Entity::take(shown, at) {
                    Ok(entity) => {
                        if self.is_new(&entity.id, &entity.entity_type, entity.path.as_str()) {
                            self.known.add(&entity.path);
                            entities.push(entity);
                        }
                    }
                    Err(unreadable) => self.unreadable(&unreadable),
                }
            }
            self.write(entities).await?;
            let at = at.map_or_else(String::new, |path| format!(" at {}", path.as_str()));
            eprintln!("{}: {read} of {} entities{at}", named(self.tenant), listing.total());
        }
        if listing.shrank() || ((self.seen.len() - before) as u64) < listing.total() {
            self.gaps.push(
                "the list of entities changed while it was read, and some may have been missed: run it again"
                    .to_owned(),
            );
        }
        Ok(())
    }

    fn is_new(&mut self, id: &str, entity_type: &str, path: &str) -> bool {
        self.seen.insert(self.hasher.hash_one((id, entity_type, path)))
    }

    fn unreadable(&mut self, unreadable: &Unreadable) {
        // It stands for itself in the count, whatever its path.
        if self.is_new(&unreadable.id, &unreadable.entity_type, "") && self.purpose != Purpose::Paths {
            self.failed(&unreadable.id, &unreadable.entity_type, "?", unreadable.reason);
        }
    }

    fn failed(&mut self, id: &str, entity_type: &str, path: &str, reason: &str) {
        self.tally.failed += 1;
        println!("{}: entity {id} of type {entity_type} at {path} failed: {reason}", named(self.tenant));
    }

    async fn write(&mut self, entities: Vec<Entity>) -> Result<()> {
        match self.purpose {
            Purpose::Paths => return Ok(()),
            Purpose::DryRun => {
                self.tally.copied += entities.len() as u64;
                return Ok(());
            }
            Purpose::Write => {}
        }
        for batch in batches(entities) {
            match self.append(&batch.path, &batch.entities).await {
                Ok(()) => self.tally.copied += batch.entities.len() as u64,
                Err(failure) if failure.is_final() => return Err(failure).context("writing entities"),
                // One that is refused must not keep the others out.
                Err(_) => {
                    for entity in &batch.entities {
                        self.write_one(entity).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn write_one(&mut self, entity: &Entity) -> Result<()> {
        match self.append(&entity.path, std::slice::from_ref(entity)).await {
            Ok(()) => self.tally.copied += 1,
            Err(failure) if failure.is_final() => return Err(failure).context("writing entities"),
            Err(failure) => {
                self.failed(&entity.id, &entity.entity_type, entity.path.as_str(), &failure.to_string());
            }
        }
        Ok(())
    }

    async fn append(&self, path: &ServicePath, entities: &[Entity]) -> Result<(), Failure> {
        let place = Place { tenant: self.tenant, path: Some(path.as_str()) };
        let target = format!("{UPDATE}?options=overrideMetadata");
        self.target.post(place, &target, append_request(entities)).await.map(|_| ())
    }
}
