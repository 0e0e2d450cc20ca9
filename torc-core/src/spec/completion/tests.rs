//! Completed specs.

use insta::assert_snapshot;
use proptest::prelude::*;

use super::*;
use crate::plan::testing::{self, cluster, options, standard};
use crate::plan::{PartitionShape, PlanOptions, plan};
use crate::spec::{Loaded, load};

fn context() -> Context<'static> {
    Context { user: Some("ada"), sources: &testing::NoFiles }
}

fn planned(
    spec: &str,
    format: Format,
    partitions: &[PartitionShape],
    options: &PlanOptions,
) -> Plan {
    let loaded = load(spec.as_bytes(), Some(format), &context());
    let Loaded { workflow, slurm_defaults, .. } = match loaded {
        Ok(loaded) => loaded,
        Err(rejected) => panic!("{:?}\n{spec}", rejected.problems),
    };
    let options = PlanOptions { slurm_defaults, ..options.clone() };
    plan(&workflow, partitions, &options).expect("it can be planned")
}

fn completed(spec: &str, format: Format) -> Completed {
    let plan = planned(spec, format, &[standard()], &options());
    let found = complete(spec.as_bytes(), Some(format), &context(), &plan);
    found.unwrap_or_else(|error| panic!("{error:?}"))
}

const STAGES: &str = r#"# My study.
name: study   # short
slurm_defaults: {account: p}
resource_requirements:
  - {name: two, num_nodes: 2, runtime: PT1H}
  - {name: four, num_nodes: 4, runtime: PT6H}
jobs:
  # First this,
  - name: "prepare_{i}"
    command: |
      ./prepare {i}
    parameters: {i: "1:8"}
    resource_requirements: two
  # then that.
  - {name: train, command: ./train, resource_requirements: four, depends_on_regexes: ['^prepare_']}
"#;

