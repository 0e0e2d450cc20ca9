//! Placers that are plugins, under `torc run`: good ones decide, and bad ones cost a word about them and no
//! job.

use std::collections::BTreeSet;
use std::path::Path;

use torc_tests::{Ended, Place, PluginSite};

fn with(spec: &str) -> PluginSite {
    PluginSite::of(Place::with(spec), &["faulty_placer", "wrapped", "nice"])
}

/// Six jobs of one CPU that are placed by this plugin.
fn place(placer: &str, settings: &str) -> PluginSite {
    with(&format!(
        "name: w
execution_config: {{placer: {placer}}}
plugins: [{{name: {placer}{settings}}}]
parameters: {{n: '1:6'}}
jobs: [{{name: 'j{{n}}', command: 'echo {{n}} >> ran', use_parameters: [n]}}]"
    ))
}

fn run(place: &PluginSite, options: &[&str]) -> Ended {
    place.run(&[&["--plugin-path", place.folder()], options].concat())
}

/// All jobs have completed, each in one attempt.
#[track_caller]
fn expect_all_once(place: &PluginSite) {
    let mut ran = place.lines("ran");
    ran.sort();
    assert_eq!(ran, ["1", "2", "3", "4", "5", "6"]);
    let attempts = place.results();
    assert_eq!(attempts.len(), 6, "each once: {attempts:?}");
    assert!(attempts.iter().all(|attempt| attempt["status"] == "completed"), "{attempts:?}");
}

const REPLACED: &str = "places no jobs any more, torc's own placer does: ";

#[test]
fn a_plugin_places_the_jobs_by_its_settings() {
    for (policy, nodes) in [("pack", 1), ("spread", 2)] {
        let place = with(&format!(
            "name: w
execution_config: {{placer: wrapped}}
plugins: [{{name: wrapped, policy: {policy}}}]
jobs: [{{name: a, command: read < go}}, {{name: b, command: read < go}}]"
        ));
        place.gate("go");
        let options = ["--plugin-path", place.folder(), "--nodes", "2", "--num-cpus", "2"];
        let running = place.start_run(&options);
        place.open_gate("go", 2);
        let ended = running.wait().expect(0);
        assert!(!ended.stderr.contains(REPLACED), "{}", ended.stderr);
        let attempts = place.results();
        let used: BTreeSet<String> = attempts.iter().map(|one| one["nodes"].to_string()).collect();
        assert_eq!((attempts.len(), used.len()), (2, nodes), "{attempts:?}");
    }
}

#[test]
fn a_plugin_that_fails_is_replaced_and_no_job_is_lost() {
    let faults = [
        ("panics", "plan: it panicked: a bug in a plan"),
        ("garbage", "plan: its answer cannot be understood: "),
        ("1 GB", "plan: its answer cannot be understood: it has 1073741824 bytes"),
        ("unsupported", "plan: it does not know this method"),
        ("gives up", "plan: the licence has ended"),
        ("cannot rebuild", "rebuild: it panicked: a bug in a rebuild"),
        ("idle", "it starts nothing, although nothing runs and jobs could start"),
    ];
    for (fault, words) in faults {
        let place = place("faulty_placer", &format!(", fault: {fault}, after: 1"));
        let ended = run(&place, &[]).expect(0);
        ended.says(&format!("plugin `faulty_placer` {REPLACED}{words}"));
        assert_eq!(ended.stderr.matches(REPLACED).count(), 1, "it is said once: {}", ended.stderr);
        expect_all_once(&place);
        place.torc(&["status"]).expect(0).says("6 completed");
    }
}

