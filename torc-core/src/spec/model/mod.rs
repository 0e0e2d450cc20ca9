//! The spec as it is written, typed: every object and field, with places where later steps may
//! have to complain.
//!
//! Knows which fields there are, their types, ranges and defaults; expands and resolves nothing.

mod action;
mod execution;
mod item;
mod resources;
mod scheduler;
mod top;

pub(crate) use action::{ActionItem, ActionWork, Moment};
pub(crate) use execution::{PluginsNamed, StdioOverride};
pub(crate) use item::{DataItem, FileItem, JobItem, Links, ParameterUse, Relation};
pub(crate) use top::{Document, read};

use super::decode::Fields;
use super::problems::Problems;
use super::tree::{Key, Node, Spanned, Text, Value};
use super::units::Malformed;
use crate::diagnostics::{Problem, Span};

/// The problem of a quantity that is not written as it must be.
fn malformed(code: &'static str, span: Span, error: Malformed) -> Problem {
    Problem::error(code, error.why).at(span, "this value").help(error.right)
}

/// The problem with a plugin's name, if there can be none of it: names of files are made of it.
fn bad_plugin_name(name: &Text) -> Option<Problem> {
    const LONGEST: usize = 64;
    let is_good = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
    let text = &name.value;
    if !text.is_empty() && text.len() <= LONGEST && text.chars().all(is_good) {
        return None;
    }
    let message = "this cannot be the name of a plugin";
    let help = format!("write letters, digits, `-` and `_`, at most {LONGEST}; never a path");
    Some(Problem::error("spec::bad-name", message).at(name.span, "this name").help(help))
}

/// Reads the items of a list field, each by `read`.
fn each<T>(
    fields: &mut Fields<'_, '_>,
    name: &'static str,
    read: impl Fn(Node, &Problems<'_>) -> Option<T>,
) -> Vec<T> {
    let problems = fields.problems();
    fields.list(name).into_iter().filter_map(|node| read(node, problems)).collect()
}

/// Environment variables: names that `execve` can carry, values without NUL.
fn env(fields: &mut Fields<'_, '_>) -> Vec<(Key, Text)> {
    let problems = fields.problems();
    let mut variables = Vec::new();
    for (name, node) in fields.map("env") {
        let message = "the value of an environment variable must be a string";
        let Some(value) = super::decode::as_text(problems, node, message, &name.value, "text")
        else {
            continue;
        };
        if name.value.is_empty() || name.value.contains(['=', '\0']) {
            problems.push(
                Problem::error("spec::bad-env", "this cannot be an environment variable's name")
                    .at(name.span, "empty, or with `=` or NUL")
                    .help("use letters, digits and `_`"),
            );
        } else if value.value.contains('\0') {
            problems.push(
                Problem::error("spec::bad-env", "an environment variable cannot hold a NUL byte")
                    .at(value.span, "a NUL byte")
                    .help("remove it"),
            );
        } else {
            variables.push((name, value));
        }
    }
    variables
}

/// A string or a whole number, as text.
fn text_or_whole(fields: &mut Fields<'_, '_>, name: &'static str, example: &str) -> Option<Text> {
    let (key, node) = fields.take(name)?;
    match node.value {
        Value::Int(number) => Some(Spanned::new(number.to_string().into(), node.span)),
        _ => {
            let message = format!("`{}` must be a string", key.value);
            super::decode::as_text(fields.problems(), node, &message, name, example)
        }
    }
}
