//! What plugins do that they should not, with real libraries and real programs.

mod kept;
mod messages;
mod schemas;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tempfile::TempDir;
use torc_core::traits::{Launcher, StepNode};
use torc_plugin::abi::interface;

use crate::calls::{Events, Told};
use crate::error::{Fault, PluginError};
use crate::instance::Instance;
use crate::kind::Kind;
use crate::launcher::PluginLauncher;
use crate::shelf::{Found, Plugin, Shelf};
use crate::trust::Trust;

const PATIENCE: Duration = Duration::from_secs(20);

/// A folder that nobody else can write to, below the build's or one's own; its groups are trusted.
pub(crate) fn folder() -> (TempDir, Trust) {
    use std::os::unix::fs::MetadataExt;
    let built = exe().parent().and_then(Path::parent).map(Path::to_path_buf);
    let own = std::env::var_os("HOME").map(PathBuf::from);
    for base in built.into_iter().chain(own).chain(["/var/lib", "/opt"].map(PathBuf::from)) {
        let Ok(folder) = tempfile::tempdir_in(base) else { continue };
        let groups = folder.path().ancestors().map(|path| path.metadata().expect("is there").gid());
        let trust = Trust { groups: groups.collect() };
        let file = folder.path().join("file");
        std::fs::write(&file, "").expect("it is written");
        if trust.examine(&file).is_ok() {
            std::fs::remove_file(&file).expect("it is ours");
            return (folder, trust);
        }
    }
    panic!("there is no folder here that nobody else can write to: set HOME to one");
}

fn exe() -> PathBuf {
    std::env::current_exe().expect("this test is a file")
}

/// A plugin that Cargo built beside the tests.
pub(crate) fn example(name: &str) -> Plugin {
    let built = exe().parent().and_then(Path::parent).expect("a folder").join("examples");
    let library = built.join(format!("libtorc_{name}.so"));
    assert!(
        library.exists(),
        "{} was not built: cargo build -p torc-plugins --examples",
        library.display()
    );
    let (folder, trust) = folder();
    std::fs::copy(&library, folder.path().join(format!("libtorc_{name}.so")))
        .expect("it is copied");
    let shelf = Shelf::new(vec![folder.path().to_path_buf()], trust, BTreeMap::default());
    shelf.plugin(name).expect("it is a plugin")
}

/// A plugin in C, built with one of the macros that make it odd.
fn odd(folder: &Path, macros: &[&str]) -> Found {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = folder.join("libtorc_odd.so");
    let mut cc = Command::new("cc");
    cc.args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"]).arg(&path);
    cc.args(macros.iter().map(|name| format!("-D{name}"))).arg("-I").arg(here.join("sdk/include"));
    let built = cc.arg(here.join("kit/fixtures/odd.c")).status().expect("cc is installed");
    assert!(built.success(), "it is built");
    Found { name: "odd".to_owned(), path }
}

/// A program that is a plugin.
pub(crate) fn program(folder: &Path, text: &str) -> Found {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join("torc-plugin-told");
    std::fs::write(&path, format!("#!/usr/bin/env python3\n{text}")).expect("is written");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("can be run");
    Found { name: "told".to_owned(), path }
}

fn settings(fault: &str) -> Map<String, Value> {
    json!({ "fault": fault }).as_object().cloned().expect("an object")
}

fn launcher(plugin: &Plugin) -> Instance {
    plugin.open(interface::LAUNCHER, &Map::new(), None).expect("it opens")
}

fn faulty(fault: &str) -> Instance {
    example("faulty").open(interface::LAUNCHER, &settings(fault), None).expect("it opens")
}

fn plan(instance: &Instance) -> Result<Value, Fault> {
    let answer = instance.call_blocking("plan", b"{}".to_vec(), PATIENCE);
    answer.map(|answer| serde_json::from_slice(&answer).expect("JSON")).map_err(|error| error.fault)
}

fn works() -> Result<Value, Fault> {
    Ok(json!({"argv": ["true"], "more": 1}))
}

#[test]
fn a_plugin_says_what_it_is_and_is_called() {
    let plugin = example("faulty");
    let about = plugin.about();
    assert_eq!((&*about.name, &*about.version, about.abi), ("faulty", "0.1.0", (1, 0)));
    assert_eq!(about.interfaces, ["torc.launcher/1"]);
    assert_eq!(about.description.as_deref(), Some("does what no plugin should"));
    assert!(about.schema.is_some());
    assert_eq!(plan(&faulty("")), works());
    assert_eq!(plan(&faulty("later")), works(), "from another thread");
    let unknown = faulty("").call_blocking("fly", b"{}".to_vec(), PATIENCE);
    assert_eq!(unknown.map_err(|error| error.fault), Err(Fault::Unsupported));
    let Err(error) = plugin.open(interface::PLACER, &Map::new(), None) else { panic!("has none") };
    assert_eq!(
        error.to_string(),
        "the plugin `faulty` has no torc.placer/1; it has torc.launcher/1"
    );
}