#[test]
fn a_plugin_that_takes_torc_along_costs_no_job() {
    let place = place("faulty_placer", ", fault: crashes, after: 2");
    let ended = run(&place, &[]);
    assert_eq!(ended.signal, Some(6), "{ended:?}");
    place.torc(&["status"]).expect(0).says("interrupted");
    // A restart has the settings that are stored, and so the same fault.
    let restarted = place.torc(&["restart", "--plugin-path", place.folder()]);
    assert_eq!(restarted.signal, Some(6), "{restarted:?}");
    place.torc(&["status"]).expect(0).says("interrupted");
    place.torc(&["jobs"]).expect(0);
    let lost = |attempt: &&serde_json::Value| attempt["outcome"]["outcome"] == "lost";
    assert!(place.results().iter().any(|attempt| lost(&attempt)), "what ran with it is known");
    let repaired = place.read("w.yaml").replace(", fault: crashes, after: 2", "");
    place.write("w.yaml", repaired);
    run(&place, &[]).expect(0);
    place.torc(&["status"]).expect(0).says("6 completed");
    place.torc(&["status", "1"]).expect(0).says("interrupted");
}

#[test]
fn a_plugin_that_hangs_costs_its_deadline_and_no_job() {
    let place = place("faulty_placer", ", fault: hangs, after: 1");
    let ended = run(&place, &[]).expect(0);
    ended.says(&format!("plugin `faulty_placer` {REPLACED}plan: it did not return within "));
    expect_all_once(&place);
}

#[test]
fn a_plugin_that_lies_is_replaced_and_no_job_starts_where_it_may_not() {
    let lies = [
        ("oversubscribes", "does not have that free"),
        ("unknown job", "there is no job 999"),
        ("a job twice", "it is not ready"),
    ];
    for (lie, words) in lies {
        // From the first plan on, when nothing has ended yet that would make room for what is not possible.
        let place = place("faulty_placer", &format!(", fault: {lie}, after: 0"));
        let ended = run(&place, &[]).expect(0);
        ended.says(&format!("plugin `faulty_placer` {REPLACED}")).says(words);
        expect_all_once(&place);
    }
    let place = place("faulty_placer", ", fault: more than may start");
    let spec = place
        .read("w.yaml")
        .replace("echo {n} >> ran", "mkdir alone && echo {n} >> ran && rmdir alone");
    place.write("w.yaml", spec);
    let ended = run(&place, &["--max-parallel-jobs", "1"]).expect(0);
    ended.says(REPLACED).says("no more jobs may start now");
    expect_all_once(&place);
}

