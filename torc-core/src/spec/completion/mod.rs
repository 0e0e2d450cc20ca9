//! A spec with what its plan adds: `slurm_schedulers`, `actions`, and the `scheduler` of its jobs.
//!
//! Owns: where these go. Where the text can be kept, comments and all, lines are inserted; else the
//! tree is completed and written anew. Does not know: how the plan came about. Invariant: what comes
//! out reads as the workflow that [`crate::plan::complete`] gives; that is checked, not hoped for.

mod additions;
mod insertion;
mod pins;
#[cfg(test)]
mod tests;

use additions::Additions;

use super::lower::Lowered;
use super::problems::Problems;
use super::tree::{Node, Value};
use super::{Context, Format, ReadTree, Rejected, load, lowered, read_tree, variables, write};
use crate::diagnostics::Problem;
use crate::plan::Plan;
use crate::workflow::Workflow;

/// A completed spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completed {
    /// The text.
    pub text: String,
    /// Whether it is the user's text with insertions; else it was written anew, without comments.
    pub is_users_text: bool,
    /// Entries of `jobs`, by name before parameters are filled in, whose jobs belong to several schedulers. One field
    /// cannot say that, so they have none: what they need decides, and any allocation that fits
    /// runs them.
    pub unpinned: Vec<String>,
}

/// A spec cannot be completed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompletionError {
    /// The spec is not valid.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// The spec with the additions is not valid: `mode: auto` counts as slurm once there are
    /// schedulers, for instance.
    #[error("with the planned schedulers the spec has problems, the first of them: {first}")]
    RejectedAfterwards {
        /// The first problem's sentence.
        first: String,
        /// All of them, with places in a text that nobody has seen.
        problems: Vec<Problem>,
    },
    /// The plan is for another workflow.
    #[error("the plan is for another workflow than this spec: plan it again")]
    OtherWorkflow,
    /// The text reads back as something else. That is an error in torc.
    #[error("the completed spec reads back as another workflow; please report this error in torc")]
    Differs,
}

/// Adds what a plan says to the text of a spec. Jobs stay as written: parameters are not expanded.
///
/// # Errors
/// When the spec is not valid, before or afterwards, or the plan is not for it.
pub fn complete(
    source_bytes: &[u8],
    format: Option<Format>,
    context: &Context<'_>,
    plan: &Plan,
) -> Result<Completed, CompletionError> {
    let text = super::as_text(source_bytes)?;
    let (format, root, before) = read(text, format, context)?;
    let jobs = before.workflow.jobs.len();
    let planned = plan.stages.iter().flat_map(|stage| &stage.jobs);
    if planned.clone().any(|job| job.0 == 0 || job.index() >= jobs) {
        return Err(CompletionError::OtherWorkflow);
    }
    if plan.stages.is_empty() {
        let text = text.to_owned();
        return Ok(Completed { text, is_users_text: true, unpinned: Vec::new() });
    }
    // It has been read, so there is nothing to report.
    let mut replaced = root.clone();
    variables::apply(&mut replaced, &Problems::new(text));
    let additions = Additions::of(&replaced, &before, plan);
    let expected = additions.expected(plan);
    let unpinned = additions.unpinned().map(str::to_owned).collect();
    if format == Format::Yaml
        && let Some(text) = insertion::insert(text, &root, &additions)
        && reads_as(&text, format, context).is_ok_and(|found| found == expected)
    {
        return Ok(Completed { text, is_users_text: true, unpinned });
    }
    let mut completed = root;
    additions.apply(&mut completed);
    let written = write::write(&completed, text, format);
    let text = match format {
        Format::Yaml => format!("{}{written}", additions.comment()),
        Format::Json => written,
        Format::Json5 | Format::Kdl => {
            let comment = additions.comment();
            let lines = comment.lines().map(|line| format!("//{}\n", line.trim_start_matches('#')));
            format!("{}{written}", lines.collect::<String>())
        }
    };
    match reads_as(&text, format, context) {
        Ok(found) if found == expected => Ok(Completed { text, is_users_text: false, unpinned }),
        Ok(_) => Err(CompletionError::Differs),
        Err(Rejected { problems }) => {
            let first = problems.first().map(|problem| problem.message.clone()).unwrap_or_default();
            Err(CompletionError::RejectedAfterwards { first, problems })
        }
    }
}

fn read(
    text: &str,
    format: Option<Format>,
    context: &Context<'_>,
) -> Result<(Format, Node, Lowered), CompletionError> {
    let ReadTree { format, root, problems } = read_tree(text, format);
    let found = root.and_then(|root| {
        let (lowered, _) = lowered(root.clone(), context, &problems)?;
        Some((format, root, lowered))
    });
    found.ok_or_else(|| CompletionError::Rejected(Rejected { problems: problems.finish() }))
}

fn reads_as(text: &str, format: Format, context: &Context<'_>) -> Result<Workflow, Rejected> {
    load(text.as_bytes(), Some(format), context).map(|loaded| loaded.workflow)
}

/// The items of a list, none for anything else.
fn items(node: Option<&Node>) -> &[Node] {
    match node.map(|node| &node.value) {
        Some(Value::Seq(items)) => items,
        _ => &[],
    }
}
