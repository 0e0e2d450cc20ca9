//! `torc serve` as people and systems meet it, where no Slurm is needed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use torc_tests::{Ended, Place, Started, not_run_here};

#[test]
fn a_server_begins_answers_and_ends_when_told() {
    let place = Place::new();
    place.torc(&["serve", "--stop"]).expect(0).says("no server runs");
    let server = place.serve();
    place.torc(&["status"]).expect(2).says("there is no torc state");
    place.torc(&["serve", "--stop"]).expect(0).says("the server has ended");
    server.wait().expect(0);
    assert!(!place.join("torc_output/server.json").exists(), "it takes its note along");
}

#[test]
fn one_server_owns_a_state_directory() {
    let place = Place::with("name: w\njobs: [{name: a, command: 'true'}]");
    let server = place.serve();
    place.torc(&["serve"]).expect(5).says("is in use by another torc (process ");
    place.run(&[]).expect(5).says("is in use by another torc");
    server.signal(nix::sys::signal::Signal::SIGTERM);
    server.wait().expect(0);
    place.run(&[]).expect(0);
}

#[test]
fn those_who_look_are_never_in_the_way_of_a_server_that_begins() {
    let place = Place::with("name: w\njobs: [{name: a, command: 'true'}]");
    place.run(&[]).expect(0);
    for _ in 0..20 {
        let lookers = [(); 5].map(|()| place.start(&["status"]));
        place.torc(&["serve", "--idle-exit", "1ms"]).expect(0).says("nothing to do");
        for looker in lookers {
            looker.wait().expect(0).says("1 completed");
        }
    }
}

#[test]
fn another_server_takes_over_when_asked_to() {
    let place = Place::new();
    let first = place.serve();
    let mut second = place.start(&["serve", "--takeover", "--idle-exit", "0s"]);
    second.wait_until_it_says("serving");
    first.wait().expect(0);
    place.torc(&["serve", "--stop"]).expect(0).says("the server has ended");
    second.wait().expect(0);
}

#[test]
fn a_killed_server_leaves_the_directory_to_the_next() {
    let place = Place::new();
    place.serve().kill();
    let next = place.serve();
    place.torc(&["serve", "--stop"]).expect(0);
    next.wait().expect(0);
}

#[test]
fn a_server_without_work_ends() {
    let place = Place::new();
    place.torc(&["serve", "--idle-exit", "100ms"]).expect(0).says("nothing to do");
}

#[test]
fn what_a_server_keeps_is_its_users_alone() {
    let place = Place::new();
    let server = place.serve();
    for name in ["torc.db", "server.json", "server.key.json"] {
        let mode = fs::metadata(place.join("torc_output").join(name)).expect("it is there");
        assert_eq!(mode.permissions().mode() & 0o777, 0o600, "{name}");
    }
    if nix::unistd::geteuid().is_root() {
        another_user_gets_nothing(&place);
    } else {
        not_run_here("another user at a server's state directory (this is not root)");
    }
    place.torc(&["serve", "--stop"]).expect(0);
    server.wait().expect(0);
}

fn another_user_gets_nothing(place: &Place) {
    place.write("w.yaml", "name: w\njobs: [{name: a, command: 'touch never'}]");
    for args in [
        &["status"][..],
        &["cancel"],
        &["submit", "w.yaml", "--account", "a"],
        &["run", "w.yaml"],
        &["serve", "--stop"],
        &["serve", "--takeover"],
    ] {
        let ended = place.torc_of_another_user(args);
        assert!(ended.code != Some(0) || args == ["serve", "--stop"], "{args:?}: {ended:?}");
        ended.does_not_say("has ended").does_not_say("workflow 1");
    }
    place.torc(&["doctor"]).says("answers");
    place.torc(&["status"]).expect(2).says("there is no torc state");
    assert!(!place.join("never").exists(), "nothing was run");
}

#[test]
fn settings_say_where_they_come_from() {
    let place = Place::new();
    place.write("config.toml", "[slurm]\nmax_pending = 3\n");
    place.set_env([("TORC_SERVER_PORT".to_owned(), "7777".to_owned())]);
    let ended = place.torc(&["config"]).expect(0);
    ended.says("config.toml").says("the variable TORC_SERVER_PORT").says("built in");
    let origin = |args: &[&str], setting: &str| {
        let rows = place.json(&[&["config"], args].concat());
        let row = rows.as_array().unwrap().iter().find(|row| row["setting"] == setting);
        let word = |field: &str| row.unwrap()[field].as_str().unwrap().to_owned();
        (word("value"), word("origin"))
    };
    let default = place.join("torc_output").display().to_string();
    assert_eq!(origin(&[], "output_dir"), (default, "built in".to_owned()));
    assert_eq!(origin(&[], "log").1, "built in");
    place.set_env([("TORC_OUTPUT_DIR", "/x"), ("TORC_LOG", "debug")].map(owned));
    let said = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());
    assert_eq!(origin(&[], "output_dir"), said("/x", "the variable TORC_OUTPUT_DIR"));
    assert_eq!(origin(&[], "log"), said("debug", "the variable TORC_LOG"));
    let option = said("/y", "the option --output-dir");
    assert_eq!(origin(&["--output-dir", "/y"], "output_dir"), option);
    place.write("config.toml", "[slurm]\nmax_pendin = 3\n");
    place.torc(&["config"]).expect(5).says("max_pendin");
}

