//! Executors that are plugins, under `torc run` and `torc restart`: they run the jobs, and what bad ones do costs
//! attempts and no job.

use std::fs;
use std::ops::Deref;

use torc_tests::{Ended, Place, PluginSite, checkout, text};

/// Six jobs, and the plugin that runs them.
struct Site(PluginSite);

impl Deref for Site {
    type Target = PluginSite;

    fn deref(&self) -> &PluginSite {
        &self.0
    }
}

impl Site {
    fn with(spec: &str) -> Self {
        Self(PluginSite::of(Place::with(spec), &["faulty_executor", "nice"]))
    }

    /// Six jobs that this plugin runs.
    fn of(mode: &str, settings: &str) -> Self {
        Self::with(&format!(
            "name: w
execution_config: {{mode: {mode}}}
plugins: [{{name: {mode}{settings}}}]
parameters: {{n: '1:6'}}
jobs: [{{name: 'j{{n}}', command: 'echo {{n}} >> ran', use_parameters: [n]}}]"
        ))
    }

    /// The same with the program of the kit, with this line at the beginning of its launch.
    fn of_program(at_launch: &str) -> Self {
        let site = Self::of("here", "");
        let text = fs::read_to_string(checkout().join("torc-plugins/kit/fixtures/here.py"));
        let (text, launch) = (text.expect("it is there"), "def launch(request):\n");
        assert!(text.contains(launch), "it has a launch");
        let text = text.replace(launch, &format!("{launch}    {at_launch}\n"));
        site.plugins()
            .write_program("here", &text.replace("FOLDER", &site.path().display().to_string()));
        site
    }

    fn run(&self, options: &[&str]) -> Ended {
        self.torc(&[&["run", "w.yaml", "--plugin-path", self.folder()], options].concat())
    }

    fn restart(&self) -> Ended {
        self.torc(&["restart", "--plugin-path", self.folder()])
    }

    fn set_fault(&self, fault: &str) {
        let spec = self.read("w.yaml");
        let (before, after) = spec.split_once("fault: ").expect("it has one");
        let after = after.split_once('}').expect("it ends").1;
        self.write("w.yaml", format!("{before}fault: {fault}}}{after}"));
    }
}

/// All jobs have completed, and ran once or, where it cost attempts, more often.
#[track_caller]
fn expect_all(site: &Site) -> usize {
    let mut ran = site.lines("ran");
    ran.sort();
    ran.dedup();
    assert_eq!(ran, ["1", "2", "3", "4", "5", "6"]);
    let attempts = site.results();
    let completed = attempts.iter().filter(|one| one["status"] == "completed").count();
    assert_eq!(completed, 6, "{attempts:?}");
    attempts.len()
}

#[test]
fn a_plugin_runs_the_jobs_on_its_nodes() {
    let site = Site::of("faulty_executor", "");
    let ended = site.run(&[]).expect(0);
    ended.says("note: plugin `faulty_executor` runs the jobs, on n[1-2]");
    assert_eq!(expect_all(&site), 6);
    for attempt in site.results() {
        assert!(["n1", "n2"].contains(&torc_tests::nodes(&attempt)[0]), "{attempt:?}");
    }
}

#[test]
fn options_take_less_than_the_plugin_has() {
    let site = Site::of("faulty_executor", "");
    let ended = site.run(&["--nodes", "1", "--num-cpus", "1"]).expect(0);
    ended.says("on n1\n");
    assert_eq!(expect_all(&site), 6);
    assert!(site.results().iter().all(|one| torc_tests::nodes(one) == ["n1"]));
    site.run(&["--new", "--nodes", "3"]).expect(2).says("asks for 3 nodes, and there are 2");
    site.run(&["--new", "--num-cpus", "3"]).expect(2).says("asks for more than node `n1` has: 2");
    site.run(&["--new", "--pin"]).expect(2).says("--pin is for jobs that torc starts itself");
    assert_eq!(site.lines("ran").len(), 6, "nothing more has run");
}

