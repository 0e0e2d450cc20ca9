//! What a spec can do to torc, in all four formats: each is a clear error or a success, in bounded memory and time.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::process::Command;

use torc_tests::{Ended, Place, Started};

const FORMATS: [&str; 4] = ["yaml", "json", "json5", "kdl"];

/// The size of a file that is large.
const LARGE: usize = 200_000_000;

/// Checks what `torc validate` says to the same thing in each format: `""` is a success, else the error's code
/// and place.
#[track_caller]
fn check(specs: [(&[u8], &str); 4]) {
    for (format, (spec, expected)) in FORMATS.into_iter().zip(specs) {
        let place = Place::new();
        let name = format!("w.{format}");
        place.write(&name, spec);
        let ended = place.torc(&["validate", &name]);
        if expected.is_empty() {
            ended.expect(0).says("is valid");
            continue;
        }
        let ended = ended.expect(3);
        for words in expected.split(", ") {
            ended.says(words);
        }
        assert!(ended.stderr.len() < 20_000, "an error is not as long as its spec");
    }
}

#[test]
fn duplicate_keys() {
    check([
        (b"name: w\nname: v\njobs: []", "spec::duplicate-key, w.yaml:2:1"),
        (br#"{"name": "w", "name": "v", "jobs": []}"#, "spec::duplicate-key, w.json:1:15"),
        (b"{name: 'w', name: 'v', jobs: []}", "spec::duplicate-key, w.json5:1:13"),
        (b"name w\nname v\njob a { command x; }", "spec::duplicate-key, w.kdl:2:1"),
    ]);
}

#[test]
fn huge_numbers() {
    check([
        (b"name: w\njobs: [{name: a, command: x, priority: 99999999999999999999}]", "w.yaml:2:40"),
        (
            br#"{"name": "w", "jobs": [{"name": "a", "command": "x", "priority": 1e999}]}"#,
            "w.json:1:66",
        ),
        (
            b"{name: 'w', jobs: [{name: 'a', command: 'x', priority: 0xffffffffffffffffffff}]}",
            "w.json5:1:56",
        ),
        (b"name w\njob a { command x; priority 99999999999999999999; }", "w.kdl:2:29"),
    ]);
}

#[test]
fn nul_bytes() {
    check([
        (b"name: w\njobs: [{name: a, command: \"x\0\"}]", "w.yaml:2:"),
        (b"{\"name\": \"w\", \"jobs\": [{\"name\": \"a\", \"command\": \"x\0\"}]}", "w.json:1:"),
        (b"{name: 'w', jobs: [{name: 'a', command: 'x\0'}]}", "w.json5:1:"),
        (b"name w\njob a { command \"x\0\"; }", "w.kdl:2:"),
    ]);
    check([
        (
            b"name: w\njobs: [{name: a, command: \"x\\0\"}]",
            "a command cannot hold a NUL byte, w.yaml:2:27",
        ),
        (
            br#"{"name": "w", "jobs": [{"name": "a", "command": "\u0000"}]}"#,
            "a command cannot hold a NUL byte, w.json:1:49",
        ),
        (
            br"{name: 'w', jobs: [{name: 'a', command: '\0'}]}",
            "a command cannot hold a NUL byte, w.json5:1:41",
        ),
        (br#"name w; job a { command "\u{0}"; }"#, "w.kdl:1:25"),
    ]);
}

#[test]
fn bytes_that_are_no_text() {
    check([
        (b"name: w\xff", "spec::not-utf8, w.yaml:1:8"),
        (b"{\"name\": \"w\xff\"}", "spec::not-utf8, w.json:1:12"),
        (b"{name: 'w\xff'}", "spec::not-utf8, w.json5:1:10"),
        (b"name w\xff", "spec::not-utf8, w.kdl:1:7"),
    ]);
}

#[test]
fn byte_order_marks_and_line_ends_of_windows() {
    check([
        ("\u{feff}name: w\r\njobs:\r\n- name: a\r\n  command: x\r\n".as_bytes(), ""),
        (
            "\u{feff}{\"name\": \"w\",\r\n\"jobs\": [{\"name\": \"a\", \"command\": \"x\"}]}\r\n"
                .as_bytes(),
            "",
        ),
        ("\u{feff}{name: 'w', // w\r\n jobs: [{name: 'a', command: 'x'}]}\r\n".as_bytes(), ""),
        ("\u{feff}name w\r\njob a {\r\n  command x\r\n}\r\n".as_bytes(), ""),
    ]);
}

#[test]
fn tabs() {
    check([
        (b"name: w\njobs:\n\t- name: a\n", "spec::yaml-tab, w.yaml:3:1"),
        (b"{\t\"name\":\t\"w\",\n\t\"jobs\": [{\"name\": \"a\",\t\"command\": \"x\"}]}", ""),
        (b"{\tname:\t'w',\n\tjobs: [{name: 'a',\tcommand: 'x'}]}", ""),
        (b"name\tw\njob\ta {\n\tcommand\tx\n}", ""),
    ]);
}

#[test]
fn deep_nesting() {
    let deep = |open: &str| open.repeat(200_000 / open.len());
    let (list, node) = (deep("["), deep("a {"));
    check([
        (format!("name: w\nmetadata: {list}").as_bytes(), "spec::too-deep, w.yaml:2:"),
        (format!("{{\"metadata\": {list}").as_bytes(), "spec::too-deep, w.json:1:"),
        (format!("{{metadata: {list}").as_bytes(), "spec::too-deep, w.json5:1:"),
        (node.as_bytes(), "spec::too-deep, w.kdl:1:"),
    ]);
}

/// What `torc validate` says to a file of [`LARGE`] bytes, with as much memory as twelve times the file at most. It
/// begins and ends so, and between are so many of the same.
fn validate_large(format: &str, begin: &str, each: &str, end: &str) -> Ended {
    let place = Place::new();
    let name = format!("w.{format}");
    let mut file = BufWriter::new(File::create(place.join(&name)).expect("a file"));
    file.write_all(begin.as_bytes()).expect("it is written");
    for _ in 0..(LARGE - begin.len() - end.len()) / each.len() {
        file.write_all(each.as_bytes()).expect("it is written");
    }
    file.write_all(end.as_bytes()).expect("it is written");
    drop(file.into_inner().expect("it is written"));
    let mut command = Command::new("bash");
    let limited = format!("ulimit -v {}; exec \"$0\" \"$@\"", LARGE / 1024 * 12);
    command.args(["-c", &limited]).arg(torc_tests::torc()).args(["validate", &name]);
    place.prepare(&mut command);
    Started::start(command).wait()
}

#[test]
fn a_large_file_that_is_one_string() {
    for (format, begin, end, place) in [
        ("yaml", "name: w\njobs: [{name: a, command: \"", "\"}]", "w.yaml:2:27"),
        (
            "json",
            "{\"name\": \"w\", \"jobs\": [{\"name\": \"a\", \"command\": \"",
            "\"}]}",
            "w.json:1:49",
        ),
        ("json5", "{name: 'w', jobs: [{name: 'a', command: '", "'}]}", "w.json5:1:41"),
        ("kdl", "name w\njob a { command \"", "\"; }", "w.kdl:2:17"),
    ] {
        let ended = validate_large(format, begin, "xxxxxxxxxx", end).expect(3);
        ended.says("spec::bad-command").says(place).says("but Linux allows 131071");
        assert!(ended.stderr.len() < 5_000, "an error is not as long as its spec");
    }
}

#[test]
fn a_large_file_of_nothing_but_values() {
    for (format, begin, each, end) in [
        ("yaml", "name: w\nmetadata: [", "1, ", "]\njobs: []"),
        ("json", "{\"name\": \"w\", \"metadata\": [", "1, ", "1], \"jobs\": []}"),
        ("json5", "{name: 'w', metadata: [", "1, ", "], jobs: []}"),
        ("kdl", "name w\nmetadata ", "1 ", "\njob a { command x; }"),
    ] {
        validate_large(format, begin, each, end).expect(3).says("spec::too-large");
    }
}

#[test]
fn a_large_file_that_never_closes_what_it_opens() {
    for (format, begin, each) in
        [("yaml", "", "- "), ("json", "", "[1,"), ("json5", "", "[1,"), ("kdl", "", "a {\n")]
    {
        validate_large(format, begin, each, "").expect(3).says("spec::too-deep");
    }
}
