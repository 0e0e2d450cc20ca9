//! What is wrong with a spec is found, at its place.

use super::{check, check_jobs, check_rest, first, good};
use crate::workflow::ExecutionMode;

#[test]
fn the_smallest_spec_is_good() {
    let loaded = good("name: w\njobs: [{name: a, command: 'true'}]");
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.workflow.header.user.as_deref(), Some("ada"));
    assert_eq!(loaded.workflow.header.requirements.len(), 1);
    assert_eq!(loaded.workflow.jobs.len(), 1);
}

#[test]
fn fields_are_known_typed_and_there() {
    check("[]", "wrong-type []");
    check("", "empty ");
    check("jobs: []", "missing-field jobs");
    check("name: w", "missing-field name");
    check("name: w\njobs: null", "missing-field name");
    check_rest("descripton: x", "unknown-field descripton");
    check("name: 007\njobs: []", "wrong-type 007");
    check_jobs("{name: a}", "missing-field name");
    check_jobs("{nam: a, command: b}", "missing-field nam\nunknown-field nam");
    check_jobs("{name: a, command: [b]}", "wrong-type [b]");
    check_jobs("{name: a, command: b, priority: high}", "wrong-type high");
    check_jobs("{name: a, command: b, priority: 2147483648}", "out-of-range 2147483648");
    check_jobs("{name: a, command: b, priority: 1.5}", "wrong-type 1.5");
    check_jobs(
        "{name: a, command: b, priority: 99999999999999999999}",
        "out-of-range 99999999999999999999",
    );
    check_jobs("{name: a, command: b, depends_on: x}", "wrong-type x");
    check_jobs("{name: a, command: b, cancel_on_blocking_job_failure: yes}", "wrong-type yes");
    check_jobs("{name: a, command: b, depends_on: null, env: ~, stdio: null}", "");
    check_jobs("a, {name: b, command: 1}", "wrong-type a\nwrong-type 1");
}

#[test]
fn messages_say_what_to_do() {
    let check = |text: &str, expected: &str| assert_eq!(first(text), expected);
    check("name: 007\njobs: []", "`name` must be a string; write for example `name: \"007\"`");
    check(
        "name: w\njobs: [{name: a, comand: b, command: c}]",
        "a job has no field `comand`; did you mean `command`?",
    );
    check(
        "name: w\njobs: [{name: a, command: b, memory: 4g}]",
        "a job has no field `memory`; define a `resource_requirements` entry with it, and name \
         that in the job",
    );
    check(
        "name: w\njobs: [{name: prep, command: b}, {name: c, command: d, depends_on: [perp]}]",
        "there is no job named `perp`; did you mean `prep`?",
    );
    check(
        "name: w\njobs: []\nresource_requirements: [{name: big, memory: 1.5g}]",
        "the memory is not an integer with k, m, g or t; write `1536m`",
    );
}

#[test]
fn all_problems_are_found_at_once_in_source_order() {
    check(
        "nme: w\njobs:\n  - name: a\n    command: b\n    depends_on: [x]\n  - name: a\n    \
         command: c\n    resource_requirements: y\nresource_requirements:\n  - {name: r, memory: 4GB}\n",
        "missing-field nme\nunknown-field nme\nunknown-job x\nduplicate-name a\n\
         unknown-requirements y\nbad-memory 4GB",
    );
}

