//! Schedulers that are plugins, and what they do that they should not: allocations are granted, asked about and ended
//! all the same, each job runs once, and who is to blame is told.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::Instant;

use torc_tests::{PATIENCE, Place, PluginFolder, RUN_PATIENCE, Started};

/// A batch system of one file, which starts the commands of allocations as processes of its own here. What a file `fault` says
/// it does once: at which method, and what.
const BATCH: &str = r#"#!/usr/bin/env python3
import base64, json, os, signal, subprocess, sys

FOLDER = os.environ["TORC_TEST_BATCH"]

def path(name):
    return os.path.join(FOLDER, name)

def fault_at(method):
    try:
        at, what = open(path("fault")).read().strip().split(" ", 1)
    except FileNotFoundError:
        return None
    if at != method:
        return None
    os.rename(path("fault"), path("faulted"))
    return what

def runs(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False

def text(written):
    return written if isinstance(written, str) else os.fsdecode(base64.b64decode(written["b64"]))

def submit(request, key):
    json.dump(request["env"], open(path("env"), "w"))
    env = {text(name): text(value) for name, value in request["env"]}
    env["TORC_ALLOCATION_HANDLE"] = key
    output = open(request["output"], "ab")
    child = subprocess.Popen(request["command"], env=env, cwd=request["working_dir"], stdin=subprocess.DEVNULL,
        stdout=output, stderr=output, start_new_session=True)
    open(path(key + ".pid"), "w").write(str(child.pid))
    return key

def pid_of(handle):
    try:
        return int(open(path(handle + ".pid")).read())
    except FileNotFoundError:
        return None

def state(handle):
    pid = pid_of(handle)
    if pid is None:
        return {"state": "unknown"}
    if runs(pid):
        return {"state": "running", "ends_at": None}
    return {"state": "ended", "cause": "completed", "reason": "its process is gone"}

def cancel(handle):
    pid = pid_of(handle)
    if pid is not None and runs(pid):
        os.killpg(pid, signal.SIGTERM)

def answer_to(method, request):
    if method == "describe":
        return {"name": "told", "version": "1", "abi": [1, 0], "interfaces": ["torc.scheduler/1"]}
    if method == "shapes":
        return "unknown"
    if method == "submit":
        return submit(request["request"], request["key"])
    if method == "find":
        return request["key"] if pid_of(request["key"]) else None
    if method == "observe":
        return [state(handle) for handle in request["allocations"]]
    if method == "cancel":
        return cancel(request["allocation"])

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
open(path("plugins"), "a").write(f"{os.getpid()}\n")
for line in sys.stdin:
    said = json.loads(line)
    fault = fault_at(said["method"])
    if fault == "crashes":
        os._exit(3)
    if fault == "hangs":
        while True:
            signal.pause()
    if fault == "says garbage":
        print("{nonsense", flush=True)
    if fault == "answers garbage":
        print(json.dumps({"op": said["op"], "status": "ok", "result": {"what": 7}}), flush=True)
        continue
    if fault == "says 1 GB":
        sys.stdout.write("x" * (1 << 30) + "\n")
        sys.stdout.flush()
    answer = {"op": said["op"], "status": "ok", "result": answer_to(said["method"], said["request"])}
    if fault == "crashes after it":
        os._exit(3)
    if fault == "answers for more":
        answer["result"] += answer["result"]
    print(json.dumps(answer), flush=True)
    if fault == "answers twice":
        print(json.dumps(answer), flush=True)
"#;

/// A workflow with one allocation of that batch system, whose job runs until there is a file `go`. Its server ends with it.
struct Site {
    place: Place,
    folder: PluginFolder,
    plugin: &'static str,
}

impl Site {
    /// With the program.
    fn new() -> Self {
        let site = Self::of("told");
        site.folder.write_program("told", BATCH);
        site
    }

    /// With the library, which does the same.
    fn with_library() -> Self {
        let site = Self::of("faulty_scheduler");
        site.folder.take_example("faulty_scheduler");
        site
    }

    fn of(plugin: &'static str) -> Self {
        let spec = "name: w
schedulers: [{name: s, type: told, walltime: '01:00:00'}]
actions:
- {trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: s, scheduler_type: told}
compute_node_wait_for_new_jobs_seconds: 1
jobs:
- {name: a, command: 'touch begun; until test -e go; do sleep 0.1; done; echo a >> ran'}
- {name: b, command: 'echo b >> ran', depends_on: [a]}
";
        let place = Place::with(&spec.replace("told", plugin));
        std::fs::create_dir(place.join("batch")).expect("it is made");
        let batch = place.join("batch").to_str().expect("it is text").to_owned();
        let polls = [("TORC_SLURM_SHORTEST_POLL", "1s"), ("TORC_SLURM_LONGEST_POLL", "1s")];
        let polls = polls.map(|(name, value)| (name.to_owned(), value.to_owned()));
        place.set_env(polls.into_iter().chain([("TORC_TEST_BATCH".to_owned(), batch)]));
        let folder = PluginFolder::of(&place);
        Self { place, folder, plugin }
    }

    fn submit(&self) -> Started {
        Started::start_for(self.place.command(&["submit", "w.yaml", "--wait"]), RUN_PATIENCE)
    }

    fn fault(&self, what: &str) {
        // At once: the plugin may look at any time.
        self.place.write("batch/fault.new", what);
        let (new, fault) = (self.place.join("batch/fault.new"), self.place.join("batch/fault"));
        std::fs::rename(new, fault).expect("it is ours");
    }

    #[track_caller]
    fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(found) = look() {
                return found;
            }
            std::thread::park_timeout(std::time::Duration::from_millis(50));
        }
        panic!("{what} does not come to pass\n{}", self.log());
    }

    fn until_there(&self, file: &str) {
        self.until(file, || self.place.join(file).exists().then_some(()));
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.place.join("torc_output/server.log")).unwrap_or_default()
    }

    /// Both jobs have run, each once, and the state says so.
    #[track_caller]
    fn expect_all_once(&self) {
        assert_eq!(self.place.lines("ran"), ["a", "b"]);
        self.place.expect_jobs("a completed\nb completed");
        assert_eq!(self.place.results().len(), 2, "each once");
        self.place.torc(&["status"]).expect(0).says("2 completed");
    }

    /// The server's log blames the plugin in these words.
    #[track_caller]
    fn expect_blamed(&self, words: &str) {
        self.until(words, || self.log().contains(words).then_some(()));
        let log = self.log();
        let line = log.lines().find(|line| line.contains(words)).expect("it was there");
        assert!(line.contains(self.plugin), "the plugin is named: {line}");
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.place.command(&["serve", "--stop"]).output();
    }
}

