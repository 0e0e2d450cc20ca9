//! Tests of whole specs.

mod documents;
mod expansion;
mod formats;
mod helps;
mod kdl;
mod plugins;
mod properties;
mod rules;
mod slurm;
mod twins;
mod warnings;
mod writing;

use super::{Context, Format, Loaded, Rejected, Sources, load};
use crate::diagnostics::Problem;

/// Files that a test's spec may name.
pub(crate) struct Files(pub(crate) Vec<(&'static str, &'static str)>);

impl Sources for Files {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        let found = self.0.iter().find(|(name, _)| *name == path);
        found.map(|(_, text)| text.as_bytes().to_vec()).ok_or_else(|| "no such file".to_owned())
    }
}

/// Loads a spec, with a file of values and two tables at hand.
fn load_bytes(bytes: &[u8], format: Option<Format>) -> Result<Loaded, Rejected> {
    let sources = Files(vec![
        ("values.txt", "alpha\nbeta\n"),
        ("runs.csv", "city,year\nparis,2020\nrome,2021\n"),
        ("bad.csv", "city,year\nparis\n"),
    ]);
    load(bytes, format, &Context { user: Some("ada"), sources: &sources })
}

/// Loads a spec that must be good.
fn good(text: &str) -> Loaded {
    match load_bytes(text.as_bytes(), Some(Format::Yaml)) {
        Ok(loaded) => loaded,
        Err(rejected) => panic!("{}\n{text}", shown(text, &rejected.problems)),
    }
}

/// One line for each problem of a spec, errors and warnings: the code, and the text it points at.
fn problems(text: &str) -> String {
    match load_bytes(text.as_bytes(), Some(Format::Yaml)) {
        Ok(loaded) => shown(text, &loaded.warnings),
        Err(rejected) => shown(text, &rejected.problems),
    }
}

fn shown(text: &str, problems: &[Problem]) -> String {
    let line = |problem: &Problem| {
        let place = problem.span.map_or("", |span| text.get(span.start..span.end).unwrap_or("?"));
        let first = place.lines().next().unwrap_or("");
        format!("{} {first}", problem.code.strip_prefix("spec::").unwrap_or("no prefix!"))
    };
    problems.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The problems of `text` are these, one a line.
#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(problems(text), expected, "\n{text}");
}

/// The same for a spec that has a job `a` besides `text`.
#[track_caller]
fn check_rest(text: &str, expected: &str) {
    check(&format!("name: w\njobs: [{{name: a, command: 'true'}}]\n{text}"), expected);
}

/// The same for a spec of these jobs, each in the flow style of YAML.
#[track_caller]
fn check_jobs(jobs: &str, expected: &str) {
    check(&format!("name: w\njobs: [{jobs}]\n"), expected);
}

/// Message and help of the first problem.
fn first(text: &str) -> String {
    let found = match load_bytes(text.as_bytes(), Some(Format::Yaml)) {
        Ok(loaded) => loaded.warnings,
        Err(rejected) => rejected.problems,
    };
    let problem = found.first().expect("a problem");
    format!("{}; {}", problem.message, problem.help.as_deref().unwrap_or("no help"))
}
