use crate::notification::pending::{Completion, Fate};

/// What a subscription has seen so far (ngsi-v2.md 8). Times are microseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct DeliveryState {
    pub times_sent: i64,
    pub last_notification_us: Option<i64>,
    pub last_success_us: Option<i64>,
    pub last_success_code: Option<i64>,
    pub last_failure_us: Option<i64>,
    pub last_failure_reason: Option<String>,
    pub fails_counter: i64,
    /// Notifications that were given up.
    pub dropped: i64,
    /// Commit time of the last change that passed the throttle.
    pub accepted_us: Option<i64>,
    /// The revision at which it became inactive: after its one shot, or after too many failures.
    pub closed_revision: Option<i64>,
}

impl DeliveryState {
    /// Whether a subscription of this revision was made inactive by what happened.
    pub fn closes(&self, revision: i64) -> bool {
        self.closed_revision.is_some_and(|closed| closed >= revision)
    }

    /// Takes in one try; true when the subscription became inactive by it. `waiting`: its notifications that wait, this one
    /// too. When one fails again, the others would have failed had they been tried as they came: so `failsCounter` counts what
    /// it counts where all are tried once.
    pub fn record(&mut self, completion: &Completion, waiting: i64) -> bool {
        if completion.fate == Fate::Cancelled {
            return false;
        }
        if completion.first {
            self.times_sent += 1;
        }
        self.last_notification_us = self.last_notification_us.max(Some(completion.at_us));
        let reason = match &completion.fate {
            Fate::Delivered { code } => {
                self.last_success_us = Some(completion.at_us);
                self.last_success_code = code.map(i64::from);
                self.fails_counter = 0;
                return false;
            }
            Fate::Failed { reason } | Fate::Dropped { reason } => reason,
            Fate::Cancelled => return false,
        };
        if matches!(completion.fate, Fate::Dropped { .. }) {
            self.dropped += 1;
        }
        self.last_failure_us = Some(completion.at_us);
        self.last_failure_reason = Some(reason.clone());
        self.fails_counter = match completion.fate {
            Fate::Failed { .. } if completion.seq != 0 => {
                // Those that wait may be counted already.
                let most = if completion.first { self.fails_counter + 1 } else { waiting };
                self.fails_counter.max(most.min(waiting)).max(1)
            }
            // One that is given up, or was not kept; unless it has failed before.
            _ => self.fails_counter + i64::from(completion.first),
        };
        let closes = completion.max_fails.is_some_and(|limit| self.fails_counter > limit);
        if closes {
            self.closed_revision = self.closed_revision.max(Some(completion.revision));
        }
        closes
    }
}

#[cfg(test)]
mod tests {
    use scope::Tenant;

    use super::*;
    use crate::{notification::pending::SubscriptionKey, subscription::SubscriptionId};

    fn completion(first: bool, fate: Fate) -> Completion {
        let id = SubscriptionId::parse("0123456789abcdef01234567").unwrap();
        let subscription = SubscriptionKey { tenant: Tenant::default(), id };
        Completion { seq: 1, subscription, revision: 3, first, fate, at_us: 10, max_fails: Some(1) }
    }

    fn failed() -> Fate {
        Fate::Failed { reason: "Timeout was reached".to_owned() }
    }

    #[test]
    fn a_notification_fails_once_however_often_it_is_tried() {
        let mut state = DeliveryState::default();
        assert!(!state.record(&completion(true, failed()), 1));
        assert!(!state.record(&completion(false, failed()), 1));
        assert_eq!((state.times_sent, state.fails_counter), (1, 1));
        assert!(!state.record(&completion(false, Fate::Delivered { code: Some(404) }), 1));
        assert_eq!((state.times_sent, state.fails_counter, state.last_success_code), (1, 0, Some(404)));
    }

    #[test]
    fn more_failures_in_a_row_than_the_limit_close_the_revision() {
        let mut state = DeliveryState::default();
        assert!(!state.record(&completion(true, failed()), 1));
        assert!(state.record(&completion(true, failed()), 2));
        assert!(state.closes(3));
        assert!(!state.closes(4), "a later PATCH opens it again");
    }

    #[test]
    fn what_waits_behind_a_failing_notification_has_failed_too() {
        let mut state = DeliveryState::default();
        assert!(!state.record(&completion(true, failed()), 2));
        assert!(state.record(&completion(false, failed()), 2));
        assert_eq!((state.times_sent, state.fails_counter), (1, 2));
        assert!(state.record(&completion(true, failed()), 2));
        assert_eq!((state.times_sent, state.fails_counter), (2, 2), "it was counted while it waited");
    }

    #[test]
    fn a_cancelled_notification_leaves_no_trace() {
        let mut state = DeliveryState::default();
        assert!(!state.record(&completion(true, Fate::Cancelled), 1));
        assert_eq!(state, DeliveryState::default());
    }
}
