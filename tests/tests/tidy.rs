//! Rules about the tree that no compiler checks: who may use what, what stands where, and that the
//! documents keep up.
//!
//! Reads source files as text; knows nothing of what they do. Each test lists every breach it finds.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

const CRATES: [&str; 7] = [
    "torc-core",
    "torc-executors",
    "torc-plugins",
    "torc-plugins/sdk",
    "torc-plugins/kit",
    "torc-server",
    "torc-cli",
];

/// What every exit code of `torc` means stands in the documents.
const EXIT_CODES: [u8; 8] = [0, 1, 2, 3, 4, 5, 70, 130];

const README_LINES: usize = 150;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the checkout is there")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files below a folder with this extension, without what is built or generated.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_ours = !name.starts_with('.') && name != "target" && name != "torc_output";
        if path.is_dir() && is_ours {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The lines of code of the files that contain one of these, as `file:line: text`. Comments are no
/// code.
fn lines_with(files: impl IntoIterator<Item = PathBuf>, needles: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for path in files {
        for (index, line) in read(&path).lines().enumerate() {
            let code = line.trim_start();
            if !code.starts_with("//") && needles.iter().any(|needle| code.contains(needle)) {
                found.push(format!("{}:{}: {code}", path.display(), index + 1));
            }
        }
    }
    found
}

fn sources(crates: &[&str]) -> Vec<PathBuf> {
    crates.iter().flat_map(|name| files(&root().join(name).join("src"), "rs")).collect()
}

fn check(rule: &str, breaches: &[String]) {
    assert!(breaches.is_empty(), "{rule}:\n{}", breaches.join("\n"));
}

fn metadata() -> Metadata {
    // Only what a build downloads: other platforms' crates need not be there.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .other_options(vec!["--locked".to_owned(), "--filter-platform".to_owned(), platform])
        .exec()
        .expect("cargo describes the workspace")
}

/// The crates that a room may use, besides those under [`EVERYWHERE`]; `None` for a name that is no
/// room.
fn allowed(room: &str) -> Option<&'static str> {
    Some(match room {
        "torc-core" => "indexmap jsonc-parser regex saphyr-parser strsim",
        "torc-executors" => "torc-core nix shlex tokio",
        "torc-plugin" => "schemars",
        "torc-plugin-kit" => "torc-core tokio",
        "torc-plugins" => {
            "torc-core torc-plugin torc-plugin-kit jsonschema libloading nix object sha2 tokio"
        }
        "torc-server" => {
            "torc-core torc-executors torc-plugins axum futures-util getrandom http-body-util \
             hyper hyper-util nix rcgen rustls serde_urlencoded sha2 sqlx tokio tokio-rustls \
             tokio-tungstenite"
        }
        "torc-cli" => {
            "torc-core torc-executors torc-plugins torc-server annotate-snippets anstream clap clap_complete \
             comfy-table indicatif jiff nix regex tokio toml tracing-subscriber"
        }
        _ => return None,
    })
}

/// Crates that do no input or output of their own.
const EVERYWHERE: &str = "async-trait serde serde_json serde_urlencoded thiserror tracing";

#[test]
fn each_room_uses_only_what_it_may() {
    let metadata = metadata();
    let mut rooms = BTreeSet::new();
    let mut breaches = Vec::new();
    for package in metadata.workspace_packages() {
        let Some(allowed) = allowed(&package.name) else { continue };
        rooms.insert(package.name.to_string());
        for dependency in &package.dependencies {
            let is_for_tests = dependency.kind == DependencyKind::Development;
            let mut known = allowed.split(' ').chain(EVERYWHERE.split(' '));
            if !is_for_tests && !known.any(|name| name == dependency.name) {
                breaches.push(format!("{} uses {}", package.name, dependency.name));
            }
        }
    }
    assert_eq!(rooms.len(), CRATES.len(), "the rooms of the workspace are {rooms:?}");
    check("a crate uses what its room must not (docs/ARCHITECTURE.md)", &breaches);
}

/// Whether an SPDX expression can be satisfied with these licences. The old `/` means `OR`.
fn is_permitted(expression: &str, allowed: &[&str]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let (permitted, rest) = either(&words, allowed);
    assert!(rest.is_empty(), "cannot read the licence `{expression}`");
    permitted
}

