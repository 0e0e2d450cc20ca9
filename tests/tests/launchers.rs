//! Launchers: templates and plugins, with real jobs on this machine.

use torc_tests::{Place, PluginFolder, text};

fn spec(execution: &str, jobs: &str) -> String {
    format!(
        "name: w
execution_config: {{mode: direct, {execution}}}
resource_requirements:
- {{name: one, num_cpus: 1, memory: 1m}}
- {{name: wide, num_cpus: 2, num_nodes: 2, ntasks_per_node: 2, memory: 1m}}
jobs:
{jobs}"
    )
}

const WIDE: &[&str] = &["run", "w.yaml", "--nodes", "3", "--num-cpus", "2", "--memory-gb", "1"];

#[test]
fn a_template_starts_each_job() {
    let launcher = "launcher: {argv: [bash, -c, 'echo $0 $1 $2; cat $3; shift 3; exec \"$@\"', \
                    '{nodes}x{ntasks_per_node}', '{ntasks}', '{hostlist}', '{hostfile}', '{command}']}";
    let jobs =
        "- {name: a, command: 'echo \"it is  $TORC_JOB_NAME\"; exit 3', resource_requirements: one}
- {name: b, command: 'echo {not_a_place}', resource_requirements: wide}";
    let place = Place::with(&spec(launcher, jobs));
    let ended = place.torc(WIDE).expect(1);
    ended.says("1 completed").says("1 failed").does_not_say("are for Slurm");
    let lines = |job: u32| place.output(&format!("wf1_j{job}_r1_a1.o"));
    let node = |job: &str| torc_tests::nodes(&place.attempts(job)[0])[0].to_owned();
    let single = node("a");
    assert_eq!(lines(1), format!("1x1 1 {single}\n{single}\nit is  a\n"));
    assert_eq!(place.attempts("a")[0]["outcome"]["code"], 3, "its code is the job's");
    let both = torc_tests::nodes(&place.attempts("b")[0]).join(" ");
    let (list, file) = (both.replace(' ', ","), both.replace(' ', "\n"));
    assert_eq!(lines(2), format!("2x2 4 {list}\n{file}\n{{not_a_place}}\n"));
    let left = std::fs::read_dir(place.join("torc_output/scratch")).expect("it is there");
    let left: Vec<_> = left.map(|entry| entry.expect("it is listed").file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("launch_")), "{left:?}");
}

#[test]
fn a_template_of_the_configuration_has_a_name() {
    let place = Place::with(&spec("launcher: counted", "- {name: a, command: echo job}"));
    place.write("config.toml", "[launchers]\ncounted = ['bash', '-c', 'echo $0 ranks; exec \"$@\"', '{ntasks}', '{command}']\n");
    place.torc(&["run", "w.yaml"]).expect(0);
    assert_eq!(place.output("wf1_j1_r1_a1.o"), "1 ranks\njob\n");
    place.torc(&["config"]).expect(0).says("counted");
    // The workflow has it from then on.
    place.write("config.toml", "");
    place.torc(&["run", "w.yaml"]).expect(5).says("there is no plugin `counted`");
    place.write("config.toml", "[launchers]\ncounted = ['bash']\n");
    let ended = place.torc(&["run", "w.yaml"]).expect(5);
    ended.says("config.toml").says("a launcher needs the word `{command}`");
}

#[test]
fn what_a_template_gets_wrong_is_shown_in_its_place() {
    let job = "- {name: a, command: x}";
    let place = Place::with(&spec("launcher: {argv: [mpirun, '{ntask}', '{command}']}", job));
    let ended = place.torc(&["run", "w.yaml"]).expect(3);
    ended.says("a launcher knows no `{ntask}`").says("did you mean `{ntasks}`?").says("w.yaml:2:");
    place.write("w.yaml", spec("launcher: {argv: [mpirun]}", job));
    place.torc(&["validate", "w.yaml"]).expect(3).says("a launcher needs the word `{command}`");
    place.write("w.yaml", spec("launcher: ../evil", job));
    place.torc(&["validate", "w.yaml"]).expect(3).says("this cannot be the name of a plugin");
}

#[test]
fn a_plugin_that_cannot_be_used_is_told_before_anything_starts() {
    let place = Place::with(&spec("launcher: flux", "- {name: a, command: 'echo x > ran'}"));
    let ended = place.torc(&["run", "w.yaml"]).expect(5);
    ended.says("there is no plugin `flux`; looked for libtorc_flux.so and torc-plugin-flux in ");
    ended.says("/etc/torc/plugins.d");
    place.torc(&["run", "w.yaml", "--plugin-path", "here"]).expect(2).says("is relative");
    assert!(!place.join("ran").exists());
}

/// A workflow with the launcher `faulty`, which has this fault.
fn faulty(fault: &str) -> (Place, PluginFolder) {
    let jobs = "- {name: a, command: 'echo ran >> ran'}\n- {name: b, command: 'echo ran >> ran', depends_on: [a]}";
    let plugins = format!("\nplugins: [{{name: faulty, fault: {fault}}}]");
    let place = Place::with(&(spec("launcher: faulty", jobs) + &plugins));
    let folder = PluginFolder::of(&place);
    folder.take_example("faulty");
    (place, folder)
}

#[test]
fn a_plugin_starts_each_job() {
    let (place, _folder) = faulty("none");
    place.torc(&["run", "w.yaml"]).expect(0).says("2 completed");
    assert!(!place.join("ran").exists(), "it runs `true`, whatever the job says");
}

