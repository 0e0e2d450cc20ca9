//! Specs in four formats as people use them: run, converted, and told of.

use torc_tests::Place;

/// The same workflow, as somebody would write it in each.
const SPECS: [(&str, &str); 4] = [
    (
        "w.yaml",
        "name: w\njobs:\n- {name: a, command: echo one > a.txt}\n- {name: b, command: cat a.txt, depends_on: [a]}\n",
    ),
    (
        "w.json",
        r#"{"name": "w", "jobs": [{"name": "a", "command": "echo one > a.txt"}, {"name": "b", "command": "cat a.txt", "depends_on": ["a"]}]}"#,
    ),
    (
        "w.json5",
        "// Two jobs.\n{name: 'w', jobs: [{name: 'a', command: 'echo one > a.txt'}, {name: 'b', command: 'cat a.txt', depends_on: ['a']},]}",
    ),
    (
        "w.kdl",
        "// Two jobs.\nname w\njob a command=\"echo one > a.txt\"\njob b {\n    command \"cat a.txt\"\n    depends_on a\n}\n",
    ),
];

#[test]
fn a_spec_runs_in_every_format_from_a_file_and_from_standard_input() {
    for (name, text) in SPECS {
        let place = Place::new();
        place.write(name, text);
        place.torc(&["run", name]).expect(0);
        place.torc(&["logs", "b"]).expect(0).says("one");
        place.torc_reading(&["run", "--new", "-"], text).expect(0).says("2 completed");
    }
}

#[test]
fn a_spec_is_converted_into_every_format_and_stays_the_same() {
    let place = Place::new();
    for (name, text) in SPECS {
        place.write(name, text);
        for to in ["yaml", "json", "json5", "kdl"] {
            let written = place.torc(&["spec", "convert", name, "--to", to]).expect(0).stdout;
            let converted = format!("converted.{to}");
            place.write(&converted, &written);
            place.torc(&["validate", &converted]).expect(0).says("2 jobs, 1 dependency");
            let again = place.torc(&["spec", "convert", &converted, "--to", to]).expect(0).stdout;
            assert_eq!(again, written, "{name} to {to}");
        }
    }
    let read = place.torc_reading(&["spec", "convert", "-", "--to", "kdl"], SPECS[0].1).expect(0);
    assert_eq!(
        read.stdout,
        "name \"w\"\njob \"a\" {\n    command \"echo one > a.txt\"\n}\njob \"b\" {\n    command \"cat a.txt\"\n    depends_on \"a\"\n}\n"
    );
}

#[test]
fn what_cannot_be_converted_is_said_with_its_place() {
    let place = Place::new();
    place.write("w.kdl", "name w\njob a {\n    comand \"x\"\n    priority #true\n}\n");
    let ended = place.torc(&["spec", "convert", "w.kdl", "--to", "yaml"]).expect(3);
    assert_eq!(ended.stdout, "");
    ended
        .says("w.kdl:3:5")
        .says("did you mean `command`?")
        .says("w.kdl:4:14")
        .says("spec::wrong-type");
    place.write("broken.kdl", "name w\njob a {\n");
    let ended = place.torc(&["validate", "broken.kdl"]).expect(3);
    ended.says("spec::kdl-syntax").says("broken.kdl:2:7");
    place.write("broken.json5", "{name: 'w', jobs: [}");
    place
        .torc(&["validate", "broken.json5"])
        .expect(3)
        .says("this is not valid JSON5")
        .says("broken.json5:1:20");
    place
        .torc(&["spec", "convert", "w.kdl", "--to", "toml"])
        .expect(2)
        .says("yaml, json, json5, kdl");
}

/// With its format named or not, a text that is in none is told of in the one that it looks like.
#[test]
fn standard_input_is_told_of_in_the_format_that_it_looks_like() {
    let place = Place::new();
    for (text, code) in [
        ("name: w\n  jobs: []\n", "spec::yaml-syntax"),
        ("{\"name\": \"w\", \"jobs\": [}", "spec::json-syntax"),
        ("name w\njob a {\n", "spec::kdl-syntax"),
    ] {
        place.torc_reading(&["validate", "-"], text).expect(3).says(code);
    }
}

#[test]
fn the_schema_is_json_and_knows_every_part() {
    let place = Place::new();
    let schema: serde_json::Value =
        serde_json::from_str(&place.torc(&["spec", "schema"]).expect(0).stdout).unwrap();
    assert_eq!(schema["required"], serde_json::json!(["name", "jobs"]));
    assert_eq!(schema["definitions"]["job"]["additionalProperties"], false);
}
