//! What a dispatched job is launched as.

use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;

use super::allocations::{nodes_on, with_actions};
use super::{Run, node, requirements, workflow};
use crate::engine::{Event, LaunchContext};
use crate::ids::{AttemptId, JobId};
use crate::resources::{MemoryRequest, NodeInventory};
use crate::traits::{AllocationEnd, Step};
use crate::workflow::{Env, File, JobData, Requirements, Stdio, StdioMode, Trigger, Workflow};

impl Run {
    /// The step that a job which holds nodes was launched as; `None` when they are gone.
    fn step(&self, name: &str) -> Option<Step> {
        let dispatched = self.engine.dispatch_of(self.job(name)).expect("it holds nodes");
        self.step_of(&dispatched)
    }

    fn step_of(&self, dispatched: &Event) -> Option<Step> {
        let Event::Dispatched { job, attempt, placement, .. } = dispatched else {
            panic!("{dispatched:?}");
        };
        let context =
            LaunchContext { output_dir: Arc::from("/out"), submission_dir: Arc::from("/here") };
        self.engine.step(*job, *attempt, placement, &context)
    }
}

/// The step of the first job of a workflow, on two nodes of 4 CPUs.
fn first_step(workflow: Workflow) -> Step {
    let mut run = Run::begin(workflow, vec![node("n1", 4), node("n2", 4)]);
    let name = run.name(JobId(1));
    assert_eq!(run.dispatch(), [&*name]);
    run.step(&name).expect("its nodes are there")
}

fn one_job(needs: Requirements) -> Workflow {
    let mut workflow = workflow(&[("a", &[])]);
    workflow.header.requirements = vec![needs];
    workflow
}

fn env(variables: &[(&str, &str)]) -> Env {
    let pairs = variables.iter().map(|(name, value)| (Box::from(*name), Box::from(*value)));
    pairs.collect::<IndexMap<_, _>>()
}

#[test]
fn a_step_has_the_ids_that_its_node_knows_cpus_and_gpus_by() {
    let mut workflow = workflow(&[("a", &[]), ("b", &[])]);
    let mut needs = requirements(2, 1);
    needs.gpus = 1;
    workflow.header.requirements = vec![needs];
    let node = NodeInventory {
        cores: [3, 5, 8, 13].into(),
        gpus: ["GPU-x".into(), "GPU-y".into()].into(),
        ..node("n1", 4)
    };
    let mut run = Run::begin(workflow, vec![node]);
    assert_eq!(run.dispatch(), ["a", "b"]);
    let step = run.step("b").expect("its node is there");
    assert_eq!(step.id.to_string(), "wf1_j2_r1_a1");
    assert_eq!((&*step.job_name, &*step.working_dir, step.allocation.0), ("b", "/here", 1));
    let here = &step.nodes[0];
    assert_eq!((&*here.name, here.memory, step.nodes.len()), ("n1", 1 << 20, 1));
    assert_eq!((&*here.cores, &*here.gpus), (&[8, 13][..], &["GPU-y".into()][..]));
}

#[test]
fn where_the_nodes_are_gone_there_is_no_step() {
    let mut run = Run::begin(workflow(&[("a", &[])]), vec![node("n1", 1)]);
    run.dispatch();
    let dispatched = run.engine.dispatch_of(JobId(1)).expect("it holds a node");
    assert!(run.step_of(&dispatched).is_some());
    run.exit("a", 0);
    run.end_allocation(1, AllocationEnd::NodeFailed);
    assert_eq!(run.step_of(&dispatched), None);
}

#[test]
fn variables_of_torc_win_over_those_of_the_job_and_these_over_those_of_the_workflow() {
    let mut workflow = workflow(&[("a", &[])]);
    workflow.header.env = env(&[("A", "all"), ("B", "all"), ("TORC_JOB_NAME", "all")]);
    workflow.jobs[0].env = Some(Arc::new(env(&[("B", "job"), ("TORC_RUN_ID", "job")])));
    let mut run = Run::begin(workflow, vec![node("n1", 1)]);
    run.dispatch();
    run.end("a", crate::traits::Outcome::Lost);
    run.dispatch();
    let step = run.step("a").expect("its node is there");
    let words: Vec<String> =
        step.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let expected = [
        "A=all",
        "B=job",
        "TORC_ATTEMPT_ID=2",
        "TORC_JOB_ID=1",
        "TORC_JOB_NAME=a",
        "TORC_OUTPUT_DIR=/out",
        "TORC_RUN_ID=1",
        "TORC_WORKFLOW_ID=1",
        "TORC_WORKFLOW_SUBMISSION_DIR=/here",
    ];
    assert_eq!(words, expected);
}

#[test]
fn a_script_precedes_the_command_on_lines_of_its_own_if_it_has_several() {
    #[track_caller]
    fn check(script: Option<&str>, expected: &str) {
        let mut workflow = workflow(&[("a", &[])]);
        workflow.jobs[0].command = "sleep 1".into();
        workflow.jobs[0].invocation_script = script.map(Box::from);
        assert_eq!(first_step(workflow).argv, ["bash", "-c", expected]);
    }
    check(None, "sleep 1");
    check(Some("time \n"), "time sleep 1");
    check(Some("set -e\nmodule load x\n"), "set -e\nmodule load x\nsleep 1");
}

