//! `torc plugin`: what is listed, checked, begun and called, with real libraries and programs.
//!
//! Plugins lie where nobody else can write: a temporary folder is everybody's, and nothing in it is trusted.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;
use torc_tests::{Ended, PATIENCE, Place, Started, checkout, not_run_here, torc, trusted_folder};

/// What a library in C begins with that has a fault of its own.
const FAULT: &str = "#include <stdlib.h>\n#include <unistd.h>\n__attribute__((constructor)) static void begin(void)";

/// A place with a folder of plugins in which nobody else can write.
struct Plugins {
    place: Place,
    folder: TempDir,
}

impl Plugins {
    fn new() -> Self {
        let (folder, groups) = trusted_folder();
        let groups: Vec<String> = groups.iter().map(|group| format!("'{group}'")).collect();
        let place = Place::new();
        let config = format!("[plugins]\ntrusted_groups = [{}]\n", groups.join(", "));
        place.write("config.toml", config);
        place.set_env([("XDG_DATA_HOME".to_owned(), text(&place.join("no-data")))]);
        Self { place, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command of `torc plugin` that looks into the folder.
    fn command(&self, args: &[&str]) -> Command {
        let folder = text(self.folder.path());
        self.place.command(&[&["plugin"], args, &["--plugin-path", &folder]].concat())
    }

    #[track_caller]
    fn torc(&self, args: &[&str]) -> Ended {
        Started::start(self.command(args)).wait()
    }

    #[track_caller]
    fn json(&self, args: &[&str], code: i32) -> Value {
        self.torc(&[args, &["--format", "json"]].concat()).expect(code).json()
    }

    /// The plugin that does what no plugin should, and works unless it is told otherwise.
    fn add_faulty(&self) -> PathBuf {
        self.add_example("faulty")
    }

    /// A library that is an example of torc-plugins.
    fn add_example(&self, name: &str) -> PathBuf {
        let file = format!("libtorc_{name}.so");
        let built = torc().with_file_name("examples").join(&file);
        if !built.exists() {
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["build", "-p", "torc-plugins", "--examples"]).current_dir(checkout());
            assert!(cargo.status().is_ok_and(|status| status.success()), "it cannot be built");
        }
        let path = self.path(&file);
        fs::copy(built, &path).expect("it is copied");
        path
    }

    /// A library in C.
    fn add_library(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(&format!("libtorc_{name}.so"));
        self.place.write("fault.c", text);
        let mut cc = Command::new("cc");
        let built = cc.args(["-shared", "-fPIC", "-o"]).arg(&path).arg(self.place.join("fault.c"));
        assert!(built.status().expect("cc is installed").success(), "it is built");
        path
    }

    /// A program that is a plugin, in Python.
    fn add_program(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(&format!("torc-plugin-{name}"));
        fs::write(&path, format!("#!/usr/bin/env python3\n{text}")).expect("it is written");
        mode(&path, 0o755);
        path
    }

    /// `torc plugin new` into the folder.
    fn begin(&self, lang: &str, name: &str) -> PathBuf {
        let folder = self.path(name);
        let args = ["plugin", "new", "--lang", lang, name, &text(&folder)];
        self.place.torc(&args).expect(0).says(&format!("is in {}", folder.display()));
        folder
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("it is UTF-8").to_owned()
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
}

/// The verdict and the words of a check.
#[track_caller]
fn found<'v>(checks: &'v Value, check: &str) -> (&'v str, &'v str) {
    let all = checks.as_array().expect("a list");
    let one = all.iter().find(|one| one["check"] == check);
    let one = one.unwrap_or_else(|| panic!("no `{check}` in {checks:#}"));
    (one["verdict"].as_str().expect("text"), one["found"].as_str().expect("text"))
}

#[track_caller]
fn all_ok(checks: &Value) {
    let is_ok = |check: &Value| check["verdict"] == "ok";
    assert!(checks.as_array().expect("a list").iter().all(is_ok), "{checks:#}");
}

#[test]
fn a_plugin_that_crashes_or_hangs_or_is_not_trusted_has_a_row_that_says_so() {
    let plugins = Plugins::new();
    plugins.add_faulty();
    plugins.add_library("aborts", &format!("{FAULT} {{ abort(); }}"));
    plugins.add_library("hangs", &format!("{FAULT} {{ for (;;) pause(); }}"));
    plugins.add_library("leaves", &format!("{FAULT} {{ write(1, \"{{}}\\n\", 3); _exit(0); }}"));
    mode(&plugins.add_library("open", "int nothing;"), 0o666);
    plugins.add_library("other", "int nothing;");
    plugins.add_program("silent", "import signal\nsignal.pause()\n");
    fs::write(plugins.path("notes.txt"), "no plugin").unwrap();

    let rows = plugins.json(&["list"], 0);
    let rows = rows.as_array().unwrap();
    let names: Vec<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["aborts", "faulty", "hangs", "leaves", "open", "other", "silent"]);
    let reason = |at: usize| rows[at]["reason"].as_str().unwrap_or_default();
    assert_eq!(reason(0), "its probe was ended by signal 6");
    assert_eq!(
        rows[1],
        json!({"name": "faulty", "version": "0.1.0", "interfaces": ["torc.launcher/1"],
            "path": plugins.path("libtorc_faulty.so"), "reason": null})
    );
    assert_eq!(reason(2), "it said nothing within 10 s");
    let words = "its probe ended with exit code 0 and without an answer ({})";
    assert_eq!(reason(3), words, "what a plugin prints is no answer");
    assert!(reason(4).contains("libtorc_open.so can be written to by everybody"), "{}", reason(4));
    assert!(reason(5).ends_with("it does not export `torc_plugin_v1`"), "{}", reason(5));
    assert_eq!(reason(6), "it said nothing within 10 s", "a program, too");

