//! docs/errors.md: every code of a problem of a spec has a section there, and what stands in it is what torc does.
//!
//! A section has a wrong spec, what torc prints of it on standard error, and a right spec. A fenced block is, by the
//! words behind its fence:
//!
//! - `yaml`, `json`, `json5` or `kdl`: a spec, the wrong one first. `shortened` behind that: it cannot stand on a page,
//!   and [`made`] makes it.
//! - `text`: the command, behind `$ `, and what it prints.
//! - anything with a file's name behind it: a file that is there besides, for this spec and those that follow. Of
//!   `workflow.yaml` a workflow was made and run before.
//!
//! With `TORC_REWRITE=1` in the environment what torc prints now is written into the page, in place of being
//! compared with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use torc_tests::{Ended, Place, PluginFolder, checkout, torc};

/// Stands in the page for problems that are left out.
const LEFT_OUT: &str = "...\n";

const FORMATS: [&str; 4] = ["yaml", "json", "json5", "kdl"];

/// A fenced block of the page.
#[derive(Clone, Debug)]
struct Block {
    /// The words behind the fence.
    kind: String,
    text: String,
    /// Its lines in the page, from 0, without the fences.
    first_line: usize,
    last_line: usize,
}

impl Block {
    fn words(&self) -> (&str, Option<&str>) {
        match self.kind.split_once(' ') {
            Some((kind, rest)) => (kind, Some(rest)),
            None => (&self.kind, None),
        }
    }

    /// The format, if it is a spec.
    fn format(&self) -> Option<&str> {
        let (kind, rest) = self.words();
        let is_spec = FORMATS.contains(&kind) && rest.is_none_or(|rest| rest == "shortened");
        is_spec.then_some(kind)
    }
}

/// What the page says of a code.
#[derive(Clone, Debug, Default)]
struct Section {
    code: String,
    explanation: String,
    blocks: Vec<Block>,
}

fn page() -> PathBuf {
    checkout().join("docs/errors.md")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The sections of the page that are about a code, in its order.
fn sections(text: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut block: Option<Block> = None;
    for (number, line) in text.lines().enumerate() {
        if let Some(mut open) = block.take() {
            if line == "```" {
                open.last_line = number;
                if let Some(section) = sections.last_mut() {
                    section.blocks.push(open);
                }
            } else {
                open.text += &format!("{line}\n");
                block = Some(open);
            }
        } else if let Some(kind) = line.strip_prefix("```") {
            let (first_line, kind) = (number + 1, kind.to_owned());
            block = Some(Block { kind, text: String::new(), first_line, last_line: first_line });
        } else if let Some(code) = line.strip_prefix("## ") {
            sections.push(Section { code: code.to_owned(), ..Section::default() });
        } else if let Some(section) = sections.last_mut()
            && section.blocks.is_empty()
        {
            section.explanation += line;
        }
    }
    assert!(block.is_none(), "the last block of the page is not closed");
    sections.retain(|section| section.code.contains("::"));
    assert!(!sections.is_empty(), "the page has sections");
    sections
}

/// A spec that cannot stand on a page.
fn made(code: &str) -> Vec<u8> {
    match code {
        "spec::more" => {
            let jobs = (1..=1004)
                .map(|job| format!("  - {{name: job{job}, command: echo, depends_on: [x]}}\n"));
            format!("name: w\njobs:\n{}", jobs.collect::<String>()).into_bytes()
        }
        "spec::not-utf8" => b"name: caf\xe9\njobs: [{name: a, command: echo a}]\n".to_vec(),
        "spec::nul-byte" => b"name: w\njobs: [{name: a, command: echo a\0}]\n".to_vec(),
        "spec::too-deep" => "[".repeat(101).into_bytes(),
        "spec::too-large" => {
            let list = "0,".repeat(16_000_001);
            format!("{{\"name\": \"w\", \"metadata\": {{\"list\": [{list}0]}}}}").into_bytes()
        }
        code => panic!("{code}: nobody knows what the whole spec is"),
    }
}

/// A `sinfo` that has one partition of four nodes, each with 8 CPUs and 16 GB.
const SINFO: &str = r"#!/bin/sh
printf '\036main\037main*\037up\0371:00:00\0371:00:00\0371-4\0374\037idle\0378\03716384\037(null)\0371\n'
";

/// A section's spec with what it needs, in a folder of its own.
struct Trial {
    place: Place,
    plugins: PluginFolder,
    args: Vec<String>,
}

impl Trial {
    /// Of the wrong spec, or else of the right one.
    fn of(section: &Section, is_wrong: bool) -> Self {
        let code = &section.code;
        let place = Place::new();
        let plugins = PluginFolder::of(&place);
        let specs: Vec<&Block> =
            section.blocks.iter().filter(|block| block.format().is_some()).collect();
        let [wrong, right] = specs[..] else { panic!("{code} has not two specs: {specs:?}") };
        let spec = if is_wrong { wrong } else { right };
        for block in section.blocks.iter().filter(|block| block.first_line < spec.first_line) {
            match block.words().1.filter(|_| block.format().is_none()) {
                Some(name) if name.starts_with("torc-plugin-") => {
                    plugins.write_program(name.trim_start_matches("torc-plugin-"), &block.text);
                }
                Some(name) => drop(place.write(name, &block.text)),
                None => {}
            }
        }
        let format = spec.format().expect("it is a spec");
        let name = format!("spec.{format}");
        if spec.words().1.is_some() {
            place.write(&name, made(code));
        } else {
            place.write(&name, &spec.text);
        }
        let (command, _) = Self::printed(section);
        let args = command.split_whitespace().skip(1);
        let args =
            args.map(|word| if word.starts_with("spec.") { name.clone() } else { word.to_owned() });
        let args = args.collect();
        let trial = Self { place, plugins, args };
        trial.take_sinfo_in();
        if trial.place.join("workflow.yaml").exists() {
            trial.place.torc(&["run", "workflow.yaml"]).expect(0);
        }
        trial
    }

    /// Puts the `sinfo` first in the PATH of the place.
    fn take_sinfo_in(&self) {
        use std::os::unix::fs::PermissionsExt;
        fs::create_dir(self.place.join("bin")).expect("a new folder");
        self.place.write("bin/sinfo", SINFO);
        fs::set_permissions(self.place.join("bin/sinfo"), PermissionsExt::from_mode(0o755))
            .expect("it is ours");
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}", self.place.join("bin").display());
        self.place.set_env([("PATH".to_owned(), path)]);
    }

    /// The command of a section, and what the page says that it prints.
    fn printed(section: &Section) -> (&str, &str) {
        let found = section.blocks.iter().find(|block| block.kind == "text");
        let block = found.unwrap_or_else(|| panic!("{}: nothing is printed", section.code));
        let (command, rest) = block.text.split_once('\n').unwrap_or((&block.text, ""));
        let command = command.strip_prefix("$ ");
        (command.unwrap_or_else(|| panic!("{}: no command", section.code)), rest)
    }

    fn run(&self, options: &[&str]) -> Ended {
        let args: Vec<&str> =
            self.args.iter().map(String::as_str).chain(options.iter().copied()).collect();
        self.place.torc(&args)
    }

    /// What was printed, without what differs from one machine to the next, blanks that end lines, and more problems
    /// than anybody would read before the last of the section's own.
    fn shown(&self, ended: &Ended, code: &str) -> String {
        const MOST_LINES: usize = 100;
        let installed = torc().parent().and_then(Path::parent).expect("it is built somewhere");
        let text = ended
            .stderr
            .replace(&self.plugins.path().display().to_string(), "/plugins")
            .replace(&self.place.path().display().to_string(), ".")
            .replace(&installed.display().to_string(), "/usr");
        let lines = text.trim_end().lines().map(|line| format!("{}\n", line.trim_end()));
        let shown: String = lines.collect();
        match shown.rfind(&format!("error[{code}]")) {
            Some(last) if shown.lines().count() > MOST_LINES => {
                format!("{LEFT_OUT}{}", &shown[last..])
            }
            _ => shown,
        }
    }
}