#[test]
fn a_plugin_that_cannot_be_had_is_told_of_before_anything_starts() {
    #[track_caller]
    fn check(site: &Site, exit: i32, words: &[&str]) {
        let ended = site.run(&[]).expect(exit);
        for word in words {
            ended.says(word);
        }
        assert!(!site.join("ran").exists(), "nothing has run");
    }
    let site = Site::of("slrum", "");
    let own = "`execution_config.mode` is `slrum`, which is none of torc's own (`direct`, `slurm`, `auto`)";
    check(&site, 5, &["there is no plugin `slrum`", own, site.folder()]);
    check(&Site::of("nice", ""), 5, &["the plugin `nice` has no torc.executor/1"]);
    let refuses = Site::of("faulty_executor", ", fault: does not open");
    check(&refuses, 5, &["plugin `faulty_executor`: open: no such partition"]);
    check(&Site::of("../nice", ""), 3, &["spec::bad-name"]);
    for (fault, words) in [
        ("unsupported inventory", "inventory: it does not know this method"),
        ("no nodes", "inventory: its answer cannot be understood: it has no node"),
        ("unsupported reconcile", "reconcile: it does not know this method"),
    ] {
        let site = Site::of("faulty_executor", &format!(", fault: {fault}"));
        check(&site, 5, &["plugin `faulty_executor`: ", words]);
    }
}

#[test]
fn a_plugin_that_lies_about_ends_changes_none() {
    for fault in ["ends twice", "strange end", "starts after the end", "odd events"] {
        let site = Site::of("faulty_executor", &format!(", fault: {fault}"));
        site.run(&["--num-cpus", "1"]).expect(0);
        assert_eq!(expect_all(&site), 6, "{fault}");
        assert_eq!(site.lines("ran").len(), 6, "{fault}");
    }
}

#[test]
fn a_step_that_a_plugin_refuses_is_a_failed_launch() {
    for (fault, words) in [
        ("refuses", "launch: not on a Sunday"),
        ("unsupported launch", "launch: it does not know this method"),
    ] {
        let site = Site::of("faulty_executor", &format!(", fault: {fault}"));
        site.run(&[]).expect(1).says("6 failed");
        let reason = text(&site.attempts("j1")[0]["outcome"], "reason").to_owned();
        assert_eq!(reason, format!("plugin `faulty_executor`: {words}"));
    }
}

#[test]
fn a_plugin_that_cannot_launch_ends_the_run_and_loses_no_job() {
    for (fault, words) in [
        ("panics", "it panicked: a bug in a launch"),
        ("garbage", "launch: its answer cannot be understood"),
        ("1 GB", "it has 1073741824 bytes, and 64 MiB are the most"),
        ("gives up", "launch: the licence has ended; it is not called any more"),
    ] {
        let site = Site::of("faulty_executor", &format!(", fault: {fault}"));
        let ended = site.run(&[]).expect(5);
        ended.says("the executor is gone: plugin `faulty_executor`").says(words);
        assert!(!site.join("ran").exists(), "{fault}");
        site.torc(&["status"]).expect(0).says("interrupted");
        site.set_fault("none");
        site.run(&["--new"]).expect(0);
        expect_all(&site);
    }
}

#[test]
fn a_panic_costs_an_attempt_of_what_ran() {
    let site = Site::of("faulty_executor", ", fault: panics once");
    site.run(&[]).expect(0);
    assert!(expect_all(&site) >= 7, "at least one more");
    assert!(site.attempts("j2").len() == 2, "it panicked when this was launched");
}

#[test]
fn a_library_that_takes_torc_along_costs_attempts() {
    let site = Site::of("faulty_executor", ", fault: crashes");
    assert_eq!(site.run(&[]).signal, Some(6));
    site.torc(&["status"]).expect(0).says("interrupted");
    site.set_fault("none");
    site.run(&["--new"]).expect(0);
    expect_all(&site);
}

#[test]
fn a_crash_of_a_program_costs_one_attempt_of_one_job() {
    let crash = "request['step']['id']['job'] == 3 and request['step']['id']['attempt'] == 1 and os._exit(7)";
    let site = Site::of_program(crash);
    let ended = site.run(&["--max-parallel-jobs", "1"]).expect(0);
    drop(ended);
    assert_eq!(expect_all(&site), 7, "one more than jobs");
    let lost = &site.attempts("j3");
    assert_eq!(lost.len(), 2);
    assert_eq!(lost[0]["outcome"]["outcome"], "lost");
}

#[test]
fn a_program_that_crashes_at_each_launch_is_given_up_and_named() {
    let site = Site::of_program("os.kill(os.getpid(), 9)");
    let ended = site.run(&[]).expect(5);
    ended.says("plugin `here` lost its steps 3 times").says("signal 9 ended it");
    site.torc(&["status"]).expect(0).says("interrupted");
    site.plugins().write_program("here", &{
        let text = fs::read_to_string(checkout().join("torc-plugins/kit/fixtures/here.py"));
        text.expect("it is there")
    });
    site.restart().expect(0);
    expect_all(&site);
}

