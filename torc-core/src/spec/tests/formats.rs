//! Bytes, formats and their oddities.

use super::{check, first, good, load_bytes, shown};
use crate::spec::Format;

fn codes(bytes: &[u8], format: Option<Format>) -> String {
    match load_bytes(bytes, format) {
        Ok(loaded) => format!("{} jobs", loaded.workflow.jobs.len()),
        Err(rejected) => shown(&String::from_utf8_lossy(bytes), &rejected.problems),
    }
}

#[test]
fn extensions_tell_the_format() {
    assert_eq!(Format::from_extension("a/b.yaml"), Some(Format::Yaml));
    assert_eq!(Format::from_extension("b.YML"), Some(Format::Yaml));
    assert_eq!(Format::from_extension("x.y/b.json"), Some(Format::Json));
    assert_eq!(Format::from_extension("x.json/b"), None);
    assert_eq!(Format::from_extension("-"), None);
}

#[test]
fn without_a_format_each_is_tried() {
    assert_eq!(codes(b"name: w\njobs: []", None), "0 jobs");
    assert_eq!(codes(b"{\"name\": \"w\",\n\t\"jobs\": []}", None), "0 jobs");
    assert_eq!(codes(b"{\"name\": \"w\", \"jobs\": ]", None), "json-syntax ]");
    assert!(codes(b"name: w\n  jobs: []", None).starts_with("yaml-syntax"));
    assert_eq!(codes(b"name: w\njbs: []", None), "missing-field name\nunknown-field jbs");
}

#[test]
fn bytes_that_are_not_text_are_located() {
    let rejected = load_bytes(b"name: w\xff", None).unwrap_err();
    assert_eq!(rejected.problems[0].code, "spec::not-utf8");
    assert_eq!(rejected.problems[0].span.unwrap().start, 7);
    assert_eq!(codes(b"name: w\njobs: []\n\0more: 1", None), "nul-byte \0");
    assert_eq!(codes(b"n\0a\0", None), "nul-byte \0");
    assert_eq!(codes(b"", None), "empty ");
    assert_eq!(codes(b"# nothing\n", None), "empty ");
    assert_eq!(codes(b"", Some(Format::Json)), "empty ");
}

#[test]
fn a_byte_order_mark_and_crlf_are_no_problem() {
    let text =
        "\u{feff}name: w\r\njobs:\r\n  - name: a\r\n    command: |\r\n      one\r\n      two\r\n";
    assert_eq!(&*good(text).workflow.jobs[0].command, "one\ntwo\n");
    check("\u{feff}name: w\r\njobs: []\r\nfoo: 1\r\n", "unknown-field foo");
    let json = "\u{feff}{\"name\": \"w\", \"jobs\": [], \"foo\": 1}";
    assert_eq!(codes(json.as_bytes(), Some(Format::Json)), "unknown-field \"foo\"");
}

#[test]
fn places_after_wide_characters_are_right() {
    check("name: wörk\ndescription: \"日本語\"\njobs: []\nfoo: 1\n", "unknown-field foo");
}

#[test]
fn tabs_are_explained() {
    assert_eq!(
        first("name: w\njobs:\n\t- name: a\n"),
        "YAML cannot be indented with tabs; indent with spaces, two for each level"
    );
    assert!(first("name: w\njobs:\n  - name: a\n\t  command: b\n").contains("tabs"));
}

#[test]
fn syntax_errors_have_a_place() {
    check("name: w\njobs: [\n", "yaml-syntax [");
    check("name: 'w\njobs: []\n", "yaml-syntax '");
    check("name: w\nname: x\njobs: []\n", "duplicate-key name");
    assert!(first("name: w\nname: x\njobs: []\n").contains("line 1"));
    check("name: w\njobs: []\nfoo: *x\n", "yaml-syntax *x");
}

#[test]
fn anchors_and_merges_serve_jobs() {
    let loaded = good(
        "name: w\njobs:\n- &base {name: a, command: x, priority: 5}\n- {<<: *base, name: b}\n",
    );
    assert_eq!(loaded.workflow.jobs[1].priority, 5);
}

#[test]
fn many_jobs_may_share_a_block() {
    let mut text =
        String::from("name: w\njobs:\n- &b {name: j, command: x, priority: 1, labels: [a, b]}\n");
    for job in 0..20_000 {
        text += &format!("- {{<<: *b, name: j{job}}}\n");
    }
    assert_eq!(good(&text).workflow.jobs.len(), 20_001);
}

#[test]
fn too_many_values_are_refused_before_they_are_kept() {
    let list = format!("[{}1]", "1,".repeat(crate::spec::tree::MOST_NODES + 1));
    assert_eq!(codes(list.as_bytes(), Some(Format::Json)), "too-large ,");
}

#[test]
fn strings_of_json_are_checked() {
    let check = |text: &[u8], expected: &str| {
        let found = codes(text, Some(Format::Json));
        assert!(found.starts_with(expected), "{found}");
    };
    check(b"{\"name\": \"a\nb\", \"jobs\": []}", "json-syntax");
    check(br#"{"name": "a\nb", "jobs": []}"#, "bad-name");
    check(br#"{"name": "\ud800", "jobs": []}"#, "json-syntax");
}
