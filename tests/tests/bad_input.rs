//! Specs that are wrong, hostile or huge: every problem is named with its place, and nothing is run.

use torc_tests::Place;

/// Checks that both commands refuse a spec and say all of this; nothing is begun.
#[track_caller]
fn refused(spec: impl AsRef<[u8]>, expected: &[&str]) {
    let place = Place::new();
    place.write("w.yaml", spec);
    for command in ["validate", "run"] {
        let ended = place.torc(&[command, "w.yaml"]).expect(3);
        for text in expected {
            ended.says(text);
        }
        assert!(ended.stderr.len() < 20_000, "an error is not as long as its spec");
    }
    assert!(!place.join("torc_output").exists());
}

#[test]
fn what_sbatch_cannot_be_told_is_refused_before_anything_is_stored() {
    let check = |options: &str, defaults: &str, expected: &[&str]| {
        let spec = format!(
            "name: w
slurm_defaults: {{{defaults}}}
slurm_schedulers:
  - {{name: fine, account: a}}
  - {{name: wrong, account: a, {options}}}
actions: [{{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: wrong}}]
jobs: [{{name: a, command: x}}]"
        );
        refused(&spec, expected);
        let place = Place::with(&spec);
        let all = [
            &["submit", "w.yaml"][..],
            &["submit", "w.yaml", "--dry-run"],
            &["slurm", "script", "w.yaml"],
        ];
        for args in all {
            let ended = place.torc(args).expect(3);
            for text in expected {
                ended.says(text);
            }
        }
        assert!(!place.join("torc_output").exists());
    };
    let array = "`--array` cannot be used with torc: every allocation is a job of its own";
    check(
        "extra: --array=1-2",
        "",
        &["the Slurm scheduler of `wrong`: ", array, "spec::sbatch-option", "w.yaml:5:12"],
    );
    check("extra: --ar=1-2", "", &[array]);
    check("extra: skylake", "", &["`skylake` in `extra` belongs to no option"]);
    check(r"extra: '-d a:1?b:2', serialize_allocations: true", "", &["`a:1?b:2` uses `?`"]);
    check("extra: -W", "array: 1-2", &[array, "`--wait` cannot be used with torc", "2 errors in"]);
    refused("name: w\nslurm_defaults: {wait: true}\njobs: [{name: a, command: x}]", &["`--wait`"]);
    let long = "x".repeat(100_000);
    check(&format!("extra: \"{long}\\n'\""), "", &["`extra` has a quote that never closes: xxx"]);
}

#[test]
fn a_cycle_is_shown_as_a_path() {
    refused(
        r#"
name: w
jobs:
  - {name: a, command: x, depends_on: [c]}
  - {name: b, command: x, depends_on: [a]}
  - {name: c, command: x, depends_on: [b]}"#,
        &["spec::cycle", "a -> c -> b -> a", "w.yaml:4:12"],
    );
    refused("name: w\njobs: [{name: a, command: x, depends_on: [a]}]", &["a -> a"]);
    refused(
        r#"
name: w
files: [{name: f, path: f}, {name: g, path: g}]
jobs:
  - {name: a, command: x, input_files: [f], output_files: [g]}
  - {name: b, command: x, input_files: [g], output_files: [f]}"#,
        &["a -> b -> a"],
    );
}

#[test]
fn an_unknown_name_comes_with_the_nearest() {
    refused(
        r#"
name: w
files: [{name: input, path: f}]
resource_requirements: [{name: large}]
failure_handlers: [{name: retry, rules: []}]
jobs:
  - {name: prepare, command: x}
  - {name: a, command: x, depends_on: [prepar]}
  - {name: b, command: x, input_files: [inptu]}
  - {name: c, command: x, resource_requirements: lareg}
  - {name: d, command: x, failure_handler: retyr}
  - {name: e, command: x, prioritty: 3}
  - {name: f, command: "cat ${files.input.inpt}"}"#,
        &[
            "w.yaml:8:40",
            "did you mean `prepare`?",
            "w.yaml:9:41",
            "did you mean `input`?",
            "w.yaml:10:50",
            "did you mean `large`?",
            "w.yaml:11:44",
            "did you mean `retry`?",
            "w.yaml:12:27",
            "did you mean `priority`?",
            "w.yaml:13:",
            "inpt",
            "6 errors in w.yaml",
        ],
    );
}

#[test]
fn duplicates_are_refused_and_the_first_is_named() {
    refused(
        "name: w\njobs:\n  - {name: a, command: x}\n  - {name: a, command: y}",
        &["spec::duplicate-name", "w.yaml:4:12", "the first is on line 3"],
    );
    refused("name: w\nname: v\njobs: [{name: a, command: x}]", &["name", "w.yaml:2:1"]);
    refused(
        "name: w\njobs: [{name: 'a{i}', command: x, parameters: {i: '1:2'}}, {name: a2, command: x}]",
        &["there are two jobs named `a2`"],
    );
    refused(
        r#"{"name": "w", "jobs": [{"name": "a", "command": "x", "command": "y"}]}"#,
        &["command"],
    );
}

