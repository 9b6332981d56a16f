//! What was sent, what was acknowledged, and what must therefore be seen, whatever was killed in between.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

/// One attribute of one entity of one tenant, written by one writer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    pub tenant: String,
    pub entity_type: String,
    pub entity: String,
    pub attribute: String,
}

/// The writer's side of a series: ever-growing values, one request after the other.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    pub sent: Vec<i64>,
    pub acknowledged: Vec<i64>,
}

/// All writers' sides. Cheap to clone.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    series: BTreeMap<Series, Sent>,
    unanswered: u64,
    unavailable: u64,
    wrong: Vec<String>,
}

impl Ledger {
    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.0.lock().expect("no writer panics with the ledger in hand"))
    }

    /// Before the request leaves.
    pub fn sending(&self, series: &Series, value: i64) {
        self.with(|inner| inner.series.entry(series.clone()).or_default().sent.push(value));
    }

    /// After what came back: a status, or no whole answer. Says whether the value was acknowledged.
    pub fn answered(
        &self,
        series: &Series,
        value: i64,
        answer: Result<u16, String>,
        text: impl Fn() -> String,
    ) -> bool {
        self.with(|inner| {
            match answer {
                Ok(200..=299) => {
                    inner.series.entry(series.clone()).or_default().acknowledged.push(value);
                    return true;
                }
                Ok(501..=599) => inner.unavailable += 1,
                // The server says that it does not know either: the store went away in the middle of its commit.
                Ok(500) if text().contains("the outcome of the write is not known") => inner.unanswered += 1,
                Ok(status) => inner.wrong.push(format!("{series:?} {value}: {status} {}", text())),
                Err(_) => inner.unanswered += 1,
            }
            false
        })
    }

    /// A copy of all series.
    pub fn series(&self) -> BTreeMap<Series, Sent> {
        self.with(|inner| inner.series.clone())
    }

    /// Answers that no kill excuses: client errors and 500.
    pub fn wrong_answers(&self) -> Vec<String> {
        self.with(|inner| inner.wrong.clone())
    }

    pub fn acknowledged(&self) -> usize {
        self.with(|inner| inner.series.values().map(|sent| sent.acknowledged.len()).sum())
    }

    /// One line for people.
    pub fn summary(&self) -> String {
        self.with(|inner| {
            let sent: usize = inner.series.values().map(|sent| sent.sent.len()).sum();
            let acknowledged: usize = inner.series.values().map(|sent| sent.acknowledged.len()).sum();
            format!(
                "{sent} sent, {acknowledged} acknowledged, {} unavailable, {} without answer",
                inner.unavailable, inner.unanswered
            )
        })
    }
}

impl Sent {
    fn last_acknowledged(&self) -> i64 {
        self.acknowledged.last().copied().unwrap_or(i64::MIN)
    }

    /// The entity holds the last acknowledged value, or a later one that was sent.
    pub fn current_fault(&self, value: i64) -> Option<String> {
        let untouched = self.acknowledged.is_empty() && value == 0;
        if !untouched && !self.sent.contains(&value) {
            return Some(format!("{value} was never sent"));
        }
        (value < self.last_acknowledged())
            .then(|| format!("{value} is older than {}, which was acknowledged", self.last_acknowledged()))
    }

    /// Acknowledged values that are not in `seen`.
    pub fn missing(&self, seen: &[i64]) -> Vec<i64> {
        let seen: BTreeSet<i64> = seen.iter().copied().collect();
        self.acknowledged.iter().copied().filter(|value| !seen.contains(value)).collect()
    }

    /// The history, in order of time: each acknowledged value once, nothing twice, nothing that was not sent, in order.
    pub fn history_faults(&self, points: &[i64]) -> Vec<String> {
        let sent: BTreeSet<i64> = self.sent.iter().copied().collect();
        let mut faults = Vec::new();
        let missing = self.missing(points);
        if !missing.is_empty() {
            faults.push(format!(
                "{} acknowledged values are missing, such as {:?}",
                missing.len(),
                &missing[..missing.len().min(5)]
            ));
        }
        let mut seen = BTreeSet::new();
        for point in points {
            if !seen.insert(*point) {
                faults.push(format!("{point} is there twice"));
            }
            if !sent.contains(point) {
                faults.push(format!("{point} was never sent"));
            }
        }
        faults.extend(first_disorder(points.iter().copied()));
        faults
    }

