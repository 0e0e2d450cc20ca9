//! Workflows that are kept: listed, deleted, and moved to another state directory.

use serde_json::Value;
use torc_tests::Place;

const SPEC: &str = r#"
name: w
failure_handlers: [{name: twice, rules: [{match_all_exit_codes: true, max_retries: 1}]}]
jobs:
  - {name: good, command: echo said}
  - {name: bad, command: exit 3, failure_handler: twice}
  - {name: after, command: "test -e fixed", depends_on: [good]}"#;

#[test]
fn workflows_are_listed_also_those_of_other_directories() {
    let place = Place::with(SPEC);
    place.torc(&["list"]).expect(5).says("there is no torc state");
    place.torc(&["list", "--all"]).expect(0).says("no workflow has been run");
    place.torc(&["run", "w.yaml"]).expect(1);
    place.torc(&["--output-dir", "other", "run", "w.yaml"]).expect(1);
    let here = place.json(&["list"]);
    assert_eq!(here.as_array().unwrap().len(), 1);
    assert_eq!((&here[0]["id"], &here[0]["state"]), (&Value::from(1), &Value::from("ended")));
    let all = place.json(&["list", "--all"]);
    let dirs: Vec<_> = all.as_array().unwrap().iter().map(|one| &one["output_dir"]).collect();
    assert_eq!(
        dirs,
        [place.join("other").to_str().unwrap(), place.join("torc_output").to_str().unwrap()]
    );
    place.torc(&["list", "--all"]).expect(0).says("OUTPUT DIRECTORY").says("other");
    // What is gone is forgotten.
    std::fs::remove_dir_all(place.join("other")).unwrap();
    assert_eq!(place.json(&["list", "--all"]).as_array().unwrap().len(), 1);
    assert_eq!(std::fs::read_dir(place.join("state/torc/state_dirs")).unwrap().count(), 1);
}

#[test]
fn a_deleted_workflow_is_gone_with_its_output_and_its_number() {
    let place = Place::with(SPEC);
    for _ in 0..3 {
        place.torc(&["run", "w.yaml"]).expect(1);
    }
    place.torc(&["delete", "2"]).expect(2).says("give --yes if that is meant");
    place.torc(&["delete", "2", "9", "--yes"]).expect(2).says("there is no workflow 9");
    assert_eq!(place.json(&["list"]).as_array().unwrap().len(), 3);
    let before = place.output_files().len();
    place.torc(&["delete", "2", "--yes"]).expect(0).says("workflow 2 is deleted, with 8 files");
    assert_eq!(place.output_files().len(), before - 8);
    place.torc(&["status", "2"]).expect(2).says("there is no workflow 2");
    place.torc(&["delete", "3", "--yes", "--keep-output"]).expect(0).says("with 0 files");
    assert_eq!(place.output_files().len(), before - 8);
    place.torc(&["run", "w.yaml"]).expect(1);
    let ids: Vec<_> =
        place.json(&["list"]).as_array().unwrap().iter().map(|one| one["id"].clone()).collect();
    assert_eq!(ids, [1, 4]);
}

#[test]
fn a_workflow_that_runs_is_not_deleted_and_others_can_be_meanwhile() {
    let place = Place::with(SPEC);
    place.torc(&["run", "w.yaml"]).expect(1);
    place.write("long.yaml", "name: long\njobs: [{name: a, command: 'echo > holds; read < go'}]\n");
    let mut holds = place.fifo("holds");
    place.gate("go");
    let run = place.start(&["run", "long.yaml"]);
    holds.line();
    assert_eq!(place.json(&["list"]).as_array().unwrap().len(), 2);
    place.torc(&["delete", "2", "--yes"]).expect(2).says("workflow 2 runs");
    place.torc(&["delete", "1", "--yes"]).expect(0);
    let exported = place.torc(&["export", "2"]).expect(0).stdout;
    place.open_gate("go", 1);
    run.wait().expect(0);
    assert_eq!(place.json(&["list"]).as_array().unwrap().len(), 1);
    // What was exported meanwhile was interrupted there.
    place.write("running.json", exported);
    let other = ["--output-dir", "other"];
    place.torc(&[&other[..], &["import", "running.json"]].concat()).expect(0);
    place.torc(&[&other[..], &["status"]].concat()).expect(0).says("interrupted");
}

#[test]
fn an_archive_shows_the_same_elsewhere_and_goes_on_there() {
    let place = Place::with(SPEC);
    place.torc(&["run", "w.yaml"]).expect(1);
    place.torc(&["restart"]).expect(1);
    let archive = place.torc(&["export"]).expect(0).stdout;
    place.write("w.json", &archive);
    place.torc(&["--output-dir", "other", "run", "w.yaml"]).expect(1);
    let there = |args: &[&str]| place.torc(&[&["--output-dir", "other"], args].concat());
    there(&["import", "w.json"]).expect(0).says("workflow 2 is `w` of w.json");
    for command in ["jobs", "results"] {
        let strip = |text: String| text.replace("wf1_", "wf2_").replace("torc_output", "other");
        let here = strip(place.torc(&["--format", "json", command]).expect(0).stdout);
        assert_eq!(there(&["--format", "json", command]).expect(0).stdout, here, "{command}");
    }
    // Word for word what was taken in, but for the moment.
    let again: Value = serde_json::from_str(&there(&["export", "2"]).expect(0).stdout).unwrap();
    let mut first: Value = serde_json::from_str(&archive).unwrap();
    first["exported_at"] = again["exported_at"].clone();
    assert_eq!(again, first);
    place.write("fixed", "");
    there(&["restart", "2"]).expect(1);
    there(&["jobs", "2"]).expect(0).says("after").says("completed");
}

#[test]
fn what_is_no_archive_is_refused_and_nothing_is_stored() {
    let place = Place::with(SPEC);
    place.torc(&["run", "w.yaml"]).expect(1);
    let archive = place.torc(&["export"]).expect(0).stdout;
    let refused = |text: &str, why: &str| {
        place.write("bad.json", text);
        let ended = place.torc(&["--output-dir", "other", "import", "bad.json"]).expect(3);
        ended.says("cannot import bad.json").says(why);
        assert!(ended.stderr.len() < 2_000);
    };
    refused("", "this is not an archive");
    refused("{}", "this is not an archive");
    refused(SPEC, "this is not an archive");
    refused(&archive[..archive.len() / 2], "this is not an archive");
    refused(&archive.replacen("\"torc_archive\": 1", "\"torc_archive\": 9", 1), "use a newer torc");
    let mut changed: Value = serde_json::from_str(&archive).unwrap();
    changed["workflow"]["jobs"][2]["d"] = serde_json::json!([99]);
    refused(&changed.to_string(), "refers to something that is not there");
    let mut changed: Value = serde_json::from_str(&archive).unwrap();
    changed["events"].as_array_mut().unwrap().remove(0);
    refused(&changed.to_string(), "this archive is damaged");
    assert!(!place.join("other").exists());
    place.torc(&["import", "gone.json"]).expect(3).says("cannot read gone.json");
}
