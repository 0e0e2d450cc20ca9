//! `torc graph` as people use it.

use torc_tests::Place;

const SPEC: &str = r#"
name: w
jobs:
  - {name: "part_{i}", command: "test {i} != 2", parameters: {i: "1:3"}}
  - {name: join, command: "true", depends_on_regexes: ["^part_"]}"#;

#[test]
fn a_spec_is_drawn_with_a_box_for_each_entry_and_nothing_is_stored() {
    let place = Place::with(SPEC);
    let drawn = place.torc(&["graph", "w.yaml"]).expect(0).stdout;
    assert_eq!(
        drawn,
        "\
digraph {
  label=\"w\"
  rankdir=LR
  node [shape=box, style=\"rounded,filled\", fillcolor=\"#ffffff\"]
  b0 [label=\"part_{i}\\n3 jobs\"]
  b1 [label=\"join\"]
  b0 -> b1
}
"
    );
    let drawn = place.torc(&["graph", "w.yaml", "--all-jobs", "--to", "mermaid"]).expect(0).stdout;
    assert_eq!(drawn.matches("-->").count(), 3);
    assert!(!place.join("torc_output").exists());
    place.torc_reading(&["graph", "-"], SPEC).expect(0).says("part_{i}");
    place.torc(&["graph", "gone.yaml"]).expect(3).says("cannot read gone.yaml");
}

#[test]
fn a_workflow_is_drawn_with_the_statuses_of_its_jobs() {
    let place = Place::with(SPEC);
    place.torc(&["run", "w.yaml"]).expect(1);
    for args in [&["graph", "--to", "mermaid"][..], &["graph", "1", "--to", "mermaid"]] {
        let drawn = place.torc(args).expect(0);
        drawn.says("title: \"workflow 1: w, ended\"");
        drawn.says("b0(\"part_{i}<br>3 jobs<br>2 completed, 1 failed\"):::failed");
        drawn.says("b1(\"join<br>canceled\"):::canceled");
        drawn.says("classDef failed fill:#f4a6a0");
    }
    place.torc(&["graph", "7"]).expect(2).says("7");
    // A file is meant where there is one.
    place.write("1", SPEC);
    place.torc(&["graph", "1"]).expect(0).says("label=\"w\"");
}
