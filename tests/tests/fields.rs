//! docs/fields.md: every field of a spec has a row there, with a test that exercises what it means. Some of these tests
//! are here: of fields that no other test is about.
//!
//! The fields, and what they take, are those of `torc spec schema`. With `TORC_REWRITE=1` in the environment the rows
//! are written anew, each with the test that it had; a new field has none, and the next run says so.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use torc_tests::{Place, checkout};

const HEAD: &str = "| field | takes | test |\n|---|---|---|\n";

fn page() -> PathBuf {
    checkout().join("docs/fields.md")
}

fn read(path: PathBuf) -> String {
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The objects of a spec, in the order of the schema: what each is called, and its fields with what they take.
fn objects() -> Vec<(String, Vec<(String, String)>)> {
    let schema = Place::new().torc(&["spec", "schema"]).expect(0).json();
    let fields = |object: &Value| -> Vec<(String, String)> {
        let fields = object["properties"].as_object().expect("an object has fields");
        fields.iter().map(|(name, field)| (name.clone(), takes(field))).collect()
    };
    let mut objects = vec![("top level".to_owned(), fields(&schema))];
    let others = schema["definitions"].as_object().expect("there are others");
    objects.extend(others.iter().map(|(name, object)| (heading(name), fields(object))));
    objects
}

fn heading(definition: &str) -> String {
    definition.replace('_', " ")
}

/// What a field takes, in words. That null is an absent field goes without saying.
fn takes(field: &Value) -> String {
    if let Some(name) = field["$ref"].as_str() {
        let name = heading(name.trim_start_matches("#/definitions/"));
        return format!("[{name}](#{})", name.to_lowercase().replace(' ', "-"));
    }
    let alternatives = |list: &Value, words: &dyn Fn(&Value) -> String| {
        let list = list.as_array().expect("a list").iter();
        let words: Vec<String> =
            list.filter(|one| **one != "null" && one["type"] != "null").map(words).collect();
        words.join(" or ")
    };
    if field["anyOf"].is_array() {
        return alternatives(&field["anyOf"], &takes);
    }
    if let Some(words) = field["enum"].as_array() {
        let words = words.iter().filter_map(Value::as_str).map(|word| format!("`{word}`"));
        return words.collect::<Vec<_>>().join(", ");
    }
    let kind = |kind: &Value| match kind.as_str() {
        Some("string") => "text".to_owned(),
        Some("boolean") => "true or false".to_owned(),
        Some("number") => "number".to_owned(),
        Some("integer") if field["minimum"].is_i64() => {
            format!("whole number from {} to {}", field["minimum"], field["maximum"])
        }
        Some("integer") => "whole number".to_owned(),
        Some("array") => format!("list of {}", takes(&field["items"])),
        Some("object") if field["additionalProperties"].is_object() => {
            format!("map of {}", takes(&field["additionalProperties"]))
        }
        Some("object") => "map".to_owned(),
        other => panic!("nobody knows how to say {other:?}"),
    };
    match &field["type"] {
        Value::Null => "anything".to_owned(),
        Value::Array(_) => alternatives(&field["type"], &kind),
        one => kind(one),
    }
}

/// The rows of the page, by object and field: what the field takes, and its test.
fn rows(text: &str) -> BTreeMap<(String, String), (String, String)> {
    let mut rows = BTreeMap::new();
    let mut object = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            name.clone_into(&mut object);
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let ["", field, takes, test, ""] = cells[..]
            && let Some(field) = field.strip_prefix('`')
        {
            let key = (object.clone(), field.trim_end_matches('`').to_owned());
            let row = (takes.to_owned(), test.trim_matches('`').to_owned());
            assert!(rows.insert(key.clone(), row).is_none(), "{key:?} has two rows");
        }
    }
    rows
}

fn rewrite(text: &str) {
    let (known, mut page) = (rows(text), text.split("## ").next().unwrap_or_default().to_owned());
    for (object, fields) in objects() {
        page += &format!("## {object}\n\n{HEAD}");
        for (field, takes) in fields {
            let test = known.get(&(object.clone(), field.clone())).map_or("", |(_, test)| test);
            page += &format!("| `{field}` | {takes} | `{test}` |\n");
        }
        page.push('\n');
    }
    fs::write(self::page(), page.trim_end().to_owned() + "\n").expect("the page is written");
}

