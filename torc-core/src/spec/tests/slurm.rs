//! What is usually a mistake with Slurm is said, with its place and what to write instead.

use super::{check, first};

/// A spec whose scheduler `s` has two nodes for two hours, and is started.
fn with(scheduler: &str, requirements: &str, job: &str) -> String {
    format!(
        "name: w
slurm_defaults: {{account: p}}
slurm_schedulers: [{{name: s, nodes: 2, walltime: '02:00:00'{scheduler}}}]
actions: [{{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: s}}]
resource_requirements: [{{name: r, runtime: PT30M{requirements}}}]
jobs: [{{name: a, resource_requirements: r, command: x{job}}}]"
    )
}

#[test]
fn what_fits_is_not_warned_of() {
    check(&with("", "", ""), "");
    check(&with(", mem: 64G", ", num_nodes: 2, memory: 64g", ", scheduler: s"), "");
    check(&with(", labels: [b, a]", "", ", labels: [a]"), "");
    check("name: w\nexecution_config: {mode: slurm}\njobs: [{name: a, command: x}]", "");
}

#[test]
fn jobs_that_no_scheduler_can_run() {
    check(&with("", ", num_nodes: 3", ""), "too-few-nodes a");
    check(&with("", "", "").replace("PT30M", "PT3H"), "runtime-exceeds-walltime a");
    check(&with(", mem: 64G", ", memory: 65g", ""), "memory-exceeds-scheduler a");
    check(&with("", "", ", labels: [fast]"), "no-scheduler a");
    check(&with(", labels: [fast]", "", ""), "no-scheduler a");
    // A job of the same length as its allocation starts, as it does when it runs.
    check(&with("", "", "").replace("PT30M", "PT2H2M"), "");
    check(&with("", "", "").replace("PT30M", "PT2H3M"), "runtime-exceeds-walltime a");
}

#[test]
fn ranks_are_started_on_several_nodes_only() {
    check(&with("", ", num_cpus: 4, ntasks_per_node: 4", ""), "ranks-on-one-node r");
    check(&with("", ", num_cpus: 4, ntasks_per_node: 4, num_nodes: 2", ""), "");
    check(&with("", ", ntasks_per_node: 1", ""), "");
    // What srun --mpi= makes of one rank is its own.
    check(&with("", ", mpi: pmi2, cpu_bind: cores", ""), "");
    let alone = "name: w
resource_requirements: [{name: r, ntasks_per_node: 3}]
jobs: [{name: a, command: x, resource_requirements: r}]";
    check(alone, "ranks-on-one-node r");
}

#[test]
fn jobs_that_need_more_cpus_than_shared_nodes_give() {
    let shared = |settings: &str, cpus: &str| with(settings, &format!(", num_cpus: {cpus}"), "");
    check(&shared(", exclusive: false", "2"), "shared-without-cpus a");
    check(&shared(", exclusive: false", "1"), "");
    check(&shared(", exclusive: false, extra: -c2", "2"), "");
    check(&shared(", exclusive: false, extra: -c2", "3"), "cpus-exceed-scheduler a");
    check(&shared(", exclusive: true, extra: -c2", "3"), "");
    let begins = |settings: &str, cpus: &str, expected: &str| {
        let found = first(&shared(settings, cpus));
        assert!(found.starts_with(expected), "{found}");
    };
    begins(
        ", extra: -c2",
        "3",
        "`a` needs 3 CPUs on each node, but `s` has 2 of nodes that are shared;",
    );
    begins(
        ", exclusive: false",
        "2",
        "`a` needs 2 CPUs on each node, but `s` shares nodes and says no number of CPUs: Slurm gives \
         one core of each; say how many: `extra: --cpus-per-task=2` or more;",
    );
}