fn either<'w>(words: &'w [&'w str], allowed: &[&str]) -> (bool, &'w [&'w str]) {
    let (mut permitted, mut rest) = both(words, allowed);
    while let ["OR", right @ ..] = rest {
        let (more, after) = both(right, allowed);
        (permitted, rest) = (permitted | more, after);
    }
    (permitted, rest)
}

fn both<'w>(words: &'w [&'w str], allowed: &[&str]) -> (bool, &'w [&'w str]) {
    let (mut permitted, mut rest) = one(words, allowed);
    while let ["AND", right @ ..] = rest {
        let (more, after) = one(right, allowed);
        (permitted, rest) = (permitted & more, after);
    }
    (permitted, rest)
}

fn one<'w>(words: &'w [&'w str], allowed: &[&str]) -> (bool, &'w [&'w str]) {
    match words {
        ["(", inside @ ..] => {
            let (permitted, rest) = either(inside, allowed);
            (permitted, rest.strip_prefix(&[")"]).unwrap_or(rest))
        }
        [licence, "WITH", exception, rest @ ..] => {
            (allowed.contains(&format!("{licence} WITH {exception}").as_str()), rest)
        }
        [licence, rest @ ..] => (allowed.contains(licence), rest),
        [] => (false, words),
    }
}

#[test]
fn dependencies_are_permissive_and_from_the_registry() {
    let text = read(&root().join("deny.toml"));
    let list = text.split_once("\nallow = [").and_then(|(_, rest)| rest.split_once(']'));
    let (list, _) = list.expect("deny.toml has a list of licences");
    let allowed: Vec<&str> = list
        .split(',')
        .map(|item| item.trim().trim_matches('"'))
        .filter(|s| !s.is_empty())
        .collect();
    assert!(is_permitted("(MIT OR GPL-3.0) AND Zlib", &["MIT", "Zlib"]));
    assert!(!is_permitted("MIT AND GPL-3.0", &["MIT"]));
    assert!(is_permitted("Apache-2.0/GPL-3.0", &["Apache-2.0"]));
    let mut breaches = Vec::new();
    for package in metadata().packages {
        let licence = package.license.as_deref().unwrap_or("none");
        if !is_permitted(licence, &allowed) {
            breaches.push(format!("{} has the licence {licence}", package.name));
        }
        let source = package.source.as_ref().map(|source| source.repr.as_str());
        const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";
        if source.is_some_and(|source| source != REGISTRY) {
            breaches.push(format!("{} comes from {source:?}", package.name));
        }
    }
    check("a dependency is not acceptable (deny.toml)", &breaches);
}

#[test]
fn the_core_does_not_touch_the_world() {
    let needles = [
        "std::fs",
        "std::env",
        "std::process",
        "std::net",
        "std::thread",
        "SystemTime",
        "Instant",
        "tokio",
    ];
    check("torc-core reaches outside", &lines_with(sources(&["torc-core"]), &needles));
    let needles = ["process::Command", "fs::remove_dir_all"];
    check(
        "torc-cli starts processes or removes folders",
        &lines_with(sources(&["torc-cli"]), &needles),
    );
}

#[test]
fn only_the_command_line_prints_and_exits() {
    let libraries = CRATES.into_iter().filter(|name| *name != "torc-cli").collect::<Vec<_>>();
    let needles = ["println!", "print!", "eprint!", "dbg!", "process::exit", "process::abort"];
    check("a library prints or ends the process", &lines_with(sources(&libraries), &needles));
}

#[test]
fn the_command_line_prints_in_ways_that_cannot_panic() {
    let needles = [" println!", " print!", "eprintln!", "eprint!", ":println!", ":print!"];
    let breaches = lines_with(sources(&["torc-cli"]), &needles);
    check("use outln! and errln! of torc-cli/src/out.rs", &breaches);
}

#[test]
fn sql_is_only_in_the_store() {
    let store = root().join("torc-server/src/store");
    let elsewhere = sources(&CRATES)
        .into_iter()
        .filter(|path| !path.starts_with(&store) && *path != store.with_extension("rs"));
    let needles =
        ["sqlx::", "SELECT ", "INSERT INTO", "UPDATE ", "DELETE FROM", "CREATE TABLE", "PRAGMA "];
    check("SQL outside the store", &lines_with(elsewhere, &needles));
}

#[test]
fn no_test_is_left_out() {
    // In two parts, so that this file is no breach.
    let needle = concat!("#[", "ignore");
    check("a test is left out", &lines_with(files(&root(), "rs"), &[needle]));
}

#[test]
fn unsafe_is_only_at_the_plugin_boundary() {
    let plugins = root().join("torc-plugins");
    let elsewhere = files(&root(), "rs").into_iter().filter(|path| !path.starts_with(&plugins));
    let needles = [
        concat!("unsafe", " {"),
        concat!("unsafe", " fn"),
        concat!("unsafe", " impl"),
        concat!("unsafe", " extern"),
        concat!("unsafe", " trait"),
        concat!("#[", "unsafe("),
    ];
    check("unsafe code outside torc-plugins", &lines_with(elsewhere, &needles));
}

#[test]
fn every_module_says_what_it_is() {
    let mut breaches = Vec::new();
    let own = files(&root().join("tests"), "rs");
    for path in sources(&CRATES).into_iter().chain(own) {
        if !read(&path).starts_with("//!") {
            breaches.push(path.display().to_string());
        }
    }
    check("a module does not open with `//!`", &breaches);
}

#[test]
fn the_readme_is_short() {
    let lines = read(&root().join("README.md")).lines().count();
    assert!(lines <= README_LINES, "README.md has {lines} lines, more than {README_LINES}");
}

/// The targets of a document's links, with their lines. Fenced blocks hold no links.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut is_fenced = false;
    for (index, line) in text.lines().enumerate() {
        is_fenced ^= line.trim_start().starts_with("```");
        if is_fenced {
            continue;
        }
        let after = line.split("](").skip(1);
        let targets = after.filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
        found.extend(targets.map(|target| (index + 1, target.to_owned())));
    }
    found
}

/// A heading as links name it: lower case, blanks as hyphens, other punctuation left out.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn has_anchor(document: &Path, wanted: &str) -> bool {
    let text = read(document);
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#'))).any(|found| found == wanted)
}

#[test]
fn links_in_documents_resolve() {
    assert_eq!(
        links("a [b](c.md#d) [e](f)\n```\n[g](h)\n```"),
        [(1, "c.md#d".to_owned()), (1, "f".to_owned())]
    );
    let mut breaches = Vec::new();
    for document in files(&root(), "md") {
        for (line, target) in links(&read(&document)) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, fragment) = target.split_once('#').unwrap_or((&target, ""));
            let folder = document.parent().unwrap_or(Path::new("."));
            let path = if path.is_empty() { document.clone() } else { folder.join(path) };
            let is_there = path.exists() && (fragment.is_empty() || has_anchor(&path, fragment));
            if !is_there {
                breaches.push(format!("{}:{line}: {target}", document.display()));
            }
        }
    }
    check("a link leads nowhere", &breaches);
}