/// The exit code of a spec with this problem: it is an error or a warning.
fn exit_code(code: &str, is_error: bool) -> i32 {
    match code {
        _ if !is_error => 0,
        "plugin::schema" => 5,
        "plugin::settings" => 2,
        _ => 3,
    }
}

#[test]
fn a_wrong_spec_prints_what_the_page_says() {
    let text = read(&page());
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let is_rewritten = std::env::var_os("TORC_REWRITE").is_some();
    let mut different = String::new();
    for section in sections(&text).iter().rev() {
        let trial = Trial::of(section, true);
        let ended = trial.run(&[]);
        let shown = trial.shown(&ended, &section.code);
        let (command, expected) = Trial::printed(section);
        assert!(shown.contains(&format!("[{}]", section.code)), "{}:\n{shown}", section.code);
        let is_error = shown.contains("error[");
        ended.expect(exit_code(&section.code, is_error));
        if shown == expected {
            continue;
        }
        different += &format!("{}:\n{shown}\n", section.code);
        let block = section.blocks.iter().find(|block| block.kind == "text").expect("it was read");
        let now = format!("$ {command}\n{shown}");
        lines.splice(block.first_line..block.last_line, now.lines().map(str::to_owned));
    }
    let example = sections(&text).into_iter().find(|section| section.code == "spec::unknown-job");
    let example = example.expect("the page explains it");
    let shown_twice = text.matches(Trial::printed(&example).1).count() == 2;
    assert!(shown_twice || is_rewritten, "the page begins with what it says of {}", example.code);
    if is_rewritten {
        fs::write(page(), lines.join("\n") + "\n").expect("the page is written");
    } else {
        assert!(
            different.is_empty(),
            "torc prints something else than docs/errors.md says:\n{different}"
        );
    }
}

