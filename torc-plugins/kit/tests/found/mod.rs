//! What one check finds in a candidate, and which of them find a fault.

use std::collections::BTreeMap;

use torc_plugin_kit::{Candidate, Check, Finding, Verdict};

/// Fails unless just these checks find the contract broken.
pub(crate) fn assert_broken(
    what: &str,
    found: &BTreeMap<&'static str, Verdict>,
    expected: &[&str],
) {
    let broken = found.iter().filter(|(_, verdict)| matches!(verdict, Err(Finding::Broken { .. })));
    let broken: Vec<&str> = broken.map(|(name, _)| *name).collect();
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    assert_eq!(broken, expected, "{what}: {found:#?}");
}

/// Runs one check, in a runtime of its own.
pub(crate) fn verdict(check: &Check, candidate: Candidate<'_>) -> Verdict {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let verdict = runtime.block_on(check.run(candidate)).expect("is of this interface");
    runtime.shutdown_background();
    verdict
}
