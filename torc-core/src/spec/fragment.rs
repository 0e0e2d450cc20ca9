//! A fragment of a spec: jobs to be added to a workflow that is there, with what they need.
//!
//! Owns which parts of a spec a fragment has. Does not know what becomes of them. Invariant: what it has is written
//! and read as in a spec.

use super::lower::addition::{self, Ground};
use super::model::Document;
use super::problems::Problems;
use super::tree::{Key, Node, Spanned, Value};
use super::{Format, ReadTree, Rejected, Sources, as_text, model, read_tree, variables};
use crate::addition::Addition;
use crate::diagnostics::{Problem, Span};
use crate::ids::JobId;

/// The parts of a spec that a fragment can have.
const PARTS: [&str; 8] = [
    "jobs",
    "files",
    "user_data",
    "resource_requirements",
    "failure_handlers",
    "parameters",
    "parameters_file",
    "variables",
];

/// What a fragment comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Fragment {
    /// What is new; without jobs when all of them are there already.
    pub addition: Addition,
    /// The numbers of all its jobs, in its order, new or not.
    pub jobs: Vec<JobId>,
    /// What is legal, but probably not meant or not done.
    pub warnings: Vec<Problem>,
}

/// Reads jobs to be added to a workflow. Without a format each is tried.
///
/// Spans are bytes of `source_bytes`.
///
/// # Errors
/// All the problems, when one of them is an error: also what the workflow makes of them, such as names that there
/// are not, jobs that would wait for each other, or a job that is there already and is another.
pub fn add(
    source_bytes: &[u8],
    format: Option<Format>,
    sources: &dyn Sources,
    ground: &Ground<'_>,
) -> Result<Fragment, Rejected> {
    let source = as_text(source_bytes)?;
    let ReadTree { root, problems, .. } = read_tree(source, format);
    let lowered = root.and_then(|root| lowered(root, sources, ground, &problems));
    let found = problems.finish();
    match lowered {
        Some((addition, jobs)) => Ok(Fragment { addition, jobs, warnings: found }),
        None => Err(Rejected { problems: found }),
    }
}

/// Asks for all the files that a fragment names, and finds what is wrong with it whatever it is added to.
///
/// # Errors
/// All the problems, when one of them is an error.
pub fn check_fragment(
    source_bytes: &[u8],
    format: Option<Format>,
    sources: &dyn Sources,
) -> Result<(), Rejected> {
    let source = as_text(source_bytes)?;
    let ReadTree { root, problems, .. } = read_tree(source, format);
    if let Some(document) = root.and_then(|root| document(root, &problems)) {
        addition::read_sources(document, sources, &problems);
    }
    if problems.failed() { Err(Rejected { problems: problems.finish() }) } else { Ok(()) }
}

fn lowered(
    root: Node,
    sources: &dyn Sources,
    ground: &Ground<'_>,
    problems: &Problems<'_>,
) -> Option<(Addition, Vec<JobId>)> {
    addition::lower(document(root, problems)?, ground, sources, problems)
}

/// A fragment as written; `None` when a problem went to `problems`.
fn document(mut root: Node, problems: &Problems<'_>) -> Option<Document> {
    if let Value::Map(entries) = &mut root.value {
        check_parts(entries, problems);
        // A spec has a name, and this is read as one. Variables find nothing to replace in it.
        let (key, name) = ("name".into(), Value::Str("fragment".into()));
        entries.push((Spanned::new(key, Span::default()), Node::new(name, Span::default())));
    }
    variables::apply(&mut root, problems);
    let document = model::read(root, None, problems)?;
    (!problems.failed()).then_some(document)
}

/// Whether all of this can be added; what cannot is reported and left out.
fn check_parts(entries: &mut Vec<(Key, Node)>, problems: &Problems<'_>) {
    let known_elsewhere =
        |key: &str| super::fields::SPEC.fields.iter().any(|field| field.name == key);
    entries.retain(|(key, _)| {
        let is_part = PARTS.contains(&&*key.value);
        if !is_part && known_elsewhere(&key.value) {
            let message = format!("`{}` cannot be added to a workflow that is there", key.value);
            let help = format!("write it into the spec; what can be added is {}", PARTS.join(", "));
            problems.push(
                Problem::error("spec::not-addable", message)
                    .at(key.span, "only in a spec")
                    .help(help),
            );
        }
        is_part || !known_elsewhere(&key.value)
    });
}