#[test]
fn jobs_that_need_more_gpus_than_shared_nodes_give() {
    let of = |settings: &str, gpus: &str| with(settings, &format!(", num_gpus: {gpus}"), "");
    let shared = ", exclusive: false, extra: -c1";
    check(&of(shared, "1"), "gpus-exceed-scheduler a");
    check(&of(shared, "0"), "");
    check(&of(&format!("{shared}, gres: 'gpu:2'"), "2"), "");
    check(&of(&format!("{shared}, gres: 'gpu:2'"), "3"), "gpus-exceed-scheduler a");
    check(&of(&format!("{shared} --gpus-per-node=1"), "3"), "");
    // Whole nodes have all their GPUs.
    check(&of("", "4"), "");
    check(&of(", gres: 'gpu:2'", "4"), "");
    let found = first(&of(shared, "1"));
    let expected = "`a` needs 1 GPU on each node, but `s` asks for none of nodes that are shared; \
                    ask for them: `gres: \"gpu:1\"`;";
    assert!(found.starts_with(expected), "{found}");
    let found = first(&of(&format!("{shared}, gres: 'gpu:2'"), "3"));
    let expected =
        "`a` needs 3 GPUs on each node, but `s` has 2 of nodes that are shared; ask for them:";
    assert!(found.starts_with(expected), "{found}");
}

#[test]
fn no_job_on_one_node_is_too_large_for_a_slot() {
    let of = |scheduler: &str, needs: &str, mode: &str| {
        let spec = with(scheduler, needs, "")
            .replace("scheduler: s}", "scheduler: s, max_parallel_jobs: 4}");
        format!("{spec}\nexecution_config: {{mode: {mode}}}")
    };
    check(&of(", mem: 64G", ", memory: 65g", "direct"), "");
    check(&of(", mem: 64G", ", memory: 65g, num_nodes: 2", "direct"), "memory-exceeds-scheduler a");
    check(&of(", exclusive: false, extra: -c2", ", num_cpus: 3", "direct"), "");
    check(&of("", ", num_nodes: 3", "direct"), "too-few-nodes a");
    let both = "not-run-here max_parallel_jobs\nmemory-exceeds-scheduler a";
    check(&of(", mem: 64G", ", memory: 65g", "slurm"), both);
}

#[test]
fn an_allocation_that_leaves_no_time() {
    let of =
        |walltime: &str| with("", "", "").replace("PT30M", "PT1M").replace("02:00:00", walltime);
    check(&of("00:03:00"), "walltime-too-short s");
    check(&of("00:04:00"), "");
    let short =
        "execution_config: {sigkill_headroom_seconds: 10, srun_termination_signal: TERM@20}";
    check(&format!("{}\n{short}", of("00:01:00")), "");
}

#[test]
fn one_scheduler_that_fits_is_enough() {
    let two = |first: &str, second: &str, requirements: &str| {
        format!(
            "name: w
slurm_schedulers:
  - {{name: s, account: p{first}}}
  - {{name: t, account: p{second}}}
actions:
  - {{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: s}}
  - {{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: t}}
resource_requirements: [{{name: r{requirements}}}]
jobs: [{{name: a, resource_requirements: r, command: x}}]"
        )
    };
    let long_and_wide = ", num_nodes: 2, runtime: PT4H";
    let (long, wide) = (", walltime: '04:00:00'", ", nodes: 2");
    check(&two("", ", walltime: '04:00:00', nodes: 2", long_and_wide), "");
    check(&two(long, wide, long_and_wide), "no-scheduler a");
    check(&two(long, "", long_and_wide), "too-few-nodes a");
    check(&two(wide, "", long_and_wide), "runtime-exceeds-walltime a");
    // One that is never started helps nobody.
    let never = two(long, wide, long_and_wide).replace("scheduler: t", "scheduler: s");
    check(&never, "scheduler-never-started t\ntoo-few-nodes a");
}

#[test]
fn schedulers_that_are_never_started() {
    let jobs = "jobs: [{name: a, command: x}]";
    check(
        &format!("name: w\nslurm_schedulers: [{{name: s, account: p}}]\n{jobs}"),
        "nothing-scheduled s",
    );
    check(
        &format!(
            "name: w
slurm_schedulers: [{{name: s, account: p}}, {{name: t, account: p}}]
actions: [{{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: t}}]
{jobs}"
        ),
        "scheduler-never-started s",
    );
    // Of what is not Slurm nothing is known but whether it is started.
    check(
        &format!("name: w\nschedulers: [{{name: s, type: flux}}]\n{jobs}"),
        "nothing-scheduled s",
    );
}

