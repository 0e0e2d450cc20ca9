//! What all checks of an interface find in a candidate, one after the other.

use std::collections::BTreeMap;

use torc_plugin_kit::{Candidate, Finding, Verdict, checks_of};

use crate::found::verdict;

/// Runs every check of the candidate's interface.
pub(crate) fn verdicts(candidate: Candidate<'_>) -> BTreeMap<&'static str, Verdict> {
    let checks = checks_of(candidate.interface());
    checks.map(|check| (check.name, verdict(check, candidate))).collect()
}

/// Fails unless all is well but what cannot be shown of this candidate.
pub(crate) fn assert_keeps(candidate: Candidate<'_>, not_shown: &[&str]) {
    for (name, verdict) in verdicts(candidate) {
        match verdict {
            Ok(()) => assert!(!not_shown.contains(&name), "{name} was looked at"),
            Err(Finding::NotShown(_)) if not_shown.contains(&name) => {}
            Err(finding) => panic!("{name}: {finding}"),
        }
    }
}