#[test]
fn commands_and_exit_codes_are_documented() {
    let text = read(&root().join("docs/commands.md"));
    let documented: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("## `torc ")?.split_once('`'))
        .map(|(command, _)| command)
        .collect();
    // Each a file or a folder, in which a hyphen is written as Rust can.
    let listed = fs::read_dir(root().join("torc-cli/src/commands")).expect("a folder");
    let stem = |entry: std::io::Result<fs::DirEntry>| {
        Some(entry.ok()?.path().file_stem()?.to_string_lossy().replace('_', "-"))
    };
    let mut commands: Vec<String> = listed.filter_map(stem).filter(|name| name != "mod").collect();
    commands.sort();
    let mut breaches: Vec<String> = commands
        .iter()
        .filter(|command| !documented.contains(command.as_str()))
        .map(|command| format!("there is no section \"## `torc {command}`\""))
        .collect();
    if !commands.is_empty() {
        let is_gone = |command: &&str| !commands.iter().any(|known| known == command);
        let gone = documented.into_iter().filter(is_gone);
        breaches.extend(gone.map(|command| format!("there is no command `torc {command}`")));
    }
    for code in EXIT_CODES {
        if !text.contains(&format!("\n| {code} |")) {
            breaches.push(format!("there is no row for the exit code {code}"));
        }
    }
    check("docs/commands.md is not complete", &breaches);
}
