//! The specs in the documents are valid, and what the documents say of them is what is said.

use std::collections::BTreeSet;

use super::{Files, good};
use crate::plan::testing::standard;
use crate::plan::{PlanOptions, Reach, plan, totals};
use crate::spec::fields::{self, Object};
use crate::spec::{Context, Format, complete};
use crate::workflow::SCHEDULER_FIELDS;

const MULTI_NODE: &str = include_str!("../../../../docs/multi-node-jobs.md");
const SLURM: &str = include_str!("../../../../docs/slurm.md");
const SPEC: &str = include_str!("../../../../docs/spec.md");

/// The part of a document from a heading on.
fn from_heading<'d>(document: &'d str, heading: &str) -> &'d str {
    let start = document.find(&format!("\n{heading}\n"));
    &document[start.expect("the document has this heading")..]
}

/// The fenced blocks of this kind.
fn blocks<'d>(document: &'d str, kind: &str) -> Vec<&'d str> {
    let fence = format!("```{kind}\n");
    document
        .split(&fence[..])
        .skip(1)
        .filter_map(|rest| rest.split_once("```\n").or_else(|| rest.split_once("```")))
        .map(|(block, _)| block)
        .collect()
}

fn specs(document: &str) -> impl Iterator<Item = &str> {
    blocks(document, "yaml").into_iter().filter(|block| block.starts_with("name:"))
}

#[test]
fn specs_are_valid_and_warned_of_as_they_say() {
    let mut said = BTreeSet::new();
    for spec in specs(MULTI_NODE).chain(specs(SLURM)) {
        for problem in good(spec).warnings {
            said.insert(problem.message);
            said.extend(problem.help);
        }
    }
    let shown = blocks(MULTI_NODE, "text").pop().expect("the last block shows them");
    let shown: BTreeSet<String> =
        shown.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    assert_eq!(said, shown);
}

/// The one warning of a spec with a job `simulate`, these schedulers, and actions for some of them.
fn warning(needs: &str, job: &str, schedulers: &str, started: &[&str]) -> String {
    let action = |name: &&str| {
        format!(
            "{{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: {name}}}"
        )
    };
    let actions: Vec<String> = started.iter().map(action).collect();
    let spec = format!(
        "name: w
slurm_defaults: {{account: p}}
slurm_schedulers: [{schedulers}]
actions: [{}]
resource_requirements: [{{name: r{needs}}}]
jobs: [{{name: simulate, resource_requirements: r{job}}}]",
        actions.join(", ")
    );
    match &good(&spec).warnings[..] {
        [problem] => format!("| `{}` | ``` {} ``` |", problem.code, problem.message),
        other => panic!("{other:?}\n{spec}"),
    }
}

#[test]
fn every_warning_is_in_the_table() {
    const SMALL: &str = "{name: small}";
    const LONG: &str = "{name: small, walltime: '04:00:00'}";
    const TWO: &str = "{name: small}, {name: other, nodes: 9}";
    const MIXED: &str = "{name: small, nodes: 4}, {name: other, walltime: '09:00:00'}";
    const SHARED: &str = "{name: small, exclusive: false}";
    const EIGHT: &str = "{name: small, exclusive: false, extra: --cpus-per-task=8}";
    const JOB: &str = ", command: x";
    let said = [
        warning(", num_nodes: 4", JOB, SMALL, &["small"]),
        warning(", runtime: PT6H", JOB, LONG, &["small"]),
        warning(", runtime: PT1M", JOB, "{name: small, walltime: '00:03:00'}", &["small"]),
        warning(", memory: 256g", JOB, "{name: small, mem: 64G}", &["small"]),
        warning(", num_gpus: 4", JOB, EIGHT, &["small"]),
        warning(", num_cpus: 64", JOB, EIGHT, &["small"]),
        warning(", num_cpus: 64", JOB, SHARED, &["small"]),
        warning("", ", command: x, labels: [fast]", SMALL, &["small"]),
        warning(", num_nodes: 4, runtime: PT6H", JOB, MIXED, &["small", "other"]),
        warning("", ", command: srun x", SMALL, &["small"]),
        warning(", ntasks_per_node: 4", JOB, SMALL, &["small"]),
        warning("", JOB, SMALL, &[]),
        warning("", JOB, TWO, &["other"]),
        warning("", ", command: x, scheduler: other", TWO, &["small", "other"]),
    ];
    let rows = MULTI_NODE.lines().filter(|line| line.starts_with("| `spec::"));
    assert_eq!(rows.collect::<Vec<_>>(), said);
}

