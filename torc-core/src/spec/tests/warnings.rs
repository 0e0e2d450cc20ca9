//! What is accepted but not done is said, once.

use super::{check, check_jobs, check_rest, first, good};

#[test]
fn what_this_release_does_not_do_is_said() {
    check_rest("access_groups: [x]", "not-run-here access_groups");
    check_rest("compute_node_expiration_buffer_seconds: 60", "not-run-here 60");
    check_rest("enable_ro_crate: true", "not-run-here true");
    check_rest("enable_ro_crate: false\nuse_pending_failed: false", "");
    check_rest("use_pending_failed: true", "not-run-here true");
    check_rest("dynamic_jobs: {max_iterations: 3}", "");
    check_rest("dynamic_jobs: {}", "missing-field {}");
    check_rest("dynamic_jobs: {max_iterations: 0}", "out-of-range 0");
    check_rest(
        "slurm_schedulers: [{name: s, account: p}]\nactions: [{trigger_type: on_workflow_start, \
         action_type: schedule_nodes, scheduler: s, max_parallel_jobs: 7}]",
        "not-run-here max_parallel_jobs",
    );
    check_rest(
        "actions: [{trigger_type: on_workflow_start, action_type: run_commands, commands: [x], \
         max_parallel_jobs: 7}]",
        "not-run-here max_parallel_jobs",
    );
    check_rest("execution_config: {launcher: flux}", "");
    check_rest("execution_config: {launcher: ./flux}", "bad-name ./flux");
    check_rest("execution_config: {launcher: 3}", "wrong-type 3");
    check_rest("execution_config: {launcher: {argv: [run, '{command}']}}", "");
    check_rest("execution_config: {launcher: {argv: [run]}}", "bad-launcher {argv: [run]}");
    check_rest(
        "execution_config: {launcher: {argv: [run, '{node}', '{command}']}}",
        "bad-launcher '{node}'",
    );
    check_rest("execution_config: {mode: slurm, launcher: flux}", "other-mode flux");
    check_rest("failure_handlers: [{name: h, rules: [{exit_codes: [1], recovery_script: x}]}]", "");
}

#[test]
fn jobs_at_once_on_a_node_are_for_mode_direct() {
    let with = |mode: &str, most: &str| {
        format!(
            "name: w\nexecution_config: {{mode: {mode}}}\njobs: [{{name: a, command: x}}]\n\
             slurm_schedulers: [{{name: s, account: p}}]\nactions: [{{trigger_type: on_workflow_start, \
             action_type: schedule_nodes, scheduler: s, max_parallel_jobs: {most}}}]"
        )
    };
    check(&with("direct", "7"), "");
    check(&with("direct", "0"), "out-of-range 0");
    check(&with("auto", "7"), "not-run-here max_parallel_jobs");
    let said = first(&with("slurm", "7"));
    let expected = "`max_parallel_jobs` of an action is for mode direct, but this workflow has mode slurm: \
                    jobs are placed by what they need; ";
    assert!(said.starts_with(expected), "{said}");
}

#[test]
fn the_resource_monitor_tolerates_what_it_does_not_know() {
    check_rest(
        "resource_monitor: {jobs: {enabled: true, whatever: 1}, other: [1]}",
        "not-run-here resource_monitor",
    );
    let all = "resource_monitor: {sample_interval_seconds: 5, generate_plots: true, flush_interval_seconds: 60, \
               enabled: true, granularity: summary, jobs: {enabled: true, granularity: time_series}, \
               compute_node: {enabled: true, granularity: summary, cpu: true, memory: true}}";
    check_rest(all, "not-run-here resource_monitor");
    check_rest(
        "resource_monitor: {sample_interval_seconds: often, granularity: fine}",
        "not-run-here resource_monitor\nwrong-type often\nunknown-value fine",
    );
}

#[test]
fn a_warning_is_given_once() {
    check_jobs(
        "{name: a, command: x, supports_termination: true}, \
         {name: b, command: x, supports_termination: true}",
        "not-run-here supports_termination",
    );
}

#[test]
fn a_rule_for_no_code_is_probably_not_meant() {
    check_rest(
        "failure_handlers: [{name: h, rules: [{max_retries: 1}]}]",
        "rule-matches-nothing max_retries",
    );
}

#[test]
fn warnings_do_not_reject() {
    let loaded = good("name: w\nuse_pending_failed: true\njobs: [{name: a, command: x}]");
    assert!(loaded.workflow.header.use_pending_failed);
    check("name: w\njobs: []\nenable_ro_crate: maybe", "wrong-type maybe");
}

#[test]
fn settings_that_no_plugin_is_given_are_told() {
    check_rest("plugins: [{name: flux, queue: x}]", "unused-plugin flux");
    check_rest("execution_config: {placer: pack}\nplugins: [{name: pack}]", "unused-plugin pack");
    check_rest("execution_config: {placer: flux}\nplugins: [{name: flux}]", "");
    let with = |rest: &str| first(&format!("name: w\njobs: [{{name: a, command: x}}]\n{rest}"));
    let said = with("execution_config: {launcher: flux}\nplugins: [{name: fluxx, queue: x}]");
    assert_eq!(said, "the settings of the plugin `fluxx` are not used; did you mean `flux`?");
    let said = with("plugins: [{name: ge, queue: x}]\nschedulers: [{name: s, type: ge}]");
    let help = "write them in the entry of `schedulers` that has it as its type";
    assert_eq!(said, format!("the settings of the plugin `ge` are not used; {help}"));
}
