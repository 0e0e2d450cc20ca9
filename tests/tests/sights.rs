//! What a job sees: environment, working folder, and where its output goes.

use torc_tests::{Place, Started};

#[test]
fn a_jobs_environment_has_three_layers() {
    let place = Place::with(
        r#"
name: w
env: {BOTH: workflow, MINE: workflow, TORC_JOB_NAME: forged, OUTSIDE: workflow}
jobs:
  - name: a
    command: echo "$BOTH $MINE $TORC_JOB_NAME $OUTSIDE $INHERITED"
    env: {BOTH: job, TORC_JOB_ID: forged}
  - {name: b, command: "echo $BOTH $TORC_JOB_ID"}"#,
    );
    let mut command = place.command(&["run", "w.yaml"]);
    command.env("OUTSIDE", "torc").env("INHERITED", "torc").env("TORC_JOB_ID", "99");
    Started::start(command).wait().expect(0);
    assert_eq!(place.output("wf1_j1_r1_a1.o"), "job workflow a workflow torc\n");
    assert_eq!(place.output("wf1_j2_r1_a1.o"), "workflow 2\n");
}

#[test]
fn a_job_is_told_who_it_is_and_where() {
    let place = Place::with(
        r#"
name: w
failure_handlers: [{name: h, rules: [{match_all_exit_codes: true, max_retries: 1}]}]
resource_requirements: [{name: r, num_cpus: 2}]
jobs:
  - {name: first, command: "true"}
  - name: it's "me"
    command: env | grep ^TORC_ | grep -v MARK | sort; cat "$TORC_HOSTFILE" >&2; exit 1
    failure_handler: h
    resource_requirements: r"#,
    );
    place.run(&[]).expect(1);
    let here = std::fs::canonicalize(place.path()).unwrap();
    let seen = place.output("wf1_j2_r1_a2.o");
    let host = place.output("wf1_j2_r1_a2.e");
    let host = host.trim();
    for expected in [
        "TORC_WORKFLOW_ID=1".to_owned(),
        "TORC_JOB_ID=2".to_owned(),
        "TORC_JOB_NAME=it's \"me\"".to_owned(),
        "TORC_RUN_ID=1".to_owned(),
        "TORC_ATTEMPT_ID=2".to_owned(),
        format!("TORC_OUTPUT_DIR={}", here.join("torc_output").display()),
        format!("TORC_WORKFLOW_SUBMISSION_DIR={}", here.display()),
        format!("TORC_NODELIST={host}"),
        "TORC_NUM_NODES=1".to_owned(),
        "TORC_CPUS_PER_NODE=2".to_owned(),
    ] {
        assert!(seen.lines().any(|line| line == expected), "no {expected} in\n{seen}");
    }
    assert!(!host.is_empty());
    let hostfile = seen.lines().find_map(|line| line.strip_prefix("TORC_HOSTFILE=")).unwrap();
    assert!(hostfile.starts_with(&*here.join("torc_output").to_string_lossy()), "{hostfile}");
}

#[test]
fn the_working_folder_is_where_torc_was_started_even_after_a_restart_from_elsewhere() {
    let place = Place::new();
    std::fs::create_dir_all(place.join("deep/spec")).unwrap();
    place.write(
        "deep/spec/w.yaml",
        "name: w\njobs: [{name: a, command: 'pwd > where; test $TORC_RUN_ID = 2'}]",
    );
    let here = std::fs::canonicalize(place.path()).unwrap();
    place.torc(&["run", "deep/spec/w.yaml"]).expect(1);
    assert_eq!(place.read("where").trim(), here.to_string_lossy());
    std::fs::remove_file(place.join("where")).unwrap();
    let mut command = place.command(&["restart", "--output-dir", "../torc_output"]);
    command.current_dir(place.join("deep"));
    Started::start(command).wait().expect(0);
    assert_eq!(place.read("where").trim(), here.to_string_lossy());
}

