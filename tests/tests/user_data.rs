//! Values that jobs hand to each other, written and read by real jobs with the real `torc`.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};
use torc_tests::{Place, Started, torc};

/// A place whose jobs call `$TORC`.
fn place(spec: &str) -> Place {
    let place = Place::with(spec);
    place.set_env([("TORC".to_owned(), torc().to_string_lossy().into_owned())]);
    place
}

fn value(place: &Place, name: &str) -> Value {
    place.json(&["user-data", "get", name])["value"].clone()
}

#[test]
fn what_a_job_sets_reaches_the_jobs_that_wait_for_it() {
    let place = place(
        r#"
name: w
user_data: [{name: u, data: {n: 1}}, {name: raw}]
jobs:
  - name: use
    command: 'echo ''${user_data.input.u}'' ${user_data.input.raw} >> seen'
    input_user_data: [u]
  - name: make
    command: |
      echo 'before ${user_data.output.u}' >> seen
      $TORC user-data set u '{"n": 2, "of": ["make"]}' &&
      printf 'a "word"' | $TORC user-data set raw --string - &&
      $TORC user-data get raw --raw >> seen
    output_user_data: [u, raw]"#,
    );
    place.run(&[]).expect(0);
    assert_eq!(
        place.lines("seen"),
        ["before {\"n\":1}", "a \"word\"", "{\"n\":2,\"of\":[\"make\"]} a \"word\""]
    );
    let all = place.json(&["user-data", "list"]);
    assert_eq!(all[0]["set_by"], "make");
    assert_eq!((&all[0]["producers"], &all[0]["consumers"]), (&json!(["make"]), &json!(["use"])));
    assert_eq!(all[1]["value"], "a \"word\"");
    place.torc(&["user-data", "list"]).expect(0).says("{\"n\":2,\"of\":[\"make\"]}").says("make");
    place.torc(&["user-data", "get", "u"]).expect(0).says("{\"n\":2,\"of\":[\"make\"]}");
}

#[test]
fn values_set_while_nothing_runs_are_seen_by_the_next_run() {
    let place = place(
        r#"
name: w
user_data: [{name: u}, {name: gone, is_ephemeral: true}, {name: kept, is_ephemeral: true}]
jobs:
  - {name: make, command: '$TORC user-data set kept 7', output_user_data: [kept]}
  - {name: check, command: 'echo ${user_data.input.u} ${user_data.input.gone} ${user_data.input.kept} >> seen; test ${user_data.input.u} = 5'}"#,
    );
    place.run(&[]).expect(1);
    let listed = place.json(&["user-data", "list"]);
    assert_eq!((&listed[0]["has_value"], &listed[0]["value"]), (&json!(false), &Value::Null));
    place.torc(&["user-data", "set", "u", "5"]).expect(0);
    let set = place.json(&["user-data", "set", "gone", "[1]"]);
    assert_eq!((&set["value"], &set["set_by"]), (&json!([1]), &Value::Null));
    place.restart().expect(0);
    // What a completed job wrote stays although it is ephemeral; what nobody writes does not.
    assert_eq!(place.lines("seen"), ["null null 7", "5 null 7"]);
    assert_eq!(value(&place, "kept"), 7);
    place.torc(&["user-data", "set", "u", "6", "--workflow", "2"]).expect(2).says("no workflow 2");
}

#[test]
fn what_cannot_be_set_is_refused_and_nothing_changes() {
    let place = place(
        "name: w\nuser_data: [{name: threshold, data: 1}]\njobs: [{name: a, command: 'true'}]",
    );
    place.torc(&["user-data", "list"]).expect(5).says("there is no torc state");
    place.run(&[]).expect(0);
    let set = |value: &str| place.torc(&["user-data", "set", "threshold", value]);
    set("abc").expect(2).says("`abc` is not JSON").says("write '\"abc\"'").says("--string");
    set("{\"a\": }").expect(2).says("is not JSON");
    set("1 2").expect(2).says("trailing characters");
    set("").expect(2).says("is not JSON");
    set(&"[".repeat(1_000)).expect(2).says("is not JSON");
    let deep = format!("{}{}", "[".repeat(110), "]".repeat(110));
    set(&deep).expect(2).says("more than 100 lists and objects");
    place.torc(&["user-data", "set", "treshold", "1"]).expect(2).says("did you mean `threshold`?");
    place.torc(&["user-data", "get", "treshold"]).expect(2).says("did you mean `threshold`?");
    let large = format!("\"{}\"", "x".repeat(1 << 20));
    let refused = place.torc_reading(&["user-data", "set", "threshold", "-"], &large).expect(2);
    refused.says("has 1048578 bytes").says("write it to a file");
    assert_eq!(value(&place, "threshold"), 1);
    let largest = format!("\"{}\"", "x".repeat((1 << 20) - 2));
    place.torc_reading(&["user-data", "set", "threshold", "-"], &largest).expect(0);
    assert_eq!(value(&place, "threshold").to_string().len(), 1 << 20);
    let nested = format!("{}{}", "[".repeat(100), "]".repeat(100));
    set(&nested).expect(0);
    assert_eq!(place.torc(&["user-data", "get", "threshold"]).expect(0).stdout.trim(), nested);
    place.torc(&["export"]).expect(0);
    set("-1.5").expect(0);
    assert_eq!(value(&place, "threshold"), -1.5);
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let place = place("name: w\nuser_data: [{name: u}]\njobs: [{name: a, command: 'true'}]");
    place.run(&[]).expect(0);
    let mut command = place.command(&["user-data", "set", "u", "-", "--string"]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"ab\xff").unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("not UTF-8 text: byte 2"));
}

