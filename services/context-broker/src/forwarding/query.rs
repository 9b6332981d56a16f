//! The reading side: entities of providers, merged into what is here.

use std::sync::Arc;

use indexmap::IndexMap;
use ngsi::{
    Entity, Error, ErrorWord,
    query::{EntityQuery, EntitySelector},
    registration::{RegisteredEntity, forward},
    render::Names,
};
use scope::QueryScope;

use super::{Caller, Forward, Forwarding, Kind, asked};
use crate::{
    Core,
    query::{Found, Page},
    registration::Provided,
};

/// Builtin attributes: no provider is asked for them.
const BUILTINS: [&str; 5] = ["dateCreated", "dateModified", "dateExpires", "servicePath", "alterationType"];

/// The user attributes that a request names; `None`: all.
fn wanted(names: &Names) -> Option<Vec<String>> {
    match names {
        Names::All => None,
        Names::Listed(names) if names.contains("*") => None,
        Names::Listed(names) => {
            let user = names.iter().filter(|name| !BUILTINS.contains(&name.as_str()));
            Some(user.cloned().collect())
        }
    }
}

fn has_all(entity: &Entity, attrs: &[String]) -> bool {
    attrs.iter().all(|name| entity.attributes.contains_key(name))
}

/// Entities of providers by id and type, in the order in which they were first answered.
type Answered = IndexMap<(String, String), Entity>;

fn merge(into: &mut Entity, from: &Entity) {
    for (name, attribute) in &from.attributes {
        if !into.attributes.contains_key(name) {
            into.attributes.insert(name.clone(), attribute.clone());
        }
    }
}

fn merged(local: &Arc<Entity>, found: &Answered) -> Arc<Entity> {
    let key = (local.id.clone(), local.entity_type.clone());
    let Some(remote) = found.get(&key) else { return local.clone() };
    let mut entity = Entity::clone(local);
    merge(&mut entity, remote);
    Arc::new(entity)
}

impl Forwarding {
    /// What providers have of `selectors`. `wanted`: these attributes, or all.
    async fn ask(
        &self,
        caller: &Caller,
        providers: Vec<Provided>,
        selectors: &[EntitySelector],
        wanted: Option<&[String]>,
        now_us: i64,
    ) -> Answered {
        let forwards = providers.into_iter().filter_map(|provided| {
            let registration = &provided.entry.registration;
            let attrs = asked(wanted, &registration.data.attrs)?;
            let body = forward::query_body(&provided.entities, &attrs, registration.provider.legacy);
            Some(Forward { entry: provided.entry, body })
        });
        let answers = self.send_all(caller, Kind::Query, forwards.collect()).await;
        let mut found = Answered::new();
        for (entry, answer) in answers {
            let legacy = entry.registration.provider.legacy;
            let entities = answer.ok().and_then(|body| forward::entities(&body, legacy, now_us).ok());
            self.count(caller, &entry, Kind::Query, entities.is_some());
            let asked_for = |entity: &Entity| {
                selectors.is_empty()
                    || selectors.iter().any(|one| one.matches(&entity.id, &entity.entity_type))
            };
            for entity in entities.unwrap_or_default().into_iter().filter(asked_for) {
                match found.entry((entity.id.clone(), entity.entity_type.clone())) {
                    indexmap::map::Entry::Occupied(mut known) => merge(known.get_mut(), &entity),
                    indexmap::map::Entry::Vacant(place) => drop(place.insert(entity)),
                }
            }
        }
        found
    }

    fn query_providers(
        &self,
        scope: &QueryScope,
        selectors: &[EntitySelector],
        caller: &Caller,
    ) -> Vec<Provided> {
        let mut providers = self.registrations.providers(scope, selectors);
        providers.retain(|provided| provided.entry.registration.provider.mode.queries());
        if providers.is_empty() || !self.serves(caller) {
            return Vec::new();
        }
        providers
    }
}