    fs::remove_file(plugins.path("libtorc_hangs.so")).unwrap();
    fs::remove_file(plugins.path("torc-plugin-silent")).unwrap();
    let listed = plugins.torc(&["list"]).expect(0);
    listed.says("aborts: its probe was ended by signal 6").says("launcher");
    let shown = plugins.torc(&["info", "aborts"]).expect(1);
    shown.says("not loaded: its probe was ended by signal 6");
}

#[test]
fn all_of_a_plugin_is_shown() {
    let plugins = Plugins::new();
    let path = plugins.add_faulty();
    let info = plugins.json(&["info", "faulty"], 0);
    let sum = Command::new("sha256sum").arg(&path).output().expect("sha256sum is installed");
    let sum = String::from_utf8(sum.stdout).unwrap();
    let sum = sum.split(' ').next().unwrap();
    assert_eq!(info["sha256"], sum);
    assert_eq!((&info["is_trusted"], &info["is_pinned"]), (&json!(true), &json!(false)));
    assert_eq!(info["about"]["abi"], json!([1, 0]));
    assert_eq!(info["about"]["description"], "does what no plugin should");
    assert_eq!(info["about"]["schema"]["type"], "object");
    let shown = plugins.torc(&["info", "faulty"]).expect(0);
    shown.says(sum).says("version 1.0").says("does what no plugin should").says("\"fault\"");

    let config = plugins.place.read("config.toml");
    let pinned = format!("{config}sha256 = {{faulty = \"{}\"}}\n", "00".repeat(32));
    plugins.place.write("config.toml", pinned);
    plugins
        .torc(&["info", "faulty"])
        .expect(1)
        .says("which the configuration wants")
        .says("is wanted");
    let checks = plugins.json(&["check", "faulty"], 1);
    assert_eq!(found(&checks, "sha256").0, "failed");

    plugins.torc(&["info", "nobody"]).expect(2).says("there is no plugin `nobody`");
    plugins.torc(&["info", "../x"]).expect(2).says("cannot be the name of a plugin");
}

#[test]
fn where_nothing_is_it_is_said_where_was_looked() {
    let plugins = Plugins::new();
    plugins.torc(&["list"]).expect(0).says("there are no plugins in").says("/etc/torc/plugins.d");
    let place = &plugins.place;
    let relative = place.torc(&["plugin", "list", "--plugin-path", "here"]).expect(2);
    relative.says("is relative");
}

