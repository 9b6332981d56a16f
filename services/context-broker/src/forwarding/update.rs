//! The writing side: what does not exist here is updated at its providers.

use ngsi::{
    EntityUpdate, Error, ErrorWord, Failed, query::EntitySelector, registration::forward,
    update::AttributeUpdates,
};
use scope::{PathPattern, Scope};

use super::{Caller, Forward, Forwarding, Kind, type_of};
use crate::{Core, registration::Provided, update::Applied};

/// Attributes of one entity of a request that go to one provider.
struct Part {
    item: usize,
    names: Vec<String>,
}

/// What was refused here, and the names that no provider takes.
struct Refused {
    item: usize,
    update: EntityUpdate,
}

impl Core {
    /// Sends on what `results` of updates (`UpdateAction::Update`) refused because it does not exist here, and puts right what providers have taken. The
    /// error is that of the whole request: something was forwarded and not taken.
    pub(crate) async fn update_everywhere(
        &self,
        scope: &Scope,
        updates: &[EntityUpdate],
        results: &mut [Result<Applied, Error>],
        caller: &Caller,
    ) -> Result<(), Error> {
        let refused = refused(updates, results);
        if refused.is_empty() || !self.forwarding.serves(caller) {
            return Ok(());
        }
        self.forwarding.put_right(scope, refused, results, caller).await
    }
}

/// What the items lack here.
fn refused(updates: &[EntityUpdate], results: &[Result<Applied, Error>]) -> Vec<Refused> {
    let items = updates.iter().zip(results).enumerate();
    items
        .filter_map(|(item, (update, result))| {
            let failed = result.as_ref().err()?.failed.as_ref()?;
            let lacks = |name: &String| match failed {
                Failed::Entity => true,
                Failed::Missing(names) => names.contains(name),
                _ => false,
            };
            let attributes: AttributeUpdates = update
                .attributes
                .iter()
                .filter(|(name, _)| lacks(name))
                .map(|(name, attribute)| (name.clone(), attribute.clone()))
                .collect();
            let update =
                EntityUpdate { id: update.id.clone(), entity_type: update.entity_type.clone(), attributes };
            (!update.attributes.is_empty()).then_some(Refused { item, update })
        })
        .collect()
}

impl Forwarding {
    async fn put_right(
        &self,
        scope: &Scope,
        mut refused: Vec<Refused>,
        results: &mut [Result<Applied, Error>],
        caller: &Caller,
    ) -> Result<(), Error> {
        let mut parts = Vec::new();
        let mut forwards = Vec::new();
        let mut types: Vec<Option<String>> = vec![None; results.len()];
        // Items that at least one provider is asked about.
        let mut asked = vec![false; results.len()];
        for one in &mut refused {
            for (provided, update) in self.shares(scope, &mut one.update) {
                asked[one.item] = true;
                types[one.item] = update.entity_type.clone();
                parts.push(Part { item: one.item, names: update.attributes.keys().cloned().collect() });
                let body = forward::update_body(&update, provided.entry.registration.provider.legacy);
                forwards.push(Forward { entry: provided.entry, body });
            }
        }
        if forwards.is_empty() {
            return Ok(());
        }
        let sent = forwards.len();
        let answers = self.send_all(caller, Kind::Update, forwards).await;
        let mut taken: Vec<bool> = Vec::with_capacity(sent);
        for (entry, answer) in answers {
            let legacy = entry.registration.provider.legacy;
            let good = answer.is_ok_and(|body| !legacy || forward::legacy_update_succeeded(&body));
            self.count(caller, &entry, Kind::Update, good);
            taken.push(good);
        }
        // Beyond the limit nothing was sent.
        taken.resize(sent, false);

        let mut some_taken = taken.contains(&true);
        let mut left: Vec<(String, Vec<String>)> = Vec::new();
        for one in refused.iter().filter(|one| asked[one.item]) {
            let lost = parts.iter().zip(&taken).filter(|(part, taken)| part.item == one.item && !**taken);
            let mut names: Vec<String> = lost.flat_map(|(part, _)| part.names.clone()).collect();
            names.extend(one.update.attributes.keys().cloned());
            let result = &mut results[one.item];
            some_taken |= result.as_ref().is_err_and(|error| error.word == ErrorWord::PartialUpdate);
            let entity_type = one.update.entity_type.clone().or_else(|| types[one.item].clone());
            if names.is_empty() {
                let entity_type = entity_type.unwrap_or_default().into();
                *result = Ok(Applied { entity_type, version: 0, created: false, repeated: false });
            } else {
                left.push((format!("{}-{}", one.update.id, entity_type.unwrap_or_default()), names));
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        some_taken |= results.iter().any(Result::is_ok);
        Err(if some_taken { Error::not_all_updated(&left) } else { Error::entity_not_found() })
    }

    /// Takes out of `update` what each provider has: the first one that has it gets it.
    fn shares(&self, scope: &Scope, update: &mut EntityUpdate) -> Vec<(Provided, EntityUpdate)> {
        let selector = EntitySelector {
            ids: vec![update.id.clone()],
            types: update.entity_type.clone().into_iter().collect(),
            ..EntitySelector::default()
        };
        let path = [PathPattern::Exact(scope.path.clone())];
        let providers = self.registrations.providers_at(&scope.tenant, &path, &[selector]);
        let mut shares = Vec::new();
        for provided in providers {
            let registration = &provided.entry.registration;
            if !registration.provider.mode.updates() {
                continue;
            }
            let registered = &registration.data.attrs;
            let has = |name: &String| registered.is_empty() || registered.contains(name);
            let (own, rest): (AttributeUpdates, AttributeUpdates) =
                std::mem::take(&mut update.attributes).into_iter().partition(|(name, _)| has(name));
            update.attributes = rest;
            if own.is_empty() {
                continue;
            }
            let entity_type = update.entity_type.clone().or_else(|| type_of(&provided.entities));
            let share = EntityUpdate { id: update.id.clone(), entity_type, attributes: own };
            shares.push((provided, share));
        }
        shares
    }
}