#[test]
fn the_example_of_a_total_is_said() {
    let spec = "name: w
resource_requirements: [{name: train, num_nodes: 4, num_cpus: 256}]
jobs: [{name: train, command: x, resource_requirements: train}]";
    let loaded = good(spec);
    let reach = Reach { planned: standard().nodes, ..Reach::default() };
    let found = totals(&loaded.workflow, &reach, &loaded.requirement_places);
    let shown = blocks(MULTI_NODE, "text")[0];
    assert_eq!(shown.lines().next(), Some(&*found[0].message));
    let help = found[0].help.as_deref().expect("a help");
    assert_eq!(shown.lines().nth(1), help.strip_suffix(" (needed by the job `train`)"));
}

#[test]
fn the_plan_is_as_shown() {
    let planning = from_heading(SLURM, "## Planning");
    let spec = specs(planning).next().expect("the example");
    let workflow = good(spec).workflow;
    let options = PlanOptions { account: Some("my_project".into()), ..PlanOptions::default() };
    let plan = plan(&workflow, &[standard()], &options).expect("it can be planned");
    assert_eq!(blocks(planning, "text")[0], plan.to_string());
    let context = Context { user: None, sources: &Files(Vec::new()) };
    let completed = complete(spec.as_bytes(), Some(Format::Yaml), &context, &plan);
    let completed = completed.expect("it can be completed").text;
    let shown = blocks(planning, "yaml")[1];
    assert!(completed.ends_with(shown), "{completed}");
    for pin in ["prepare_{i}\n    scheduler: stage_1\n", "report\n    scheduler: stage_2\n"] {
        assert!(completed.contains(pin), "{pin}");
    }
}

/// The names in code at the beginning of the rows of a document's first table from a heading on.
fn table_fields(document: &str, heading: &str) -> BTreeSet<String> {
    let rows = from_heading(document, heading).lines().skip_while(|line| !line.starts_with("| `"));
    rows.take_while(|line| line.starts_with("| `")).flat_map(|row| names(first_cell(row))).collect()
}

fn first_cell(row: &str) -> &str {
    row.split('|').nth(1).unwrap_or_default()
}

fn names(text: &str) -> impl Iterator<Item = String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned)
}

#[test]
fn every_field_of_schedulers_and_actions_is_in_its_table() {
    let check = |heading: &str, known: &Object| {
        let known: BTreeSet<String> = known.names().map(str::to_owned).collect();
        assert_eq!(table_fields(SPEC, heading), known, "{heading}");
    };
    check("## Slurm scheduler", &fields::SLURM_SCHEDULER);
    check("## Action", &fields::ACTION);
}

/// What is not handed to a scheduler's plugin is known on both sides of the boundary.
#[test]
fn the_fields_of_schedulers_are_those_that_plugins_are_not_given() {
    let own: Vec<&str> = ["name", "type"].into_iter().chain(SCHEDULER_FIELDS).collect();
    assert_eq!(fields::SCHEDULER.names().collect::<Vec<_>>(), own);
}

/// `torc spec schema > docs/spec.schema.json` writes it anew.
#[test]
fn the_schema_in_the_documents_is_that_of_this_release() {
    let kept: serde_json::Value =
        serde_json::from_str(include_str!("../../../../docs/spec.schema.json")).unwrap();
    assert_eq!(kept, crate::spec::schema());
}

/// What KDL means is shown by a spec that is valid.
#[test]
fn the_kdl_of_the_documents_is_valid() {
    let found = blocks(SPEC, "kdl");
    assert_eq!(found.len(), 1);
    let context = Context { user: None, sources: &Files(Vec::new()) };
    let loaded = crate::spec::load(found[0].as_bytes(), Some(Format::Kdl), &context).unwrap();
    assert_eq!(loaded.workflow.jobs.len(), 21);
}

/// What is marked as not acted upon is told of at the end, with what happens instead.
#[test]
fn what_is_marked_is_listed() {
    let marked: Vec<String> = SPEC
        .lines()
        .filter(|line| line.starts_with("| `"))
        .flat_map(|row| first_cell(row).split(", "))
        .filter(|cell| cell.contains('†'))
        .flat_map(names)
        .collect();
    assert!(marked.contains(&"supports_termination".to_owned()), "{marked:?}");
    let table = from_heading(SPEC, "## What this release does not do");
    let listed: BTreeSet<String> = table.lines().flat_map(|row| names(first_cell(row))).collect();
    let missing: Vec<_> = marked.iter().filter(|name| !listed.contains(*name)).collect();
    assert_eq!(missing, Vec::<&String>::new());
}