#[test]
fn a_good_library_passes_its_check() {
    let plugins = Plugins::new();
    let path = plugins.add_example("nice");
    let checks = plugins.json(&["check", "nice"], 0);
    all_ok(&checks);
    for (check, words) in [
        ("file name", "the plugin `nice`"),
        ("trust", "nobody but its owner and root"),
        ("machine", "bit"),
        ("symbol", "`torc_plugin_v1` is an object of"),
        ("needed libraries", "libc.so.6"),
        ("loads", "`nice` 0.1.0, built for version 1.0 of the boundary"),
        ("interfaces", "torc.launcher/1"),
        ("settings schema", "a JSON Schema of an object"),
        ("launcher opens", "with these settings"),
        ("launcher is strict", "unsupported"),
        ("launcher refuses what it cannot read", "the next call is answered"),
        ("launcher.argv_arrives_whole", "are what they were"),
    ] {
        let words_found = found(&checks, check).1;
        assert!(words_found.contains(words), "{check}: {words_found}");
    }
    let by_path = plugins.torc(&["check", &text(&path)]).expect(0);
    by_path.says("launcher opens").does_not_say("FAILED");
}

#[test]
fn what_is_wrong_with_a_plugin_is_named_check_by_check() {
    let plugins = Plugins::new();
    let path = plugins.add_faulty();
    let settings = |fault: &str| json!({ "fault": fault }).to_string();
    let checks = plugins.json(&["check", "faulty", "--settings", &settings("open panics")], 1);
    assert_eq!(
        found(&checks, "launcher opens"),
        ("failed", "plugin `faulty`: open: it panicked: no opening today")
    );
    plugins.torc(&["check", "faulty", "--settings", "[]"]).expect(2).says("a JSON object");

    let sub = plugins.path("sub");
    fs::create_dir(&sub).unwrap();
    let moved = sub.join("libtorc_renamed.so");
    fs::copy(&path, &moved).unwrap();
    let checks = plugins.json(&["check", &text(&moved)], 1);
    assert_eq!(found(&checks, "symbol").0, "ok");
    assert!(found(&checks, "loads").1.contains("it calls itself `faulty`"), "{checks:#}");
    mode(&sub, 0o777);
    mode(&moved, 0o777);
    let checks = plugins.json(&["check", &text(&moved)], 1);
    let trust = checks.as_array().unwrap().iter().filter(|check| check["check"] == "trust");
    let trust: Vec<&str> = trust.map(|check| check["found"].as_str().unwrap()).collect();
    assert_eq!(trust.len(), 2, "each thing is named: {trust:?}");
    assert!(trust[0].contains("sub can be written") && trust[1].contains("renamed.so can be"));

    let check = |path: &Path, check: &str| {
        let checks = plugins.json(&["check", &text(path)], 1);
        let (verdict, words) = found(&checks, check);
        assert_eq!(verdict, "failed", "{checks:#}");
        words.to_owned()
    };
    let odd = plugins.path("notes.so");
    fs::write(&odd, "no plugin").unwrap();
    assert!(check(&odd, "file name").starts_with("notes.so is not found under any name"));
    let script = plugins.path("libtorc_script.so");
    fs::write(&script, "#!/bin/sh\n# This is long enough for a header.\n").unwrap();
    assert!(check(&script, "machine").ends_with("libtorc_script.so is no ELF file"));
    let whole = fs::read(&path).unwrap();
    let cut = plugins.path("libtorc_cut.so");
    fs::write(&cut, &whole[..4096]).unwrap();
    assert!(check(&cut, "symbol").starts_with("it is damaged: "), "half a file is no trouble");
    let foreign = plugins.path("libtorc_foreign.so");
    // The number of a machine that nobody has built yet.
    fs::write(&foreign, [&whole[..18], &[0x39, 0x30], &whole[20..]].concat()).unwrap();
    let words = check(&foreign, "machine");
    assert!(words.contains("machine ") && words.contains(", and this torc for "), "{words}");
    let function = plugins.add_library("function", "int torc_plugin_v1(void) { return 1; }");
    assert_eq!(
        check(&function, "symbol"),
        "`torc_plugin_v1` is a function, and has to be an object"
    );
    let small = plugins.add_library("small", "const int torc_plugin_v1 = 1;");
    let words = check(&small, "symbol");
    assert!(words.starts_with("`torc_plugin_v1` has 4 bytes"), "{words}");
    let none = plugins.add_library("none", "int nothing;");
    assert!(check(&none, "symbol").starts_with("it does not export"));
    let aborts = plugins.add_library("aborts", &format!("{FAULT} {{ abort(); }}"));
    assert_eq!(check(&aborts, "loads"), "its probe was ended by signal 6");
    let missing = plugins.place.torc(&["plugin", "check", "./none.so"]).expect(2);
    missing.says("./none.so cannot be looked at");
}