#[test]
fn what_a_plugin_says_is_wrong_is_told_in_its_words() {
    assert_eq!(plan(&faulty("refuses")), Err(Fault::Invalid("a rank too many".to_owned())));
    assert_eq!(plan(&faulty("not now")), Err(Fault::Transient("ask again".to_owned())));
    let words = "the plugin let go of the call without an answer".to_owned();
    assert_eq!(plan(&faulty("lets go")), Err(Fault::Invalid(words)));
    let refused = |fault: &str| {
        let opened = PluginLauncher::open(&example("faulty"), &settings(fault));
        opened.err().expect("it does not open").to_string()
    };
    assert_eq!(refused("open refuses"), "plugin `faulty`: open: no such partition");
    assert_eq!(refused("open panics"), "plugin `faulty`: open: it panicked: no opening today");
}

#[test]
fn a_plugin_that_gives_up_is_not_called_any_more() {
    let instance = faulty("gives up");
    let fatal = Err(Fault::Fatal("the licence has ended".to_owned()));
    assert_eq!(plan(&instance), fatal);
    assert_eq!(plan(&instance), fatal);
}

#[test]
fn a_panic_is_caught_and_the_next_call_is_of_a_new_instance() {
    let instance = faulty("panics");
    for _ in 0..2 {
        assert_eq!(
            plan(&instance),
            Err(Fault::Panicked("a bug at call 1".to_owned())),
            "each is the first"
        );
    }
    let instance = faulty("close panics");
    assert_eq!(plan(&instance), works());
    instance.close(Duration::ZERO);
}

#[test]
fn a_panic_in_any_method_of_any_interface_is_that_calls_alone() {
    let plugin = example("brittle");
    for kind in Kind::ALL {
        for method in kind.methods() {
            let settings = json!({ "panic_in": method }).as_object().cloned().expect("an object");
            let instance = plugin.open(kind.id(), &settings, None).expect("it opens");
            let call = |method: &str| {
                let called = instance.call_blocking(method, b"{}".to_vec(), PATIENCE);
                called.map(drop).map_err(|error| error.fault)
            };
            let panicked = Err(Fault::Panicked(format!("a bug in {method}")));
            for _ in 0..2 {
                assert_eq!(call(method), panicked, "{kind:?}");
                assert_eq!(call("fly"), Err(Fault::Unsupported), "{kind:?}, after {method}");
            }
        }
    }
}

#[test]
fn a_plugin_that_hangs_is_given_up() {
    let instance = faulty("hangs");
    let short = Duration::from_millis(100);
    let call = |deadline| instance.call_blocking("plan", b"{}".to_vec(), deadline);
    let fatal = Fault::Fatal("it did not return within 100 ms".to_owned());
    assert_eq!(call(short).map_err(|error| error.fault), Err(fatal.clone()));
    let began = Instant::now();
    assert_eq!(
        call(PATIENCE).map_err(|error| error.fault),
        Err(fatal),
        "nobody waits for it again"
    );
    instance.close(PATIENCE);
    assert!(began.elapsed() < PATIENCE);
}

#[test]
fn an_answer_that_never_comes_or_too_late_fails_one_call() {
    let short = Duration::from_millis(50);
    for fault in ["never", "too late"] {
        let instance = faulty(fault);
        for _ in 0..2 {
            let called = instance.call_blocking("plan", b"{}".to_vec(), short);
            assert_eq!(called.map_err(|error| error.fault), Err(Fault::Late(short)), "{fault}");
        }
    }
}

#[test]
fn what_a_launcher_answers_is_looked_at() {
    #[track_caller]
    fn check(fault: &str, expected: &str) {
        let launcher =
            PluginLauncher::open(&example("faulty"), &settings(fault)).expect("it opens");
        let error = launcher.plan(&step(), "/files").expect_err("it is no plan").to_string();
        let (before, reason) = error.split_once(": ").expect("a reason");
        assert_eq!(before, "launcher `faulty` cannot start this step");
        assert!(reason.starts_with(expected), "{reason}");
    }
    check("garbage", "its answer cannot be understood: ");
    check(
        "another shape",
        "its answer cannot be understood: invalid type: integer `7`, expected a sequence",
    );
    check("no program", "its answer cannot be understood: its plan has no program");
    check(
        "1 GB",
        "its answer cannot be understood: it has 1073741824 bytes, and 64 MiB are the most",
    );
    check("panics", "it panicked: a bug at call 1");
    let launcher = PluginLauncher::open(&example("faulty"), &settings("")).expect("it opens");
    let plan = launcher.plan(&step(), "/files").expect("a field that is not known is left alone");
    assert_eq!((launcher.name(), plan.argv), ("faulty", vec!["true".to_owned()]));
}