#[test]
fn all_problems_of_a_file_are_reported_at_once() {
    refused(
        r#"
name: w
jobs_sort_method: random
jobs:
  - {name: a}
  - {name: b, command: 3, priority: high}
  - {name: "c{i:q}", command: x, parameters: {i: "1:0:0"}}
resource_requirements:
  - {name: r, memory: 4GB, runtime: 3h, num_cpus: 0}
failure_handlers: [{name: h, rules: [{exit_codes: [256]}]}]
execution_config: {stdio: {mode: quiet}, sigterm_lead_seconds: -1}"#,
        &[
            "w.yaml:3:19",
            "w.yaml:5:6",
            "w.yaml:6:24",
            "w.yaml:6:37",
            "w.yaml:7:",
            "w.yaml:9:23",
            "write `4g`",
            "w.yaml:9:37",
            "w.yaml:9:51",
            "w.yaml:10:52",
            "w.yaml:11:34",
            "w.yaml:11:64",
            " errors in w.yaml",
        ],
    );
}

#[test]
fn text_that_is_neither_yaml_nor_json_has_a_position() {
    refused("name: w\njobs: [", &["w.yaml:2:"]);
    refused("name: w\n\tjobs: []", &["w.yaml:2:"]);
    refused("", &["w.yaml"]);
    refused("just words", &["w.yaml:1:1"]);
    refused("- a\n- list", &["w.yaml:1:1"]);
    refused("name: &a [*a]\njobs: []", &["w.yaml:1:"]);
    let place = Place::new();
    place.write("w.json", "{\"name\": \"w\",\n \"jobs\": [}");
    place.torc(&["validate", "w.json"]).expect(3).says("w.json:2:");
}

#[test]
fn invalid_utf_8_and_control_characters_are_refused_with_their_place() {
    refused(b"name: w\njobs:\n  - {name: \"a\xff\", command: x}", &["w.yaml:3:", "UTF-8"]);
    refused("name: w\njobs: [{name: \"a\\nb\", command: x}]", &["w.yaml:2:", "control"]);
    refused("name: w\njobs: [{name: \"a\\0b\", command: x}]", &["w.yaml:2:"]);
    refused("name: w\njobs: [{name: a, command: \"echo \\0\"}]", &["w.yaml:2:"]);
}

#[test]
fn strings_of_ten_megabytes_are_handled() {
    let huge = "x".repeat(10 << 20);
    refused(
        format!("name: w\njobs: [{{name: a, command: {huge}}}]"),
        &["w.yaml:2:27", "Linux allows 131071"],
    );
    refused(format!("name: w\njobs: [{{name: a, command: x, {huge}: 1}}]"), &["w.yaml:2:30"]);
    refused(format!("name: w\njobs: [{{name: {huge}, command: x}}]"), &["w.yaml:2:15"]);
    refused(
        format!("name: w\njobs: [{{name: a, command: x, depends_on: ['{huge}', b]}}]"),
        &["w.yaml:2:43", "w.yaml:2:10485807"],
    );
    let place = Place::with(&format!(
        "name: w\nmetadata: '\"{huge}\"'\njobs: [{{name: a, command: 'true'}}]"
    ));
    place.run(&[]).expect(0);
}

#[test]
fn deep_nesting_and_alias_bombs_do_not_take_torc_down() {
    let deep =
        format!("name: w\nmetadata: {}{}\njobs: []", "[".repeat(100_000), "]".repeat(100_000));
    refused(deep, &["w.yaml:2:"]);
    let bomb = (1..30).fold("a0: &a0 [x, x]\n".to_owned(), |text, level| {
        let below = level - 1;
        text + &format!("a{level}: &a{level} [*a{below}, *a{below}]\n")
    });
    refused(bomb, &["w.yaml"]);
    refused(
        "name: w\njobs: [{name: 'a{i}', command: x, parameters: {i: '1:99999999999'}}]",
        &["w.yaml:2:", "more than 10000000 items"],
    );
}

#[test]
fn names_with_slashes_and_dots_stay_inside_the_state_directory() {
    let place = Place::with(
        r#"
name: ../../w
jobs:
  - {name: ../../escape, command: echo one}
  - {name: /etc/passwd, command: echo two}
  - {name: "..", command: echo three}
  - {name: "--help", command: echo four}
  - {name: "a b;$(touch injected)`touch injected`'\"", command: 'echo "$TORC_JOB_NAME"'}
  - {name: "äöü 🦀", command: echo six}"#,
    );
    place.run(&[]).expect(0).says("6 completed");
    let here: Vec<_> =
        std::fs::read_dir(place.path()).unwrap().map(|found| found.unwrap().file_name()).collect();
    assert_eq!(here.len(), 3, "only the spec, torc_output and word of it: {here:?}");
    assert_eq!(place.output_files().len(), 12);
    assert_eq!(place.torc(&["logs", "../../escape"]).expect(0).stdout, "one\n");
    assert_eq!(place.torc(&["logs", ".."]).expect(0).stdout, "three\n");
    assert_eq!(place.torc(&["logs", "--", "--help"]).expect(0).stdout, "four\n");
    assert_eq!(place.output("wf1_j5_r1_a1.o"), "a b;$(touch injected)`touch injected`'\"\n");
    assert_eq!(place.torc(&["logs", "äöü 🦀"]).expect(0).stdout, "six\n");
}

#[test]
fn what_the_spec_may_not_contain_any_more_says_what_to_write_instead() {
    refused(
        "name: w\nslurm_config: {}\njobs: [{name: a, command: x}]",
        &["w.yaml:2:1", "execution_config"],
    );
    refused(
        "name: w\nparameters_file: t.csv\njobs: [{name: a, command: x}]",
        &["w.yaml:2:", "parameters"],
    );
}