/// A plugin in Python with this of itself, that answers whatever it is asked with `null`.
fn yes_man(about: &Value) -> String {
    format!(
        "import json, sys\nABOUT = json.loads({:?})\n\
         for line in sys.stdin:\n    said = json.loads(line)\n    \
         result = ABOUT if said['method'] == 'describe' else None\n    \
         print(json.dumps({{'op': said['op'], 'status': 'ok', 'result': result}}), flush=True)\n",
        about.to_string()
    )
}

#[test]
fn what_a_program_says_of_itself_is_checked_too() {
    let plugins = Plugins::new();
    let mut about = json!({"name": "yes", "version": "1", "abi": [1, 0],
        "interfaces": ["torc.placer/1", "torc.future/7"],
        "info": {"schema": {"properties": {"size": {"type": "int"}}}}});
    plugins.add_program("yes", &yes_man(&about));
    let checks = plugins.json(&["check", "yes"], 1);
    assert_eq!(found(&checks, "interfaces").0, "ok");
    assert!(found(&checks, "settings schema").1.starts_with("`/properties/size/type` is \"int\""));
    assert_eq!(
        found(&checks, "placer opens"),
        (
            "failed",
            &*format!(
                "the plugin `yes` is not opened: the schema of its settings is none: {}",
                found(&checks, "settings schema").1
            )
        )
    );
    about["info"]["schema"] = json!({"properties": {"size": {"type": "integer"}}});
    plugins.add_program("yes", &yes_man(&about));
    let checks = plugins.json(&["check", "yes"], 1);
    assert_eq!(
        found(&checks, "placer is strict"),
        ("failed", "it has an answer to an unknown method: null")
    );
    about["interfaces"] = json!(["torc.future/7"]);
    plugins.add_program("yes", &yes_man(&about));
    let checks = plugins.json(&["check", "yes"], 1);
    assert_eq!(found(&checks, "interfaces"), ("failed", "this torc does not know torc.future/7"));
    plugins.add_program("yes", "import sys\nsys.exit(7)\n");
    let checks = plugins.json(&["check", "yes"], 1);
    assert!(found(&checks, "loads").1.contains("it exited with code 7"), "{checks:#}");
}

/// What the launcher that authors begin with makes of the step that they are given.
fn first_plan(program: &str) -> Value {
    json!({
        "argv": [program, "-n", "4", "-f", "/scratch/me/torc_output/scratch/launch_wf1_j1_r1_a1/hosts", "./solve", "--input", "mesh with blanks.dat"],
        "files": [["hosts", "n1:2\nn2:2\n"]]
    })
}

