//! Jobs that add jobs: real jobs that call the real `torc`, many at once, again after a crash, and with nonsense.

use serde_json::{Value, json};
use torc_tests::{Place, Random, torc};

/// A place whose jobs call `$TORC`.
fn place(spec: &str) -> Place {
    let place = Place::with(spec);
    place.set_env([("TORC".to_owned(), torc().to_string_lossy().into_owned())]);
    place
}

const MAP: &str = r#"
name: map
dynamic_jobs: {max_iterations: 2}
execution_config: {mode: direct, limit_resources: false}
files: [{name: index, path: index.txt}]
jobs:
  - {name: split, command: '$TORC jobs add --from parts.yaml'}
  - {name: gather, command: 'cat part? ${files.input.index} > all', depends_on: [split], depends_on_regexes: ['^part_']}"#;

const PARTS: &str = r#"
resource_requirements: [{name: small, memory: 10m}]
jobs:
  - {name: "part_{i}", command: "echo {i} > part{i}", parameters: {i: "1:4"}, resource_requirements: small}
  - {name: index, command: "cat part1 > ${files.output.index}; $TORC jobs add --from deeper.yaml", depends_on: [part_1]}"#;

#[test]
fn a_job_adds_jobs_and_the_rest_of_the_graph_sees_them() {
    let place = place(MAP);
    place.write("parts.yaml", PARTS);
    place.write(
        "deeper.yaml",
        "jobs: [{name: deeper, command: '$TORC jobs add --from deepest.yaml'}]",
    );
    place.write("deepest.yaml", "jobs: [{name: deepest, command: 'true'}]");
    place.run(&[]).expect(1).says("7 completed, 1 failed").says("in iteration 3");
    assert_eq!(place.lines("all"), ["1", "2", "3", "4", "1"]);
    assert_eq!(place.output("wf1_j1_r1_a1.o"), "5 jobs added to workflow 1\n");
    place.expect_jobs(
        "split completed\ngather completed\npart_1 completed\npart_2 completed\npart_3 completed\n\
         part_4 completed\nindex completed\ndeeper failed",
    );
    let jobs = place.json(&["jobs"]);
    assert_eq!(jobs[1]["depends_on"], json!([1, 3, 4, 5, 6, 7]));
    assert_eq!(jobs[6]["depends_on"], json!([1, 3]));
    // The same elsewhere, and again after a restart.
    place.write("archive.json", place.torc(&["export"]).expect(0).stdout);
    place.torc(&["--output-dir", "other", "import", "archive.json"]).expect(0);
    assert_eq!(place.json(&["--output-dir", "other", "jobs"]).as_array().unwrap().len(), 8);
    place.write(
        "deepest.yaml",
        "jobs: [{name: part_1, command: 'echo 1 > part1', resource_requirements: small}]",
    );
    place.restart().expect(0).says("8 completed");
    assert_eq!(place.output("wf1_j8_r2_a1.o"), "0 jobs added to workflow 1, 1 there already\n");
}

#[test]
fn two_hundred_jobs_add_jobs_at_once() {
    let place = place(
        r#"
name: w
dynamic_jobs: {max_iterations: 1}
execution_config: {mode: direct, limit_resources: false}
jobs:
  - name: "add{i}"
    parameters: {i: "1:200"}
    command: |
      printf 'jobs:\n - name: own_{i}\n   command: echo {i} >> ran\n - name: common\n   command: echo 0 >> ran\n' |
        $TORC jobs add --from -
  - {name: last, command: "sort -nu ran | wc -l > count; wc -l < ran >> count", depends_on_regexes: ["^own_", "^common$", "^add"]}"#,
    );
    place.run(&["--num-cpus", "200"]).expect(0).says("402 completed");
    assert_eq!(place.lines("count"), ["201", "201"]);
}

