//! What is around torc is broken: state directories, databases, disks, socket folders.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use nix::sys::signal::Signal;
use torc_tests::{Place, Started, not_run_here};

const ONE_JOB: &str = "name: w\njobs: [{name: a, command: touch ran}]";

#[test]
fn a_state_directory_that_cannot_be_made_or_written_is_said_so() {
    let place = Place::with(ONE_JOB);
    place.write("file", "");
    for dir in ["file", "file/below", "/proc/torc", "/proc/self/fd"] {
        let ended = place.torc(&["run", "w.yaml", "--output-dir", dir]).expect(5);
        ended.says("cannot write").says(dir).says("--output-dir");
    }
    assert!(!place.join("ran").exists());
    assert_eq!(place.read("file"), "");
}

#[test]
fn a_read_only_state_directory_can_be_looked_at_and_not_run_in() {
    let place = Place::with(ONE_JOB);
    place.run(&[]).expect(0);
    // Root may write everywhere, but not to what is mounted to be read only.
    let script = "mount --bind torc_output torc_output && mount -o remount,bind,ro torc_output \
                  && \"$0\" status && \"$0\" results && exec \"$0\" run w.yaml";
    let Some(command) = in_own_mounts(&place, script) else { return };
    let ended = Started::start(command).wait().expect(5);
    ended.says("run 1: ended").says("wf1_j1_r1_a1").says("cannot write").says("torc_output");
}

/// A command in a mount namespace of its own, where this is possible; `$0` is torc.
fn in_own_mounts(place: &Place, script: &str) -> Option<Command> {
    let options: &[&str] = if nix::unistd::geteuid().is_root() { &["-m"] } else { &["-rm"] };
    let mut probe = Command::new("unshare");
    probe.args(options).args(["mount", "-t", "tmpfs", "none", "/mnt"]);
    if !probe.output().is_ok_and(|output| output.status.success()) {
        not_run_here("full and read-only disks: this user may not mount file systems");
        return None;
    }
    let mut command = Command::new("unshare");
    place.prepare(&mut command);
    command.args(options).args(["bash", "-c", script]).arg(torc_tests::torc());
    Some(command)
}

#[test]
fn on_a_full_disk_torc_waits_for_space_and_loses_nothing() {
    let place = Place::with(
        r#"
name: w
execution_config: {stdio: {mode: none}}
jobs:
  - {name: fill, priority: 9, command: "cat /dev/zero > torc_output/ballast; echo full > said; read < go; rm torc_output/ballast"}
  - {name: "n{i}", command: "true", parameters: {i: "1:60"}}"#,
    );
    fs::create_dir(place.join("torc_output")).unwrap();
    place.gate("go");
    let mut said = place.fifo("said");
    let script =
        "mount -t tmpfs -o size=3m none torc_output && exec \"$0\" run w.yaml --num-cpus 2";
    let Some(command) = in_own_mounts(&place, script) else { return };
    let mut run = Started::start(command);
    assert_eq!(said.line(), "full");
    run.wait_until_it_says("no space is left for");
    place.open_gate("go", 1);
    run.wait_until_it_says("there is space again; going on");
    run.wait().expect(0).says("61 completed");
}