#[test]
fn a_program_that_writes_what_is_no_message_costs_attempts() {
    let site = Site::of_program(
        "request['step']['id']['job'] == 3 and request['step']['id']['attempt'] == 1 and print('Hello', flush=True)",
    );
    site.run(&["--max-parallel-jobs", "1"]).expect(0);
    assert_eq!(expect_all(&site), 7);
}

#[test]
fn a_restart_asks_the_plugin_what_became_of_its_steps() {
    let site = Site::of("faulty_executor", ", fault: none");
    let spec = site
        .read("w.yaml")
        .replace("fault: none", &format!("ask: '{}', fault: none", site.path().display()));
    let command = "test -e go || { echo {n} > up; sleep 20; }; echo {n} >> ran";
    site.write("w.yaml", spec.replace("echo {n} >> ran", command));
    let mut up = site.fifo_for_many("up");
    let running = site.start(&["run", "w.yaml", "--plugin-path", site.folder()]);
    for _ in 0..4 {
        up.line();
    }
    running.kill();
    let asked = site.lines("asked");
    assert_eq!(asked.iter().filter(|method| **method == "reconcile").count(), 1, "{asked:?}");
    site.write("go", "");
    site.restart().expect(0).says("6 completed");
    let asked = site.lines("asked");
    assert_eq!(asked.iter().filter(|method| **method == "reconcile").count(), 2, "{asked:?}");
}

#[test]
fn a_launcher_is_put_before_what_a_plugin_launches() {
    let site = Site::of("faulty_executor", "");
    let launcher = "launcher: {argv: [env, MARK=planned, '{command}']}";
    let spec = site.read("w.yaml").replace("{mode:", &format!("{{{launcher}, mode:"));
    site.write("w.yaml", spec.replace("echo {n} >> ran", "echo {n}$MARK >> ran"));
    site.run(&[]).expect(0);
    let mut ran = site.lines("ran");
    ran.sort();
    assert_eq!(ran, (1..=6).map(|n| format!("{n}planned")).collect::<Vec<_>>());
}

/// A place, not below /tmp, whose jobs the example runs that gives each a world of its own.
fn enclosed(jobs: &str) -> Site {
    let place = Place::outside_tmp(&format!(
        "name: w\nexecution_config: {{mode: enclosed}}\njobs:\n{jobs}"
    ));
    Site(PluginSite::of(place, &["enclosed"]))
}

#[test]
fn jobs_that_are_enclosed_see_neither_files_nor_processes_of_each_other() {
    let job = |name: &str, other: &str| {
        format!(
            "- {{name: {name}, command: 'test ! -e /tmp/x && echo {name} > /tmp/x && touch {name} && \
             until test -e {other}; do sleep 0.05; done; cat /tmp/x; ps -e -o pid=,comm='}}\n"
        )
    };
    let site = enclosed(&(job("a", "b") + &job("b", "a")));
    site.run(&[]).expect(0).says("2 completed");
    for (number, name) in [(1, "a"), (2, "b")] {
        let output = site.output(&format!("wf1_j{number}_r1_a1.o"));
        let mut lines = output.lines();
        assert_eq!(lines.next(), Some(name));
        let seen: Vec<&str> = lines.map(str::trim).collect();
        assert!(seen.len() <= 3 && seen[0].starts_with("1 "), "{seen:?}");
    }
    assert!(!std::path::Path::new("/tmp/x").exists(), "nothing is left");
}

#[test]
fn nothing_that_is_enclosed_outlives_torc() {
    let site = enclosed(
        "- {name: a, command: '(trap \"\" TERM; sleep 7654.25) & setsid sleep 7654.25 & echo up > up; wait'}",
    );
    let mut up = site.fifo_for_many("up");
    let running = site.start(&["run", "w.yaml", "--plugin-path", site.folder()]);
    up.line();
    assert!(!torc_tests::processes("sleep 7654.25").is_empty(), "they run");
    running.kill();
    let began = std::time::Instant::now();
    while !torc_tests::processes("sleep 7654.25").is_empty() {
        assert!(began.elapsed() < torc_tests::PATIENCE, "they are left");
        std::thread::yield_now();
    }
    site.torc(&["status"]).expect(0).says("interrupted");
}

#[test]
fn a_folder_that_would_be_hidden_is_refused() {
    let place = Place::with(
        "name: w\nexecution_config: {mode: enclosed}\njobs: [{name: a, command: 'true'}]",
    );
    let site = Site(PluginSite::of(place, &["enclosed"]));
    site.run(&[]).expect(1);
    let reason = text(&site.attempts("a")[0]["outcome"], "reason").to_owned();
    assert!(reason.contains("would be hidden, since each job has /tmp to itself"), "{reason}");
}