#[test]
fn a_program_gives_allocations_and_restart_asks_for_more() {
    let site = Site::new();
    let spec = site.place.read("w.yaml").replace("echo b >> ran", "test -e good && echo b >> ran");
    site.place.write("w.yaml", spec);
    site.place.write("go", "");
    site.submit().wait().expect(1);
    site.place.write("good", "");
    site.place.torc(&["restart"]).expect(0);
    site.until("the end of the workflow", || {
        (site.place.json(&["status"])["state"] == "ended").then_some(())
    });
    site.place.expect_jobs("a completed\nb completed");
    assert_eq!(site.place.lines("ran"), ["a", "b"]);
}

/// What goes wrong when an allocation is asked for costs no job, and no second allocation.
#[track_caller]
fn asks_once(faults: &[(&str, Option<&str>)]) {
    for (fault, words) in faults {
        let site = Site::new();
        site.fault(fault);
        site.place.write("go", "");
        site.submit().wait().expect(0).says("2 completed");
        assert!(site.place.join("batch/faulted").exists(), "{fault}");
        site.expect_all_once();
        if let Some(words) = words {
            site.expect_blamed(words);
        }
        let allocations = site.place.json(&["allocations", "--all"]);
        assert_eq!(allocations.as_array().map(Vec::len), Some(1), "{fault}: {allocations}");
    }
}