fn step() -> torc_core::traits::Step {
    serde_json::from_value(json!({
        "id": {"workflow": 1, "job": 1, "run": 1, "attempt": 1}, "job_name": "j", "argv": ["bash", "-c", "true"], "env": {},
        "working_dir": "/", "stdio": {"stdout": null, "stderr": null, "delete_on_success": false}, "allocation": 1,
        "nodes": [{"name": "n1", "cores": [0], "gpus": [], "memory": 1}],
        "layout": {"ntasks_per_node": 1, "cpus_per_node": 1, "mpi": null, "cpu_bind": null},
        "limits": {"memory": null, "runtime": null, "termination_signal": 15, "termination_lead": 1},
        "expected_files": []
    }))
    .expect("a step")
}

#[test]
fn a_plugin_in_c_is_called_and_its_buffers_are_released_once() {
    let (folder, trust) = folder();
    let shelf = Shelf::new(Vec::new(), trust, BTreeMap::default());
    let plugin = shelf.take(&odd(folder.path(), &[])).expect("it is a plugin");
    assert_eq!(plugin.about().interfaces, ["torc.launcher/1", "torc.future/7"]);
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = told.clone();
    let events: Events = Arc::new(move |told| match told {
        Told::Event(event) => telling.lock().unwrap().push(event),
        Told::Gone(how) => panic!("{how}"),
    });
    let instance = plugin.open(interface::LAUNCHER, &Map::new(), Some(events)).expect("it opens");
    let call = |method: &str| {
        let answer = instance.call_blocking(method, b"{}".to_vec(), PATIENCE);
        answer.map(|answer| String::from_utf8(answer).unwrap()).map_err(|error| error.fault)
    };
    assert_eq!(call("plan").as_deref(), Ok(r#"{"argv": ["true"]}"#));
    assert_eq!(call("released").as_deref(), Ok("1"));
    assert_eq!(call("twice").as_deref(), Ok("1"), "the first answer counts");
    assert_eq!(call("released").as_deref(), Ok("5"), "that, the two answers and the event");
    assert_eq!(*told.lock().unwrap(), [b"stale".to_vec()]);
    assert_eq!(call("nothing"), Err(Fault::Invalid("it does not say why".to_owned())));
    assert_eq!(call("fly"), Err(Fault::Unsupported));
    let unknown = "it answered with the unknown status 99".to_owned();
    assert_eq!(call("status 99"), Err(Fault::Fatal(unknown)));
}

#[test]
fn what_is_no_plugin_for_this_torc_is_not_loaded() {
    #[track_caller]
    fn check(macros: &[&str], expected: Result<(), &str>) {
        let (folder, trust) = folder();
        let shelf = Shelf::new(Vec::new(), trust, BTreeMap::default());
        let found = odd(folder.path(), macros);
        let error = shelf.take(&found).map(drop).map_err(|error| {
            let error = error.to_string();
            assert!(error.contains(&found.path.display().to_string()), "it is named: {error}");
            error.split_once(": ").expect("a reason").1.to_owned()
        });
        assert_eq!(error.as_ref().copied().map_err(|error| &**error), expected);
    }
    let version = "it was built for version 2 of the plugin boundary, and this torc has version 1";
    check(&["WRONG_MAJOR"], Err(version));
    check(&["BAD_MAGIC"], Err("what it exports as `torc_plugin_v1` does not begin with TORCPLG"));
    check(&["TOO_OLD"], Err("its descriptor has 24 bytes, and version 1 has 48 at least"));
    check(&["NULL_SLOT"], Err("its interface torc.launcher/1 lacks `open`, `call` or `close`"));
    check(&["NO_NAME"], Err("it has no name"));
    check(&["BAD_UTF8"], Err("its name is not UTF-8"));
    check(&["BAD_INFO"], Err("its description is no text"));
    check(&["MANY"], Err("it has 1073741824 interfaces, and 64 are the most"));
    check(&["NO_SYMBOL"], Err("it does not export `torc_plugin_v1`"));
    check(&["SHORT"], Ok(()));
    check(&["LONG"], Ok(()));
}

#[test]
fn a_program_is_called_in_lines() {
    let (folder, trust) = folder();
    let shelf = Shelf::new(Vec::new(), trust, BTreeMap::default());
    let found = program(
        folder.path(),
        r#"
import json, os, sys
for line in sys.stdin:
    said = json.loads(line)
    method, op = said["method"], said["op"]
    answer = {"op": op, "status": "ok"}
    if method == "describe":
        answer["result"] = {"name": "told", "version": "3", "abi": [1, 0], "interfaces": ["torc.launcher/1"], "more": 1}
    elif method == "plan":
        print(json.dumps({"log": {"level": "debug", "message": "planning"}}))
        answer["result"] = {"argv": ["true"], "more": 1}
    elif method == "crash":
        sys.exit(7)
    elif method == "be killed":
        os.kill(os.getpid(), 9)
    elif method == "babble":
        print("Hello")
        answer = None
    elif method == "flood":
        sys.stdout.write("x" * (65 << 20))
    elif method == "odd":
        answer["status"] = "splendid"
    elif method == "twice":
        print(json.dumps(answer))
    elif method == "sleep":
        answer = None
    elif method != "open":
        answer = {"op": op, "status": "unsupported"}
    if answer: print(json.dumps(answer))
    sys.stdout.flush()
"#,
    );
    let plugin = shelf.take(&found).expect("it is a plugin");
    assert_eq!((&*plugin.about().version, plugin.about().abi), ("3", (1, 0)));
    let instance = launcher(&plugin);
    let call = |method: &str| {
        instance.call_blocking(method, b"{}".to_vec(), PATIENCE).map_err(|error| error.fault)
    };
    assert_eq!(plan(&instance), works());
    let gone = |words: &str| Err(Fault::Gone(words.to_owned()));
    assert_eq!(call("crash"), gone("it exited with code 7"));
    assert_eq!(plan(&instance), works(), "it was started again");
    assert_eq!(call("be killed"), gone("signal 9 ended it"));
    assert_eq!(call("twice"), Ok(b"null".to_vec()));
    assert_eq!(plan(&instance), works());
    assert_eq!(call("fly"), Err(Fault::Unsupported));
    assert_eq!(call("odd"), Err(Fault::Garbled("its status is Some(\"splendid\")".to_owned())));
    assert_eq!(call("flood"), gone("it wrote a line of more than 64 MiB, and was killed"));
    let Err(Fault::Gone(words)) = call("babble") else { panic!("it is no message") };
    assert!(
        words.starts_with("it wrote a line that is no message (")
            && words.ends_with("Hello; it was killed")
    );
    let late = instance.call_blocking("sleep", b"{}".to_vec(), Duration::from_millis(50));
    assert!(matches!(late.map_err(|error| error.fault), Err(Fault::Late(_))));
    assert_eq!(plan(&instance), works());
}

#[test]
fn a_plugin_that_others_could_change_is_not_loaded() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let (folder, trust) = folder();
    let sub = folder.path().join("sub");
    std::fs::create_dir(&sub).expect("is made");
    let found = odd(&sub, &[]);
    let shelf = Shelf::new(Vec::new(), trust, BTreeMap::default());
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("is ours");
    };
    let distrust = |found: &Found| match shelf.take(found) {
        Err(PluginError::Distrusted { distrust, path }) => {
            assert_eq!(path, found.path);
            distrust.to_string()
        }
        other => panic!("{other:?}"),
    };
    assert!(shelf.take(&found).is_ok());
    mode(&found.path, 0o757);
    assert!(distrust(&found).contains("libtorc_odd.so can be written to by everybody"));
    mode(&found.path, 0o4755);
    assert!(distrust(&found).contains("set-user-ID"));
    mode(&found.path, 0o755);
    mode(&sub, 0o777);
    assert!(distrust(&found).contains("sub can be written to by everybody"));
    let link = Found { name: "odd".to_owned(), path: folder.path().join("libtorc_odd.so") };
    symlink(&found.path, &link.path).expect("a link");
    assert!(
        distrust(&link).contains("sub can be written to by everybody"),
        "a link into such a folder"
    );
    mode(&sub, 0o755);
    assert!(shelf.take(&link).is_ok());
    let strict = Shelf::new(Vec::new(), Trust::default(), BTreeMap::default());
    mode(&sub, 0o775);
    let error = strict.take(&found).expect_err("its group").to_string();
    assert!(error.contains("sub can be written to by its group"), "{error}");
    mode(&sub, 0o755);
    let pins = [("odd".to_owned(), "00".repeat(32))].into();
    let pinned = Shelf::new(Vec::new(), self::folder().1, pins);
    assert!(matches!(pinned.take(&found), Err(PluginError::OtherContent { .. })));
    let folder_itself = Found { name: "odd".to_owned(), path: sub };
    assert!(distrust(&folder_itself).ends_with("is not a regular file"));
}