#[test]
fn names_can_be_used() {
    check_jobs("{name: '', command: b}", "bad-name ''");
    check_jobs("{name: \"a\u{202e}b\", command: b}", "bad-name \"a\u{202e}b\"");
    check_jobs("{name: a, command: ' '}", "bad-command ' '");
    check_jobs(r#"{name: "a\nb", command: b}"#, r#"bad-name "a\nb""#);
    check_jobs(r#"{name: "a\0", command: b}"#, r#"bad-name "a\0""#);
    check_jobs("{name: ../x/y, command: b}", "");
    check_rest("files: [{name: '', path: p}, {name: f, path: ''}]", "bad-name ''\nbad-path ''");
    check_jobs("{name: a, command: b}, {name: a, command: c}", "duplicate-name a");
    check_rest("files: [{name: f, path: p}, {name: f, path: q}]", "duplicate-name f");
    check_rest("user_data: [{name: f}, {name: f}]", "duplicate-name f");
    check_rest("resource_requirements: [{name: default}]", "reserved-name default");
    check_rest("resource_requirements: [{name: r}, {name: r}]", "duplicate-name r");
    check_rest(
        "failure_handlers: [{name: h, rules: []}, {name: h, rules: []}]",
        "duplicate-name h",
    );
    check_jobs("{name: a, command: b, parameters: {i: '1:3'}}", "duplicate-name a");
}

#[test]
fn plugins_are_named_so_that_files_can_be() {
    for placer in ["pack", "spread", "packing", "my-site_2"] {
        check_rest(&format!("execution_config: {{placer: {placer}}}"), "");
    }
    for name in ["../evil", "a.b", "a b", "''", &*"x".repeat(65)] {
        check_rest(&format!("execution_config: {{placer: {name}}}"), &format!("bad-name {name}"));
        check_rest(&format!("plugins: [{{name: {name}}}]"), &format!("bad-name {name}"));
    }
    check_rest(
        "execution_config: {placer: flux, launcher: other}\n\
         plugins: [{name: flux, queue: x}, {name: other, queue: y}]",
        "",
    );
    check_rest("plugins: [{name: flux, queue: x}, {name: flux}]", "duplicate-name flux");
    let settings = "name: w\njobs: [{name: a, command: b}]\nexecution_config: {placer: flux}\n\
                    plugins: [{name: flux, queue: x, more: [1]}]";
    let header = good(settings).workflow.header;
    assert_eq!(header.execution.placer_plugin(), Some("flux"));
    let of = |mode: &str| {
        let spec =
            format!("name: w\njobs: [{{name: a, command: b}}]\nexecution_config: {{mode: {mode}}}");
        let header = good(&spec).workflow.header;
        (header.execution.mode, header.execution.executor_plugin().map(str::to_owned))
    };
    assert_eq!(of("site-9"), (ExecutionMode::Plugin, Some("site-9".to_owned())));
    assert_eq!(of("plugin"), (ExecutionMode::Plugin, Some("plugin".to_owned())));
    assert_eq!(of("slurm"), (ExecutionMode::Slurm, None));
    let settings = serde_json::to_string(&header.settings_of("flux")).expect("JSON");
    assert_eq!(settings, r#"{"queue":"x","more":[1]}"#);
    assert!(header.settings_of("other").is_empty());
}

#[test]
fn references_lead_somewhere() {
    check_jobs("{name: a, command: b, resource_requirements: r}", "unknown-requirements r");
    check_jobs("{name: a, command: b, resource_requirements: default}", "");
    check_jobs("{name: a, command: b, failure_handler: h}", "unknown-handler h");
    check_jobs("{name: a, command: b, scheduler: s}", "unknown-scheduler s");
    check_jobs("{name: a, command: b, depends_on: [x]}", "unknown-job x");
    check_jobs("{name: a, command: b, input_files: [x]}", "unknown-file x");
    check_jobs("{name: a, command: b, output_user_data: [x]}", "unknown-user-data x");
    check_jobs("{name: a, command: 'cat ${files.input.x}'}", "unknown-file x");
    check_jobs("{name: a, command: b, depends_on_regexes: ['(']}", "bad-regex '('");
    check_jobs("{name: a, command: b, depends_on_regexes: [zz]}", "regex-matches-nothing zz");
    check_rest("execution_config: {job_stdio_overrides: {x: {mode: none}}}", "unknown-job x");
}

#[test]
fn commands_can_be_passed_to_a_process() {
    check_jobs(r#"{name: a, command: "a\0b"}"#, r#"bad-command "a\0b""#);
    check_jobs("{name: a, command: b, env: {'': x, 'a=b': y}}", "bad-env ''\nbad-env 'a=b'");
    check_jobs("{name: a, command: b, env: {N: 4}}", "wrong-type 4");
    let long =
        |length: usize| format!("name: w\njobs: [{{name: a, command: {}}}]", "x".repeat(length));
    check(&long(131_070), "");
    assert!(first(&long(131_071)).contains("put it into a script file"));
    assert!(first(&long(10_000_000)).contains("10000001 bytes"));
}

#[test]
fn cycles_are_shown_as_paths() {
    let spec = |jobs: &str| format!("name: w\njobs: [{jobs}]");
    let path = |jobs: &str| first(&spec(jobs)).split(';').next().unwrap_or_default().to_owned();
    assert_eq!(path("{name: a, command: x, depends_on: [a]}"), "jobs wait for each other: a -> a");
    assert_eq!(
        path(
            "{name: z, command: x, depends_on: [b]}, {name: a, command: x, depends_on: [c]}, \
             {name: b, command: x, depends_on: [a]}, {name: c, command: x, depends_on: [b]}"
        ),
        "jobs wait for each other: a -> c -> b -> a"
    );
    check(
        "name: w\nfiles: [{name: f, path: f}, {name: g, path: g}]\njobs:\n\
         - {name: a, command: 'x ${files.input.f} ${files.output.g}'}\n\
         - {name: b, command: 'x ${files.input.g} ${files.output.f}'}\n",
        "cycle a",
    );
    let ring = "name: w\njobs: [{name: 'j{i}', command: x, parameters: {i: '0:99999', k: '[1]'}}]";
    assert!(good(ring).workflow.jobs.len() == 100_000);
}

#[test]
fn a_long_chain_needs_no_stack() {
    let mut text =
        String::from("{\"name\": \"w\", \"jobs\": [{\"name\": \"j0\", \"command\": \"x\"}");
    for job in 1..50_000 {
        text += &format!(
            ",{{\"name\":\"j{job}\",\"command\":\"x\",\"depends_on\":[\"j{}\"]}}",
            job - 1
        );
    }
    let closed =
        text.replacen("\"command\": \"x\"", "\"command\":\"x\",\"depends_on\":[\"j49999\"]", 1);
    assert!(super::load_bytes(format!("{text}]}}").as_bytes(), None).is_ok());
    let rejected = super::load_bytes(format!("{closed}]}}").as_bytes(), None).unwrap_err();
    assert_eq!(rejected.problems.len(), 1);
    assert!(rejected.problems[0].message.contains("(49992 more) -> j0"));
}

#[test]
fn one_job_writes_a_file() {
    check(
        "name: w\nfiles: [{name: f, path: f}]\njobs:\n- {name: a, command: x, output_files: [f]}\n\
         - {name: b, command: x, output_files: [f]}\n",
        "two-producers b",
    );
}

#[test]
fn requirements_are_possible() {
    let check = |fields: &str, expected: &str| {
        check_rest(&format!("resource_requirements: [{{name: r, {fields}}}]"), expected);
    };
    check("num_cpus: 0", "out-of-range 0");
    check("num_nodes: 0", "out-of-range 0");
    check("num_gpus: -1", "out-of-range -1");
    check("memory: 4GB", "bad-memory 4GB");
    check("memory: 1024", "");
    check("runtime: 1h", "bad-runtime 1h");
    check("num_nodes: 2, num_cpus: 6, ntasks_per_node: 4", "uneven-ranks 6");
    check("num_nodes: 2, num_cpus: 8, ntasks_per_node: 4, mpi: pmix, cpu_bind: cores", "");
    check_rest(
        "failure_handlers: [{name: h, rules: [{exit_codes: [256], max_retries: -1}]}]",
        "out-of-range 256\nout-of-range -1",
    );
}

#[test]
fn slurm_schedulers_are_complete() {
    check_rest("slurm_schedulers: [{name: s}]", "missing-field name");
    let account_by_default = "slurm_schedulers: [{name: s}]\nslurm_defaults: {account: p}";
    check_rest(account_by_default, "nothing-scheduled s");
    check_rest("slurm_schedulers: [{name: s, account: p, walltime: 10:00}]", "bad-walltime 10:00");
    check_rest("slurm_schedulers: [{name: s, account: p, nodes: 0}]", "out-of-range 0");
    check_rest(
        "slurm_defaults: {partition: x, job_name: y, qos: z}",
        "forbidden-default partition\nforbidden-default job_name",
    );
    check_rest("slurm_config: {}", "slurm-config slurm_config");
    check_rest("schedulers: [{name: s, type: slurm}]", "unknown-value slurm");
    check_rest("schedulers: [{name: s, type: local, anything: [1]}]", "nothing-scheduled s");
    let other = |fields: &str, expected: &str| {
        check_rest(&format!("schedulers: [{{name: s, type: gridengine, {fields}}}]"), expected);
    };
    other("pe: torc, nodes: 2, walltime: '01:00:00', labels: [x]", "nothing-scheduled s");
    other("nodes: 0", "out-of-range 0");
    other(
        "nodes: many, labels: x, serialize_allocations: 1",
        "wrong-type many\nwrong-type x\nwrong-type 1",
    );
    other("walltime: 10:00", "bad-walltime 10:00");
    check_rest(
        "schedulers: [{name: s, type: gridengine}]\nexecution_config: {mode: slurm}",
        "other-mode s",
    );
    check_rest("schedulers: [{name: s, nodes: 2}]", "missing-field name");
    check_rest(
        "slurm_schedulers: [{name: s, account: p}]\nschedulers: [{name: s, type: local}]",
        "duplicate-name s",
    );
}

#[test]
fn fields_of_the_other_mode_are_errors_unless_default() {
    let check = |fields: &str, expected: &str| {
        check_rest(&format!("execution_config: {{{fields}}}"), expected);
    };
    check("mode: slurm, termination_signal: SIGINT", "other-mode SIGINT");
    check("mode: slurm, termination_signal: TERM, limit_resources: true, oom_exit_code: 137", "");
    check("mode: direct, enable_cpu_bind: true", "other-mode true");
    check("mode: direct, enable_cpu_bind: false, srun_termination_signal: TERM@120", "");
    check("mode: auto, enable_cpu_bind: true, limit_resources: false", "");
    check("mode: ../fast", "bad-name ../fast");
    let of_steps = "launcher: flux, limit_resources: false, termination_signal: INT, sigterm_lead_seconds: 5, \
                    oom_exit_code: 9";
    check(&format!("mode: site, {of_steps}"), "");
    check("mode: site, srun_mpi: pmix", "other-mode pmix");
    check("mode: site, release_idle_nodes: true", "other-mode true");
    check("mode: site, enable_cpu_bind: true", "other-mode true");
    check("termination_signal: SIGNOPE", "bad-signal SIGNOPE");
    check("stdio: {mode: both}", "unknown-value both");
    check("timeout_exit_code: 256", "out-of-range 256");
    let slurm = "slurm_schedulers: [{name: s, account: p}]\n";
    check_rest(&format!("{slurm}execution_config: {{sigterm_lead_seconds: 5}}"), "other-mode 5");
}

#[test]
fn actions_are_complete() {
    let check = |fields: &str, expected: &str| {
        let text =
            format!("slurm_schedulers: [{{name: s, account: p}}]\nactions: [{{{fields}}}]\n");
        check_rest(&text, expected);
    };
    let start = "trigger_type: on_workflow_start";
    check(&format!("{start}, action_type: schedule_nodes, scheduler: s"), "");
    check(&format!("{start}, action_type: schedule_nodes"), "missing-field trigger_type");
    let many = |count: &str| {
        format!("{start}, action_type: schedule_nodes, scheduler: s, num_allocations: {count}")
    };
    check(&many("10000"), "");
    check(&many("10001"), "out-of-range 10001");
    check(&format!("{start}, action_type: schedule_nodes, scheduler: x"), "unknown-scheduler x");
    check(
        &format!("{start}, action_type: schedule_nodes, scheduler: s, scheduler_type: local"),
        "scheduler-type local",
    );
    check(
        &format!(
            "{start}, action_type: schedule_nodes, scheduler: s, start_one_worker_per_node: true"
        ),
        "other-mode true",
    );
    check("action_type: schedule_nodes, scheduler: s", "missing-field action_type");
    check(
        "trigger_type: on_jobs_ready, action_type: schedule_nodes, scheduler: s",
        "missing-field on_jobs_ready",
    );
    check("trigger_type: on_jobs_ready, jobs: [a], action_type: schedule_nodes, scheduler: s", "");
    check(
        "trigger_type: on_jobs_ready, job_name_regexes: [zz], action_type: schedule_nodes, scheduler: s",
        "action-without-jobs on_jobs_ready\nregex-matches-nothing zz",
    );
    check(
        &format!("{start}, jobs: [a], action_type: schedule_nodes, scheduler: s"),
        "unknown-field on_workflow_start",
    );
    check(&format!("{start}, action_type: run_comands"), "unknown-value run_comands");
}

#[test]
fn parameters_are_right() {
    let check = |fields: &str, expected: &str| {
        check_jobs(&format!("{{name: 'a{{i}}', command: b, {fields}}}"), expected);
    };
    check("parameters: {i: '4:1'}", "bad-parameter '4:1'");
    check("parameters: {i: []}", "bad-parameter []");
    check("parameters: {i: '[]'}", "bad-parameter '[]'");
    check("parameters: {i: '1:3:0'}", "bad-parameter '1:3:0'");
    check("parameters: {i: [[1]]}", "wrong-type [1]");
    check("parameters: {i: '@none.txt'}", "bad-source '@none.txt'");
    check("parameters: {'a b': 1}", "bad-parameter 'a b'");
    check("parameters: {i: '1:1000000000000'}", "too-many '1:1000000000000'");
    check("parameters: {i: '0:1:1e-300'}", "too-many '0:1:1e-300'");
    check("parameters: {i: '1:10000', k: '1:10000'}", "too-many i");
    check("parameters: {i: '1:3', k: '1:2'}, parameter_mode: zip", "bad-parameter k");
    check("parameters: {i: '1:3'}, parameter_mode: cross", "unknown-value cross");
    check("use_parameters: [i]", "unknown-parameter i");
    check("parameters_file: none.csv", "bad-table none.csv");
    check("parameters_file: bad.csv", "bad-table bad.csv");
    check("parameters_file: runs.csv, parameters: {year: [1]}", "bad-parameter year");
    check(
        "parameters_file: runs.csv, parameters: {i: [1]}, parameter_mode: zip",
        "bad-parameter i",
    );
    check_jobs("{name: 'a{i:q}', command: b, parameters: {i: '1:2'}}", "bad-parameter 'a{i:q}'");
    check_jobs("{name: 'a{i:03d}', command: b, parameters: {i: [x]}}", "bad-parameter 'a{i:03d}'");
}

#[test]
fn variables_are_defined_once() {
    let with = |text: &str, expected: &str| {
        check(&format!("variables: {{v: 1, out: dir}}\n{text}"), expected);
    };
    let job = "name: w\njobs: [{name: a, command: ";
    with(&format!("{job} 'x {{v}} {{out}}'}}]"), "");
    with(&format!("{job} 'x {{ot}}'}}]"), "undefined-variable ot");
    with(&format!("{job} 'x ${{ot}} {{print $1}} {{}} {{1..3}}'}}]"), "");
    with(&format!("{job} '{{i}} {{v}}', parameters: {{i: [1]}}}}]"), "");
    with(
        &format!("{job} '{{i}}', parameters: {{v: [1]}}}}]"),
        "undefined-variable i\nvariable-clash v",
    );
    with(&format!("parameters: {{v: [1]}}\n{job} x}}]"), "variable-clash v");
    with(
        &format!(
            "{job} x}}]\nexecution_config: {{launcher: {{argv: ['{{nodes}}', '{{command}}']}}}}"
        ),
        "",
    );
    with(&format!("{job} '{{city}} {{v}}', parameters_file: runs.csv}}]"), "duplicate-name a");
    check("variables: {a b: 1}\nname: w\njobs: []", "bad-variable a b");
    check("variables: {a: [1]}\nname: w\njobs: []", "wrong-type [1]");
    check("variables: []\nname: w\njobs: []", "wrong-type []");
}

#[test]
fn one_mistake_is_one_problem() {
    check_jobs("{name: a}, {name: b, command: x, depends_on: [a]}", "missing-field name");
    check_jobs(
        "{name: 'a{i}', command: x, parameters: {i: '4:1'}}, \
         {name: b, command: x, depends_on: [a1]}",
        "bad-parameter '4:1'",
    );
    check_rest(
        "files: [{name: f}]\nuser_data: [{name: f, data: '${files.input.f}'}]",
        "missing-field name",
    );
}

#[test]
fn what_a_review_found_stays_found() {
    // A reference inside the name of another.
    let nested = r#"
name: w
files: [{name: "x${files.input.y", path: p}, {name: y, path: q}]
jobs: [{name: a, command: "cat ${files.input.x${files.input.y}"}]"#;
    let loaded = load_text(nested).expect("it is legal");
    assert_eq!(&*loaded.workflow.jobs[0].command, "cat p");
    // As many references that never end as fit.
    let endless =
        format!("name: w\njobs: [{{name: a, command: '{}'}}]", "${files.input.".repeat(7_000));
    assert!(load_text(&endless).is_ok());
    // More dependencies than any workflow may have, by pattern and by user data.
    let patterns = r#"
name: w
jobs: [{name: "j{i}", command: b, depends_on_regexes: [".*"], parameters: {i: "1:10000"}}]"#;
    assert_eq!(codes(patterns), ["spec::too-many"]);
    let data = r#"
name: w
user_data: [{name: u}]
jobs:
  - {name: "p{i}", command: b, output_user_data: [u], parameters: {i: "1:10000"}}
  - {name: "c{i}", command: b, input_user_data: [u], parameters: {i: "1:10000"}}"#;
    assert_eq!(codes(data), ["spec::too-many"]);
    // A table that is not there.
    let table = "name: w\njobs: [{name: a, command: b, use_parameters_file: true}]";
    assert_eq!(codes(table), ["spec::unknown-parameter"]);
    // An error behind a thousand warnings.
    let patterns: Vec<String> = (0..1_100).map(|number| format!("'^no{number}$'")).collect();
    let warnings = format!(
        "name: w\njobs:\n  - {{name: a, command: b, depends_on_regexes: [{}]}}\n  - {{name: c, command: d, depends_on: [gone]}}",
        patterns.join(", ")
    );
    assert!(codes(&warnings).contains(&"spec::unknown-job"));
    // Steps too small for most.
    let tiny = load_text(
        "name: w\njobs: [{name: 'j{i}', command: b, parameters: {i: '1e-18:3e-18:1e-18'}}]",
    );
    assert_eq!(tiny.expect("it is legal").workflow.jobs.len(), 3);
}

fn load_text(text: &str) -> Result<crate::spec::Loaded, crate::spec::Rejected> {
    super::load_bytes(text.as_bytes(), Some(crate::spec::Format::Yaml))
}

fn codes(text: &str) -> Vec<&'static str> {
    let problems =
        load_text(text).map_or_else(|rejected| rejected.problems, |loaded| loaded.warnings);
    problems.iter().map(|problem| problem.code).collect()
}
