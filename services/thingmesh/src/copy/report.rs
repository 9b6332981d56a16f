//! What was copied, for a person to read.

use std::fmt;

use scope::Tenant;

/// What became of the items of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) copied: u64,
    /// The target has them already.
    pub(super) present: u64,
    /// Their time was over.
    pub(super) expired: u64,
    /// Created inactive, because their password is not known; among those copied.
    pub(super) without_password: u64,
    /// Given the path of everything, since they are at none that is known; among those copied.
    pub(super) at_everything: u64,
    pub(super) failed: u64,
}

/// One tenant's part of the run.
#[derive(Debug)]
pub(super) struct Report<'a> {
    pub(super) tenant: &'a Tenant,
    pub(super) dry_run: bool,
    pub(super) entities: Option<Tally>,
    pub(super) subscriptions: Option<Tally>,
    pub(super) registrations: Option<Tally>,
    /// What was left undone, in words.
    pub(super) gaps: Vec<String>,
}

impl<'a> Report<'a> {
    pub(super) fn new(tenant: &'a Tenant, dry_run: bool) -> Self {
        Self { tenant, dry_run, entities: None, subscriptions: None, registrations: None, gaps: Vec::new() }
    }

    /// Whether all is in the target now that can be.
    pub(super) fn is_whole(&self) -> bool {
        let failed = [self.entities, self.subscriptions, self.registrations]
            .into_iter()
            .flatten()
            .any(|tally| tally.failed > 0);
        !failed && self.gaps.is_empty()
    }
}

/// How a tenant is called in messages.
pub(super) fn named(tenant: &Tenant) -> String {
    if tenant.is_default() { "default tenant".to_owned() } else { format!("tenant {}", tenant.as_str()) }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = if self.dry_run { "to copy" } else { "copied" };
        write!(out, "{}:", named(self.tenant))?;
        if [self.entities, self.subscriptions, self.registrations].iter().all(Option::is_none) {
            return write!(out, " nothing was copied");
        }
        if let Some(entities) = self.entities {
            write!(out, "\n  entities: {} {done}, {} failed", entities.copied, entities.failed)?;
        }
        for (kind, tally) in [("subscriptions", self.subscriptions), ("registrations", self.registrations)] {
            let Some(tally) = tally else { continue };
            write!(
                out,
                "\n  {kind}: {} {done}, {} already there, {} expired, {} failed",
                tally.copied, tally.present, tally.expired, tally.failed
            )?;
            if tally.without_password > 0 {
                write!(out, "; {} of them inactive until their password is set", tally.without_password)?;
            }
            if tally.at_everything > 0 {
                write!(out, "; {} of them for all service paths", tally.at_everything)?;
            }
        }
        for gap in &self.gaps {
            write!(out, "\n  not whole: {gap}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_says_what_was_asked_for_and_whether_it_is_whole() {
        let tenant = Tenant::from_header(Some("acme")).unwrap();
        let mut report = Report::new(&tenant, false);
        report.entities = Some(Tally { copied: 12, ..Tally::default() });
        report.subscriptions =
            Some(Tally { copied: 2, present: 3, expired: 1, without_password: 1, ..Tally::default() });
        assert_eq!(
            report.to_string(),
            "tenant acme:\n  entities: 12 copied, 0 failed\n  subscriptions: 2 copied, 3 already there, 1 expired, \
             0 failed; 1 of them inactive until their password is set"
        );
        assert!(report.is_whole());
        report.registrations = Some(Tally { failed: 1, ..Tally::default() });
        assert!(!report.is_whole());
    }

    #[test]
    fn a_gap_is_told_and_makes_it_unwhole() {
        let tenant = Tenant::from_header(None).unwrap();
        let mut report = Report::new(&tenant, true);
        report.entities = Some(Tally { copied: 1, ..Tally::default() });
        assert_eq!(Report::new(&tenant, true).to_string(), "default tenant: nothing was copied");
        report.gaps.push("the list shrank".to_owned());
        assert!(!report.is_whole());
        assert_eq!(
            report.to_string(),
            "default tenant:\n  entities: 1 to copy, 0 failed\n  not whole: the list shrank"
        );
    }
}