#[test]
fn the_header_and_the_rust_types_are_the_same() {
    use torc_plugin::abi::{Buffer, Bytes, Descriptor, HostTable, InterfaceEntry, Vtable};
    let mut text = String::from(
        "#include \"torc_plugin.h\"\n#ifdef __cplusplus\n#define _Static_assert static_assert\n#endif\n",
    );
    let mut claim = |c: &str, value: usize| {
        text += &format!("_Static_assert({c} == {value}, \"{c}\");\n");
    };
    macro_rules! same {
        ($rust:ident, $c:literal, [$($field:ident),* $(,)?]) => {
            claim(concat!("sizeof(struct ", $c, ")"), size_of::<$rust>());
            $(claim(
                concat!("offsetof(struct ", $c, ", ", stringify!($field), ")"),
                std::mem::offset_of!($rust, $field),
            );)*
        };
    }
    same!(Bytes, "torc_bytes", [ptr, len]);
    same!(Buffer, "torc_buffer", [ptr, len, owner, release]);
    same!(HostTable, "torc_host", [struct_size, abi_minor, complete, emit, log]);
    same!(Vtable, "torc_vtable", [struct_size, reserved, open, call, close]);
    same!(InterfaceEntry, "torc_interface", [id, vtable]);
    same!(
        Descriptor,
        "torc_plugin_v1",
        [
            magic,
            abi_major,
            abi_minor,
            struct_size,
            interface_count,
            interfaces,
            name,
            version,
            info,
        ]
    );
    for (name, status) in [("OK", 0), ("PENDING", 1), ("INVALID", 2), ("TRANSIENT", 3)] {
        claim(&format!("TORC_{name}"), status);
    }
    for (name, status) in [("UNSUPPORTED", 4), ("PANIC", 5), ("STALE", 6), ("FATAL", 7)] {
        claim(&format!("TORC_{name}"), status);
    }
    let (folder, _) = folder();
    let header = Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk/include");
    for (compiler, standard, file) in
        [("cc", "-std=c11", "same.c"), ("c++", "-std=c++17", "same.cc")]
    {
        let path = folder.path().join(file);
        std::fs::write(&path, &text).expect("is written");
        let mut command = Command::new(compiler);
        command.args([standard, "-pedantic", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I"]);
        let done = command
            .arg(&header)
            .arg(&path)
            .status()
            .unwrap_or_else(|error| panic!("{compiler}: {error}"));
        assert!(done.success(), "{compiler}");
    }
}

#[test]
fn the_example_in_c_starts_ranks_on_the_nodes_of_a_job() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (folder, trust) = folder();
    let path = folder.path().join("libtorc_hydra.so");
    let mut cc = Command::new("cc");
    cc.args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"]).arg(&path);
    cc.arg("-I").arg(here.join("sdk/include")).arg(here.join("examples/hydra.c")).arg("-ljansson");
    assert!(
        cc.status().expect("cc is installed").success(),
        "it is built, with Debian's libjansson-dev"
    );
    let shelf = Shelf::new(Vec::new(), trust, BTreeMap::default());
    let plugin = shelf.take(&Found { name: "hydra".to_owned(), path }).expect("it is a plugin");
    let settings = json!({"program": "/opt/mpiexec", "options": ["-v"]});
    let settings = settings.as_object().expect("an object");
    let launcher = PluginLauncher::open(&plugin, settings).expect("it opens");
    let plan = launcher.plan(&step(), "/files").expect("it can be launched");
    assert_eq!(plan.argv, step().argv, "one rank needs no launcher");
    let mut gang = step();
    gang.nodes = ["n1", "n2", "n7"]
        .map(|name| StepNode { name: name.into(), ..gang.nodes[0].clone() })
        .into();
    gang.layout.ntasks_per_node = 4;
    gang.argv = ["a b", "$c", "\"d\ne\""].map(str::to_owned).to_vec();
    let plan = launcher.plan(&gang, "/files").expect("it can be launched");
    let before = ["/opt/mpiexec", "-ppn", "4", "-n", "12", "-v"];
    assert_eq!(plan.argv, [&before[..], &["a b", "$c", "\"d\ne\""]].concat());
}