#[test]
fn a_right_spec_has_no_such_problem() {
    for section in sections(&read(&page())) {
        let trial = Trial::of(&section, false);
        let ended = trial.run(&[]).expect(0);
        let shown = trial.shown(&ended, &section.code);
        assert!(!shown.contains(&format!("[{}]", section.code)), "{}:\n{shown}", section.code);
        if section.code.starts_with("spec::") {
            let others = shown.replace("warning[plugin::settings-unknown]", "");
            assert!(!others.contains("warning["), "{}:\n{shown}", section.code);
        }
    }
}

/// The problems in what was printed: each its code, and its file, line and column where it has a place.
fn printed_problems(shown: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut lines = shown.lines().peekable();
    while let Some(line) = lines.next() {
        let code = line.strip_prefix("error[").or_else(|| line.strip_prefix("warning["));
        let Some((code, _)) = code.and_then(|rest| rest.split_once("]: ")) else { continue };
        let place = lines.find_map(|line| Some(line.trim_start().strip_prefix("--> ")?.to_owned()));
        found.push((code.to_owned(), place.expect("a problem has at least a file")));
    }
    found
}

fn listed_problems(list: &Value) -> Vec<(String, String)> {
    let problem = |problem: &Value| {
        let text = |name: &str| problem[name].as_str().expect("a text").to_owned();
        for name in ["message", "severity"] {
            assert!(!text(name).is_empty(), "{problem}");
        }
        let place = match (&problem["line"], &problem["column"]) {
            (Value::Null, Value::Null) => text("file"),
            (line, column) => {
                assert!(!text("label").is_empty(), "{problem}");
                format!("{}:{line}:{column}", text("file"))
            }
        };
        (text("code"), place)
    };
    list["problems"].as_array().expect("a list").iter().map(problem).collect()
}

#[test]
fn as_json_it_is_the_same() {
    for section in sections(&read(&page())) {
        let (command, expected) = Trial::printed(&section);
        if !command.starts_with("torc validate ") {
            // Other commands print what they are for.
            continue;
        }
        let trial = Trial::of(&section, true);
        let listed = listed_problems(&trial.run(&["--format", "json"]).json());
        let printed = printed_problems(expected);
        let left_out =
            if expected.starts_with(LEFT_OUT) { listed.len() - printed.len() } else { 0 };
        assert_eq!(listed[left_out..], printed, "{}", section.code);
    }
}

/// Every problem says where it is and what to do, but for those of a file as a whole.
#[test]
fn each_problem_has_a_place_and_a_help() {
    const OF_THE_WHOLE: [&str; 2] = ["spec::empty", "spec::more"];
    for section in sections(&read(&page())) {
        let (_, printed) = Trial::printed(&section);
        let (code, helps) = (&section.code, printed.matches("= help: ").count());
        let problems = printed_problems(printed);
        assert!(helps >= problems.len().min(1), "{code} does not say what to do");
        let places = problems.iter().filter(|(found, _)| found == code).map(|(_, place)| place);
        for place in places.filter(|_| !OF_THE_WHOLE.contains(&&**code)) {
            assert_eq!(place.matches(':').count(), 2, "{code} has no place: {place}");
        }
    }
}

/// Files with the sources of programs, without those that are tests.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for path in entries.map(|entry| entry.expect("it can be read").path()) {
        let stem = path.file_stem().unwrap_or_default();
        if stem == "tests" {
            continue;
        } else if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The texts `"xyz::some-code"` of a source, but for paths of Rust that stand in attributes.
fn codes(source: &str) -> impl Iterator<Item = &str> {
    let lines = source.lines().filter(|line| !line.trim_start().starts_with(['#', '/']));
    let texts = lines.flat_map(|line| line.split('"').skip(1).step_by(2));
    texts.filter(|text| {
        let is_word = |part: &str| {
            part.starts_with(|first: char| first.is_ascii_lowercase())
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        };
        text.split_once("::").is_some_and(|(family, name)| is_word(family) && is_word(name))
    })
}

#[test]
fn every_code_has_a_section_and_every_section_a_code() {
    let mut known: BTreeMap<String, PathBuf> = BTreeMap::new();
    for krate in ["torc-core", "torc-executors", "torc-plugins", "torc-server", "torc-cli"] {
        for path in sources(&checkout().join(krate).join("src")) {
            let text = read(&path);
            known.extend(codes(&text).map(|code| (code.to_owned(), path.clone())));
        }
    }
    let sections = sections(&read(&page()));
    let explained: Vec<&str> = sections.iter().map(|section| &*section.code).collect();
    assert!(
        explained.is_sorted(),
        "the sections of docs/errors.md stand in the order of the alphabet"
    );
    let explained: BTreeSet<&str> = explained.into_iter().collect();
    assert_eq!(explained.len(), sections.len(), "a code has two sections");
    let missing: Vec<_> = known.iter().filter(|(code, _)| !explained.contains(&***code)).collect();
    assert!(missing.is_empty(), "docs/errors.md does not explain: {missing:#?}");
    let gone: Vec<_> = explained.iter().filter(|code| !known.contains_key(**code)).collect();
    assert!(gone.is_empty(), "no source has the code that docs/errors.md explains: {gone:?}");
    for section in &sections {
        assert!(section.explanation.len() > 20, "{} is not explained", section.code);
    }
}