#[test]
fn an_explanation_is_of_a_job_or_of_an_allocation() {
    let jobs = "[{name: a, command: exit 3}, {name: b, command: x, depends_on: [a]}]";
    let place = Place::with(&format!("name: w\njobs: {jobs}"));
    place.run(&[]).expect(1);
    place.torc(&["explain", "a"]).expect(0).says(", code 3").says("  it used 0.");
    let canceled = place.torc(&["explain", "b"]).expect(0);
    canceled.says("job `b` is canceled\n  it depends on a, and did not run\n");
    place.torc(&["explain"]).expect(2).says("<JOB>");
    place.torc(&["explain", "a", "--allocation", "1"]).expect(2).says("cannot be used with");
    place.torc(&["explain", "--allocation", "7"]).expect(2).says("there is no allocation 7");
    assert_eq!(place.json(&["explain", "a"])["queue"], serde_json::json!([]));
    place.torc(&["explain", "--allocation", "1"]).expect(0).says("of this machine is ended since ");
    place.torc(&["nodes"]).expect(0).says("no nodes now");
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn a_second_owner_of_a_database_is_refused_in_another_process() {
    let place = Place::new();
    place.torc(&["doctor"]).says("file system").does_not_say("locks");
    assert!(!place.join("torc_output").exists(), "nothing is left behind");
    let server = place.serve();
    assert_eq!(place.torc(&["doctor", "second-owner"]).expect(0).stdout, "\"refused\"\n");
    place.torc(&["serve", "--stop"]).expect(0);
    server.wait().expect(0);
    assert_eq!(place.torc(&["doctor", "second-owner"]).expect(0).stdout, "\"owned\"\n");
}

/// Locks that are given to everybody, as some network file systems do.
const NO_LOCKS: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
static int own(const char *name, int fd, int cmd, void *arg) {
    if (cmd == F_SETLK || cmd == F_SETLKW || cmd == F_OFD_SETLK) return 0;
    if (cmd == F_GETLK || cmd == F_OFD_GETLK) { ((struct flock *)arg)->l_type = F_UNLCK; return 0; }
    int (*real)(int, int, ...) = (int (*)(int, int, ...))dlsym(RTLD_NEXT, name);
    return real(fd, cmd, arg);
}
int fcntl(int fd, int cmd, ...) {
    va_list list; va_start(list, cmd); void *arg = va_arg(list, void *); va_end(list);
    return own("fcntl", fd, cmd, arg);
}
int fcntl64(int fd, int cmd, ...) {
    va_list list; va_start(list, cmd); void *arg = va_arg(list, void *); va_end(list);
    return own("fcntl64", fd, cmd, arg);
}
"#;

#[test]
fn locks_without_effect_are_found_out() {
    let place = Place::new();
    place.write("locks.c", NO_LOCKS);
    let args = ["-shared", "-fPIC", "-o", "locks.so", "locks.c", "-ldl"];
    // What torc is built with needs a C compiler, too.
    let built = Command::new("cc").args(args).current_dir(place.path()).status();
    if !built.is_ok_and(|status| status.success()) {
        return not_run_here("a file system without locks (no C compiler to pretend one)");
    }
    let mut command = place.command(&["doctor", "--format", "json"]);
    command.env("LD_PRELOAD", place.join("locks.so"));
    let ended = Started::start(command).wait().expect(5);
    ended.says("locks have no effect on this file system");
}

/// A folder with programs of Slurm's names that say this.
fn pretended_slurm(place: &Place, programs: &[(&str, &str)]) {
    let folder = place.join("slurm");
    fs::create_dir(&folder).expect("it is new");
    for (name, script) in programs {
        let path = folder.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("it is written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    }
    let folder = folder.display().to_string();
    place.set_env([("TORC_SLURM_PROGRAMS", folder.as_str())].map(owned));
}

#[test]
fn what_a_node_misses_is_told_apart() {
    let check = |srun: &str, expected: &[&str]| {
        let place = Place::new();
        let version = "echo slurm 23.11.4";
        let fails = "echo away >&2; exit 1";
        let others = [("sinfo", fails), ("sacct", fails), ("scontrol", fails)];
        pretended_slurm(&place, &[&others[..], &[("sbatch", version), ("srun", srun)]].concat());
        let ended = place.torc(&["doctor", "--probe"]).expect(5);
        for words in expected {
            ended.says(words);
        }
    };
    check(
        r#"echo Welcome; echo '{"host": "n1", "at": 0, "folder": {"usable": "refused"},
            "reached": null, "refused": [["h:1", "no answer"]]}' | tr -d '\n'"#,
        &[
            "n1 did not reach this host (h:1: no answer)",
            "a firewall may keep compute nodes",
            "what n1 wrote below",
            "s apart from that of n1",
            "synchronise the clocks",
        ],
    );
    check(
        r#"echo '{"host": "n1", "at": 0, "folder": {"usable": "owned"}, "reached": "127.0.0.1:9",
            "refused": []}' | tr -d '\n'
            for word do case $word in */doctor-*) : > "$word/from-node" ;; esac; done"#,
        &["127.0.0.1:9: somebody else answers", "locks of this host are nothing to it"],
    );
    check(
        "echo 'slurmstepd: error: execve(): torc: No such file or directory' >&2; exit 2",
        &["execve()", "torc must lie where compute nodes see it"],
    );
    check("echo hello", &["what the job said cannot be understood: hello"]);
}