#[test]
fn schedulers_that_serve_no_job() {
    let with = |job: &str| {
        format!(
            "name: w
slurm_schedulers: [{{name: s, account: p}}, {{name: t, account: p, labels: [fast]}}]
actions:
  - {{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: s}}
  - {{trigger_type: on_jobs_ready, jobs: [a], action_type: schedule_nodes, scheduler: t}}
jobs: [{{name: a, command: x}}, {{name: b, command: x{job}}}]"
        )
    };
    check(&with(""), "scheduler-without-jobs t");
    check(&with(", labels: [fast]"), "");
    check(&with(", labels: [fast], scheduler: s"), "no-scheduler b");
}

#[test]
fn ranks_that_are_started_twice() {
    check(&with("", "", "").replace("command: x", "command: srun x"), "nested-launcher srun");
    check(
        &with("", "", "").replace("command: x", "command: 'cd d && srun x'"),
        "nested-launcher srun",
    );
    check(
        &with("", "", ", invocation_script: /opt/bin/mpirun -n 4"),
        "nested-launcher /opt/bin/mpirun",
    );
    check(&with("", "", "").replace("command: x", "command: cat srun.log"), "");
    let block = "name: w\nexecution_config: {mode: slurm}\njobs:\n  - name: a\n    command: |\n      \
                 export A=1\n      mpiexec ./x\n";
    check(block, "nested-launcher mpiexec");
    check(
        r#"{"name": "w", "execution_config": {"mode": "slurm"}, "jobs": [{"name": "a", "command": "\u0073run x"}]}"#,
        r#"nested-launcher "\u0073run x""#,
    );
    for direct in ["", "execution_config: {mode: direct}"] {
        check(&format!("name: w\n{direct}\njobs: [{{name: a, command: srun x}}]"), "");
    }
}

#[test]
fn jobs_that_are_alike_are_warned_of_once() {
    let text =
        with("", ", num_nodes: 3", ", parameters: {i: '1:500'}").replace("name: a", "name: 'a{i}'");
    assert_eq!(
        first(&text),
        "`a1` and 499 more jobs like it need 3 nodes at once, but `s` has 2; set `nodes: 3` of the \
         scheduler: several allocations do not add up"
    );
    check(&text, "too-few-nodes 'a{i}'");
}

#[test]
fn warnings_say_what_to_write() {
    let check = |text: &str, expected: &str| assert_eq!(first(text), expected);
    check(
        &with("", "", "").replace("PT30M", "PT6H"),
        "`a` needs the runtime 06:00:00, but `s` has 02:00:00 of walltime; raise the scheduler's \
         `walltime` to \"06:00:00\" or more, or lower the `runtime` of `r`",
    );
    check(
        &with(", mem: 64G", ", num_nodes: 2, memory: 128g", ""),
        "`a` needs 128g of memory on each node, but `s` has 64g (`mem`); memory is per node: if \
         128g is meant for all 2 nodes together, write `memory: 64g`; else raise `mem`",
    );
    check(
        &with("", "", "").replace("command: x", "command: srun x"),
        "the command of `a` calls `srun`, but in mode slurm torc itself starts the ranks; write \
         only the program: torc runs it with srun on every node of the job, `ntasks_per_node` \
         ranks on each; with `execution_config: {mode: direct}` jobs start their ranks themselves",
    );
    check(
        "name: w\nslurm_schedulers: [{name: s, account: p}]\njobs: [{name: a, command: x}]",
        "no action asks for allocations; add to `actions`: `{trigger_type: on_workflow_start, \
         action_type: schedule_nodes, scheduler: s}`; without any, `torc submit` plans when to ask",
    );
}

#[test]
fn an_option_is_given_in_one_spelling() {
    let with = |defaults: &str| {
        format!("name: w\nslurm_defaults: {{{defaults}}}\njobs: [{{name: a, command: x}}]")
    };
    check(&with("mail_type: END, mail-user: me"), "");
    check(&with("mail_type: END, mail-type: FAIL"), "duplicate-key mail-type");
    check(&with("mail-type: END, --mail_type: FAIL"), "duplicate-key --mail_type");
    assert_eq!(
        first("name: w\nslurm_defaults:\n  mail_type: END\n  mail-type: ALL\njobs: []"),
        "`slurm_defaults` has the option `mail-type` twice: `mail-type` is another spelling of it; \
         the first is on line 3; keep one"
    );
}