#[test]
fn comments_and_style_are_kept() {
    let found = completed(STAGES, Format::Yaml);
    assert!(found.is_users_text);
    assert_eq!(found.unpinned, [""; 0]);
    assert_snapshot!(found.text, @r#"
    # My study.
    name: study   # short
    slurm_defaults: {account: p}
    resource_requirements:
      - {name: two, num_nodes: 2, runtime: PT1H}
      - {name: four, num_nodes: 4, runtime: PT6H}
    jobs:
      # First this,
      - name: "prepare_{i}"
        scheduler: stage_1
        command: |
          ./prepare {i}
        parameters: {i: "1:8"}
        resource_requirements: two
      # then that.
      - {name: train, scheduler: stage_2, command: ./train, resource_requirements: four, depends_on_regexes: ['^prepare_']}
    # Planned by `torc slurm generate`:
    # 1. stage_1: 8 × 2 nodes of `standard` for 01:15:00
    #    when: on_workflow_start
    #    runs: 8 jobs: prepare_1, prepare_2, prepare_3, …
    #    done: within 01:00:00 of its start
    #    why: one large: 8 nodes for 02:30:00, 16.0 node-hours, idle 0 %; many small: 8 × 2 nodes for 01:15:00, 16.0 node-hours, idle 0 %; chosen: many small, because each starts as soon as 2 nodes are free; 8 nodes at once, 8 % of the partition, would wait longer
    # 2. stage_2: 4 nodes of `standard` for 07:30:00
    #    when: on_jobs_ready, its first job
    #    runs: 1 job: train
    #    done: within 06:00:00 of its start
    #    why: one large: 4 nodes for 07:30:00, 24.0 node-hours, idle 0 %; a single job: there is nothing to split
    # in all: 9 allocations, 40.0 node-hours (at most 50.0), 07:00:00 without waiting in the queue
    slurm_schedulers:
      - name: stage_1
        account: p
        partition: standard
        nodes: 2
        walltime: "01:15:00"
      - name: stage_2
        account: p
        partition: standard
        nodes: 4
        walltime: "07:30:00"
    actions:
      - trigger_type: on_workflow_start
        action_type: schedule_nodes
        scheduler: stage_1
        num_allocations: 8
      - trigger_type: on_jobs_ready
        jobs: [train]
        action_type: schedule_nodes
        scheduler: stage_2
    "#);
}

#[test]
fn actions_that_are_there_are_kept() {
    let actions = "actions:
  - trigger_type: on_workflow_complete
    action_type: run_commands
    commands:
      - echo done  # at last
";
    let found = completed(&format!("{actions}{STAGES}"), Format::Yaml);
    assert!(found.is_users_text);
    let (_, rest) = found.text.split_once("# at last").expect("the comment is there");
    assert_snapshot!(rest.split_once("# My study").expect("it is there").0, @r"
    - trigger_type: on_workflow_start
      action_type: schedule_nodes
      scheduler: stage_1
      num_allocations: 8
    - trigger_type: on_jobs_ready
      jobs: [train]
      action_type: schedule_nodes
      scheduler: stage_2
    ");
}

#[test]
fn aliases_are_written_anew() {
    let spec = "name: w  # a comment
resource_requirements: [{name: two, num_nodes: 2}]
jobs:
  - &base {name: 'a_{i}', command: x, parameters: {i: '1:2'}, resource_requirements: two}
  - {<<: *base, name: 'b_{i}'}
  - {name: c, command: x, depends_on: [a_1], parameters: {lr: [0.10]}, env: {N: '08'}}
";
    let found = completed(spec, Format::Yaml);
    assert_snapshot!(found.text, @r#"
    # Planned by `torc slurm generate`:
    # 1. stage_1: 4 × 2 nodes of `standard` for 01:15:00
    #    when: on_workflow_start
    #    runs: 4 jobs: a_1, a_2, b_1, …
    #    done: within 01:00:00 of its start
    #    why: one large: 8 nodes for 01:15:00, 8.0 node-hours, idle 0 %; many small: 4 × 2 nodes for 01:15:00, 8.0 node-hours, idle 0 %; chosen: many small, because each starts as soon as 2 nodes are free; 8 nodes at once, 8 % of the partition, would wait longer
    # 2. stage_2: 1 node of `standard` for 2-00:00:00
    #    when: on_jobs_ready, its first job
    #    runs: 1 job: c
    #    done: within 01:00:00 of its start
    #    why: one large: 1 node for 2-00:00:00, 1.0 node-hours, idle 98 %; a single job: there is nothing to split
    # note: stage_2: 1 job declares no runtime and counts as one hour, and 2-00:00:00 is asked for: give `resource_requirements` with a `runtime`
    # in all: 5 allocations, 9.0 node-hours (at most 58.0), 02:00:00 without waiting in the queue
    name: w
    resource_requirements:
      - name: two
        num_nodes: 2
    jobs:
      - name: a_{i}
        command: x
        parameters:
          i: "1:2"
        resource_requirements: two
        scheduler: stage_1
      - name: b_{i}
        command: x
        parameters:
          i: "1:2"
        resource_requirements: two
        scheduler: stage_1
      - name: c
        command: x
        depends_on: [a_1]
        parameters:
          lr: [0.10]
        env:
          "N": "08"
        scheduler: stage_2
    slurm_schedulers:
      - name: stage_1
        account: p
        partition: standard
        nodes: 2
        walltime: "01:15:00"
      - name: stage_2
        account: p
        partition: standard
        nodes: 1
        walltime: "2-00:00:00"
    actions:
      - trigger_type: on_workflow_start
        action_type: schedule_nodes
        scheduler: stage_1
        num_allocations: 4
      - trigger_type: on_jobs_ready
        jobs: [c]
        action_type: schedule_nodes
        scheduler: stage_2
    "#);
}

#[test]
fn json_stays_json() {
    let spec = r#"{"name": "w", "jobs": [{"name": "a", "command": "x"}]}"#;
    let found = completed(spec, Format::Json);
    assert!(!found.is_users_text);
    assert_snapshot!(found.text, @r#"
    {
      "name": "w",
      "jobs": [
        {
          "name": "a",
          "command": "x"
        }
      ],
      "slurm_schedulers": [
        {
          "name": "stage_1",
          "account": "p",
          "partition": "standard",
          "nodes": 1,
          "walltime": "2-00:00:00"
        }
      ],
      "actions": [
        {
          "trigger_type": "on_workflow_start",
          "action_type": "schedule_nodes",
          "scheduler": "stage_1"
        }
      ]
    }
    "#);
}

#[test]
fn an_entry_for_several_schedulers_is_left_to_its_requirements() {
    let spec = "name: w
resource_requirements: [{name: r1, num_nodes: 1}, {name: r2, num_nodes: 2}]
jobs: [{name: 'a_{i}', command: x, resource_requirements: 'r{i}', parameters: {i: '1:2'}}]";
    let found = completed(spec, Format::Yaml);
    assert_eq!(found.unpinned, ["a_{i}"]);
    assert!(!found.text.contains("scheduler: stage_1, "), "{}", found.text);
}

#[test]
fn settings_for_mode_direct_stay_possible() {
    let spec = "name: w
execution_config: {termination_signal: SIGINT}
jobs: [{name: a, command: x}]";
    let found = completed(spec, Format::Yaml);
    assert!(found.text.contains("{mode: direct, termination_signal: SIGINT}"), "{}", found.text);
    let both = "name: w
execution_config: {termination_signal: SIGINT, enable_cpu_bind: true}
jobs: [{name: a, command: x}]";
    let plan = planned(both, Format::Yaml, &[standard()], &options());
    let error = complete(both.as_bytes(), Some(Format::Yaml), &context(), &plan);
    assert_eq!(
        error.expect_err("it has no mode").to_string(),
        "with the planned schedulers the spec has problems, the first of them: \
         `enable_cpu_bind` is for mode slurm, but this workflow has mode direct"
    );
}

#[test]
fn what_cannot_be_completed() {
    let plan = planned(STAGES, Format::Yaml, &[standard()], &options());
    let check = |spec: &str, expected: &str| {
        let error = complete(spec.as_bytes(), None, &context(), &plan).expect_err("it cannot");
        assert_eq!(error.to_string(), expected);
    };
    check("name: w", "the spec has 1 problems");
    check(
        "name: w\njobs: [{name: a, command: x}]",
        "the plan is for another workflow than this spec: plan it again",
    );
    let nothing = complete(STAGES.as_bytes(), None, &context(), &Plan::default());
    assert_eq!(nothing.expect("it is complete").text, STAGES);
}

proptest! {
    /// The check is inside: what does not read as the planned workflow is an error.
    #[test]
    fn every_plan_can_be_written_down(
        spec in testing::spec(),
        partitions in cluster(),
        options in testing::choices(),
        format in prop::sample::select(Format::ALL.to_vec()),
        is_block in any::<bool>(),
    ) {
        let mut text = spec.to_string();
        if is_block || format == Format::Kdl {
            let problems = Problems::new(&text);
            let root = crate::spec::tree(&text, Format::Json, &problems).expect("it is JSON");
            text = write::write(&root, &text, format);
        }
        let plan = planned(&text, format, &partitions, &options);
        let found = complete(text.as_bytes(), Some(format), &context(), &plan);
        let found = match found {
            Ok(found) => found,
            Err(error) => return Err(TestCaseError::fail(format!("{error:?}\n{text}"))),
        };
        let again = planned(&found.text, format, &partitions, &options);
        if !plan.stages.is_empty() {
            prop_assert_eq!(again, Plan::default());
            prop_assert!(!is_block || format != Format::Yaml || found.is_users_text);
        }
    }
}

#[test]
fn large_entries_are_named_by_a_regex_if_it_is_exact() {
    let spec = |second: &str| {
        format!(
            "name: w
variables: {{v: run}}
resource_requirements: [{{name: two, num_nodes: 2}}]
jobs:
  - {{name: first, command: x}}
  - {{name: '{{v}}_{{i:02d}}', command: x, resource_requirements: two, depends_on: [first], parameters: {{i: '1:20'}}}}
  - {{name: {second}, command: x, depends_on: [first]}}
"
        )
    };
    let action = |second: &str| {
        let found = completed(&spec(second), Format::Yaml);
        let (_, action) = found.text.split_once("on_jobs_ready\n").expect("there is one");
        action.lines().next().expect("a line").trim().to_owned()
    };
    assert_eq!(action("other"), "job_name_regexes: [^run_.+$]");
    assert!(action("run_all").starts_with("jobs:"), "{}", action("run_all"));
}
