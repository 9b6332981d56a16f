use std::collections::HashMap;

use proto::v1::EntityUpdate;

use super::MAX_PER_ENTITY;

/// What fits into one call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) updates: usize,
    pub(super) bytes: usize,
}

/// Counts what is in a batch; a first update always fits.
#[derive(Debug)]
pub(super) struct Room {
    limits: Limits,
    updates: usize,
    bytes: usize,
    entities: HashMap<(String, String, String, String), usize>,
}

impl Room {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, updates: 0, bytes: 0, entities: HashMap::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.updates == 0
    }

    /// Takes the update in, if it fits.
    pub(super) fn take(&mut self, update: &EntityUpdate) -> bool {
        let of_entity = self.entities.entry(entity(update)).or_default();
        let full = self.updates >= self.limits.updates
            || self.bytes + weight(update) > self.limits.bytes
            || *of_entity >= MAX_PER_ENTITY;
        if full && self.updates > 0 {
            return false;
        }
        *of_entity += 1;
        self.updates += 1;
        self.bytes += weight(update);
        true
    }

    /// Takes all of `updates` in, or none. What is too much even for an empty batch is the caller's to avoid.
    pub(super) fn take_all(&mut self, updates: &[EntityUpdate]) -> bool {
        let mut added: HashMap<_, usize> = HashMap::new();
        for update in updates {
            *added.entry(entity(update)).or_default() += 1;
        }
        let bytes: usize = updates.iter().map(weight).sum();
        let fits = self.updates + updates.len() <= self.limits.updates
            && self.bytes + bytes <= self.limits.bytes
            && added.iter().all(|(entity, more)| {
                self.entities.get(entity).copied().unwrap_or_default() + more <= MAX_PER_ENTITY
            });
        if !fits && self.updates > 0 {
            return false;
        }
        self.updates += updates.len();
        self.bytes += bytes;
        for (entity, more) in added {
            *self.entities.entry(entity).or_default() += more;
        }
        true
    }
}

fn entity(update: &EntityUpdate) -> (String, String, String, String) {
    (update.tenant.clone(), update.service_path.clone(), update.entity_id.clone(), update.entity_type.clone())
}

/// Bytes of an update on the wire, about.
fn weight(update: &EntityUpdate) -> usize {
    update.attributes.len() + update.entity_id.len() + update.entity_type.len() + 256
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(entity: &str, bytes: usize) -> EntityUpdate {
        EntityUpdate {
            entity_id: entity.into(),
            attributes: vec![b'x'; bytes].into(),
            ..EntityUpdate::default()
        }
    }

    #[test]
    fn one_entity_gets_no_more_updates_than_the_broker_remembers() {
        let mut room = Room::new(Limits { updates: 500, bytes: 1 << 20 });
        assert!((0..32).all(|_| room.take(&update("a", 10))));
        assert!(!room.take(&update("a", 10)));
        assert!(room.take(&update("b", 10)));
        assert!(!room.take_all(&[update("b", 1), update("a", 1)]));
        assert!(room.take_all(&[update("b", 1), update("c", 1)]));
    }

    #[test]
    fn count_and_bytes_are_bounded_but_a_first_update_fits() {
        let mut room = Room::new(Limits { updates: 2, bytes: 1_000 });
        assert!(room.take(&update("a", 5_000)));
        assert!(!room.take(&update("b", 1)));
        let mut room = Room::new(Limits { updates: 2, bytes: 10_000 });
        assert!(room.take(&update("a", 1)) && room.take(&update("b", 1)));
        assert!(!room.take(&update("c", 1)));
    }
}