#[test]
fn every_field_has_a_row_and_a_test() {
    let text = read(page());
    if std::env::var_os("TORC_REWRITE").is_some() {
        return rewrite(&text);
    }
    let mut rows = rows(&text);
    for (object, fields) in objects() {
        for (field, takes) in fields {
            let row = rows.remove(&(object.clone(), field.clone()));
            let (said, test) = row.unwrap_or_else(|| panic!("{object}: `{field}` has no row"));
            assert_eq!(said, takes, "{object}: `{field}`");
            let (file, name) = test
                .split_once("::")
                .unwrap_or_else(|| panic!("{object}: `{field}` has no test: {test}"));
            let source = read(checkout().join(file));
            assert!(source.contains(&format!("fn {name}(")), "{object}: there is no {test}");
            assert!(source.contains(&field), "{object}: {file} does not name `{field}`");
        }
    }
    assert!(rows.is_empty(), "no spec has these: {rows:?}");
}

#[test]
fn what_a_workflow_is_for_is_kept() {
    let place = Place::with(
        "name: w\nuser: ada\ndescription: what it computes\nproject: p7\nmetadata: {grant: [1, x]}\n\
         jobs: [{name: a, command: 'true', supports_termination: true}]",
    );
    place.run(&[]).expect(0);
    let archive = place.torc(&["export"]).expect(0).json();
    let header = &archive["workflow"]["header"];
    let kept = ["name", "user", "description", "project", "metadata"].map(|field| &header[field]);
    assert_eq!(json!(kept), json!(["w", "ada", "what it computes", "p7", {"grant": [1, "x"]}]));
}

#[test]
fn relations_by_patterns_of_names_make_dependencies() {
    let place = Place::with(
        r#"
name: w
files:
  - {name: raw_1, path: raw_1, st_mtime: 1700000000.5, identifier: doi}
  - {name: raw_2, path: raw_2}
  - {name: clean, path: clean}
user_data: [{name: count_a}, {name: count_b}]
jobs:
  - {name: makes, command: touch raw_1 raw_2, output_files_regexes: ['^raw_\d$'], output_user_data_regexes: ['^count_']}
  - {name: cleans, command: touch clean, input_file_regexes: ['^raw_'], output_file_regexes: ['clean']}
  - {name: counts, command: 'true', input_user_data_regexes: ['_b$'], input_files: [clean]}"#,
    );
    place.run(&[]).expect(0);
    let jobs = place.json(&["jobs"]);
    let depends_on: Vec<&Value> =
        jobs.as_array().expect("a list").iter().map(|job| &job["depends_on"]).collect();
    assert_eq!(json!(depends_on), json!([[], [1], [1, 2]]));
    let files = place.json(&["files"]);
    assert_eq!(files[1]["producers"], json!(["makes"]));
    let data = place.json(&["user-data", "list"]);
    assert_eq!(
        (&data[0]["producers"], &data[1]["consumers"]),
        (&json!(["makes"]), &json!(["counts"]))
    );
}

#[test]
fn workers_of_nodes_are_started_as_the_spec_says() {
    let script = |execution: &str| {
        let place = Place::with(&format!(
            "name: w
execution_config: {{mode: direct, {execution}}}
slurm_schedulers: [{{name: s, account: a, nodes: 2}}]
actions: [{{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: s}}]
jobs: [{{name: a, command: 'true'}}]"
        ));
        place.torc(&["slurm", "script", "w.yaml"]).expect(0).stdout
    };
    let usual = script("sigterm_lead_seconds: 7");
    assert!(usual.contains("--staggered") && !usual.contains("pmix"), "{usual}");
    let other = script("staggered_start: false, srun_mpi: pmix");
    assert!(other.contains("--srun-mpi") && other.contains("pmix"), "{other}");
    assert!(!other.contains("--staggered"), "{other}");
}