#[test]
fn a_plugin_that_crashes_when_it_is_asked_for_an_allocation_costs_no_job_and_no_second_one() {
    let gone = Some("plugin `told`: submit: its process is gone: it exited with code 3");
    asks_once(&[("submit crashes", gone), ("submit crashes after it", gone)]);
}

#[test]
fn a_plugin_that_talks_nonsense_when_it_is_asked_for_an_allocation_costs_no_job() {
    asks_once(&[
        ("submit says garbage", Some("it wrote a line that is no message")),
        ("submit answers garbage", Some("submit: its answer cannot be understood")),
        ("submit answers twice", None),
    ]);
}

#[test]
fn a_plugin_that_answers_a_gigabyte_costs_no_job() {
    asks_once(&[("submit says 1 GB", Some("it wrote a line of more than 64 MiB, and was killed"))]);
}

#[test]
fn what_goes_wrong_when_allocations_are_asked_about_costs_no_job() {
    for (fault, words) in [
        ("observe crashes", "its process is gone: it exited with code 3"),
        ("observe says garbage", "it wrote a line that is no message"),
        ("observe says 1 GB", "it wrote a line of more than 64 MiB, and was killed"),
        ("observe answers for more", "it was asked about 1 allocations and told of 2"),
    ] {
        let site = Site::new();
        let run = site.submit();
        site.until_there("begun");
        site.fault(fault);
        site.expect_blamed(words);
        site.place.torc(&["status"]).expect(0).says("1 running");
        site.place.write("go", "");
        run.wait().expect(0).says("2 completed");
        site.expect_all_once();
    }
}

#[test]
fn a_plugin_that_hangs_keeps_nobody_waiting() {
    let site = Site::new();
    let run = site.submit();
    site.until_there("begun");
    site.fault("observe hangs");
    site.until_there("batch/faulted");
    site.place.torc(&["status"]).expect(0).says("1 running");
    site.place.torc(&["allocations"]).expect(0).says("active");
    site.place.write("go", "");
    run.wait().expect(0).says("2 completed");
    site.expect_all_once();
    site.place.torc(&["serve", "--stop"]).expect(0).says("the server has ended");
    let plugins = site.place.lines("batch/plugins");
    site.until("the end of the plugin", || {
        plugins.iter().all(|pid| !Path::new("/proc").join(pid).exists()).then_some(())
    });
    site.place.torc(&["status"]).expect(0).says("2 completed");
}

#[test]
fn a_plugin_that_is_silent_when_it_is_asked_for_what_there_is_is_no_reason_to_refuse() {
    let site = Site::new();
    site.fault("shapes crashes");
    site.place.write("go", "");
    site.submit().wait().expect(0).says("2 completed");
    site.expect_all_once();
}

#[test]
fn a_library_that_panics_or_talks_nonsense_costs_no_job() {
    for (fault, words) in [
        ("submit panics", "plugin `faulty_scheduler`: submit: it panicked: a bug in submit"),
        (
            "submit 1 GB",
            "plugin `faulty_scheduler`: submit: its answer cannot be understood: it has 1073741824 bytes",
        ),
    ] {
        let site = Site::with_library();
        site.fault(fault);
        site.place.write("go", "");
        site.submit().wait().expect(0).says("2 completed");
        site.expect_all_once();
        site.expect_blamed(words);
    }
    let site = Site::with_library();
    let run = site.submit();
    site.until_there("begun");
    for (fault, words) in [
        ("observe panics", "plugin `faulty_scheduler`: observe: it panicked: a bug in observe"),
        ("observe garbage", "plugin `faulty_scheduler`: observe: its answer cannot be understood"),
    ] {
        site.fault(fault);
        site.expect_blamed(words);
        site.place.torc(&["status"]).expect(0).says("1 running");
    }
    site.place.write("go", "");
    run.wait().expect(0).says("2 completed");
    site.expect_all_once();
}