#[test]
fn after_a_crash_and_after_a_failure_nothing_is_added_twice() {
    let place = place(
        r#"
name: w
dynamic_jobs: {max_iterations: 1}
failure_handlers: [{name: again, rules: [{exit_codes: [9], max_retries: 1}]}]
jobs:
  - {name: add, failure_handler: again, command: '$TORC jobs add --from more.json >> said; echo > holds; [ -e go ] || sleep 600; [ -e gone ] || { touch gone; exit 9; }'}"#,
    );
    place.write("more.json", r#"{"jobs": [{"name": "x", "command": "echo x >> ran"}, {"name": "y", "command": "echo y >> ran", "depends_on": ["x"]}]}"#);
    let mut holds = place.fifo_for_many("holds");
    let run = place.start_run(&[]);
    holds.line();
    run.kill();
    assert_eq!(place.json(&["jobs"]).as_array().unwrap().len(), 3, "it was told so, and so it is");
    place.write("go", "");
    let again = place.start(&["restart", "--num-cpus", "2"]);
    holds.line();
    holds.line();
    again.wait().expect(0).says("3 completed");
    assert_eq!(
        place.lines("said"),
        [
            "2 jobs added to workflow 1",
            "0 jobs added to workflow 1, 2 there already",
            "0 jobs added to workflow 1, 2 there already"
        ]
    );
    assert_eq!(place.lines("ran"), ["x", "y"]);
}

#[test]
fn torc_killed_at_any_moment_has_all_of_an_addition_or_nothing() {
    let place = place(
        r#"
name: w
dynamic_jobs: {max_iterations: 1}
execution_config: {mode: direct, limit_resources: false}
jobs:
  - name: "add{i}"
    parameters: {i: "1:12"}
    command: |
      echo > going
      printf 'jobs:\n - name: a{i}\n   command: echo {i}a >> ran\n - name: b{i}\n   command: echo {i}b >> ran\n' |
        $TORC jobs add --from -"#,
    );
    let mut going = place.fifo_for_many("going");
    let mut random = Random(11);
    let mut run = place.start_run(&["--num-cpus", "4"]);
    for _ in 0..4 {
        for _ in 0..=random.below(3) {
            going.line();
        }
        run.kill();
        let names: Vec<String> = place.json(&["jobs"]).as_array().unwrap()[12..]
            .iter()
            .map(|job| job["name"].as_str().unwrap().to_owned())
            .collect();
        for pair in names.chunks(2) {
            assert_eq!((&pair[0][1..], pair.len()), (&pair[1][1..], 2), "{names:?}");
        }
        run = place.start(&["restart", "--num-cpus", "4"]);
    }
    run.wait().expect(0).says("36 completed");
    let mut ran = place.lines("ran");
    ran.sort();
    ran.dedup();
    assert_eq!(ran.len(), 24);
}

#[test]
fn jobs_are_added_from_outside_in_every_format_also_while_nothing_runs() {
    let place = place(
        "name: w\ndynamic_jobs: {max_iterations: 1}\njobs: [{name: a, command: 'true'}, {name: b, command: 'true'}]",
    );
    place.torc(&["jobs", "add", "--from", "none.yaml"]).expect(3).says("cannot read none.yaml");
    std::fs::create_dir(place.join("in")).unwrap();
    place.write(
        "in/yaml.yaml",
        "jobs: [{name: 'y{v}', command: 'echo {v} >> ran', parameters_file: rows.csv}]",
    );
    place.torc(&["jobs", "add", "--from", "in/yaml.yaml"]).expect(3).says("rows.csv");
    place.write("in/rows.csv", "v\n1\n2\n");
    place.torc(&["jobs", "add", "--from", "in/yaml.yaml"]).expect(5).says("there is no torc state");
    place.run(&[]).expect(0);
    let added = place.json(&["jobs", "add", "--from", "in/yaml.yaml", "--job", "b"]);
    assert_eq!(added, json!({"workflow": 1, "added": ["y1", "y2"], "present": [], "iteration": 1}));
    place.write("j.json", r#"{"jobs": [{"name": "j", "command": "echo j >> ran"}]}"#);
    place.write("j5.json5", "{jobs: [{name: 'j5', command: 'echo j5 >> ran'}]}");
    place.write("k.kdl", "job \"k\" { command \"echo k >> ran\"; depends_on \"y1\" }");
    for file in ["j.json", "j5.json5", "k.kdl"] {
        place.torc(&["jobs", "add", "--from", file]).expect(0).says("1 job added");
    }
    place
        .torc_reading(&["jobs", "add", "--from", "-"], "jobs: [{name: s, command: echo s >> ran}]")
        .expect(0);
    place.torc(&["status"]).expect(0).says("incomplete").says("6 uninitialized");
    assert_eq!(place.json(&["jobs"])[2]["depends_on"], json!([2]));
    place.restart().expect(0).says("8 completed");
    let mut ran = place.lines("ran");
    ran.sort();
    assert_eq!(ran, ["1", "2", "j", "j5", "k", "s"]);
    place.torc(&["jobs", "add", "--from", "j.json", "--job", "bb"]).expect(2).says("no job `bb`");
    place
        .torc(&["jobs", "add", "--from", "j.json", "--workflow", "7"])
        .expect(2)
        .says("no workflow 7");
}

#[test]
fn what_cannot_be_added_is_said_with_its_place_and_changes_nothing() {
    let place = place(
        "name: w\ndynamic_jobs: {max_iterations: 1}\njobs: [{name: a, command: 'echo > holds; read < go'}, {name: b, command: 'true', depends_on_regexes: ['^n'], depends_on: [a]}]",
    );
    let mut holds = place.fifo("holds");
    place.gate("go");
    let run = place.start_run(&[]);
    holds.line();
    let add = |text: &str| place.torc_reading(&["jobs", "add", "--from", "-"], text);
    let twice =
        add("jobs:\n  - {name: a, command: other}\n  - {name: x, command: c, depends_on: [bb]}\n");
    twice.expect(3).says("a job `a` already, with another `command`").says("standard input:2:12");
    add("jobs: [{name: x, command: c, depends_on: [bb]}]").expect(3).says("did you mean `b`?");
    add("jobs: [{name: n1, command: c, depends_on: [b]}]").expect(3).says("b -> n1 -> b");
    add("resource_requirements: [{name: r, num_cpus: 4000}]\njobs: [{name: x, command: c, resource_requirements: r}]")
        .expect(4)
        .says("job `x` can never run here");
    add("jobs: [{name: x, command: c}]\nslurm_schedulers: []").expect(3).says("cannot be added");
    add("name: other\njobs: [{name: x, command: c}]").expect(3).says("`name` cannot be added");
    let listing = place
        .torc_reading(&["jobs", "add", "--from", "-", "--format", "json"], "jobs: [{name: x}]")
        .expect(3)
        .json();
    assert_eq!(listing["problems"][0]["code"], "spec::missing-field");
    let by_server = place
        .torc_reading(
            &["jobs", "add", "--from", "-", "--format", "json"],
            "jobs: [{name: x, command: c, failure_handler: none}]",
        )
        .expect(3)
        .json();
    assert_eq!(by_server["problems"][0]["code"], "spec::unknown-handler");
    assert_eq!(
        (&by_server["problems"][0]["line"], &by_server["problems"][0]["column"]),
        (&json!(1), &json!(47))
    );
    let mut random = Random(5);
    for length in [0, 1, 17, 1_000, 100_000] {
        let bytes: Vec<u8> =
            (0..length).map(|_| u8::try_from(random.below(256)).unwrap()).collect();
        place.write("noise", bytes);
        place.torc(&["jobs", "add", "--from", "noise"]).expect(3);
    }
    assert_eq!(place.json(&["jobs"]).as_array().unwrap().len(), 2);
    place.open_gate("go", 1);
    run.wait().expect(0).says("2 completed");
}

#[test]
fn a_spec_that_does_not_allow_it_says_how() {
    let place = place("name: w\njobs: [{name: a, command: 'true'}]");
    place.run(&[]).expect(0);
    let refused =
        place.torc_reading(&["jobs", "add", "--from", "-"], "jobs: [{name: x, command: c}]");
    refused.expect(2).says("write `dynamic_jobs: {max_iterations: 3}` into the spec");
    let jobs: Value = place.json(&["jobs"]);
    assert_eq!(jobs.as_array().unwrap().len(), 1);
}
