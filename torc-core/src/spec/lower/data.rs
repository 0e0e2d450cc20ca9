//! Files and user data, expanded.

use std::sync::Arc;

use serde_json::Value as Json;

use super::item::{Combination, Expansion, Pattern};
use super::names::Names;
use super::{Expanded, bad_name};
use crate::diagnostics::{Problem, Span};
use crate::spec::model::{DataItem, FileItem};
use crate::spec::parameters::Combinations;
use crate::spec::problems::Problems;
use crate::spec::template::Target;
use crate::workflow::{File, UserData};

/// Expands the files.
pub(crate) fn files(items: Vec<FileItem>, expansion: &Expansion<'_, '_>) -> Expanded<File> {
    let problems = expansion.problems;
    let mut names = Names::new("file", "spec::unknown-file");
    let mut files = Vec::new();
    for item in items {
        let all = expansion.combinations(item.parameters);
        if all.count() == 0 {
            names.mark_incomplete();
        }
        if expansion.count(files.len() as u64, &all, item.name.span).is_none() {
            break;
        }
        let name = Pattern::new(&item.name, &all, problems);
        let path = Pattern::new(&item.path, &all, problems);
        for number in 0..all.count() {
            let one = Combination { all: &all, number, problems };
            let name = named("a file", &name, &one, &mut names);
            let path = path.fill(&one, Target::Text);
            check_path(&path, item.path.span, problems);
            files.push(File { name, path: path.into() });
        }
    }
    Expanded { items: files, names }
}

fn check_path(path: &str, span: Span, problems: &Problems<'_>) {
    if path.is_empty() || path.contains(['\0', '\n']) {
        problems.push(
            Problem::error("spec::bad-path", "this cannot be the path of a file")
                .at(span, "empty, or with a NUL byte or a line break")
                .help(
                    "write a path relative to where the workflow is submitted, or an absolute one",
                ),
        );
    }
}

/// Fills in a name, checks it and adds it.
pub(crate) fn named(
    what: &str,
    name: &Pattern<'_>,
    one: &Combination<'_, '_>,
    names: &mut Names,
) -> Arc<str> {
    let text = name.fill(one, Target::Text);
    if name.has_failed() {
        names.add_unnamed(name.span());
        return text.into();
    }
    if let Some(problem) = bad_name(what, &text, name.span()) {
        one.problems.push(problem);
    }
    let text: Arc<str> = text.into();
    names.add(text.clone(), name.span(), one.problems);
    text
}

/// Expands the user data.
pub(crate) fn user_data(items: Vec<DataItem>, expansion: &Expansion<'_, '_>) -> Expanded<UserData> {
    let problems = expansion.problems;
    let mut names = Names::new("user data", "spec::unknown-user-data");
    let mut found = Vec::new();
    for item in items {
        let all = expansion.combinations(item.parameters);
        if all.count() == 0 {
            names.mark_incomplete();
        }
        if expansion.count(found.len() as u64, &all, item.name.span).is_none() {
            break;
        }
        let name = Pattern::new(&item.name, &all, problems);
        let data = item.data.as_ref().map(|node| (node.to_json(), node.span));
        for number in 0..all.count() {
            let one = Combination { all: &all, number, problems };
            let name = named("user data", &name, &one, &mut names);
            let data = data.as_ref().map(|(data, span)| fill(data, *span, &one));
            found.push(UserData { name, data, is_ephemeral: item.is_ephemeral });
        }
    }
    Expanded { items: found, names }
}

/// The value with the tokens of all its strings filled in.
fn fill(data: &Json, span: Span, one: &Combination<'_, '_>) -> Json {
    match data {
        Json::String(text) => Json::String(text_of(text, span, one.all, one)),
        Json::Array(items) => Json::Array(items.iter().map(|item| fill(item, span, one)).collect()),
        Json::Object(entries) => Json::Object(
            entries.iter().map(|(key, value)| (key.clone(), fill(value, span, one))).collect(),
        ),
        other => other.clone(),
    }
}

fn text_of(text: &str, span: Span, all: &Combinations, one: &Combination<'_, '_>) -> String {
    Pattern::of(text, span, all, one.problems).fill(one, Target::Text).into_owned()
}
