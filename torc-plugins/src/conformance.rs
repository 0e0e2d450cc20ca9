//! The conformance kit, run over the boundary: a launcher and an executor that are a program keep every promise.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Map;
use tempfile::TempDir;

use crate::check::{Check, Site, Verdict, of_promise, of_requests, promises};
use crate::kind::Kind;
use crate::shelf::{Found, Plugin, Shelf};
use crate::tests::{example, folder};

/// The program, in a folder that nobody else can write to.
fn here() -> (TempDir, Plugin) {
    let (folder, trust) = folder();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("kit/fixtures/here.py");
    let path = folder.path().join("torc-plugin-here");
    let text = fs::read_to_string(program).expect("it is there");
    fs::write(&path, text).expect("is written");
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("can be run");
    let shelf = Shelf::new(Vec::new(), trust, Default::default());
    let plugin = shelf.take(&Found { name: "here".to_owned(), path }).expect("it is a plugin");
    (folder, plugin)
}

/// Those of these names may be left out.
fn assert_keeps(plugin: &Plugin, kind: Kind, folder: &Path, may_lack: &[&str]) {
    let site = Site { folder: folder.to_owned(), scheduler: Map::new() };
    let names: Vec<&str> = promises(kind).map(|promise| promise.name).collect();
    // Most of what they do is waiting.
    let checks = std::thread::scope(|scope| {
        let done: Vec<_> = names
            .chunks(names.len().div_ceil(4))
            .map(|names| {
                let look = |name: &&str| of_promise(plugin, kind, &Map::new(), name, &site);
                scope.spawn(move || names.iter().map(look).collect::<Vec<_>>())
            })
            .collect();
        done.into_iter().flat_map(|done| done.join().expect("no panic")).collect::<Vec<_>>()
    });
    let all = checks.into_iter().chain([of_requests(plugin, kind, &Map::new())]);
    let is_fine = |check: &Check| match check.verdict {
        Verdict::Ok => true,
        Verdict::LeftOut => may_lack.contains(&check.check.as_str()),
        Verdict::Failed => false,
    };
    let broken: Vec<_> = all.filter(|check| !is_fine(check)).collect();
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn a_launcher_that_is_a_program_keeps_every_promise() {
    let (folder, plugin) = here();
    assert_keeps(&plugin, Kind::Launcher, folder.path(), &[]);
}

#[test]
fn an_executor_that_is_a_program_keeps_every_promise() {
    let (folder, plugin) = here();
    assert_keeps(&plugin, Kind::Executor, folder.path(), &[]);
}

/// It has one node, so a job on several cannot be shown.
#[test]
fn an_executor_that_is_a_library_keeps_every_promise() {
    let (folder, _) = folder();
    assert_keeps(&example("enclosed"), Kind::Executor, folder.path(), &["executor.gang"]);
}
