//! Plugins that are not to be loaded: of another version of the boundary, or where others could change them. Each is
//! refused by name before anything happens, what is stored stays as it was, and goes on once that is repaired.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use torc_tests::{Place, PluginFolder, checkout};

/// What is wrong with a plugin's file.
#[derive(Clone, Copy, Debug)]
enum Flaw {
    OtherMajor,
    Writable,
    LinkIntoWritable,
    SetUserId,
}

const FLAWS: [Flaw; 4] =
    [Flaw::OtherMajor, Flaw::Writable, Flaw::LinkIntoWritable, Flaw::SetUserId];

impl Flaw {
    /// What torc says of it, besides the plugin's path.
    fn words(self) -> &'static str {
        match self {
            Self::OtherMajor => {
                "it was built for version 2 of the plugin boundary, and this torc has version 1"
            }
            Self::Writable => {
                "libtorc_NAME.so can be written to by everybody; take that right away with `chmod o-w"
            }
            Self::LinkIntoWritable => {
                "everybodys can be written to by everybody; take that right away with `chmod o-w"
            }
            Self::SetUserId => "is set-user-ID or set-group-ID; take that off with `chmod ug-s`",
        }
    }

    /// Spoils a good library; the path of it in its folder stays the same.
    fn spoil(self, library: &Path) {
        match self {
            Self::OtherMajor => {
                let plugins = checkout().join("torc-plugins");
                let mut cc = Command::new("cc");
                cc.args(["-std=gnu11", "-shared", "-fPIC", "-DWRONG_MAJOR", "-I"]);
                cc.arg(plugins.join("sdk/include")).arg(plugins.join("kit/fixtures/odd.c"));
                // A library that is in use is not written over.
                fs::remove_file(library).expect("it is ours");
                let built = cc.arg("-o").arg(library).status();
                assert!(built.expect("cc is installed").success(), "it is built");
            }
            Self::Writable => mode(library, 0o757),
            Self::SetUserId => mode(library, 0o4755),
            Self::LinkIntoWritable => {
                let folder = library.with_file_name("everybodys");
                if !folder.exists() {
                    fs::create_dir(&folder).expect("it is made");
                }
                mode(&folder, 0o777);
                let there = folder.join(library.file_name().expect("a file"));
                fs::rename(library, &there).expect("it is moved");
                symlink(&there, library).expect("it is made");
            }
        }
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
}

/// Puts a good library where a spoiled one, or a link, is.
fn repair(folder: &PluginFolder, name: &str) {
    let library = folder.path().join(format!("libtorc_{name}.so"));
    fs::remove_file(library).expect("it is ours");
    folder.take_example(name);
}

/// A job that fails until there is a file `go`, with this plugin in this role.
fn site(role: &str, name: &str) -> (Place, PluginFolder) {
    let place = Place::with(&format!(
        "name: w
execution_config: {{mode: direct, {role}: {name}}}
jobs:
- {{name: a, command: 'test -e go && echo a >> ran'}}
- {{name: b, command: 'echo b >> ran'}}
"
    ));
    let folder = PluginFolder::of(&place);
    folder.take_example(name);
    (place, folder)
}

/// A run and a restart are refused, and what is stored is as it was.
fn check_run(role: &str, name: &str) {
    for flaw in FLAWS {
        let (place, folder) = site(role, name);
        place.torc(&["run", "w.yaml"]).expect(1).says("1 failed").says("1 completed");
        let results = place.results();
        let library = folder.path().join(format!("libtorc_{name}.so"));
        flaw.spoil(&library);
        for args in [&["restart"][..], &["run", "w.yaml"]] {
            let ended = place.torc(args).expect(5);
            ended.says(&format!("libtorc_{name}.so")).says(&flaw.words().replace("NAME", name));
        }
        place.torc(&["status"]).expect(0).says("1 failed").says("1 completed");
        assert_eq!(place.results(), results, "{flaw:?}: nothing was started");
        repair(&folder, name);
        place.write("go", "");
        place.torc(&["restart"]).expect(0);
        place.torc(&["status"]).expect(0).says("2 completed");
        assert_eq!(place.lines("ran"), ["b", "a"], "{flaw:?}");
    }
}

#[test]
fn a_launcher_that_is_not_to_be_loaded_is_refused_and_the_state_stays() {
    check_run("launcher", "nice");
}

#[test]
fn a_placer_that_is_not_to_be_loaded_is_refused_and_the_state_stays() {
    check_run("placer", "wrapped");
}

#[test]
fn a_scheduler_that_is_not_to_be_loaded_is_refused_and_nothing_is_stored() {
    let name = "faulty_scheduler";
    for flaw in FLAWS {
        let place = Place::with(&format!(
            "name: w
schedulers: [{{name: s, type: {name}}}]
actions:
- {{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: s, scheduler_type: {name}}}
compute_node_wait_for_new_jobs_seconds: 1
jobs: [{{name: a, command: 'echo a >> ran'}}]
"
        ));
        let batch = place.join("batch");
        fs::create_dir(&batch).expect("it is made");
        let batch = batch.to_str().expect("it is text").to_owned();
        place.set_env([("TORC_TEST_BATCH".to_owned(), batch)]);
        let folder = PluginFolder::of(&place);
        flaw.spoil(&folder.take_example(name));
        let ended = place.torc(&["submit", "w.yaml"]).expect(5);
        ended.says(&format!("libtorc_{name}.so")).says(&flaw.words().replace("NAME", name));
        ended.says("scheduler `s`: ");
        let none = place.torc(&["status"]);
        assert_ne!(none.code, Some(0), "{flaw:?}: there is no workflow: {none:?}");
        repair(&folder, name);
        // A library that a process has loaded stays in it.
        place.torc(&["serve", "--stop"]).expect(0);
        place.torc(&["submit", "w.yaml", "--wait"]).expect(0).says("1 completed");
        assert_eq!(place.lines("ran"), ["a"]);
        place.torc(&["serve", "--stop"]).expect(0);
    }
}
