//! The conformance kit as plugin authors meet it: `torc plugin check` finds each kind of fault, names the check and the
//! plugin, and one check that crashes or hangs costs no other.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use torc_tests::{Ended, GridEngine, Place, PluginFolder, checkout, not_run_here};

struct Site {
    place: Place,
    plugins: PluginFolder,
}

impl Site {
    fn new() -> Self {
        let place = Place::new();
        let plugins = PluginFolder::of(&place);
        Self { place, plugins }
    }

    /// A program of the kit's fixtures, with a part of its text replaced.
    fn write_fixture(&self, name: &str, right: &str, wrong: &str) {
        let file = checkout().join(format!("torc-plugins/kit/fixtures/{name}.py"));
        let program = fs::read_to_string(file).expect("it is in the checkout");
        assert!(program.contains(right), "{right}");
        self.plugins.write_program(name, &program.replacen(right, wrong, 1));
    }

    #[track_caller]
    fn check(&self, plugin: &str, more: &[&str]) -> Ended {
        let args = [&["plugin", "check", plugin, "--format", "json"], more].concat();
        self.place.torc(&args)
    }

    /// The rows of the kit: of each the check, the verdict, and what was found.
    #[track_caller]
    fn kit(&self, plugin: &str, more: &[&str], exit: i32) -> Vec<(String, String, String)> {
        let rows = self.check(plugin, more).expect(exit).json();
        let text = |row: &Value, field: &str| row[field].as_str().expect("text").to_owned();
        let rows = rows
            .as_array()
            .expect("a list")
            .iter()
            .map(|row| (text(row, "check"), text(row, "verdict"), text(row, "found")));
        rows.filter(|(check, ..)| check.contains('.') || check.contains(" refuses ")).collect()
    }

    /// One check has failed, for this reason.
    #[track_caller]
    fn assert_found(&self, plugin: &str, more: &[&str], check: &str, words: &str) {
        let rows = self.kit(plugin, &[&["--only", check], more].concat(), 1);
        let [(name, verdict, found)] = &rows[..] else { panic!("{rows:#?}") };
        assert_eq!((name.as_str(), verdict.as_str()), (check, "failed"), "{found}");
        let named = format!("plugin `{plugin}`: ");
        assert!(found.starts_with(&named) && found.contains(words), "{found}");
    }
}

fn failed(rows: &[(String, String, String)]) -> Vec<(&str, &str)> {
    let failed = rows.iter().filter(|(_, verdict, _)| verdict == "failed");
    failed.map(|(check, _, found)| (check.as_str(), found.as_str())).collect()
}

#[test]
fn a_crash_and_a_hang_cost_a_check_each() {
    let site = Site::new();
    site.plugins.take_example("brittle");
    let names = ["simple_step", "argv_arrives_whole", "program_can_be_found", "many_threads"];
    let names = names.map(|name| format!("launcher.{name}"));
    let only: Vec<&str> = names.iter().flat_map(|name| ["--only", name]).collect();
    let settings = json!({"crash_at": "two\nlines", "hang_at": "/bin/program"}).to_string();
    let rows = site.kit("brittle", &[&["--settings", &settings], &only[..]].concat(), 1);
    assert_eq!(rows.len(), 4, "{rows:#?}");
    let hang = "plugin `brittle`: expected a plan or a refusal; saw: it did not return within 10000 ms; it is not called \
                any more";
    assert_eq!(
        failed(&rows),
        [
            ("launcher.argv_arrives_whole", "plugin `brittle`: its probe was ended by signal 6"),
            ("launcher.program_can_be_found", hang),
        ]
    );
}

#[test]
fn faults_of_launchers_are_found() {
    let site = Site::new();
    let plan =
        "return {\"argv\": [\"mpirun\", \"-n\", str(len(step[\"nodes\"]))] + step[\"argv\"]}";
    let check = |wrong: &str, check: &str, words: &str| {
        site.write_fixture("here", plan, wrong);
        site.assert_found("here", &[], &format!("launcher.{check}"), words);
    };
    check(
        "raise ValueError('no')",
        "simple_step",
        "the refusal \"launcher `here` cannot start this step: no\"",
    );
    check("return {'argv': [word for word in step['argv'] if word]}", "argv_arrives_whole", "\"\"");
    check("return {'argv': ['./run'] + step['argv']}", "program_can_be_found", "\"./run\"");
    check(
        "return {'argv': step['argv'], 'files': [['../hosts', '']]}",
        "files_stay_inside",
        "../hosts",
    );
    check(
        "return {'argv': [str(time.time())] + step['argv']}",
        "same_step_same_plan",
        "the second plan",
    );
    check("return 7", "any_number_of_ranks", "its answer cannot be understood");
    check("os._exit(7)", "many_threads", "its process is gone: it exited with code 7");
}

