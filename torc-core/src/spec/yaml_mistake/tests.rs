//! Texts that are no YAML, and what is said of each.

use proptest::prelude::*;

use super::*;
use crate::spec::problems::Problems;

/// The place of a text's first problem, its message and its help.
#[track_caller]
fn said(text: &str) -> (String, String, String) {
    let problems = Problems::new(text);
    assert!(crate::spec::yaml::parse(text, 0, &problems).is_none(), "{text}");
    let first = problems.finish().into_iter().next().expect("a problem");
    let span = first.span.expect("a place");
    let help = first.help.expect("a help");
    (text[span.start..span.end].to_owned(), first.message, help)
}

#[track_caller]
fn check(text: &str, place: &str, help: &str) {
    let (found, message, said) = said(text);
    assert_eq!((&*found, &*said), (place, help), "{message}\n{text}");
}

#[test]
fn values_that_need_quotes() {
    check("i: @values.txt", "@values.txt", "write `'@values.txt'`");
    check("p: {i: @a.txt, j: 1}", "@a.txt", "write `'@a.txt'`");
    check("c: `date`", "`date`", "write `'`date`'`");
    check("c: %x y", "%x y", "write `'%x y'`");
    check("c: & it's", "& it's", "write `\"& it's\"`");
    check("c: *.csv", "*.csv", "write `'*.csv'`");
    check(
        "c: *missing",
        "*missing",
        "write `&missing` before the value that it stands for, further up; if it is text, write `'*missing'`",
    );
    check("c: ? x", "? x", "write `'? x'`");
    check("command: echo a: b", "echo a: b", "write `command: 'echo a: b'`");
    check("- name: {i}_a", "{i}_a", "if it is text, write `'{i}_a'`");
    check("c: [ -f x ] && y", "[ -f x ] && y", "if it is text, write `'[ -f x ] && y'`");
}

#[test]
fn quotes() {
    let close = |right: &str| format!("close it: if the value ends on this line, write `{right}`");
    check("a: \"b\nc: d", "\"", &close("\"b\""));
    check("a: 'b", "'", &close("'b'"));
    check("a: \"b\" c", "c", "write `'\"b\" c'`");
    check("a: 'it's'", "s", "write `\"it's\"`");
    check("a: 'b' 'c'", "'", "write `\"'b' 'c'\"`");
    check(
        "a: {b: 'c' d}",
        "d",
        "put single quotes around the whole value, and write those in it twice",
    );
    let escape = "write `\\\\d`, or use single quotes, where a backslash is only that";
    check(r#"a: "b\n\d""#, "\\d", escape);
}

#[test]
fn keys_and_items_without_a_blank() {
    check("name:w\njobs:\n  - a", "name:w", "write `name: w`");
    check("a:\n  - name:b\n    c: d", "name:b", "write `name: b`");
    check("a: b\nc:d\n", "c:d", "write `c: d`");
    check("a:\n  -name: b\n   c: d", "-name: b", "write `- name: b`");
    check("jobs: - a", "- a", "write `- a` on a line of its own, or the whole list as `[a]`");
    check(
        "a: b\nword\nc: d",
        "word",
        "write `key: value`; if it goes on with the value above, indent it deeper than that key",
    );
}

#[test]
fn indentation_names_the_right_column() {
    check("- a: b\n    c: d", "c: d", "begin it in column 3, as `a` on line 1");
    check("x:\n  - a: b\n   c: d", "c: d", "begin it in column 5, as `a` on line 2");
    check("x:\n    - a: b\n  - c: d", "- c: d", "begin it in column 5, as `a` on line 2");
    check("a: b\n\n# c\n d:", "d:", "begin it in column 1, as `a` on line 1");
    check("x:\n  - a: b\n  c: d", "c: d", "write `- c: d`");
    check("x:\n  a: |\n  text\n  b: c", "text", "begin its lines in column 5");
    check(
        "a: | b",
        "| b",
        "write it there, indented deeper than this line; if `|` belongs to it, write `'| b'`",
    );
    check("a:\n\t- b\n", "\t", "indent with spaces, two for each level");
}

#[test]
fn brackets() {
    check("a: [{b: c}\nd: []", "[", "write `]` where it ends, or a comma if it goes on");
    check("a:\n  - {b: c\n  - d", "{", "write `}` where it ends, or a comma if it goes on");
    check("a: [{b: c]", "]", "write `}` for the `{` in column 5, or a comma if it goes on");
    let (place, message, _) = said("a: {b: c d: e}");
    assert!(message.ends_with("an entry has a second colon") && place == ":", "{message}");
    check("a: {b: c}}", "}", "remove it, or write the one that it closes");
}

proptest! {
    #[test]
    fn whatever_the_scanner_says_the_place_is_in_the_text(
        text in "([ \\n]|[a-z:é]|- |: |[\\[\\]{}'\"|>&*@\\\\,#]){0,60}",
        at in 0_usize..70,
        said in prop::sample::select(vec![
            "", "flow", "quoted scalar", "unknown escape character", "trailing content after",
            "unknown anchor", "did not find expected comment", "misplaced bracket",
        ]),
    ) {
        let problem = problem(&text, at, said, 0);
        let span = problem.span.expect("a place");
        prop_assert!(text.get(span.start..span.end).is_some());
        prop_assert!(problem.help.is_some_and(|help| !help.is_empty()));
    }
}