    /// Deliveries, in order of arrival: each acknowledged value at least once; each value's first arrival in order.
    pub fn delivery_faults(&self, arrivals: &[i64]) -> Vec<String> {
        let sent: BTreeSet<i64> = self.sent.iter().copied().collect();
        let mut faults = Vec::new();
        let missing = self.missing(arrivals);
        if !missing.is_empty() {
            faults.push(format!(
                "{} acknowledged values were not delivered, such as {:?}",
                missing.len(),
                &missing[..missing.len().min(5)]
            ));
        }
        if let Some(foreign) = arrivals.iter().find(|value| !sent.contains(value)) {
            faults.push(format!("{foreign} was never sent"));
        }
        let mut seen = BTreeSet::new();
        faults.extend(first_disorder(arrivals.iter().copied().filter(|value| seen.insert(*value))));
        faults
    }
}

fn first_disorder(values: impl Iterator<Item = i64>) -> Option<String> {
    let mut highest = i64::MIN;
    for value in values {
        if value < highest {
            return Some(format!("{value} comes after {highest}"));
        }
        highest = value;
    }
    None
}

/// A counter that every writer raised by one with `$inc`: each committed step is seen once, from 0 to the final value.
pub fn counter_faults(acknowledged: i64, sent: i64, current: i64, points: &[i64]) -> Vec<String> {
    let mut faults = Vec::new();
    if current < acknowledged || current > sent {
        faults.push(format!("counter is {current}; acknowledged {acknowledged}, sent {sent}"));
    }
    let steps: Vec<i64> = (0..=current).collect();
    if points != steps {
        let wrong = points.iter().zip(&steps).find(|(point, step)| point != step);
        faults.push(format!(
            "history of a counter at {current} has {} points, first difference {wrong:?}",
            points.len()
        ));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent() -> Sent {
        Sent { sent: vec![1, 2, 3, 4, 5], acknowledged: vec![1, 2, 4] }
    }

    #[test]
    fn what_was_acknowledged_must_be_held_or_overtaken() {
        assert_eq!(sent().current_fault(4), None);
        assert_eq!(sent().current_fault(5), None);
        assert!(sent().current_fault(3).is_some(), "an older value");
        assert!(sent().current_fault(6).is_some(), "a value out of nowhere");
    }

    #[test]
    fn a_history_may_hold_more_than_was_acknowledged_but_nothing_else() {
        assert_eq!(sent().history_faults(&[1, 2, 4]), Vec::<String>::new());
        assert_eq!(sent().history_faults(&[1, 2, 3, 4, 5]), Vec::<String>::new());
        for wrong in [&[1, 2][..], &[1, 2, 2, 4], &[1, 2, 4, 9], &[2, 1, 4]] {
            assert_eq!(sent().history_faults(wrong).len(), 1, "{wrong:?}");
        }
    }

    #[test]
    fn deliveries_may_repeat_but_not_miss_or_overtake() {
        assert_eq!(sent().delivery_faults(&[1, 2, 1, 2, 4]), Vec::<String>::new());
        for wrong in [&[1, 4][..], &[1, 2, 4, 7], &[1, 4, 2]] {
            assert_eq!(sent().delivery_faults(wrong).len(), 1, "{wrong:?}");
        }
    }

    #[test]
    fn a_counter_has_each_step_once() {
        assert!(counter_faults(2, 4, 3, &[0, 1, 2, 3]).is_empty());
        for (current, points) in
            [(1, &[0, 1][..]), (5, &[0, 1, 2, 3, 4, 5]), (3, &[0, 1, 3]), (3, &[0, 1, 2, 2, 3])]
        {
            assert_eq!(counter_faults(2, 4, current, points).len(), 1, "{current} {points:?}");
        }
    }
}