/// Checks and calls a launcher that was begun and built, below `folder`.
#[track_caller]
fn works(plugins: &Plugins, name: &str, built: &Path, project: &Path) {
    let checks = plugins.json(&["check", &text(built)], 0);
    all_ok(&checks);
    let step = text(&project.join("step.json"));
    let folder = text(built.parent().expect("a folder"));
    let run = |settings: &str| {
        let args = ["run", name, "plan", &step, "--settings", settings, "--plugin-path", &folder];
        plugins.torc(&args)
    };
    let mut plan = run("{}").expect(0).json();
    plan.as_object_mut().expect("an object").remove("env");
    assert_eq!(plan, first_plan("mpiexec"));
    let plan = run(r#"{"program": "mpirun"}"#).expect(0).json();
    assert_eq!(plan["argv"], first_plan("mpirun")["argv"]);
    let refused = run(r#"{"program": 7}"#).expect(2);
    refused.says(&format!("the plugin `{name}` does not take these settings: "));
    refused.says("`program` must be a string (the program; mpiexec unless it is said)");
}

#[test]
fn a_launcher_in_rust_is_begun_built_checked_and_called() {
    let plugins = Plugins::new();
    let project = plugins.begin("rust", "my-own");
    let target = plugins.path("target");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--offline"]).current_dir(&project).env("CARGO_TARGET_DIR", &target);
    // What is set for the build of these tests is nothing to another project.
    cargo.env_remove("CARGO_BUILD_TARGET").env_remove("RUSTFLAGS").env_remove("CARGO_MANIFEST_DIR");
    let built = Started::start_for(cargo, 5 * PATIENCE).wait().expect(0);
    built.does_not_say("warning:");
    works(&plugins, "my_own", &target.join("debug/libtorc_my_own.so"), &project);
    plugins.place.torc(&["plugin", "new", "--lang", "rust", "plugin"]).expect(2).says("`plugin`");
}

#[test]
fn a_launcher_in_c_is_begun_built_checked_and_called() {
    let plugins = Plugins::new();
    let project = plugins.begin("c", "my-own");
    let make = |env: &[(&str, &str)]| {
        let mut make = Command::new("make");
        make.current_dir(&project).envs(env.iter().copied()).env_remove("MAKEFLAGS");
        make.env("CFLAGS", "-O1 -Werror -pedantic");
        Started::start(make).wait()
    };
    make(&[("PKG_CONFIG", "false")]).expect(2).says("libjansson-dev");
    let known = Command::new("pkg-config").args(["--exists", "jansson"]).status();
    if !known.is_ok_and(|status| status.success()) {
        return not_run_here("a launcher in C: jansson is not installed (libjansson-dev)");
    }
    make(&[]).expect(0);
    works(&plugins, "my-own", &project.join("libtorc_my-own.so"), &project);
}

#[test]
fn a_launcher_as_a_program_is_begun_checked_and_called() {
    let plugins = Plugins::new();
    let project = plugins.begin("process", "my-own");
    works(&plugins, "my-own", &project.join("torc-plugin-my-own"), &project);
}

#[test]
fn a_launcher_template_is_a_spec() {
    let plugins = Plugins::new();
    let project = plugins.begin("template", "my-own");
    plugins.place.torc(&["validate", &text(&project.join("my-own.yaml"))]).expect(0);
}

#[test]
fn nothing_is_written_over() {
    let place = Place::new();
    fs::create_dir(place.join("full")).unwrap();
    place.write("full/mine", "mine");
    place.torc(&["plugin", "new", "--lang", "c", "x", "full"]).expect(2).says("is not empty");
    assert_eq!(fs::read_dir(place.join("full")).unwrap().count(), 1);
    fs::create_dir(place.join("empty")).unwrap();
    let written = place.json(&["plugin", "new", "--lang", "c", "x", "empty"]);
    assert_eq!(written["build"], "make");
    assert!(place.read("empty/launcher.c").contains(".name = \"x\""));
    place.torc(&["plugin", "new", "--lang", "process", "x"]).expect(0);
    assert!(place.join("x/torc-plugin-x").exists(), "its folder has its name");
    place.torc(&["plugin", "new", "--lang", "c", "../x"]).expect(2).says("cannot be the name");
}

#[test]
fn a_method_is_called_and_what_goes_wrong_names_the_plugin() {
    let plugins = Plugins::new();
    plugins.add_faulty();
    plugins.place.write("step.json", "{}");
    let run = |method: &str, fault: &str, more: &[&str]| {
        let settings = json!({ "fault": fault }).to_string();
        let args = ["run", "faulty", method, "step.json", "--settings", &settings];
        plugins.torc(&[&args, more].concat())
    };
    assert_eq!(run("plan", "", &[]).expect(0).json(), json!({"argv": ["true"], "more": 1}));
    run("plan", "refuses", &[]).expect(1).says("plugin `faulty`: plan: a rank too many");
    run("plan", "panics", &[])
        .expect(1)
        .says("plugin `faulty`: plan: it panicked: a bug at call 1");
    let garbled = run("plan", "garbage", &[]).expect(1);
    garbled.says("plugin `faulty`: plan: its answer cannot be understood");
    run("fly", "", &[]).expect(2).says("(launcher) has a method `fly`, but plan");
    let asked = run("fly", "", &["--interface", "launcher"]).expect(1);
    asked.says("plugin `faulty`: fly: it does not know this method");
    let other = run("plan", "", &["--interface", "placer"]).expect(1);
    other.says("the plugin `faulty` has no torc.placer/1; it has torc.launcher/1");
    let error = run("plan", "refuses", &["--format", "json"]).expect(1).json();
    assert_eq!(error["error"], "plugin `faulty`: plan: a rank too many");
    plugins
        .torc(&["run", "faulty", "plan", "none.json"])
        .expect(2)
        .says("none.json cannot be read");
    plugins.torc(&["run", "nobody", "plan", "step.json"]).expect(2).says("no plugin `nobody`");

    let mut command = plugins.command(&["run", "faulty", "plan", "-"]);
    command.stdin(fs::File::open(plugins.place.join("step.json")).unwrap());
    assert_eq!(Started::start(command).wait().expect(0).json()["argv"], json!(["true"]));
}