#[test]
fn faults_of_executors_are_found() {
    let site = Site::new();
    let check = |right: &str, wrong: &str, check: &str, words: &str| {
        site.write_fixture("here", right, wrong);
        site.assert_found("here", &[], &format!("executor.{check}"), words);
    };
    check(
        "\"code\": status}\n\n\ndef later",
        "\"code\": 0}\n\n\ndef later",
        "exit_codes",
        "Exited",
    );
    check("cwd=step[\"working_dir\"]", "cwd=\"/\"", "working_folder", "expected");
    check(
        "start_new_session=True",
        "start_new_session=True, pipesize=7, nothing=1",
        "success",
        "expected",
    );
    check(
        "    if run:\n        run.stop",
        "    if run:\n        os._exit(3)\n        run.stop",
        "kill",
        "after Kill to be Cancelled; saw Lost",
    );
    check("\"cores\": [0]", "\"cores\": [0, 0]", "inventory", "expected");
}

#[test]
fn schedulers_are_asked_for_allocations_only_where_that_is_wished() {
    let site = Site::new();
    site.write_fixture("queue", "", "");
    let asked = site.check("queue", &[]).expect(0);
    asked.says("warning: 9 checks were left out, which ask for real allocations");
    let rows = site.kit("queue", &["--only", "scheduler.cancelled"], 0);
    assert_eq!((rows.len(), &*rows[0].1), (1, "left_out"), "{rows:#?}");
    assert!(rows[0].2.contains("--submit"), "{rows:#?}");
    let rows = site.kit("queue", &["--submit"], 0);
    let left: Vec<&str> =
        rows.iter().filter(|(_, verdict, _)| verdict == "left_out").map(|row| &*row.0).collect();
    assert_eq!(left, ["scheduler.unknown", "scheduler.refused"], "{rows:#?}");
    let left = fs::read_dir(site.place.path()).expect("a folder");
    let left = left.filter(|entry| {
        let name = entry.as_ref().expect("an entry").file_name();
        name.to_string_lossy().starts_with("torc-plugin-check")
    });
    assert_eq!(left.count(), 0, "what the allocations wrote is removed");
}

#[test]
fn faults_of_schedulers_are_found() {
    let site = Site::new();
    let check = |right: &str, wrong: &str, check: &str, words: &str| {
        site.write_fixture("queue", right, wrong);
        let settings = "--submit={\"partition\": \"short\"}";
        site.assert_found("queue", &[settings], &format!("scheduler.{check}"), words);
    };
    check("umask=mask", "umask=0", "surroundings", "0027");
    check("\"completed\" if", "\"completed\" if True or", "failing_command", "to have failed");
    check("one.key == key", "one.key.startswith(key)", "found_by_its_key", "part of a key");
    check("os.killpg(self.process.pid, signal.SIGKILL)", "return", "cancelled", "no sign of life");
    check("after.look() is not None", "True", "after_another", "before the other ended");
    check("return name\n", "sys.exit(9)\n", "command_runs", "it exited with code 9");
    check("\"unknown\",\n    \"submit\"", "{\"known\": []},\n    \"submit\"", "shapes", "saw none");
    let request = "granted[name] = Allocation(request[\"request\"], request[\"key\"])";
    let own =
        format!("assert request['request']['settings'] == {{'partition': 'long'}}\n    {request}");
    check(request, &own, "observed_in_order", "expected");
}

