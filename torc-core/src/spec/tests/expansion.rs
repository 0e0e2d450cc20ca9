//! What comes out of a good spec.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::good;
use crate::ids::JobId;
use crate::resources::MemoryRequest;
use crate::workflow::{ActionKind, Job, StdioMode, Trigger, Workflow};

fn workflow(text: &str) -> Workflow {
    good(text).workflow
}

fn jobs(text: &str) -> Vec<Job> {
    workflow(&format!("name: w\n{text}")).jobs
}

fn names(jobs: &[Job]) -> String {
    jobs.iter().map(|job| &*job.name).collect::<Vec<_>>().join(" ")
}

fn numbers(jobs: &[JobId]) -> Vec<u32> {
    jobs.iter().map(|job| job.0).collect()
}

#[test]
fn parameters_expand_in_the_order_written() {
    let check = |fields: &str, expected: &str| {
        let text = format!(
            "parameters: {{s: '[x, y]'}}\njobs: [{{name: 'j_{{i}}_{{s}}', command: c, {fields}}}]"
        );
        assert_eq!(names(&jobs(&text)), expected);
    };
    check("parameters: {i: '1:2', s: [a, b]}", "j_1_a j_1_b j_2_a j_2_b");
    check("parameters: {s: [a, b], i: '1:2'}", "j_1_a j_2_a j_1_b j_2_b");
    check("parameters: {i: '1:2', s: [a, b]}, parameter_mode: zip", "j_1_a j_2_b");
    check("parameters: {i: '1:2'}, use_parameters: [s]", "j_1_x j_1_y j_2_x j_2_y");
    check("use_parameters: [s], parameters: {i: '1:2'}", "j_1_x j_2_x j_1_y j_2_y");
    check("use_parameters: [s], parameters: {i: 7, s: own}", "j_7_own");
    check(
        "parameters: {i: '@values.txt', s: [0.10, true]}",
        "j_alpha_0.10 j_alpha_true j_beta_0.10 j_beta_true",
    );
    check("priority: 1", "j_{i}_{s}");
}

#[test]
fn a_row_of_a_table_is_a_combination() {
    let check = |top: &str, fields: &str, expected: &str| {
        let text =
            format!("{top}\njobs: [{{name: '{{city}}_{{year}}_{{i}}', command: c, {fields}}}]");
        assert_eq!(names(&jobs(&text)), expected);
    };
    let both = "paris_2020_1 paris_2020_2 rome_2021_1 rome_2021_2";
    check("", "parameters_file: runs.csv, parameters: {i: '1:2'}", both);
    check("parameters_file: runs.csv", "use_parameters_file: true, parameters: {i: '1:2'}", both);
    check(
        "",
        "parameters: {i: '1:2'}, parameters_file: runs.csv",
        "paris_2020_1 rome_2021_1 paris_2020_2 rome_2021_2",
    );
    check(
        "",
        "parameters: {i: '1:2'}, parameters_file: runs.csv, parameter_mode: zip",
        "paris_2020_1 rome_2021_2",
    );
    check("parameters_file: runs.csv", "use_parameters_file: false", "{city}_{year}_{i}");
}

#[test]
fn tokens_are_filled_in_everywhere() {
    let text = r#"
name: w
resource_requirements: [{name: small_1}, {name: small_2}]
failure_handlers: [{name: h1, rules: []}, {name: h2, rules: []}]
schedulers: [{name: s1, type: local}, {name: s2, type: local}]
files:
  - {name: "in_{i}", path: "data/{i:03d}.csv", parameters: {i: "1:2"}}
  - {name: "out_{i}", path: "out/{i}.csv", parameters: {i: "1:2"}}
user_data:
  - {name: "u{i}", data: {value: "v{i}", list: [1, "{i}"]}, parameters: {i: "1:2"}}
jobs:
  - name: "prep.{i}"
    command: prep
    parameters: {i: "1:2"}
  - name: "run_{i}"
    command: "run {i} ${files.input.in_{i}} ${HOME} ${user_data.input.u{i}}"
    invocation_script: "load {i}"
    env: {N: "{i}", M: same}
    labels: ["l{i}", b, b]
    resource_requirements: "small_{i}"
    failure_handler: "h{i}"
    scheduler: "s{i}"
    depends_on_regexes: ["^prep.{i}$"]
    output_files: ["out_{i}"]
    parameters: {i: "1:2"}
  - name: report
    command: report
    input_files_regexes: ["^out_"]
    cancel_on_blocking_job_failure: false
"#;
    let Workflow { header, jobs } = workflow(text);
    assert_eq!(&*header.files[1].path, "data/002.csv");
    assert_eq!(header.user_data[1].data, Some(json!({"value": "v2", "list": [1, "2"]})));
    let run = &jobs[3];
    // What user data is, is known only when the job is launched.
    assert_eq!(&*run.command, "run 2 data/002.csv ${HOME} ${user_data.input.u2}");
    assert_eq!(run.invocation_script.as_deref(), Some("load 2"));
    assert_eq!(run.env.as_ref().map(|env| (&*env["N"], &*env["M"])), Some(("2", "same")));
    let labels: Vec<&str> = run.labels.iter().flat_map(|all| all.iter()).map(|l| &**l).collect();
    assert_eq!(labels, ["b", "l2"]);
    assert_eq!((run.requirements, run.failure_handler, run.scheduler), (2, Some(1), Some(1)));
    assert_eq!(numbers(&run.depends_on), [2]);
    let data = run.data.as_ref().unwrap();
    assert_eq!(
        (&*data.input_files, &*data.output_files, &*data.input_user_data),
        (&[1][..], &[3][..], &[1][..])
    );
    assert_eq!(numbers(&jobs[4].depends_on), [3, 4]);
    assert!(!jobs[4].cancel_on_blocking_job_failure);
}