#[test]
fn a_job_is_named_as_the_one_that_set_it_only_in_its_own_workflow() {
    let place = place(
        r#"
name: w
user_data: [{name: u}]
jobs:
  - {name: a, command: '$TORC user-data set u 1 --workflow 1 && TORC_JOB_ID=x $TORC user-data set u 2; echo $? > code; TORC_JOB_ID=9 $TORC user-data set u 2 2> said; echo $? >> code'}"#,
    );
    place.run(&[]).expect(0);
    assert_eq!(place.lines("code"), ["2", "2"]);
    assert!(place.read("said").contains("the workflow has no job 9"));
    let all = place.json(&["user-data", "list"]);
    assert_eq!((&all[0]["value"], &all[0]["set_by"]), (&json!(1), &json!("a")));
}

#[test]
fn two_hundred_jobs_set_values_at_once_and_none_is_lost() {
    let place = place(
        r#"
name: w
execution_config: {mode: direct, limit_resources: false}
user_data: [{name: "u{i}", parameters: {i: "1:200"}}, {name: all}]
resource_requirements: [{name: tiny, memory: 1m}]
jobs:
  - {name: "set{i}", command: '$TORC user-data set u{i} {i}', output_user_data: ["u{i}"],
     resource_requirements: tiny, parameters: {i: "1:200"}}
  - {name: sum, command: '$TORC user-data list --format json > all.json', input_user_data_regexes: ["^u"]}"#,
    );
    place.run(&["--num-cpus", "200"]).expect(0);
    let all: Value = serde_json::from_str(&place.read("all.json")).unwrap();
    let values: Vec<_> = all.as_array().unwrap()[..200].iter().map(|one| &one["value"]).collect();
    assert_eq!(values, (1..=200).collect::<Vec<_>>());
    assert!(
        all.as_array().unwrap()[..200]
            .iter()
            .all(|one| { one["set_by"] == json!(format!("set{}", one["value"])) })
    );
}

#[test]
fn many_set_values_at_once_while_nothing_runs() {
    let place = place(
        "name: w\nuser_data: [{name: 'u{i}', parameters: {i: '1:20'}}]\njobs: [{name: a, command: 'true'}]",
    );
    place.run(&[]).expect(0);
    let setters: Vec<Started> = (1..=20)
        .map(|i| place.start(&["user-data", "set", &format!("u{i}"), &i.to_string()]))
        .collect();
    for setter in setters {
        setter.wait().expect(0);
    }
    let all = place.json(&["user-data", "list"]);
    let values: Vec<_> = all.as_array().unwrap().iter().map(|one| &one["value"]).collect();
    assert_eq!(values, (1..=20).collect::<Vec<_>>());
}

#[test]
fn what_was_set_survives_a_crash() {
    let place = place(
        r#"
name: w
user_data: [{name: u}, {name: v}]
jobs:
  - {name: make, command: '$TORC user-data set u 1'}
  - {name: hold, depends_on: [make], command: 'echo > holds; [ -e go ] || sleep 600'}
  - {name: use, depends_on: [hold], command: 'echo ${user_data.input.u} ${user_data.input.v} > seen'}"#,
    );
    let mut holds = place.fifo_for_many("holds");
    let run = place.start_run(&[]);
    holds.line();
    run.kill();
    assert_eq!(value(&place, "u"), 1);
    place.torc(&["user-data", "set", "v", "2"]).expect(0);
    place.write("go", "");
    place.restart().expect(0);
    assert_eq!(place.read("seen"), "1 2\n");
    // That it was set says nothing about when the attempt ended that was under way.
    let attempts = place.attempts("hold");
    let set_at = place.json(&["user-data", "get", "v"])["set_at"].as_u64().unwrap();
    assert!(attempts[0]["ended_at"].as_u64().unwrap() < set_at, "{attempts:#?}");
}
