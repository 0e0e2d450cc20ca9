//! KDL: what its nodes say of a spec, and what is wrong with them.

use insta::assert_snapshot;

use super::super::problems::Problems;
use super::super::{Format, convert, tree};

/// The tree of a text as JSON, or its problems: code, place, and message.
fn read(text: &str) -> String {
    let problems = Problems::new(text);
    let root = tree(text, Format::Kdl, &problems);
    let failed = problems.failed();
    let problems = problems.finish();
    match root {
        Some(root) if !failed => root.to_json().to_string(),
        _ => {
            let line = |problem: &crate::diagnostics::Problem| {
                let place = problem.span.and_then(|span| text.get(span.start..span.end));
                format!("{} {:?} {}", problem.code, place.unwrap_or("?"), problem.message)
            };
            problems.iter().map(line).collect::<Vec<_>>().join("\n")
        }
    }
}

#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(read(text), expected, "\n{text}");
}

#[test]
fn nodes_are_fields_and_items() {
    check(
        "name w\njob \"a\" { command \"x\"; depends_on b c; depends_on_job d; }\njob b command=y depends_on=c",
        r#"{"name":"w","jobs":[{"name":"a","command":"x","depends_on":["b","c","d"]},{"name":"b","command":"y","depends_on":["c"]}]}"#,
    );
    check("jobs\nfile f path=\"p\"", r#"{"jobs":[],"files":[{"name":"f","path":"p"}]}"#);
    check("env A=\"1\" { B \"2\"; \"C D\" \"3\" }", r#"{"env":{"A":"1","B":"2","C D":"3"}}"#);
    check("env", r#"{"env":{}}"#);
    check(
        "parameters { i \"1:3\"; x 1 0.5; (list)y z }",
        r#"{"parameters":{"i":"1:3","x":[1,0.5],"y":["z"]}}"#,
    );
    check(
        "failure_handler again { rule { exit_code 1 2; exit_codes 3 }; rule match_all_exit_codes=#true }",
        r#"{"failure_handlers":[{"name":"again","rules":[{"exit_codes":[1,2,3]},{"match_all_exit_codes":true}]}]}"#,
    );
    check(
        "job a { label x; input_file f; depends_on_regex \"^b\" }",
        r#"{"jobs":[{"name":"a","labels":["x"],"input_files":["f"],"depends_on_regexes":["^b"]}]}"#,
    );
    check("job a { depends_on { - b; - c } }", r#"{"jobs":[{"name":"a","depends_on":["b","c"]}]}"#);
    check(
        "execution_config mode=direct { launcher flux }",
        r#"{"execution_config":{"mode":"direct","launcher":"flux"}}"#,
    );
    check(
        "execution_config { launcher { argv a b } }",
        r#"{"execution_config":{"launcher":{"argv":["a","b"]}}}"#,
    );
    check("slurm_scheduler s { mem #null }", r#"{"slurm_schedulers":[{"name":"s","mem":null}]}"#);
    check(
        "scheduler s type=pbs { queue long; hosts a b; limits { cpu 5 } }",
        r#"{"schedulers":[{"name":"s","type":"pbs","queue":"long","hosts":["a","b"],"limits":{"cpu":5}}]}"#,
    );
    check(
        "action trigger_type=on_workflow_start { command a; command b }",
        r#"{"actions":[{"trigger_type":"on_workflow_start","commands":["a","b"]}]}"#,
    );
}

#[test]
fn data_is_what_it_looks_like_or_says() {
    let data = |data: &str, expected: &str| {
        check(
            &format!("user_data d {{ {data} }}"),
            &format!(r#"{{"user_data":[{{"name":"d","data":{expected}}}]}}"#),
        );
    };
    data("data 5", "5");
    data("data #null", "null");
    data("data 1 2", "[1,2]");
    data("data { - 1; - { x #true } }", r#"[1,{"x":true}]"#);
    data("data x=1 { y 2 3 }", r#"{"x":1,"y":[2,3]}"#);
    data("(list)data 1", "[1]");
    data("(list)data", "[]");
    data("(map)data { - 1 }", r#"{"-":1}"#);
    data("data {}", "{}");
    data("data 0x1f 1_000 -2.50 99999999999999999999", "[31,1000,-2.5,1e+20]");
}

#[test]
fn what_is_unknown_is_left_to_the_reader() {
    check("nam w\njbo a { x 1 }", r#"{"nam":null,"jbo":null}"#);
}

#[test]
fn what_does_not_fit_has_its_place() {
    check("name a b", "spec::kdl-shape \"name\" `name` takes one value");
    check("name", "spec::kdl-shape \"name\" `name` takes one value");
    check("job a b", "spec::kdl-shape \"b\" `job` takes no value here");
    check("job a { priority (u8)5 }", "spec::kdl-shape \"u8\" torc knows no types of values");
    check("user_data d { (json)data 5 }", "spec::kdl-shape \"json\" this type does not fit here");
    check("user_data d { data }", "spec::kdl-shape \"data\" `data` has no value");
    check(
        "job a { depends_on x=1 }",
        "spec::kdl-shape \"x\" `depends_on` is a list, which has no `x`",
    );
    check("job a { depends_on { x } }", "spec::kdl-shape \"x\" an item of a list is called `-`");
    check("env a", "spec::kdl-shape \"a\" `env` takes values by name");
    check("name a\nname b", "spec::duplicate-key \"name\" the key `name` is given twice");
    check("job a name=b", "spec::duplicate-key \"name\" the key `name` is given twice");
    check("job (x)a", "spec::kdl-shape \"x\" torc knows no types of values");
    check("(x)job a", "spec::kdl-shape \"x\" this type does not fit here");
    check("(list)name a", "spec::kdl-shape \"list\" this type does not fit here");
}

#[test]
fn hostile_texts_are_refused() {
    for text in ["a {", "/*", "/-", "(", "\"\"\"\n", "#", "a{ /-"] {
        let found = read(&text.repeat(100_000));
        assert!(found.starts_with("spec::"), "{text}: {}", &found[..found.len().min(200)]);
    }
    check(
        &format!("description \"{}\"", "{".repeat(1_000)),
        &format!("{{\"description\":\"{}\"}}", "{".repeat(1_000)),
    );
    let nested = format!(
        "description #\"\"\"\n{}\n\"\"\"# // {}\n/* {} */",
        "{ \" ".repeat(200),
        "{".repeat(200),
        "{".repeat(200)
    );
    assert!(read(&nested).starts_with("{\"description\""), "{}", read(&nested));
    check("", "spec::empty \"?\" the spec is empty");
    check("// nothing\n", "spec::empty \"?\" the spec is empty");
}

#[test]
fn a_spec_is_written_as_people_would() {
    let text = super::twins::YAML;
    assert_snapshot!(convert(text.as_bytes(), Some(Format::Yaml), Format::Kdl).unwrap());
    assert_snapshot!(convert(text.as_bytes(), Some(Format::Yaml), Format::Json5).unwrap());
}
