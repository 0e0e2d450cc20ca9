//! What is written reads back.

use insta::assert_snapshot;
use proptest::prelude::*;

use super::super::problems::Problems;
use super::super::tree::{Key, Node, Spanned, Value};
use super::super::write::write;
use super::super::{Context, Format, convert, load, tree};
use super::Files;
use crate::diagnostics::Span;

fn read(text: &str, format: Format) -> Node {
    let problems = Problems::new(text);
    let root = tree(text, format, &problems);
    let problems = problems.finish();
    match root {
        Some(root) if problems.is_empty() => root,
        _ => panic!("{problems:?}\n{text}"),
    }
}

/// The same tree, but for places.
fn same(left: &Node, right: &Node) -> bool {
    match (&left.value, &right.value) {
        (Value::Float(left), Value::Float(right)) => left.to_bits() == right.to_bits(),
        (Value::Seq(left), Value::Seq(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(l, r)| same(l, r))
        }
        (Value::Map(left), Value::Map(right)) => {
            let same_entry =
                |(l, r): (&(Key, Node), &(Key, Node))| l.0.value == r.0.value && same(&l.1, &r.1);
            left.len() == right.len() && left.iter().zip(right).all(same_entry)
        }
        (left, right) => left == right,
    }
}

fn node(value: Value) -> Node {
    Node::new(value, Span::default())
}

fn string() -> impl Strategy<Value = String> {
    prop_oneof![
        r##"[-a:{}\[\]"'&*!|>?%@,#~`\n\r\t 0é<.=\\_\x00\x7f\u{85}\u{2028}\u{feff}]{0,12}"##,
        "([a-z#:-]{0,4}( [a-z:#]{0,3})?\n){0,4}[a-z]{0,2}",
        r"[-+]?[0-9._:xoeE]{0,8}",
        prop::sample::select(vec![
            "",
            "null",
            "~",
            "yes",
            "No",
            "on",
            "true",
            "1:4",
            "0o7",
            "0x1F",
            ".inf",
            ".NaN",
            "<<",
            "2024-01-01",
            "1_000",
            "---",
            "...",
            "- a",
            "a: b",
            "a #b",
            "a\n",
            "a\n\n",
            "\n",
            " a\nb",
            "a\n  b\n",
            "a\n\nb",
            "a\n \nb",
            "# a",
            "{a}",
            "=",
            "4g",
            "04:00:00",
            "a:",
        ])
        .prop_map(str::to_owned),
        "[a-z]{240,260}",
        "[a-z]{1000,1300}",
    ]
}

