//! Nothing breaks the loader, and formats agree.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::load_bytes;
use crate::spec::Format;

/// A good spec with a bit of everything, to be damaged.
const SPEC: &str = r#"
name: all
variables: {v: 1}
parameters: {s: "[a, b]"}
env: {A: b}
files: [{name: "f{i}", path: "p/{i:03d}", parameters: {i: "1:3"}}]
user_data: [{name: u, data: {k: [1, 2.5, null, "x"]}, is_ephemeral: true}]
resource_requirements: [{name: r, num_cpus: 4, memory: 4g, runtime: PT30M, num_nodes: 2, ntasks_per_node: 2}]
failure_handlers: [{name: h, rules: [{exit_codes: [1, 2], max_retries: 2}]}]
slurm_defaults: {account: p}
slurm_schedulers: [{name: s, nodes: 2, walltime: 02:00:00}]
actions: [{trigger_type: on_jobs_ready, jobs: [a], action_type: schedule_nodes, scheduler: s}]
execution_config: {mode: slurm, stdio: {mode: combined}}
jobs:
- &a {name: a, command: "echo ${files.output.f1} {v}", resource_requirements: r}
- {<<: *a, name: "b{i}_{s}", command: "x {i}", depends_on_regexes: ["^a$"], parameters: {i: "1:2"}, use_parameters: [s]}
"#;

#[test]
fn the_spec_to_be_damaged_is_good() {
    let loaded = super::good(SPEC);
    assert_eq!(loaded.workflow.jobs.len(), 5);
    assert_eq!(loaded.warnings, []);
}

/// Every problem has a message, a help and a place inside the source.
fn load_and_look(bytes: &[u8], format: Option<Format>) -> Result<(), TestCaseError> {
    let found = match load_bytes(bytes, format) {
        Ok(loaded) => loaded.warnings,
        Err(rejected) => {
            prop_assert!(!rejected.problems.is_empty());
            rejected.problems
        }
    };
    for problem in found {
        prop_assert!(problem.code.starts_with("spec::"));
        prop_assert!(!problem.message.is_empty() && !problem.message.ends_with('.'));
        prop_assert!(problem.help.is_some(), "{:?}", problem);
        if let Some(span) = problem.span {
            prop_assert!(span.start <= span.end && span.start <= bytes.len(), "{:?}", problem);
            prop_assert!(span.end <= bytes.len() + 1, "{:?}", problem);
        }
    }
    Ok(())
}

fn format() -> impl Strategy<Value = Option<Format>> {
    prop_oneof![Just(None), Just(Some(Format::Yaml)), Just(Some(Format::Json))]
}

/// JSON values that look a little like specs.
fn value() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        (-3_i64..300).prop_map(Json::from),
        (-10.0..10.0_f64).prop_map(Json::from),
        "[a-c{}$:0-9 .]{0,8}".prop_map(Json::from),
    ];
    let key = prop::sample::select(vec![
        "name",
        "command",
        "jobs",
        "files",
        "path",
        "parameters",
        "i",
        "depends_on",
        "env",
        "resource_requirements",
        "num_cpus",
        "memory",
        "stdio",
        "mode",
        "actions",
        "variables",
        "execution_config",
        "slurm_schedulers",
        "use_parameters",
        "user_data",
        "data",
    ]);
    leaf.prop_recursive(4, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::btree_map(key.clone(), inner, 0..5).prop_map(|map| {
                Json::Object(map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
            }),
        ]
    })
}

/// Jobs that are mostly good.
fn job(number: usize) -> impl Strategy<Value = Json> {
    ("x[a-z ${}i]{0,12}", 0_i32..5, prop::collection::vec(0..=number, 0..2), any::<bool>())
        .prop_map(move |(command, priority, depends_on, many)| {
            let depends_on: Vec<_> = depends_on
                .iter()
                .filter(|on| **on < number)
                .map(|on| format!("^j{on}(_|$)"))
                .collect();
            let mut job = json!({
                "name": format!("j{number}"), "command": command, "priority": priority,
                "depends_on_regexes": depends_on,
            });
            if many {
                job["name"] = json!(format!("j{number}_{{i}}"));
                job["parameters"] = json!({"i": "1:3"});
            }
            job
        })
}

proptest! {
    #[test]
    fn no_bytes_break_the_loader(
        bytes in prop::collection::vec(any::<u8>(), 0..200), format in format(),
    ) {
        load_and_look(&bytes, format)?;
    }

    #[test]
    fn no_text_breaks_the_loader(
        text in r##"[-a:{}\[\]"'&*!|>?%@,#\n\r\t 0é<~.\\]{0,80}"##, format in format(),
    ) {
        load_and_look(text.as_bytes(), format)?;
    }

    #[test]
    fn no_damage_breaks_the_loader(
        edits in prop::collection::vec((0..SPEC.len(), 0..12_usize, r"[-a:{}\[\]'&*!|>, \n\t0é]{0,4}"), 1..5),
    ) {
        let mut text: Vec<char> = SPEC.chars().collect();
        for (at, removed, added) in edits {
            let at = at.min(text.len());
            let end = (at + removed).min(text.len());
            text.splice(at..end, added.chars());
        }
        let text: String = text.into_iter().collect();
        load_and_look(text.as_bytes(), Some(Format::Yaml))?;
    }

    #[test]
    fn no_value_breaks_the_loader(value in value()) {
        load_and_look(value.to_string().as_bytes(), None)?;
    }

    #[test]
    fn json_and_yaml_twins_are_equal(
        jobs in (1_usize..6).prop_flat_map(|count| (0..count).map(job).collect::<Vec<_>>()),
    ) {
        let spec = json!({"name": "twin", "jobs": jobs, "user_data": [{"name": "u", "data": jobs}]});
        let as_json = load_bytes(spec.to_string().as_bytes(), Some(Format::Json));
        let as_yaml = load_bytes(block_yaml(&spec, 0).as_bytes(), Some(Format::Yaml));
        match (as_json, as_yaml) {
            (Ok(json), Ok(yaml)) => prop_assert_eq!(json.workflow, yaml.workflow),
            (json, yaml) => prop_assert!(false, "{:?}\n{:?}", json.err(), yaml.err()),
        }
    }
}

/// Block style, scalars as in JSON.
fn block_yaml(value: &Json, indent: usize) -> String {
    let pad = " ".repeat(indent);
    match value {
        Json::Array(items) if !items.is_empty() => items
            .iter()
            .map(|item| format!("\n{pad}- {}", block_yaml(item, indent + 2).trim_start()))
            .collect(),
        Json::Object(entries) if !entries.is_empty() => entries
            .iter()
            .map(|(key, value)| format!("\n{pad}{key}: {}", block_yaml(value, indent + 2)))
            .collect(),
        other => other.to_string(),
    }
}
