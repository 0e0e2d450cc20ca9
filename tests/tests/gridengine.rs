//! The plugin for Grid Engine, and workflows that get their nodes from it, on a real Grid Engine.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use torc_tests::{GridEngine, GridEngineSite as Site, Place, outcome, processes, text};

/// The plugin's process, spoken to as torc does.
struct Plugin {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    last_op: u64,
    /// Tells apart what this test asks for from what others did.
    store: String,
}

impl Plugin {
    fn open(cluster: &GridEngine) -> Self {
        let mut command = Command::new(GridEngine::plugin());
        command.envs(cluster.env().iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("python3 is installed");
        let stdin = child.stdin.take().expect("a pipe");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let store = format!("t{}", child.id());
        let mut plugin = Self { child, stdin, stdout, last_op: 0, store };
        let config = json!({"interface": "torc.scheduler/1", "instance": 1, "config": {}});
        plugin.ok("open", &config);
        plugin
    }

    fn ask(&mut self, method: &str, request: &Value) -> Value {
        self.last_op += 1;
        let op = self.last_op;
        let said = json!({"op": op, "method": method, "deadline_ms": 60_000, "request": request});
        writeln!(self.stdin, "{said}").expect("it listens");
        loop {
            let mut line = String::new();
            assert!(self.stdout.read_line(&mut line).expect("it speaks") > 0, "it has gone");
            let heard: Value = serde_json::from_str(&line).expect("JSON");
            if heard["op"] == op {
                return heard;
            }
        }
    }

    #[track_caller]
    fn ok(&mut self, method: &str, request: &Value) -> Value {
        let heard = self.ask(method, request);
        assert_eq!(heard["status"], "ok", "{heard}");
        heard["result"].clone()
    }

    #[track_caller]
    fn refusal(&mut self, method: &str, request: &Value) -> String {
        let heard = self.ask(method, request);
        assert_eq!(heard["status"], "invalid", "{heard}");
        heard["error"].as_str().expect("words").to_owned()
    }

    fn submission(&self, key: &str, request: &Value) -> Value {
        json!({"request": request, "key": format!("torc-{}-{key}", self.store)})
    }

    #[track_caller]
    fn submit(&mut self, key: &str, request: &Value) -> String {
        let submission = self.submission(key, request);
        self.ok("submit", &submission).as_str().expect("a name").to_owned()
    }

    fn find(&mut self, key: &str) -> Value {
        let key = format!("torc-{}-{key}", self.store);
        self.ok("find", &json!({"key": key}))
    }

    fn state(&mut self, allocation: &str) -> Value {
        self.ok("observe", &json!({"allocations": [allocation]}))[0].clone()
    }

    fn until_state(&mut self, cluster: &GridEngine, allocation: &str, state: &str) -> Value {
        cluster.until(&format!("{allocation}: {state}"), || {
            Some(self.state(allocation)).filter(|seen| seen["state"] == state)
        })
    }

    fn cause(&mut self, cluster: &GridEngine, allocation: &str) -> String {
        let end = self.until_state(cluster, allocation, "ended");
        end["cause"].as_str().expect("a cause").to_owned()
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request of one node for two minutes, with this command for `sh`.
fn request(place: &Place, command: &str, settings: &Value) -> Value {
    json!({
        "name": "test", "nodes": 1, "walltime": 120_000, "settings": settings,
        "command": ["/bin/sh", "-c", command], "working_dir": place.path(),
        "output": place.join("out, it's: x.log"),
        "env": [["GREETING", "it's, $HOME\n\"so\""], ["JOB_ID", "another's"], ["BASH_FUNC_f%%", "() { :; }"]],
        "umask": 0o027, "after": null,
    })
}

#[test]
fn the_plugin_asks_for_allocations_and_tells_how_they_end() {
    let Some(cluster) = GridEngine::acquire() else { return };
    let place = Place::new();
    let mut plugin = Plugin::open(&cluster);
    let command = "echo \"$GREETING $(umask) $PWD $JOB_ID $TORC_ALLOCATION_HANDLE\"; exit 3";
    let settings = json!({"queue": "main", "nodes": 1, "walltime": "00:02:00", "labels": []});
    let failing = plugin.submit("fails", &request(&place, command, &settings));
    assert_eq!(plugin.find("fails"), failing, "wherever it stands");
    assert_eq!(plugin.find("never"), Value::Null);
    let mut short = request(&place, "sleep 600", &json!({}));
    short["walltime"] = json!(3_000);
    let short = plugin.submit("short", &short);
    assert_eq!(plugin.cause(&cluster, &failing), "failed");
    assert_eq!(plugin.find("fails"), failing, "also when it is over");
    let expected = format!(
        "it's, $HOME\n\"so\" 0027 {} {failing} {failing}\n",
        place.path().canonicalize().expect("it is there").display()
    );
    assert_eq!(place.read("out, it's: x.log"), expected);
    assert_eq!(plugin.cause(&cluster, &short), "timed_out");
    let good = plugin.submit("good", &request(&place, "true", &json!({})));
    assert_eq!(plugin.cause(&cluster, &good), "completed");
}

#[test]
fn the_plugin_cancels_what_waits_and_what_runs_and_knows_its_own_cancels() {
    let Some(cluster) = GridEngine::acquire() else { return };
    let place = Place::new();
    let mut plugin = Plugin::open(&cluster);
    let mut wide = request(&place, "sleep 600", &json!({"pe": "torc8", "slots_per_node": 8}));
    wide["nodes"] = json!(2);
    let running = plugin.submit("runs", &wide);
    let mut later = request(&place, "true", &json!({}));
    later["after"] = json!(running);
    let waiting = plugin.submit("waits", &later);
    let seen = plugin.until_state(&cluster, &running, "running");
    assert!(seen["ends_at"].as_u64().is_some(), "{seen}");
    assert_eq!(plugin.state(&waiting)["state"], "pending");
    for allocation in [&waiting, &running, &running, &"999999".to_owned()] {
        plugin.ok("cancel", &json!({"allocation": allocation}));
    }
    assert_eq!(plugin.cause(&cluster, &running), "cancelled");
    assert_eq!(plugin.cause(&cluster, &waiting), "cancelled");
    plugin.ok("cancel", &json!({"allocation": running}));
    let taken = plugin.submit("taken", &request(&place, "sleep 600", &json!({})));
    plugin.until_state(&cluster, &taken, "running");
    cluster.run("qdel", &[&taken]).expect(0);
    let cause = plugin.cause(&cluster, &taken);
    assert!(["cancelled", "unknown"].contains(&&*cause), "{cause}");
}

#[test]
fn the_plugin_tells_the_end_that_grid_engine_keeps_to() {
    let Some(cluster) = GridEngine::acquire() else { return };
    let place = Place::new();
    let mut plugin = Plugin::open(&cluster);
    let held = json!({"options": ["-h"]});
    let moved = plugin.submit("moved", &request(&place, "sleep 600", &held));
    cluster.run("qalter", &["-l", "h_rt=1000", &moved]).expect(0);
    cluster.run("qrls", &[&moved]).expect(0);
    let seen = plugin.until_state(&cluster, &moved, "running");
    let ends_at = seen["ends_at"].as_u64().expect("it is known");
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = u64::try_from(since_1970.expect("later").as_millis()).expect("fits");
    assert!((now + 900_000..now + 1_001_000).contains(&ends_at), "{ends_at} at {now}");
    // What is altered now is shown by qstat, and nothing else.
    cluster.run("qalter", &["-l", "h_rt=5000", &moved]).expect(0);
    assert_eq!(plugin.state(&moved)["ends_at"].as_u64(), Some(ends_at));
}

#[test]
fn the_plugin_knows_the_hosts_and_what_cannot_be_asked_for() {
    let Some(cluster) = GridEngine::acquire() else { return };
    let place = Place::new();
    let mut plugin = Plugin::open(&cluster);
    let cpus = |plugin: &mut Plugin, settings: Value| -> Vec<(u64, u64)> {
        let shapes = plugin.ok("shapes", &request(&place, "true", &settings));
        let kinds = shapes["known"].as_array().expect("they are known").iter();
        let number = |kind: &Value, name: &str| kind[name].as_u64().expect("a number");
        kinds.map(|kind| (number(kind, "cpus"), number(kind, "count"))).collect()
    };
    assert_eq!(cpus(&mut plugin, json!({})), [(8, 3), (16, 1)]);
    assert_eq!(cpus(&mut plugin, json!({"queue": "wide"})), [(16, 1)]);
    assert_eq!(cpus(&mut plugin, json!({"pe": "smp", "slots_per_node": 4})), [(4, 4)]);
    let mut refused = |settings: Value, nodes: u32, walltime: u64| {
        let mut request = request(&place, "true", &settings);
        (request["nodes"], request["walltime"]) = (json!(nodes), json!(walltime));
        let submission = plugin.submission("refused", &request);
        plugin.refusal("submit", &submission)
    };
    assert!(refused(json!({"qeue": "main"}), 1, 60_000).starts_with("there is no setting `qeue`"));
    assert!(refused(json!({"pe": 8}), 1, 60_000).starts_with("`pe` is to be a text"));
    assert!(refused(json!({}), 2, 60_000).starts_with("`pe` is missing: 2 slots on 2 nodes"));
    let words = refused(json!({"queue": "nosuch"}), 1, 60_000);
    assert!(words.contains("unknown queue \"nosuch\""), "{words}");
    let words = refused(json!({}), 1, 1_000 * 3600 * 1000);
    assert_eq!(words, "qsub: Unable to run job: error: no suitable queues");
}

#[test]
fn a_question_without_answer_says_nothing_of_allocations() {
    let Some(cluster) = GridEngine::acquire() else { return };
    let place = Place::new();
    let mut plugin = Plugin::open(&cluster);
    let allocation = plugin.submit("stays", &request(&place, "sleep 600", &json!({})));
    plugin.until_state(&cluster, &allocation, "running");
    cluster.kill_master();
    let asked = [
        ("observe", json!({"allocations": [allocation]})),
        ("find", json!({"key": "torc-x"})),
        ("cancel", json!({"allocation": allocation})),
        ("shapes", request(&place, "true", &json!({}))),
        ("submit", plugin.submission("not now", &request(&place, "true", &json!({})))),
    ];
    for (method, question) in &asked {
        let heard = plugin.ask(method, question);
        assert_eq!(heard["status"], "transient", "{method}: {heard}");
    }
    cluster.bring_up();
    assert_eq!(plugin.state(&allocation)["state"], "running");
    assert_eq!(plugin.find("not now"), Value::Null);
}

/// Runs until there is a file `go`.
const HELD: &str = "- {name: held, command: 'touch begun; until test -e go; do sleep 0.1; done'}";

#[test]
fn a_workflow_gets_its_nodes_from_grid_engine() {
    let Some(cluster) = GridEngine::acquire() else { return };
    let site = Site::new(
        &cluster,
        "queue: main, pe: smp, slots_per_node: 2, walltime: '00:05:00'",
        "- {name: first, command: 'echo \"$JOB_ID $NSLOTS $QUEUE\" > given'}
- {name: second, command: 'cat given', depends_on: [first]}",
    );
    site.start().wait().expect(0).says("2 completed");
    let allocation = site.allocation();
    let handle = text(&allocation, "handle");
    assert_eq!(text(&allocation, "scheduler_type"), "gridengine");
    assert_eq!(site.place.output("wf1_j2_r1_a1.o"), format!("{handle} 2 main\n"));
    assert_eq!(site.cause(), "completed");
}

#[test]
fn what_grid_engine_would_kill_is_ended_before() {
    let Some(cluster) = GridEngine::acquire() else { return };
    let site = Site::new(&cluster, "walltime: '00:00:20'", HELD);
    site.start().wait().expect(1).says("1 terminated");
    site.place.expect_jobs("held terminated");
    assert_eq!(site.cause(), "completed", "its worker left in time");
}

#[test]
fn an_end_that_was_moved_while_the_allocation_waited_is_kept_to() {
    let Some(cluster) = GridEngine::acquire() else { return };
    let site = Site::new(&cluster, "walltime: '00:10:00', options: ['-h']", HELD);
    let waiting = site.start();
    let handle = cluster.until("an allocation", || {
        let allocations = site.place.torc(&["allocations", "--all", "--format", "json"]).stdout;
        let allocations: Value = serde_json::from_str(&allocations).ok()?;
        allocations[0]["handle"].as_str().map(str::to_owned)
    });
    cluster.run("qalter", &["-l", "h_rt=25", &handle]).expect(0);
    cluster.run("qrls", &[&handle]).expect(0);
    site.until_there("begun");
    // Its worker knows by itself only what was asked for.
    waiting.wait().expect(1).says("1 terminated");
    assert_eq!(site.cause(), "completed", "its worker left in time");
}

#[test]
fn an_allocation_whose_worker_hangs_is_killed_when_its_time_is_over() {
    let Some(cluster) = GridEngine::acquire() else { return };
    let site = Site::new(&cluster, "walltime: '00:00:15'", HELD);
    let waiting = site.start();
    site.until_there("begun");
    let dir = site.place.join("torc_output");
    let workers = processes(&format!("torc worker --output-dir {} ", dir.display()));
    for worker in workers {
        nix::sys::signal::kill(worker, nix::sys::signal::Signal::SIGSTOP).expect("it runs");
    }
    assert_eq!(site.cause(), "timed_out");
    waiting.wait().expect(1);
    assert_eq!(site.place.results().iter().map(outcome).collect::<Vec<_>>(), ["lost"]);
}

#[test]
fn a_job_whose_allocation_is_deleted_from_outside_is_lost_and_runs_again_elsewhere() {
    let Some(cluster) = GridEngine::acquire() else { return };
    let site = Site::new(&cluster, "walltime: '00:05:00'", HELD);
    let waiting = site.start();
    site.until_there("begun");
    cluster.run("qdel", &[text(&site.allocation(), "handle")]).expect(0);
    waiting.wait().expect(1).says("1 ready");
    assert_eq!(site.place.results().iter().map(outcome).collect::<Vec<_>>(), ["lost"]);
    let cause = site.cause();
    assert!(["cancelled", "unknown"].contains(&&*cause), "{cause}");
    site.place.write("go", "");
    site.place.torc(&["restart"]).expect(0);
    cluster.until("the end of the workflow", || {
        let report = site.place.json(&["status"]);
        (report["state"] == "ended").then_some(())
    });
    assert_eq!(site.place.results().len(), 2);
}

#[test]
fn what_runs_goes_on_while_grid_engine_does_not_answer() {
    let Some(cluster) = GridEngine::acquire() else { return };
    let site = Site::new(&cluster, "walltime: '00:05:00'", HELD);
    let waiting = site.start();
    site.until_there("begun");
    cluster.kill_master();
    cluster.until("a question without an answer", || {
        let log = site.place.read("torc_output/server.log");
        log.contains("where allocations stand is not known").then_some(())
    });
    cluster.bring_up();
    site.place.write("go", "");
    waiting.wait().expect(0).says("1 completed");
    assert_eq!(site.place.results().len(), 1, "it ran once");
    assert_eq!(site.cause(), "completed");
}

#[test]
fn what_a_plugin_does_not_take_is_told_at_submission() {
    let Some(cluster) = GridEngine::acquire() else { return };
    let site = Site::new(&cluster, "qeue: main", HELD);
    let refused = site.place.torc(&["submit", "w.yaml"]).expect(2);
    refused.says("plugin `gridengine`: there is no setting `qeue`").says("did you mean `queue`?");
}