#[test]
fn a_faulty_launcher_fails_the_job_in_words_that_name_it() {
    for (fault, words) in [
        ("panics", "it panicked: a bug at call 1"),
        ("refuses", "a rank too many"),
        ("garbage", "its answer cannot be understood"),
        ("1 GB", "its answer cannot be understood: it has 1073741824 bytes"),
        ("gives up", "the licence has ended; it is not called any more"),
        ("hangs", "it did not return within 10000 ms; it is not called any more"),
    ] {
        let (place, _folder) = faulty(fault);
        place.torc(&["run", "w.yaml"]).expect(1).says("1 failed").says("1 canceled");
        let attempt = &place.attempts("a")[0];
        let reason = text(&attempt["outcome"], "reason").to_owned();
        let expected = format!("launcher `faulty` cannot start this step: {words}");
        assert!(reason.starts_with(&expected), "{fault}: {reason}");
        place.torc(&["status"]).expect(0).says("1 failed");
        place.torc(&["restart"]).expect(1).says("1 failed");
        let attempts = place.attempts("a");
        assert_eq!(attempts.len(), 2, "{fault}: it is tried again, and each time is known");
        assert_eq!(text(&attempts[1]["outcome"], "reason"), reason, "{fault}");
    }
    let (place, _folder) = faulty("open refuses");
    place.torc(&["run", "w.yaml"]).expect(5).says("plugin `faulty`: open: no such partition");
}

#[test]
fn a_launcher_that_takes_torc_along_costs_one_attempt() {
    let (place, _folder) = faulty("crashes");
    let ended = place.torc(&["run", "w.yaml"]);
    assert_eq!(ended.signal, Some(6), "{ended:?}");
    let spec = place.read("w.yaml").replace("fault: crashes", "fault: none");
    place.write("w.yaml", spec);
    place.torc(&["status"]).expect(0).says("interrupted");
    place.torc(&["run", "w.yaml"]).expect(0).says("2 completed");
}

#[test]
fn a_program_may_be_a_launcher_and_its_crash_costs_one_attempt() {
    let place = Place::with(&spec("launcher: told", "- {name: a, command: 'echo $MARK > ran'}"));
    let folder = PluginFolder::of(&place);
    let program = r#"#!/usr/bin/env python3
import json, os, sys
for line in sys.stdin:
    said = json.loads(line)
    answer = {"op": said["op"], "status": "ok"}
    if said["method"] == "describe":
        answer["result"] = {"name": "told", "version": "1", "abi": [1, 0], "interfaces": ["torc.launcher/1"]}
    elif said["method"] == "plan":
        step = said["request"]["step"]
        if step["id"]["job"] == 1 and not os.path.exists("FOLDER/crashed"):
            open("FOLDER/crashed", "w").close()
            os._exit(3)
        answer["result"] = {"argv": ["env"] + step["argv"], "env": {"MARK": "planned"}}
    print(json.dumps(answer), flush=True)
"#;
    let program = program.replace("FOLDER", place.path().to_str().expect("a path"));
    folder.write_program("told", &program);
    place.torc(&["run", "w.yaml"]).expect(1);
    let reason = text(&place.attempts("a")[0]["outcome"], "reason").to_owned();
    assert!(reason.ends_with("its process is gone: it exited with code 3"), "{reason}");
    place.torc(&["restart"]).expect(0).says("1 completed");
    assert_eq!(place.read("ran"), "planned\n");
}

#[test]
fn a_folder_that_workers_cannot_be_told_of_is_refused_where_there_will_be_some() {
    let jobs = "- {name: a, command: 'true', resource_requirements: one}";
    let place = Place::with(&spec("launcher: faulty", jobs));
    let folder = PluginFolder::beside(&place);
    let library = folder.take_example("faulty");
    let odd = folder.path().join("of:site");
    std::fs::create_dir(&odd).expect("it is made");
    std::fs::rename(&library, odd.join("libtorc_faulty.so")).expect("it is moved");
    let odd = odd.to_str().expect("it is text");
    place.torc(&["run", "w.yaml", "--plugin-path", odd]).expect(0).says("1 completed");
    let ended = place.torc(&["submit", "w.yaml", "--plugin-path", odd]).expect(2);
    ended.says("cannot be told of the folder of plugins").says("of:site");
    ended.says("TORC_PLUGIN_PATH has colons between folders");
    assert!(place.json(&["status"])["id"] == 1, "it was not submitted");
}

#[test]
fn a_program_that_answers_twice_is_heard_once() {
    let place = Place::with(&spec(
        "launcher: twice",
        "- {name: a, command: 'echo a >> ran'}\n- {name: b, command: 'echo b >> ran', depends_on: [a]}",
    ));
    let folder = PluginFolder::of(&place);
    let program = r#"#!/usr/bin/env python3
import json, sys
for line in sys.stdin:
    said = json.loads(line)
    answer = {"op": said["op"], "status": "ok"}
    if said["method"] == "describe":
        answer["result"] = {"name": "twice", "version": "1", "abi": [1, 0], "interfaces": ["torc.launcher/1"]}
    elif said["method"] == "plan":
        answer["result"] = {"argv": said["request"]["step"]["argv"]}
    print(json.dumps(answer), flush=True)
    answer["result"] = {"argv": ["touch", "FOLDER/again"]}
    print(json.dumps(answer), flush=True)
"#;
    let program = program.replace("FOLDER", place.path().to_str().expect("a path"));
    folder.write_program("twice", &program);
    place.torc(&["run", "w.yaml"]).expect(0).says("2 completed");
    assert_eq!(place.lines("ran"), ["a", "b"]);
    assert!(!place.join("again").exists(), "the second answer is nothing");
}