impl Core {
    /// [`Core::get`], with what providers have of the attributes in `names`.
    pub(crate) async fn get_everywhere(
        &self,
        scope: &QueryScope,
        (id, entity_type): (&str, Option<&str>),
        names: &Names,
        caller: &Caller,
    ) -> Result<Arc<Entity>, Error> {
        let local = self.get(scope, id, entity_type).await;
        let wanted = wanted(names);
        let own_type = match &local {
            Ok(entity) => {
                if wanted.as_ref().is_some_and(|wanted| has_all(entity, wanted)) {
                    return local;
                }
                Some(entity.entity_type.as_str())
            }
            Err(error) if error.word == ErrorWord::NotFound => entity_type,
            Err(_) => return local,
        };
        let selectors = [EntitySelector {
            ids: vec![id.to_owned()],
            types: own_type.map(str::to_owned).into_iter().collect(),
            ..EntitySelector::default()
        }];
        let providers = self.forwarding.query_providers(scope, &selectors, caller);
        if providers.is_empty() {
            return local;
        }
        let missing = local.as_ref().ok().and_then(|entity| missing(entity, wanted.as_deref()));
        let wanted = missing.or(wanted);
        let found =
            self.forwarding.ask(caller, providers, &selectors, wanted.as_deref(), self.now_us()).await;
        match local {
            Ok(local) => Ok(merged(&local, &found)),
            Err(error) => match found.len() {
                0 => Err(error),
                1 => found.into_values().next().map(Arc::new).ok_or(error),
                _ => Err(Error::too_many_results()),
            },
        }
    }

    /// [`Core::query`], with what providers have: attributes of the entities here, then entities of their own, after all
    /// those here.
    pub(crate) async fn query_everywhere(
        &self,
        scope: &QueryScope,
        query: &EntityQuery,
        names: &Names,
        caller: &Caller,
    ) -> Result<Page, Error> {
        let providers = self.forwarding.query_providers(scope, &query.selectors, caller);
        let wanted = wanted(names);
        let providers = self.still_wanted(scope, providers, wanted.as_deref()).await?;
        if providers.is_empty() {
            return self.query(scope, query).await;
        }
        let asking =
            self.forwarding.ask(caller, providers, &query.selectors, wanted.as_deref(), self.now_us());
        let counted = EntityQuery { count: true, ..query.clone() };
        let (found, page) = tokio::join!(asking, self.query(scope, &counted));
        let page = page?;
        let local_total = page.total.unwrap_or(0);
        let local = page.entities.iter().map(|entity| Ok(Found::Whole(merged(&entity.entity()?, &found))));
        let mut entities = local.collect::<Result<Vec<Found>, Error>>()?;
        let more = self.only_there(scope, query, &found).await?;
        let total = local_total + more.len() as u64;
        let skipped =
            usize::try_from((query.offset as u64).saturating_sub(local_total)).unwrap_or(usize::MAX);
        let left = query.limit.saturating_sub(entities.len());
        entities.extend(more.into_iter().skip(skipped).take(left).map(Found::Whole));
        Ok(Page { entities, total: query.count.then_some(total) })
    }

    /// Leaves out the providers of entities that are here with all that is wanted.
    async fn still_wanted(
        &self,
        scope: &QueryScope,
        providers: Vec<Provided>,
        wanted: Option<&[String]>,
    ) -> Result<Vec<Provided>, Error> {
        let Some(wanted) = wanted else { return Ok(providers) };
        let mut kept = Vec::with_capacity(providers.len());
        for mut provided in providers {
            let Some(attrs) = asked(Some(wanted), &provided.entry.registration.data.attrs) else { continue };
            let mut entities: Vec<RegisteredEntity> = Vec::new();
            for entity in std::mem::take(&mut provided.entities) {
                let is_here = match &entity.id {
                    None => false,
                    Some(id) => {
                        let local = self.find(scope, id, entity.entity_type.as_deref()).await?;
                        !local.is_empty() && local.iter().all(|local| has_all(local, &attrs))
                    }
                };
                if !is_here {
                    entities.push(entity);
                }
            }
            if !entities.is_empty() {
                kept.push(Provided { entities, ..provided });
            }
        }
        Ok(kept)
    }

    /// The answered entities that the query means and that no page of the local ones has.
    async fn only_there(
        &self,
        scope: &QueryScope,
        query: &EntityQuery,
        found: &Answered,
    ) -> Result<Vec<Arc<Entity>>, Error> {
        let mut more = Vec::new();
        for ((id, entity_type), remote) in found {
            let local = self.find(scope, id, Some(entity_type)).await?;
            match local.first() {
                Some(local) if query.matches(local) => {}
                Some(local) => {
                    // Here it does not meet the condition; with the provider's attributes it may.
                    let whole = merged(local, found);
                    if query.matches(&whole) {
                        more.push(whole);
                    }
                }
                None if query.matches(remote) => more.push(Arc::new(remote.clone())),
                None => {}
            }
        }
        Ok(more)
    }
}

/// Of the wanted attributes those that the entity lacks.
fn missing(entity: &Entity, wanted: Option<&[String]>) -> Option<Vec<String>> {
    let missing = wanted?.iter().filter(|name| !entity.attributes.contains_key(*name));
    Some(missing.cloned().collect())
}
