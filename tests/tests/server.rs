//! `torc serve` as people and systems meet it, where no Slurm is needed.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use torc_tests::{Place, not_run_here};

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
    place.write("config.toml", "[slurm]\nmax_pendin = 3\n");
    place.torc(&["config"]).expect(5).says("max_pendin");
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
    let bare = Place::with("name: w\njobs: [{name: a, command: 'true'}]");
    bare.set_env([("PATH".to_owned(), "/nowhere".to_owned())]);
    bare.torc(&["submit", "w.yaml", "--account", "a"]).expect(5).says("torc doctor");
    bare.torc(&["doctor"]).expect(5).says("cannot find `sbatch`");
}