#[test]
fn without_slurm_a_submission_says_what_to_do() {
    let place = Place::with(
        "name: w
slurm_schedulers: [{name: s, account: a}]
actions: [{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: s}]
jobs: [{name: a, command: 'true'}]",
    );
    place.torc(&["slurm", "script", "w.yaml"]).expect(0).says("#SBATCH --account=a");
    let scripts = place.json(&["slurm", "script", "w.yaml"]);
    let fields: Vec<&String> = scripts[0].as_object().expect("a script").keys().collect();
    assert_eq!(fields, ["scheduler", "allocations", "is_following", "args", "script"]);
    assert_eq!(place.json(&["submit", "w.yaml", "--dry-run"]), scripts);
    let bare = Place::with("name: w\njobs: [{name: a, command: 'true'}]");
    bare.set_env([("PATH".to_owned(), "/nowhere".to_owned())]);
    bare.torc(&["submit", "w.yaml", "--account", "a"]).expect(5).says("torc doctor");
    bare.torc(&["doctor"]).expect(5).says("cannot find `sbatch`");
}

/// The worker of an allocation that nobody has.
fn worker(place: &Place) -> Ended {
    place.set_env([("SLURM_JOB_ID".to_owned(), "7".to_owned())]);
    place.torc(&["worker", "--workflow", "1", "--allocation", "1"])
}

#[test]
fn a_worker_finds_slurm_where_the_settings_of_the_submission_say() {
    let place = Place::new();
    fs::create_dir(place.join("slurm")).expect("a folder");
    place.write("slurm/srun", "#!/bin/sh\necho slurm 19.05.0\n");
    fs::set_permissions(place.join("slurm/srun"), fs::Permissions::from_mode(0o755)).expect("done");
    let folder = place.join("slurm").display().to_string();
    place.write("config.toml", format!("slurm.programs = '{folder}'\n"));
    worker(&place).expect(5).says("this is Slurm 19.05.0");
    fs::remove_file(place.join("config.toml")).expect("it was there");
    place.set_env([("TORC_SLURM_PROGRAMS".to_owned(), folder)]);
    worker(&place).expect(5).says("this is Slurm 19.05.0");
}

#[test]
fn a_worker_whose_settings_cannot_be_used_looks_in_path() {
    let place = Place::new();
    place.write("config.toml", "nonsense");
    place.set_env([("PATH".to_owned(), "/nowhere".to_owned())]);
    worker(&place).expect(5).says("config.toml: ").says("looked for in PATH").says("/nowhere");
}

#[test]
fn a_scheduler_that_nobody_has_is_named_at_submission() {
    let place = Place::with(
        "name: w
schedulers: [{name: here, type: pbs}, {name: wide, type: pbs, nodes: 2}]
actions: [{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: here, scheduler_type: pbs}]
jobs: [{name: a, command: 'true', scheduler: here}]",
    );
    let refused = place.torc(&["submit", "w.yaml"]).expect(5);
    refused.says("scheduler `here`: there is no plugin `pbs`; looked for libtorc_pbs.so");
    place.torc(&["serve", "--stop"]).expect(0);
}