#[test]
fn a_library_that_takes_the_server_along_costs_no_job() {
    let site = Site::with_library();
    site.place.torc(&["submit", "w.yaml"]).expect(0);
    site.until_there("begun");
    site.fault("observe crashes");
    site.until_there("batch/faulted");
    site.until("the end of the server", || {
        site.place.torc(&["serve", "--stop"]).stderr.contains("no server runs").then_some(())
    });
    site.place.torc(&["status"]).expect(0).says("1 running");
    let server = site.place.serve();
    site.place.torc(&["status"]).expect(0).says("1 running");
    site.place.write("go", "");
    site.until("the end of the workflow", || {
        (site.place.json(&["status"])["state"] == "ended").then_some(())
    });
    site.expect_all_once();
    site.place.torc(&["serve", "--stop"]).expect(0);
    server.wait();
}

#[test]
fn a_library_that_hangs_keeps_no_job_and_no_command_waiting() {
    let site = Site::with_library();
    let run = site.submit();
    site.until_there("begun");
    site.fault("observe hangs");
    site.until_there("batch/faulted");
    site.place.torc(&["status"]).expect(0).says("1 running");
    site.place.write("go", "");
    run.wait().expect(0).says("2 completed");
    site.expect_all_once();
    site.place.torc(&["serve", "--stop"]).expect(0).says("the server has ended");
    site.place.torc(&["status"]).expect(0).says("2 completed");
}

#[test]
fn what_is_not_utf8_in_the_environment_reaches_the_plugin_and_the_jobs_as_it_is() {
    for site in [Site::new(), Site::with_library()] {
        let spec = site.place.read("w.yaml").replace("echo b >> ran", "printenv LATIN > seen");
        site.place.write("w.yaml", spec).write("go", "");
        let bytes = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let mut command = site.place.command(&["submit", "w.yaml", "--wait"]);
        command.env("LATIN", bytes(b"caf\xe9")).env(bytes(b"n\xe9"), "odd");
        Started::start_for(command, RUN_PATIENCE).wait().expect(0).does_not_say("UTF-8");
        let seen = std::fs::read(site.place.join("seen")).expect("it was written");
        assert_eq!(seen, b"caf\xe9\n");
        if site.plugin == "told" {
            let env: serde_json::Value =
                serde_json::from_str(&site.place.read("batch/env")).expect("JSON");
            let has = |pair| env.as_array().expect("a list").contains(&pair);
            assert!(has(serde_json::json!(["LATIN", {"b64": "Y2Fm6Q=="}])), "{env}");
            assert!(
                has(serde_json::json!([{"b64": "bsM="}, "odd"]))
                    || has(serde_json::json!([{"b64": "buk="}, "odd"])),
                "{env}"
            );
        }
    }
}

#[test]
fn a_folder_whose_name_is_not_utf8_is_refused_before_a_plugin_could_be_told_of_it() {
    let site = Site::new();
    let folder = site.place.path().join(OsString::from_vec(b"caf\xe9".to_vec()));
    std::fs::create_dir(&folder).expect("it is made");
    std::fs::copy(site.place.join("w.yaml"), folder.join("w.yaml")).expect("it is copied");
    let elsewhere = site.place.join("state").to_str().expect("it is text").to_owned();
    for (command, options, words) in [
        ("run", &[][..], "cannot use torc_output: its name is not valid UTF-8"),
        ("submit", &[], "cannot use torc_output: its name is not valid UTF-8"),
        ("run", &["--output-dir", &elsewhere], "the name of the current folder is not UTF-8"),
        ("submit", &["--output-dir", &elsewhere], "the name of the current folder is not UTF-8"),
    ] {
        let mut torc = site.place.command(&[&[command, "w.yaml"], options].concat());
        torc.current_dir(&folder);
        Started::start(torc).wait().expect(5).says(words);
    }
    assert!(!site.place.join("batch/env").exists(), "nothing was asked for");
}
