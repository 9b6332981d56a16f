use std::collections::HashSet;

use super::{
    Alteration, DEFAULT_ENTITY_TYPE, EntityUpdate, Outcome, UpdateAction, UpdateOptions, WriteContext,
    attribute::{Staged, stage},
    location,
};
use crate::{Attributes, Entity, Error};

/// Applies `request` to the entity in `slot` (None: there is none). On an error `slot` is untouched; afterwards it is
/// None when the entity was deleted. The caller owns `version`.
pub fn apply(
    slot: &mut Option<Entity>,
    request: &EntityUpdate,
    action: UpdateAction,
    options: UpdateOptions,
    context: WriteContext<'_>,
) -> Result<Outcome, Error> {
    let Some(entity) = slot else {
        return match action {
            UpdateAction::Create
            | UpdateAction::Append
            | UpdateAction::AppendStrict
            | UpdateAction::Ensure => {
                let (entity, outcome) = create(request, options, context)?;
                *slot = Some(entity);
                Ok(outcome)
            }
            UpdateAction::Update | UpdateAction::Replace | UpdateAction::Delete => {
                Err(Error::entity_not_found())
            }
        };
    };
    match action {
        UpdateAction::Create => Err(Error::already_exists()),
        UpdateAction::Append => write(entity, request, |_| Verdict::Write, options, context.now_us),
        UpdateAction::AppendStrict => write(
            entity,
            request,
            |exists| if exists { Verdict::Refuse } else { Verdict::Write },
            options,
            context.now_us,
        ),
        UpdateAction::Ensure => write(
            entity,
            request,
            |exists| if exists { Verdict::Skip } else { Verdict::Write },
            options,
            context.now_us,
        ),
        UpdateAction::Update => write(
            entity,
            request,
            |exists| if exists { Verdict::Write } else { Verdict::Refuse },
            options,
            context.now_us,
        ),
        UpdateAction::Replace => replace(entity, request, options, context.now_us),
        UpdateAction::Delete if request.attributes.is_empty() => {
            Ok(Outcome { alteration: Some(Alteration::Delete), deleted: slot.take(), ..Outcome::default() })
        }
        UpdateAction::Delete => remove_attributes(entity, request, context.now_us),
    }
}

enum Verdict {
    Write,
    Skip,
    Refuse,
}

fn create(
    request: &EntityUpdate,
    options: UpdateOptions,
    context: WriteContext<'_>,
) -> Result<(Entity, Outcome), Error> {
    let mut attributes = Attributes::with_capacity(request.attributes.len());
    for (name, update) in &request.attributes {
        if let Some(staged) = stage(None, update, options, context.now_us)? {
            attributes.insert(name.clone(), staged.attribute);
        }
    }
    location::check(attributes.iter())?;
    let names: Vec<String> = attributes.keys().cloned().collect();
    let entity = Entity {
        id: request.id.clone(),
        entity_type: request.entity_type.as_deref().unwrap_or(DEFAULT_ENTITY_TYPE).to_owned(),
        path: context.path.clone(),
        attributes,
        created_us: context.now_us,
        modified_us: context.now_us,
        version: 0,
    };
    let outcome = Outcome {
        alteration: Some(Alteration::Create),
        updated: names.clone(),
        changed: names,
        ..Outcome::default()
    };
    Ok((entity, outcome))
}

/// Writes those attributes that `verdict` (asked whether the attribute exists) admits.
fn write(
    entity: &mut Entity,
    request: &EntityUpdate,
    verdict: impl Fn(bool) -> Verdict,
    options: UpdateOptions,
    now_us: i64,
) -> Result<Outcome, Error> {
    let mut staged = Vec::with_capacity(request.attributes.len());
    let mut refused = Vec::new();
    let mut refused_because_missing = false;
    for (name, update) in &request.attributes {
        let existing = entity.attributes.get(name);
        match verdict(existing.is_some()) {
            Verdict::Skip => {}
            Verdict::Refuse => {
                refused_because_missing = existing.is_none();
                refused.push(name.clone());
            }
            Verdict::Write => {
                if let Some(attribute) = stage(existing, update, options, now_us)? {
                    staged.push((name.as_str(), attribute));
                }
            }
        }
    }
    let refusal = (!refused.is_empty()).then(|| {
        let partial = refused.len() < request.attributes.len();
        let entity_type = request.entity_type.as_deref();
        if refused_because_missing {
            Error::missing_attributes(partial, &request.id, entity_type, refused)
        } else {
            Error::existing_attributes(partial, &request.id, entity_type, refused)
        }
    });
    let refusal = match refusal {
        Some(error) if error.word != crate::ErrorWord::PartialUpdate => return Err(error),
        other => other,
    };
    location::check_write(&entity.attributes, &staged)?;
    let mut outcome = commit(entity, staged, options, now_us);
    outcome.partial = refusal;
    Ok(outcome)
}

