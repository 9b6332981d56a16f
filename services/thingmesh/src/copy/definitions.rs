//! Subscriptions and registrations: those that the target lacks are created there.

use std::collections::HashMap;

use anyhow::{Context, Result};
use scope::Tenant;
use serde_json::{Value, json};

use super::{
    broker::{Answer, Broker, Place},
    definition::{hides_password, identity, is_expired, stripped},
    paths::{KnownPaths, Placed, Resource, id, placed},
    report::{Tally, named},
};

/// The path of a subscription that is made without a header: all entities of the tenant.
const EVERYTHING: &str = "/#";

/// A copy of the subscriptions or registrations of one tenant.
pub(super) struct DefinitionCopy<'a> {
    pub(super) source: &'a Broker,
    pub(super) target: &'a Broker,
    pub(super) tenant: &'a Tenant,
    pub(super) resource: Resource,
    pub(super) known: &'a KnownPaths,
    pub(super) dry_run: bool,
    pub(super) now_us: i64,
}

impl DefinitionCopy<'_> {
    /// Does it. What failed for one of them is counted and told; an error is what ends the tenant's copy.
    pub(super) async fn run(&self, tally: &mut Tally) -> Result<()> {
        let mut present = self.present().await?;
        for Placed { item, path } in placed(self.source, self.tenant, self.resource, self.known).await? {
            if is_expired(&item, self.now_us) {
                tally.expired += 1;
                continue;
            }
            let is_at_everything = path.is_none();
            let Some(path) = path.or_else(|| self.default_path()) else {
                let reason = "its service path is not known: name it with --service-path";
                self.failed(tally, &item, "?", reason);
                continue;
            };
            let mut body = stripped(self.resource, &item);
            // Those that are the same to the letter are counted: the source may have two, and then so has the target.
            if let Some(count) = present.get_mut(&identity(self.resource, &path, &body))
                && *count > 0
            {
                *count -= 1;
                tally.present += 1;
                continue;
            }
            let needs_password = hides_password(&body);
            if needs_password {
                body["status"] = json!("inactive");
            }
            if !self.dry_run {
                let place = Place { tenant: self.tenant, path: Some(&path) };
                match self.target.post(place, self.resource.target(), body.to_string()).await {
                    Ok(answer) if needs_password => self.tell_of_password(&item, &answer),
                    Ok(_) => {}
                    Err(failure) if failure.is_final() => {
                        return Err(failure).with_context(|| format!("writing {}", self.kind()));
                    }
                    Err(failure) => {
                        self.failed(tally, &item, &path, &failure.to_string());
                        continue;
                    }
                }
            }
            tally.copied += 1;
            tally.without_password += u64::from(needs_password);
            tally.at_everything += u64::from(is_at_everything);
        }
        eprintln!("{}: {} done", named(self.tenant), self.kind());
        Ok(())
    }

    /// What the target has, by identity, and how often.
    async fn present(&self) -> Result<HashMap<String, u64>> {
        let mut present = HashMap::new();
        for Placed { item, path } in placed(self.target, self.tenant, self.resource, self.known).await? {
            let Some(path) = path.or_else(|| self.default_path()) else { continue };
            let identity = identity(self.resource, &path, &stripped(self.resource, &item));
            *present.entry(identity).or_default() += 1;
        }
        Ok(present)
    }

    /// Where an item is that is at none of the known paths. A registration has no path that stands for all.
    fn default_path(&self) -> Option<String> {
        (self.resource == Resource::Subscriptions).then(|| EVERYTHING.to_owned())
    }

    fn kind(&self) -> &'static str {
        match self.resource {
            Resource::Subscriptions => "subscriptions",
            Resource::Registrations => "registrations",
        }
    }

    fn failed(&self, tally: &mut Tally, item: &Value, path: &str, reason: &str) {
        tally.failed += 1;
        println!("{}: {} at {path} failed: {reason}", named(self.tenant), self.called(item));
    }

    fn tell_of_password(&self, item: &Value, answer: &Answer) {
        let location = answer.header("location").unwrap_or_default();
        println!(
            "{}: {} is now {location}, inactive: its password is not shown by the source; PATCH it with the whole \
             `notification` and `\"status\": \"active\"`",
            named(self.tenant),
            self.called(item)
        );
    }

    /// An item as a person knows it.
    fn called(&self, item: &Value) -> String {
        let kind = self.kind().trim_end_matches('s');
        let id = id(item).unwrap_or_default();
        match item["description"].as_str() {
            Some(description) => format!("{kind} {id} ({description})"),
            None => format!("{kind} {id}"),
        }
    }
}
