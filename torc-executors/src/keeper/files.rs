//! The files that a step leaves behind: those it declared, and its output.

use std::path::Path;
use std::sync::Arc;

use torc_core::traits::{Outcome, StdioPaths};

/// The declared files that do not exist. Relative ones are looked for in the working folder.
pub(crate) fn missing(working_dir: &str, declared: &[Arc<str>]) -> Vec<Arc<str>> {
    let folder = Path::new(working_dir);
    let is_missing = |file: &&Arc<str>| !folder.join(&***file).exists();
    declared.iter().filter(is_missing).cloned().collect()
}

/// Removes the output of a step that ended like this, if it is to be removed then.
pub(crate) fn tidy(stdio: &StdioPaths, outcome: &Outcome) {
    let has_completed =
        matches!(outcome, Outcome::Exited { code: 0 } | Outcome::TimedOut { code: Some(0) });
    if stdio.delete_on_success && has_completed {
        for path in [&stdio.stdout, &stdio.stderr].into_iter().flatten() {
            // It may be the same file as the other, or be gone already.
            let _ = std::fs::remove_file(&**path);
        }
    }
}
