//! The files of a workflow: who writes and reads them, and whether they are there.

use serde_json::{Value, json};
use torc_tests::Place;

#[test]
fn files_are_listed_with_their_jobs_and_whether_they_are_there() {
    let place = Place::with(
        r#"
name: w
files: [{name: in, path: in.txt}, {name: "out_{i}", path: "out/{i}.txt", parameters: {i: "1:4"}}, {name: folder, path: out}, {name: never, path: never}]
jobs:
  - {name: "make{i}", command: 'mkdir -p out; cat ${files.input.in} > ${files.output.out_{i}}', parameters: {i: "1:4"}}
  - {name: gather, command: "false", input_files_regexes: ["^out_"], output_files: [never]}"#,
    );
    place.write("in.txt", "12345");
    place.run(&[]).expect(1);
    let files = place.json(&["files"]);
    let field = |name: &str| -> Vec<Value> {
        files.as_array().unwrap().iter().map(|file| file[name].clone()).collect()
    };
    assert_eq!(field("name"), ["in", "out_1", "out_2", "out_3", "out_4", "folder", "never"]);
    assert_eq!(field("exists"), [true, true, true, true, true, true, false]);
    assert_eq!(field("size")[..2], [5, 5]);
    assert_eq!(field("size")[5..], [Value::Null, Value::Null]);
    assert_eq!(field("producers")[1], json!(["make1"]));
    assert_eq!(field("consumers")[1], json!(["gather"]));
    assert_eq!(field("consumers")[0], json!(["make1", "make2", "make3", "make4"]));
    assert_eq!(field("location")[1], json!(place.join("out/1.txt")));
    assert_eq!(field("path")[1], "out/1.txt");
    let began = place.json(&["status"])["started_at"].as_u64().unwrap();
    assert!(field("modified_at")[1].as_u64().unwrap() + 1_000 >= began);
    assert_eq!(field("modified_at")[6], Value::Null);
    let table = place.torc(&["files", "1"]).expect(0);
    table.says("make1, make2, make3 and 1 more").says("out/1.txt").says("5 B");
    place.torc(&["files", "2"]).expect(2).says("there is no workflow 2");
}

#[test]
fn files_are_looked_at_while_a_workflow_runs_and_from_another_folder() {
    let place = Place::with(
        r#"
name: w
files: [{name: f, path: f.txt}]
jobs:
  - {name: a, command: 'echo > holds; read < go; echo x > ${files.output.f}'}"#,
    );
    let mut holds = place.fifo("holds");
    place.gate("go");
    let run = place.start_run(&[]);
    holds.line();
    assert_eq!(place.json(&["files"])[0]["exists"], false);
    place.open_gate("go", 1);
    run.wait().expect(0);
    std::fs::create_dir(place.join("elsewhere")).unwrap();
    let mut command =
        place.command(&["--output-dir", "../torc_output", "files", "--format", "json"]);
    command.current_dir(place.join("elsewhere"));
    let seen = torc_tests::Started::start(command).wait().expect(0).json();
    assert_eq!(seen[0]["exists"], true);
}