#[test]
fn values_are_literal_inside_regexes() {
    let found = jobs(
        "jobs:\n- {name: 'p_{s}', command: c, parameters: {s: [a.b, axb]}}\n\
         - {name: 'q_{s}', command: c, depends_on_regexes: ['^p_{s}$'], parameters: {s: [a.b]}}\n\
         - {name: all, command: c, depends_on_regexes: ['.']}\n",
    );
    assert_eq!(numbers(&found[2].depends_on), [1]);
    assert_eq!(numbers(&found[3].depends_on), [1, 2, 3]);
}

#[test]
fn dependencies_follow_files_and_user_data() {
    let found = jobs(
        "files: [{name: f, path: f.txt}]\nuser_data: [{name: u}]\njobs:\n\
         - {name: end, command: c, input_files: [f], input_user_data: [u], depends_on: [first]}\n\
         - {name: first, command: 'x > ${files.output.f}'}\n\
         - {name: second, command: c, output_user_data: [u]}\n\
         - {name: third, command: c, output_user_data: [u], input_user_data: [u]}\n",
    );
    assert_eq!(numbers(&found[0].depends_on), [2, 3, 4]);
    assert_eq!(&*found[1].command, "x > f.txt");
    assert_eq!(numbers(&found[3].depends_on), [3]);
}

#[test]
fn what_jobs_share_is_shared() {
    let found = jobs(
        "jobs:\n- {name: a, command: c, env: {X: y}, labels: [l], stdio: {mode: none}}\n\
         - {name: 'b{i}', command: c, env: {X: y}, labels: [l], stdio: {mode: none}, parameters: {i: '1:3'}}\n",
    );
    for job in &found[1..] {
        assert!(Arc::ptr_eq(job.env.as_ref().unwrap(), found[0].env.as_ref().unwrap()));
        assert!(Arc::ptr_eq(job.labels.as_ref().unwrap(), found[0].labels.as_ref().unwrap()));
        assert!(Arc::ptr_eq(job.stdio.as_ref().unwrap(), found[0].stdio.as_ref().unwrap()));
    }
}

#[test]
fn variables_are_replaced_before_expansion() {
    let found = workflow(
        "variables: {n: 3, out: results, lr: 0.10}\nname: 'w_{lr}'\ndescription: '${n} {n:03d}'\njobs:\n\
         - {name: 'j{i}', command: 'x {out}/{i} {lr:.1f}', parameters: {i: '1:{n}'}}\n",
    );
    assert_eq!(found.header.name, "w_0.10");
    assert_eq!(found.header.description.as_deref(), Some("${n} 003"));
    assert_eq!(names(&found.jobs), "j1 j2 j3");
    assert_eq!(&*found.jobs[2].command, "x results/3 0.1");
}

#[test]
fn defaults_are_those_of_the_contract() {
    let header = workflow("name: w\njobs: []\nresource_requirements: [{name: r}]").header;
    let default = &header.requirements[0];
    assert_eq!((&*default.name, default.runtime), ("default", None));
    let named = &header.requirements[1];
    assert_eq!((named.cpus, named.gpus, named.nodes, named.ntasks_per_node), (1, 0, 1, 1));
    assert_eq!(named.memory, MemoryRequest::ShareOfCpus);
    assert_eq!(named.runtime, Some(Duration::from_secs(3600)));
    assert_eq!(header.wait_for_new_jobs_seconds, 90);
    assert_eq!(header.wait_for_server_minutes, 20);
    assert_eq!(header.execution, crate::workflow::ExecutionConfig::default());
}

#[test]
fn schedulers_and_actions_are_resolved() {
    let header = workflow(
        "name: w\njobs: [{name: a, command: c}, {name: b, command: c}]\n\
         slurm_defaults: {account: p, mail_type: END}\n\
         slurm_schedulers: [{name: s, nodes: 4, walltime: 1-00:00:00, partition: null}]\n\
         schedulers: [{name: here, type: local, speed: 3}]\n\
         actions:\n- {trigger_type: on_jobs_complete, job_name_regexes: ['^b'], jobs: [a], \
         action_type: schedule_nodes, scheduler: here, scheduler_type: local, num_allocations: 2}\n",
    )
    .header;
    let slurm = &header.schedulers[0];
    assert_eq!(slurm.kind, "slurm");
    assert_eq!(
        slurm.settings,
        json!({
            "nodes": 4,
            "walltime": "1-00:00:00",
            "defaults": {"account": "p", "mail-type": "END"},
        })
    );
    assert_eq!(header.schedulers[1].settings, json!({"speed": 3}));
    let action = &header.actions[0];
    assert_eq!(action.trigger, Trigger::OnJobsComplete(Box::new([JobId(1), JobId(2)])));
    let ActionKind::ScheduleNodes { scheduler: 1, num_allocations: 2, .. } = action.kind else {
        panic!("{action:?}");
    };
}

#[test]
fn output_of_a_named_job_can_be_overridden() {
    let found = jobs(
        "jobs: [{name: 'j{i}', command: c, stdio: {mode: combined}, parameters: {i: '1:2'}}]\n\
         execution_config: {job_stdio_overrides: {j2: {mode: none, delete_on_success: true}}}\n",
    );
    let mode = |job: &Job| job.stdio.as_ref().map(|stdio| stdio.mode);
    assert_eq!(mode(&found[0]), Some(StdioMode::Combined));
    assert_eq!(mode(&found[1]), Some(StdioMode::None));
}