#[test]
fn ctrl_c_ends_the_waiting_on_a_full_disk_and_a_restart_goes_on() {
    let place = Place::with(
        r#"
name: w
execution_config: {stdio: {mode: none}}
jobs:
  - {name: fill, priority: 9, command: "test -e again || { cat /dev/zero > torc_output/ballast; echo full > said; read < go; }"}
  - {name: "n{i}", command: "true", parameters: {i: "1:60"}}"#,
    );
    fs::create_dir(place.join("torc_output")).unwrap();
    place.gate("go");
    let mut said = place.fifo("said");
    let script = "mount -t tmpfs -o size=3m none torc_output; touch mounted
        trap '' INT
        (trap - INT; exec \"$0\" run w.yaml --num-cpus 2) & torc=$!
        echo torc $torc >&2
        wait $torc; echo first $? >&2
        rm torc_output/ballast; touch again
        exec \"$0\" restart --num-cpus 2";
    let Some(command) = in_own_mounts(&place, script) else { return };
    let mut run = Started::start(command);
    let line = run.wait_until_it_says("torc ");
    let pid = line.trim().rsplit(' ').next().unwrap().parse().unwrap();
    assert_eq!(said.line(), "full");
    run.wait_until_it_says("no space is left for");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    run.wait_until_it_says("`torc restart` goes on");
    run.wait().expect(0).says("61 completed");
}

#[test]
fn a_disk_that_is_full_from_the_start_is_said_so() {
    let place = Place::with(ONE_JOB);
    fs::create_dir(place.join("torc_output")).unwrap();
    let script =
        "mount -t tmpfs -o size=64k none torc_output; cat /dev/zero > torc_output/ballast 2> err
        exec \"$0\" run w.yaml";
    let Some(command) = in_own_mounts(&place, script) else { return };
    Started::start(command).wait().expect(5).says("space").says("torc_output");
}

#[test]
fn a_damaged_database_is_named_and_left_as_it_is() {
    let place = Place::with(ONE_JOB);
    place.run(&[]).expect(0);
    let good = fs::read(place.join("torc_output/torc.db")).unwrap();
    let mut scribbled = good.clone();
    for byte in scribbled.iter_mut().skip(4096).step_by(3) {
        *byte ^= 0x5a;
    }
    for bad in [b"garbage, not a database ".repeat(500), good[..good.len() / 2].to_vec(), scribbled]
    {
        fs::write(place.join("torc_output/torc.db"), &bad).unwrap();
        for args in [&["run", "w.yaml"] as &[&str], &["restart"], &["status"], &["results"]] {
            let ended = place.torc(args).expect(5);
            ended.says("torc_output/torc.db is damaged").says("move it away");
        }
        assert!(
            fs::read(place.join("torc_output/torc.db")).unwrap() == bad,
            "it is left as it was"
        );
    }
}

#[test]
fn a_database_of_a_newer_torc_is_refused_and_left_as_it_is() {
    let place = Place::with(ONE_JOB);
    place.run(&[]).expect(0);
    let bump = "import sqlite3; db = sqlite3.connect('torc_output/torc.db'); \
        db.execute(\"INSERT INTO _sqlx_migrations SELECT 999, description, installed_on, success, \
        checksum, execution_time FROM _sqlx_migrations LIMIT 1\"); db.commit()";
    let bumped = Command::new("python3").args(["-c", bump]).current_dir(place.path()).status();
    assert!(bumped.unwrap().success());
    for args in [&["run", "w.yaml"] as &[&str], &["restart"], &["status"], &["cancel"]] {
        place.torc(args).expect(5).says("was written by a newer torc (schema 999");
    }
}

#[test]
fn the_database_is_readable_by_its_user_only() {
    let place = Place::with(ONE_JOB);
    place.run(&[]).expect(0);
    let mode = fs::metadata(place.join("torc_output/torc.db")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn two_runs_that_race_for_a_state_directory_do_not_disturb_each_other() {
    let place = Place::with(
        "name: w\njobs: [{name: 'n{i}', command: echo >> ran, parameters: {i: '1:20'}}]",
    );
    for _ in 0..3 {
        place.write("ran", "");
        let racers: Vec<Started> = (0..4).map(|_| place.start_run(&["--new"])).collect();
        let ended: Vec<_> = racers.into_iter().map(Started::wait).collect();
        let winners = ended.iter().filter(|ended| ended.code == Some(0)).count();
        assert!(winners > 0, "{ended:#?}");
        for loser in ended.iter().filter(|ended| ended.code != Some(0)) {
            assert_eq!(loser.code, Some(5), "{loser:#?}");
            loser.says("is in use by").says("--output-dir");
        }
        assert_eq!(place.lines("ran").len(), 20 * winners);
    }
}

#[test]
fn a_socket_folder_that_others_could_enter_is_not_used() {
    let place = Place::with("name: w\njobs: [{name: a, command: cp torc_output/server.json note}]");
    let runtime = place.join("runtime");
    let socket_beside = |folder: &std::path::Path| {
        let mut command = place.command(&["run", "w.yaml", "--new"]);
        command.env("XDG_RUNTIME_DIR", folder);
        Started::start(command).wait().expect(0);
        place.read("note").contains(&*runtime.to_string_lossy())
    };
    fs::create_dir_all(runtime.join("torc")).unwrap();
    fs::set_permissions(runtime.join("torc"), fs::Permissions::from_mode(0o777)).unwrap();
    assert!(!socket_beside(&runtime), "anybody could enter it");
    fs::remove_dir(runtime.join("torc")).unwrap();
    std::os::unix::fs::symlink("/tmp", runtime.join("torc")).unwrap();
    assert!(!socket_beside(&runtime), "it leads elsewhere");
    fs::remove_file(runtime.join("torc")).unwrap();
    place.write("runtime/torc", "");
    assert!(!socket_beside(&runtime), "it is a file");
    fs::remove_file(runtime.join("torc")).unwrap();
    assert!(socket_beside(&runtime));
    assert!(!socket_beside(&place.join("absent")));
}

#[test]
fn a_note_that_leads_to_another_run_is_not_believed() {
    let live = Place::with("name: w\njobs: [{name: a, command: 'echo > holds; read < go'}]");
    let mut holds = live.fifo("holds");
    live.gate("go");
    let run = live.start_run(&[]);
    holds.line();
    let victim = Place::with(ONE_JOB);
    victim.run(&[]).expect(0);
    fs::copy(live.join("torc_output/server.json"), victim.join("torc_output/server.json")).unwrap();
    let note =
        victim.read("torc_output/server.json").replace("\"instance\":\"", "\"instance\":\"x");
    victim.write("torc_output/server.json", note);
    victim
        .torc(&["cancel"])
        .expect(0)
        .says("nothing to cancel: no job of the workflow waits or runs");
    victim.torc(&["status"]).expect(0).says("1 completed");
    live.open_gate("go", 1);
    run.wait().expect(0);
}

#[test]
fn references_that_lead_nowhere_in_a_database_are_damage() {
    let place = Place::with(ONE_JOB);
    place.run(&[]).expect(0);
    for change in [
        r#"UPDATE job_chunk SET jobs = replace(jobs, '"n":"', '"f":{"input_files":[77]},"n":"')"#,
        r#"UPDATE log SET events = replace(events, '"reset":[[1,1]]', '"reset":[[1,4294967295]]')"#,
    ] {
        fs::copy(place.join("torc_output/torc.db"), place.join("intact.db")).unwrap();
        let script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); \
            n = c.execute(sys.argv[2]).rowcount; c.commit(); c.close(); sys.exit(n < 1)";
        let changed = Command::new("python3")
            .args(["-c", script])
            .arg(place.join("torc_output/torc.db"))
            .arg(change)
            .status();
        assert!(changed.unwrap().success());
        place.torc(&["status"]).expect(5).says("is damaged");
        place.torc(&["restart"]).expect(5).says("is damaged");
        fs::rename(place.join("intact.db"), place.join("torc_output/torc.db")).unwrap();
    }
    place.torc(&["status"]).expect(0);
}

#[test]
fn a_missing_command_is_the_jobs_own_failure() {
    let place = Place::with(
        "name: w\njobs: [{name: a, command: no-such-program-anywhere}, {name: b, command: ./w.yaml}]",
    );
    let ended = place.run(&[]).expect(1);
    ended.says("a failed code 127").says("command not found").says("b failed code 126");
}

#[test]
fn without_bash_the_job_could_not_be_launched() {
    let place = Place::with(ONE_JOB);
    let mut command = place.command(&["run", "w.yaml"]);
    command.env("PATH", "/nonexistent");
    Started::start(command).wait().expect(1).says("executing it failed").says("bash");
    assert_eq!(place.attempts("a")[0]["outcome"]["stage"], "execute");
}

#[test]
fn a_working_folder_that_is_gone_is_the_reason_given() {
    let place = Place::with(
        "name: w\njobs: [{name: a, command: 'rmdir \"$PWD\"'}, {name: b, command: 'true', depends_on: [a]}]",
    );
    fs::create_dir(place.join("here")).unwrap();
    let spec = place.join("w.yaml");
    let output = place.join("torc_output");
    let mut command =
        place.command(&["run", &spec.to_string_lossy(), "--output-dir", &output.to_string_lossy()]);
    command.current_dir(place.join("here"));
    Started::start(command).wait().expect(1).says("entering its working folder failed");
}