/// A placer that starts one job after the other, on the first CPU of the first node; `at_plan` is what it
/// does besides at its plan number `plans`.
fn one_by_one(at_plan: &str) -> String {
    format!(
        r#"#!/usr/bin/env python3
import json, os, sys

waiting, node, running, plans = [], None, None, 0

def take(deltas):
    global running
    for delta in deltas:
        match delta:
            case {{"job_ready": ready}}: waiting.append(ready["job"])
            case {{"job_withdrawn": job}}: waiting.remove(job)
            case {{"step_ended": job}}: running = None
            case {{"allocation_added": allocation}}: add(allocation)

def add(allocation):
    global node
    node = (allocation["id"], *allocation["nodes"][0])

def plan():
    global running
    if running is not None or node is None or not waiting:
        return {{}}
    allocation, number, has = node
    running = waiting.pop(0)
    share = {{"n": number, "c": [0], "m": has["memory"] // len(has["cores"])}}
    return {{"starts": [{{"job": running, "placement": {{"a": allocation, "s": [share]}}}}]}}

for line in sys.stdin:
    said = json.loads(line)
    answer = {{"op": said["op"], "status": "ok"}}
    request = said["request"]
    match said["method"]:
        case "describe":
            answer["result"] = {{"name": "one", "version": "1", "abi": [1, 0], "interfaces": ["torc.placer/1"]}}
        case "open":
            pass
        case "rebuild":
            waiting = [one["job"] for one in request["snapshot"]["waiting"]]
            for allocation in request["snapshot"]["allocations"]:
                add(allocation)
        case "plan":
            plans += 1
            {at_plan}
            take(request["deltas"])
            answer["result"] = plan()
        case "explain":
            take(request["deltas"])
            answer["result"] = {{"waiting": "not_now", "cause": "queued"}}
        case _:
            answer["status"] = "unsupported"
    print(json.dumps(answer), flush=True)
"#
    )
}

#[test]
fn a_program_places_jobs_and_what_it_does_not_end_with_is_no_loss() {
    for (at_plan, words) in [
        ("pass", None),
        ("plans == 3 and os._exit(7)", Some("its process is gone: it exited with code 7")),
        ("plans == 3 and os.kill(os.getpid(), 9)", Some("its process is gone: signal 9 ended it")),
        ("plans == 3 and print('Hello', flush=True)", Some("it wrote a line that is no message")),
    ] {
        let place = place("one", "");
        place.plugins().write_program("one", &one_by_one(at_plan));
        let ended = run(&place, &[]).expect(0);
        match words {
            None => {
                assert!(!ended.stderr.contains(REPLACED), "{}", ended.stderr);
                assert_eq!(place.lines("ran"), ["1", "2", "3", "4", "5", "6"], "in its order");
            }
            Some(words) => {
                ended.says(&format!("plugin `one` {REPLACED}plan: ")).says(words);
            }
        }
        expect_all_once(&place);
    }
}

#[test]
fn a_program_that_hangs_does_not_outlive_its_run() {
    let hang = "plans == 3 and (open(PID, 'w').write(str(os.getpid())), time.sleep(600))";
    let place = place("one", "");
    let pid = place.join("pid");
    let text = one_by_one(hang).replace("PID", &format!("'{}'", pid.display()));
    place.plugins().write_program("one", &text.replace("import json", "import time, json"));
    let ended = run(&place, &[]).expect(0);
    ended.says(&format!("plugin `one` {REPLACED}plan: no answer within "));
    expect_all_once(&place);
    let pid = place.read("pid");
    assert!(!Path::new("/proc").join(pid.trim()).exists(), "process {pid} is gone");
}

#[test]
fn a_plugin_that_cannot_be_had_is_told_of_before_anything_starts() {
    #[track_caller]
    fn check(place: &PluginSite, exit: i32, words: &[&str]) {
        let ended = run(place, &[]).expect(exit);
        for word in words {
            ended.says(word);
        }
        assert!(!place.join("ran").exists(), "nothing has run");
    }
    let own = "none of torc's own (`pack`, `spread`)";
    let packing = place("packing", "");
    check(&packing, 5, &["there is no plugin `packing`", own, packing.folder()]);
    check(&place("faulty_placer", ", fault: does not open"), 5, &["no such partition"]);
    check(&place("nice", ""), 5, &["the plugin `nice` has no torc.placer/1"]);
    check(&place("../nice", ""), 3, &["spec::bad-name"]);
    let relative = place("wrapped", "").run(&["--plugin-path", "here"]).expect(2);
    relative.says("here is relative");
}

#[test]
fn what_is_stored_is_read_without_the_plugin_and_restarted_only_with_it() {
    let place = place("wrapped", "");
    let spec = place.read("w.yaml").replace("echo {n} >> ran", "test -e go && echo {n} >> ran");
    place.write("w.yaml", spec);
    run(&place, &[]).expect(1);
    place.torc(&["status"]).expect(0).says("6 failed");
    place.torc(&["jobs"]).expect(0);
    place.write("go", "");
    place.restart().expect(5).says("there is no plugin `wrapped`");
    place.torc(&["restart", "--plugin-path", place.folder()]).expect(0);
    place.torc(&["status"]).expect(0).says("6 completed");
}

#[test]
fn a_batch_job_is_not_submitted_whose_placer_cannot_be_had() {
    let place = place("packing", "");
    let scheduler = "\nslurm_schedulers: [{name: s, account: p}]\n";
    let spec = place.read("w.yaml") + scheduler;
    place.write("w.yaml", &spec);
    // There is no Slurm here: whoever asked it would be told so.
    place.set_env([("PATH".to_owned(), String::new())]);
    let submit = |options: &[&str]| {
        let args = [&["submit", "--in-allocation", "w.yaml"], options].concat();
        place.torc(&args).expect(5)
    };
    submit(&[]).says("`execution_config.placer` is `packing`").says("there is no plugin `packing`");
    place.write("w.yaml", spec.replace("packing", "wrapped"));
    let other = submit(&["--plugin-path", place.folder()]);
    other.does_not_say("wrapped").says("cannot find `sbatch`");
    assert!(!place.join("ran").exists(), "nothing has run");
}
