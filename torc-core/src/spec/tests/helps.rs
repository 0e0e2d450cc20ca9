//! What is wrong comes with what to write.

use super::{Format, first, load_bytes};

/// The help of the first problem of a spec is this.
#[track_caller]
fn helps(text: &str, help: &str) {
    let said = first(text);
    assert!(said.ends_with(&format!("; {help}")), "{said}\n{text}");
}

#[test]
fn a_value_of_the_wrong_type_shows_the_right_one() {
    let job = |fields: &str| format!("name: w\njobs: [{{name: a, command: x, {fields}}}]");
    helps(&job("depends_on: b"), "write `depends_on: [b]`");
    helps(&job("env: [A=1, 'B: 2']"), "write `env: {A: 1, B: 2}`");
    helps(&job("env: [A]"), "write for example `env: {key: value}`");
    helps(&job("labels: {a: b}"), "write `labels: [...]`");
    helps(&job("stdio: none"), "write for example `{mode: separate}`");
    helps(
        &job("stdio: [{mode: none}]"),
        "it is one, not a list of them: remove the `-`, or the brackets",
    );
    helps("name: w\njobs: [echo a]", "write for example `{name: a, command: echo hello}`");
    helps("name: w\njobs: echo", "write `jobs: [{name: a, command: echo hello}]`");
    helps(
        "name: w\njobs: {b: {command: x}}",
        "write each with its name as an item: `- {name: b, command: echo hello}`",
    );
    helps("name: w\njobs: {name: a, command: x}", "begin each item with `- `, also the only one");
    let token = "name: w\njobs: [{name: {i}, command: x, parameters: {i: [1]}}]";
    helps(token, "braces need quotes: write `name: '{i}'`");
}

#[test]
fn what_to_write_depends_on_the_mistake() {
    let regex = |regex: &str, help: &str| {
        let spec =
            format!("name: w\njobs: [{{name: a, command: x, depends_on_regexes: ['{regex}']}}]");
        helps(&spec, help);
    };
    regex("(", "write the `)` that is missing, or `\\(` for the bracket itself");
    regex(")", "write the `(` that is missing, or `\\)` for the bracket itself");
    regex("[a", "write the `]` that is missing, or `\\[` for the bracket itself");
    regex("*", "write `.*` for any letters, or `\\*` for the star itself");
    regex("a(?=b)", "name what is to match: there is no `(?=`, `(?!`, `(?<=` and `(?<!`");
    regex("(a)\\1", "name what is to match: there is no `\\1`");
    regex("zz", "correct it, or remove it; the names are `a`");
    let table = |file: &str, help: &str| {
        helps(&format!("name: w\njobs: []\nparameters_file: {file}"), help);
    };
    table("none.csv", "the path is relative to the spec's folder, else to the current one");
    table(
        "bad.csv",
        "its first line names the columns, and each other line has as many values; one with a comma \
         stands in double quotes",
    );
    table("values.txt", "name it by what it is, such as `runs.csv`");
    let variable = "variables: {data-dir: 1}\nname: w\njobs: []";
    helps(variable, "write `data_dir`: a name has letters, digits and `_`, and no digit first");
    helps(
        "variables: {1: 1}\nname: w\njobs: []",
        "use letters, digits and `_`, not beginning with a digit",
    );
}

#[test]
fn examples_are_in_the_format_of_the_spec() {
    let check = |text: &str, format: Format, help: &str| {
        let problems = match load_bytes(text.as_bytes(), Some(format)) {
            Ok(loaded) => loaded.warnings,
            Err(rejected) => rejected.problems,
        };
        assert_eq!(problems[0].help.as_deref(), Some(help), "{text}");
    };
    check("jobs: []", Format::Yaml, "add it, for example `name: my_workflow`");
    check("{\"jobs\": []}", Format::Json, "add it, for example `\"name\": \"my_workflow\"`");
    check("{jobs: []}", Format::Json5, "add it, for example `\"name\": \"my_workflow\"`");
    check("job a command=x", Format::Kdl, "add it, for example `name \"my_workflow\"`");
    check(
        "{\"name\": \"w\"}",
        Format::Json,
        "add it, for example `\"jobs\": [{\"name\":\"hello\",\"command\":\"echo hello\"}]`",
    );
    check("name w\njob a command=x priority=9999999999", Format::Kdl, "for example `priority 1`");
    check(
        "name w\naction trigger_type=on_workflow_start action_type=run_commands\njob a command=x",
        Format::Kdl,
        "add it, for example `commands \"echo done\"`",
    );
    check(
        "{\"name\": \"w\", \"jobs\": [{\"name\": \"a\", \"command\": \"x\", \"depends_on\": \"b\"}]}",
        Format::Json,
        "write `\"depends_on\": [\"b\"]`",
    );
    check(
        "{\"name\": \"w\", \"jobs\": [], \"enable_ro_crate\": \"yes\"}",
        Format::Json,
        "write for example `\"enable_ro_crate\": true`",
    );
    check("name 7\njob a command=x", Format::Kdl, "write for example `name \"7\"`");
}