fn commit(entity: &mut Entity, staged: Vec<(&str, Staged)>, options: UpdateOptions, now_us: i64) -> Outcome {
    let mut outcome = Outcome::default();
    for (name, staged) in staged {
        outcome.updated.push(name.to_owned());
        if staged.differs || options.forced_update {
            outcome.changed.push(name.to_owned());
        }
        let before = match entity.attributes.get_mut(name) {
            Some(slot) => Some(std::mem::replace(slot, staged.attribute)),
            None => entity.attributes.insert(name.to_owned(), staged.attribute),
        };
        if let Some(before) = before
            && (staged.differs || options.forced_update)
        {
            outcome.previous.insert(name.to_owned(), before);
        }
    }
    if outcome.updated.is_empty() {
        return outcome;
    }
    entity.modified_us = now_us;
    outcome.alteration =
        Some(if outcome.changed.is_empty() { Alteration::Update } else { Alteration::Change });
    outcome
}

fn replace(
    entity: &mut Entity,
    request: &EntityUpdate,
    options: UpdateOptions,
    now_us: i64,
) -> Result<Outcome, Error> {
    let mut attributes = Attributes::with_capacity(request.attributes.len());
    let mut outcome = Outcome::default();
    for (name, update) in &request.attributes {
        // operators act on their reference value, and nothing of the old attribute stays but its creation date
        let Some(mut staged) = stage(None, update, options, now_us)? else { continue };
        let existing = entity.attributes.get(name);
        let differs = match existing {
            Some(before) => {
                staged.attribute.created_us = before.created_us;
                let differs = !attribute_equal(before, &staged.attribute);
                if !differs && !options.forced_update {
                    staged.attribute.modified_us = before.modified_us;
                }
                differs
            }
            None => true,
        };
        outcome.updated.push(name.clone());
        if differs || options.forced_update {
            outcome.changed.push(name.clone());
        }
        attributes.insert(name.clone(), staged.attribute);
    }
    location::check(attributes.iter())?;
    let changed: HashSet<&str> = outcome.changed.iter().map(String::as_str).collect();
    let before = std::mem::replace(&mut entity.attributes, attributes);
    for (name, attribute) in before {
        let stays = entity.attributes.contains_key(&name);
        if !stays {
            outcome.removed.push(name.clone());
        }
        if !stays || changed.contains(name.as_str()) {
            outcome.previous.insert(name, attribute);
        }
    }
    entity.modified_us = now_us;
    let differs = !outcome.changed.is_empty() || !outcome.removed.is_empty();
    outcome.alteration = Some(if differs { Alteration::Change } else { Alteration::Update });
    Ok(outcome)
}

fn remove_attributes(entity: &mut Entity, request: &EntityUpdate, now_us: i64) -> Result<Outcome, Error> {
    let missing: Vec<String> =
        request.attributes.keys().filter(|name| !entity.attributes.contains_key(*name)).cloned().collect();
    let entity_type = request.entity_type.as_deref();
    if missing.len() == request.attributes.len() {
        return Err(Error::missing_attributes(false, &request.id, entity_type, missing));
    }
    let mut outcome = Outcome { alteration: Some(Alteration::Change), ..Outcome::default() };
    for name in request.attributes.keys() {
        if let Some(before) = entity.attributes.shift_remove(name) {
            outcome.removed.push(name.clone());
            outcome.previous.insert(name.clone(), before);
        }
    }
    entity.modified_us = now_us;
    if !missing.is_empty() {
        outcome.partial = Some(Error::missing_attributes(true, &request.id, entity_type, missing));
    }
    Ok(outcome)
}

fn attribute_equal(a: &crate::Attribute, b: &crate::Attribute) -> bool {
    a.value == b.value && a.attribute_type == b.attribute_type && a.metadata == b.metadata
}