#[test]
fn faults_of_placers_are_found() {
    let site = Site::new();
    site.plugins.take_example("faulty_placer");
    let check = |fault: &str, check: &str, words: &str| {
        let good_plans = if fault == "cannot explain" { 1000 } else { 0 };
        let settings = json!({ "fault": fault, "after": good_plans }).to_string();
        site.assert_found(
            "faulty_placer",
            &["--settings", &settings],
            &format!("placer.{check}"),
            words,
        );
    };
    check("oversubscribes", "no_oversubscription", "case");
    check("unknown job", "starts_who_waits", "999");
    check("more than may start", "limit_is_kept", "case");
    check("idle", "nobody_waits_who_may_start", "case");
    check("panics", "walltime_is_kept", "saw: plan: it panicked: a bug in a plan");
    check("garbage", "limit_is_kept", "saw: plan: its answer cannot be understood");
    check("cannot explain", "every_wait_has_a_cause", "saw: explain: it does not know this method");
    check("crashes", "same_input_same_plan", "its probe was ended by signal 6");
    let without = ["--only", "placer.limit_is_kept", "--without", "placer.limit_is_kept"];
    let rows = site.kit("faulty_placer", &without, 0);
    assert_eq!((&*rows[0].1, &*rows[0].2), ("left_out", "as --without says"));
    site.check("faulty_placer", &["--only", "placer.nothing"]).expect(2).says("no such check");
}

#[test]
fn requests_that_cannot_be_read_have_to_be_refused() {
    let site = Site::new();
    let check = |plugin: &str, settings: &Value, words: &str| {
        let settings = settings.to_string();
        let rows = site.kit(plugin, &["--settings", &settings], 1);
        let found = failed(&rows)
            .into_iter()
            .find(|(check, _)| check.ends_with(" refuses what it cannot read"));
        let (_, found) = found.unwrap_or_else(|| panic!("{rows:#?}"));
        assert!(
            found.starts_with(&format!("plugin `{plugin}`: ")) && found.contains(words),
            "{found}"
        );
    };
    site.plugins.take_example("faulty");
    check(
        "faulty",
        &json!({}),
        "plan: expected a request of no bytes to be refused as invalid; saw the answer",
    );
    check("faulty", &json!({"fault": "panics"}), "saw: it panicked");
    site.write_fixture(
        "queue",
        "except (KeyError, TypeError) as error:",
        "except ZeroDivisionError:",
    );
    check(
        "queue",
        &json!({}),
        "submit: expected a request 7 to be refused as invalid; saw: its process is gone",
    );
}

#[test]
fn descriptors_that_are_wrong_are_named() {
    let site = Site::new();
    let build = |name: &str| -> PathBuf {
        let library = site.plugins.path().join("libtorc_odd.so");
        let sources = checkout().join("torc-plugins");
        let mut cc = Command::new("cc");
        cc.args(["-std=gnu11", "-shared", "-fPIC", &format!("-D{name}"), "-I"])
            .arg(sources.join("sdk/include"));
        cc.arg(sources.join("kit/fixtures/odd.c")).arg("-o").arg(&library);
        assert!(cc.status().expect("cc is installed").success(), "it is built");
        library
    };
    for (fault, words) in [
        ("WRONG_MAJOR", "version 2 of the plugin boundary"),
        ("TOO_OLD", "its descriptor has 24 bytes"),
        ("NULL_SLOT", "lacks `open`, `call` or `close`"),
        ("BAD_UTF8", "its name is not UTF-8"),
        ("BAD_INFO", "its description is no text"),
    ] {
        let rows = site.check(&build(fault).display().to_string(), &[]).expect(1).json();
        let rows = rows.as_array().expect("a list");
        let loads = rows.iter().find(|row| row["check"] == "loads").expect("a row");
        assert_eq!(loads["verdict"], "failed", "{fault}");
        assert!(
            loads["found"].as_str().is_some_and(|found| found.contains(words)),
            "{fault}: {loads}"
        );
    }
}

#[test]
fn the_examples_keep_every_promise() {
    let site = Site::new();
    site.plugins.take_example("wrapped");
    assert_eq!(failed(&site.kit("wrapped", &[], 0)), []);
    let known = Command::new("pkg-config").args(["--exists", "jansson"]).status();
    if known.is_ok_and(|status| status.success()) {
        site.plugins.build_example_in_c("hydra");
        assert_eq!(failed(&site.kit("hydra", &[], 0)), []);
    } else {
        not_run_here("the example in C: jansson is not installed (libjansson-dev)");
    }
    let program =
        fs::read_to_string(Path::new(&GridEngine::plugin())).expect("it is in the checkout");
    site.plugins.write_program("gridengine", &program);
    let rows = site.kit("gridengine", &["--without", "scheduler.shapes"], 0);
    assert_eq!(failed(&rows), []);
}