fn value(with_numbers: bool) -> impl Strategy<Value = Node> {
    let float = prop_oneof![
        any::<f64>().prop_filter("JSON has none", |number| number.is_finite()),
        prop::sample::select(vec![0.0, -0.0, 0.1, 1e300, 5.0, 1e-7]),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        float.prop_map(move |number| if with_numbers { Value::Float(number) } else { Value::Null }),
        string().prop_map(|text| Value::Str(text.into())),
        string().prop_map(|text| Value::Str(text.into())),
    ];
    let key = string().prop_filter("a merge key is no key", |key| key != "<<").boxed();
    leaf.prop_map(node).prop_recursive(4, 24, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|items| node(Value::Seq(items))),
            prop::collection::btree_map(key.clone(), inner, 0..5).prop_map(|entries| {
                let entry = |(key, value): (String, Node)| {
                    (Spanned::new(key.into(), Span::default()), value)
                };
                node(Value::Map(entries.into_iter().map(entry).collect()))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn every_spec_reads_back(kept in value(true), format in prop::sample::select(Format::ALL.to_vec())) {
        // KDL knows by a field's name what a node is: `data` may be anything.
        let entry = |key: &str, value| (Spanned::new(key.into(), Span::default()), value);
        let data = node(Value::Map(vec![entry("name", node(Value::Str("d".into()))), entry("data", kept)]));
        let root = node(Value::Map(vec![
            entry("name", node(Value::Str("w".into()))),
            entry("user_data", node(Value::Seq(vec![data]))),
        ]));
        let text = write(&root, "", format);
        let back = read(&text, format);
        prop_assert!(same(&root, &back), "{text}\n{root:?}\n{back:?}");
    }

    #[test]
    fn every_tree_reads_back(
        root in value(true),
        format in prop::sample::select(vec![Format::Yaml, Format::Json, Format::Json5]),
    ) {
        // An empty document is refused, whatever it is written as.
        prop_assume!(root.value != Value::Null);
        let text = write(&root, "", format);
        let back = read(&text, format);
        prop_assert!(same(&root, &back), "{text}\n{root:?}\n{back:?}");
    }
}

#[test]
fn a_spec_is_written_as_people_would() {
    let text = r#"
name: &n "w"
# A comment.
parameters: {lr: [0.10, 1e-3, "0.5"], i: "1:4", big: 007}
env: {A: "yes", B: "08", "C D": "x: y"}
jobs:
  - name: "train_{i}"
    command: "module load mpi\nsrun ./train \"{lr}\"\n"
    depends_on: []
    env: {}
  - {name: *n, command: 'grep "\d" x', depends_on_regexes: ['^train_\d+$'], priority: -1, stdio: null}
files: [{name: f, path: ./f}, {name: g, path: /g}]
"#;
    let root = read(text, Format::Yaml);
    let written = write(&root, text, Format::Yaml);
    assert!(same(&root, &read(&written, Format::Yaml)));
    assert_snapshot!(written, @r#"
    name: w
    parameters:
      lr: [0.10, 1e-3, "0.5"]
      i: "1:4"
      big: 007
    env:
      A: "yes"
      B: "08"
      C D: "x: y"
    jobs:
      - name: train_{i}
        command: |
          module load mpi
          srun ./train "{lr}"
        depends_on: []
        env: {}
      - name: w
        command: grep "\d" x
        depends_on_regexes: [^train_\d+$]
        priority: -1
        stdio: null
    files:
      - name: f
        path: ./f
      - name: g
        path: /g
    "#);
    let as_json = r#"{"name": "w", "parameters": {"lr": [0.10, 1E5]}, "jobs": [], "env": {}}"#;
    let root = read(as_json, Format::Json);
    assert_snapshot!(write(&root, as_json, Format::Json), @r#"
    {
      "name": "w",
      "parameters": {
        "lr": [
          0.10,
          1E5
        ]
      },
      "jobs": [],
      "env": {}
    }
    "#);
}

#[test]
fn strings_are_quoted_where_a_reader_could_stumble() {
    let check = |text: &str, expected: &str| {
        let list = node(Value::Map(vec![(
            Spanned::new("k".into(), Span::default()),
            node(Value::Str(text.into())),
        )]));
        assert_eq!(write(&list, "", Format::Yaml), format!("k: {expected}\n"));
    };
    for plain in ["a", "a b", "run_{i}", "4g", "PT1H", "/a/b", "./x", "a:b", "a#b", "x=1", "it's"] {
        check(plain, plain);
    }
    for quoted in [
        "", "1", "1:4", "04:00:00", "yes", "Off", "null", "0x10", "1e3", "a: b", "a #b", "-x",
        "{i}", "*", " a", "a:",
    ] {
        check(quoted, &format!("\"{quoted}\""));
    }
    check("^a\\d$", "^a\\d$");
    check("\"a\"", "'\"a\"'");
    check("\"it's\"", "'\"it''s\"'");
    check("a\tb", "\"a\\tb\"");
    check("a\nb", "|-\n  a\n  b");
}

/// Each of these was written by one format and not read back by another.
#[test]
fn what_fuzzing_found_is_read_again() {
    for text in [
        "name: w\njobs: [{name: a, command: x, depends_on_regexes: null, env: null, stdio: null}]",
        "name: w\njobs: [{name: a, command: x, labels: [x, 'y -', '- z']}]",
    ] {
        let context = Context { user: None, sources: &Files(Vec::new()) };
        let workflow = |text: &str, format| {
            load(text.as_bytes(), Some(format), &context).expect("it is valid").workflow
        };
        for format in Format::ALL {
            let written =
                convert(text.as_bytes(), Some(Format::Yaml), format).expect("it converts");
            assert_eq!(workflow(&written, format), workflow(text, Format::Yaml), "{written}");
        }
    }
}