#[test]
fn each_stdio_mode_writes_its_files_and_no_others() {
    let place = Place::with(
        r#"
name: w
execution_config:
  stdio: {mode: combined}
  job_stdio_overrides: {override: {mode: no_stderr}}
jobs:
  - {name: default, command: echo out; echo err >&2}
  - {name: override, command: echo out; echo err >&2}
  - {name: separate, command: echo out; echo err >&2, stdio: {mode: separate}}
  - {name: no_stdout, command: echo out; echo err >&2, stdio: {mode: no_stdout}}
  - {name: none, command: echo out; echo err >&2, stdio: {mode: none}}
  - {name: deleted, command: echo out, stdio: {mode: separate, delete_on_success: true}}
  - {name: kept, command: echo out; exit 1, stdio: {mode: separate, delete_on_success: true}}"#,
    );
    place.run(&[]).expect(1);
    assert_eq!(
        place.output_files(),
        [
            "job_wf1_j1_r1_a1.log",
            "job_wf1_j2_r1_a1.o",
            "job_wf1_j3_r1_a1.e",
            "job_wf1_j3_r1_a1.o",
            "job_wf1_j4_r1_a1.e",
            "job_wf1_j7_r1_a1.e",
            "job_wf1_j7_r1_a1.o",
        ]
    );
    assert_eq!(place.output("wf1_j1_r1_a1.log"), "out\nerr\n");
    assert_eq!(place.output("wf1_j2_r1_a1.o"), "out\n");
    assert_eq!(place.output("wf1_j3_r1_a1.o"), "out\n");
    assert_eq!(place.output("wf1_j3_r1_a1.e"), "err\n");
    assert_eq!(place.output("wf1_j4_r1_a1.e"), "err\n");
    let none = &place.attempts("none")[0];
    assert!(none["stdout"].is_null() && none["stderr"].is_null());
    let combined = &place.attempts("default")[0];
    assert_eq!(combined["stdout"], combined["stderr"]);
    place.torc(&["logs", "none"]).expect(2).says("discarded");
    assert_eq!(place.torc(&["logs", "default"]).expect(0).stdout, "out\nerr\n");
    assert_eq!(place.torc(&["logs", "separate"]).expect(0).stdout, "out\nerr\n");
    assert_eq!(place.torc(&["logs", "separate", "--stdout"]).expect(0).stdout, "out\n");
    assert_eq!(place.torc(&["logs", "separate", "--stderr"]).expect(0).stdout, "err\n");
}

#[test]
fn the_logs_of_a_job_whose_output_was_deleted_say_so() {
    let place = Place::with(
        "name: w\njobs: [{name: a, command: 'true', stdio: {delete_on_success: true}}]",
    );
    place.run(&[]).expect(0);
    place.torc(&["logs", "a"]).expect(2).says("delete_on_success");
}

#[test]
fn an_invocation_script_goes_before_the_command() {
    let place = Place::with(
        r#"
name: w
jobs:
  - {name: prefix, command: echo one, invocation_script: "env WHO=me bash -c 'echo $WHO; \"$@\"' -"}
  - name: lines
    command: echo $WHO
    invocation_script: |
      WHO=you
      export WHO"#,
    );
    place.run(&[]).expect(0);
    assert_eq!(place.output("wf1_j1_r1_a1.o"), "me\none\n");
    assert_eq!(place.output("wf1_j2_r1_a1.o"), "you\n");
}

#[test]
fn standard_input_of_a_job_is_empty() {
    let place = Place::with("name: w\njobs: [{name: a, command: 'cat; echo end'}]");
    place.run(&[]).expect(0);
    assert_eq!(place.output("wf1_j1_r1_a1.o"), "end\n");
}

#[test]
fn file_and_user_data_references_are_replaced_and_the_shells_own_stay() {
    let place = Place::with(
        r#"
name: w
files: [{name: in, path: "a file"}, {name: out, path: out.txt}]
user_data: [{name: u, data: {k: [1, "x"]}}]
jobs:
  - {name: make, command: 'echo made > "${files.output.in}"'}
  - {name: use, command: 'X=v; cat "${files.input.in}" > ${files.output.out}; echo "${user_data.input.u}" ${X} ${Y:-d} >> ${files.output.out}'}"#,
    );
    place.run(&[]).expect(0);
    assert_eq!(place.read("out.txt"), "made\n{k:[1,x]} v d\n");
}

#[test]
fn jobs_with_gpus_see_their_own_and_others_see_what_was_there() {
    // The two jobs meet, so that they hold their GPUs at the same time.
    let place = Place::with(
        r#"
name: w
resource_requirements: [{name: gpu, num_gpus: 1}]
jobs:
  - {name: a, resource_requirements: gpu,
     command: "echo $CUDA_VISIBLE_DEVICES $HIP_VISIBLE_DEVICES $ROCR_VISIBLE_DEVICES; echo > meet"}
  - {name: b, resource_requirements: gpu,
     command: "echo $CUDA_VISIBLE_DEVICES $HIP_VISIBLE_DEVICES $ROCR_VISIBLE_DEVICES; read < meet"}
  - {name: without, command: "echo $CUDA_VISIBLE_DEVICES"}"#,
    );
    place.gate("meet");
    let mut command = place.command(&["run", "w.yaml", "--num-cpus", "3"]);
    command.env("CUDA_VISIBLE_DEVICES", "3,5");
    Started::start(command).wait().expect(0);
    let mut seen = [place.output("wf1_j1_r1_a1.o"), place.output("wf1_j2_r1_a1.o")];
    seen.sort();
    assert_eq!(seen, ["3 3 3\n", "5 5 5\n"]);
    assert_eq!(place.output("wf1_j3_r1_a1.o"), "3,5\n");
}