#[test]
fn output_goes_where_the_job_says_and_else_where_the_workflow_says() {
    #[track_caller]
    fn check(mode: StdioMode, expected: [Option<&str>; 2]) {
        let stdio = Stdio { mode, delete_on_success: true };
        let mut of_all = workflow(&[("a", &[])]);
        of_all.header.execution.stdio = stdio;
        let mut own = workflow(&[("a", &[])]);
        own.jobs[0].stdio = Some(Arc::new(stdio));
        for workflow in [of_all, own] {
            let paths = first_step(workflow).stdio;
            assert!(paths.delete_on_success);
            assert_eq!([paths.stdout.as_deref(), paths.stderr.as_deref()], expected);
        }
    }
    let out = Some("/out/job_stdio/job_wf1_j1_r1_a1.o");
    let err = Some("/out/job_stdio/job_wf1_j1_r1_a1.e");
    let both = Some("/out/job_stdio/job_wf1_j1_r1_a1.log");
    check(StdioMode::Separate, [out, err]);
    check(StdioMode::Combined, [both, both]);
    check(StdioMode::NoStdout, [None, err]);
    check(StdioMode::NoStderr, [out, None]);
    check(StdioMode::None, [None, None]);
}

#[test]
fn a_step_is_held_to_what_it_declared_where_the_workflow_wants_that() {
    #[track_caller]
    fn check(
        memory: MemoryRequest,
        limit_resources: bool,
        enforce_runtime: bool,
        expected: (Option<u64>, Option<u64>),
    ) {
        let mut workflow = one_job(Requirements { memory, ..requirements(1, 1) });
        workflow.header.execution.limit_resources = limit_resources;
        workflow.header.execution.enforce_runtime = enforce_runtime;
        let limits = first_step(workflow).limits;
        assert_eq!((limits.memory, limits.runtime.map(|time| time.as_secs())), expected);
    }
    check(MemoryRequest::Bytes(5), true, false, (Some(5), None));
    check(MemoryRequest::Bytes(5), false, true, (None, Some(60)));
    check(MemoryRequest::ShareOfCpus, true, false, (None, None));
}

#[test]
fn a_step_is_asked_to_end_in_slurms_way_where_slurm_launches_it() {
    let here = first_step(workflow(&[("a", &[])])).limits;
    assert_eq!((here.termination_signal, here.termination_lead), (15, Duration::from_secs(30)));
    let start = nodes_on(Trigger::OnWorkflowStart, 0, 1);
    let mut workflow = with_actions(&[("a", &[])], vec![start]);
    workflow.header.execution.srun_termination_signal = Some("INT@45".to_owned());
    let mut run = Run::begin_without_nodes(workflow);
    run.act();
    run.grant(1, 1);
    run.dispatch();
    let there = run.step("a").expect("its node is there").limits;
    assert_eq!((there.termination_signal, there.termination_lead), (2, Duration::from_secs(45)));
}

#[test]
fn only_a_gang_has_several_ranks_on_a_node() {
    #[track_caller]
    fn check(nodes: u32, ranks: u32) {
        let needs = Requirements {
            ntasks_per_node: 2,
            mpi: Some("pmix".to_owned()),
            ..requirements(4, nodes)
        };
        let step = first_step(one_job(needs));
        let names: Vec<&str> = step.nodes.iter().map(|node| &*node.name).collect();
        assert_eq!(names, ["n1", "n2"][..nodes as usize]);
        let layout = step.layout;
        assert_eq!((layout.ntasks_per_node, layout.cpus_per_node), (ranks, 4));
        assert_eq!(layout.mpi.as_deref(), Some("pmix"));
    }
    check(1, 1);
    check(2, 2);
}

#[test]
fn tasks_are_bound_to_cpus_as_the_job_says_and_else_where_the_workflow_wants_that() {
    #[track_caller]
    fn check(cpu_bind: Option<&str>, enable_cpu_bind: bool, expected: Option<&str>) {
        let cpu_bind = cpu_bind.map(str::to_owned);
        let mut workflow = one_job(Requirements { cpu_bind, ..requirements(1, 1) });
        workflow.header.execution.enable_cpu_bind = enable_cpu_bind;
        assert_eq!(first_step(workflow).layout.cpu_bind.as_deref(), expected);
    }
    check(None, false, Some("none"));
    check(None, true, None);
    check(Some("cores"), false, Some("cores"));
    check(Some("cores"), true, Some("cores"));
}

#[test]
fn the_files_that_a_job_writes_are_expected_of_it() {
    let mut workflow = workflow(&[("a", &[]), ("b", &["a"])]);
    let file = |path: &str| File { name: Arc::from(path), path: Arc::from(path) };
    workflow.header.files = ["x", "y", "z"].map(file).into();
    let data = JobData { output_files: [0, 2].into(), ..JobData::default() };
    workflow.jobs[0].data = Some(Box::new(data));
    let mut run = Run::begin(workflow, vec![node("n1", 1)]);
    run.dispatch();
    let expected = |run: &Run, name: &str| run.step(name).expect("it is there").expected_files;
    assert_eq!(expected(&run, "a"), [Arc::from("x"), Arc::from("z")]);
    run.exit("a", 0);
    run.dispatch();
    assert_eq!(expected(&run, "b"), []);
}

#[test]
fn a_step_is_named_by_the_run_under_way() {
    let mut run = Run::begin(workflow(&[("a", &[])]), vec![node("n1", 1)]);
    run.dispatch();
    run.exit("a", 1);
    run.apply(Event::RunEnded { at: run.now, complete: true });
    run.start();
    run.dispatch();
    assert_eq!(run.step("a").expect("it is there").id.to_string(), "wf1_j1_r2_a1");
    assert_eq!(run.engine.next_attempt(JobId(1)), AttemptId(2));
}
