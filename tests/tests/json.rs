//! JSON is what `docs/json.md` says: every documented field is there, and no other.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::Value;
use torc_tests::{Place, checkout};

/// The names in the first column of each table under a heading of `docs/json.md`.
fn tables(heading: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(checkout().join("docs/json.md")).expect("it is there");
    let is_heading = |line: &&str| line.starts_with('#');
    let section = text
        .lines()
        .skip_while(|line| line.trim_start_matches('#').trim() != heading || !is_heading(line))
        .skip(1)
        .take_while(|line| !is_heading(line));
    let lines: Vec<&str> = section.collect();
    let mut tables: Vec<Vec<String>> = Vec::new();
    for (line, next) in lines.iter().zip(lines.iter().skip(1).chain([&""])) {
        if next.starts_with("|---") {
            continue;
        }
        if line.starts_with("|---") {
            tables.push(Vec::new());
            continue;
        }
        let Some(row) = line.strip_prefix("| ") else { continue };
        let first = row.split(" |").next().unwrap_or_default();
        if let Some(table) = tables.last_mut() {
            table.extend(first.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    assert!(!tables.is_empty(), "docs/json.md has no table under {heading}");
    tables
}

fn fields(heading: &str) -> BTreeSet<String> {
    tables(heading)[0].iter().cloned().collect()
}

#[track_caller]
fn check_fields(value: &Value, expected: &BTreeSet<String>) {
    let found: BTreeSet<String> =
        value.as_object().unwrap_or_else(|| panic!("no object: {value}")).keys().cloned().collect();
    let missing: Vec<_> = expected.difference(&found).collect();
    let undocumented: Vec<_> = found.difference(expected).collect();
    assert!(
        missing.is_empty() && undocumented.is_empty(),
        "missing: {missing:?}, undocumented: {undocumented:?} in {value:#}"
    );
}

#[track_caller]
fn check_workflow(report: &Value) {
    check_fields(report, &fields("Workflow report"));
    for node in report["nodes"].as_array().expect("a list") {
        check_fields(node, &fields("Node report"));
    }
    for planned in report["planned"].as_array().expect("a list") {
        check_fields(planned, &fields("Planned start"));
    }
    let statuses: BTreeSet<String> = statuses().into_iter().collect();
    check_fields(&report["counts"], &statuses);
    let counted: u64 =
        report["counts"].as_object().expect("a map").values().filter_map(Value::as_u64).sum();
    assert_eq!(Some(counted), report["jobs"].as_u64());
}

fn statuses() -> Vec<String> {
    let text = std::fs::read_to_string(checkout().join("docs/spec.md")).expect("it is there");
    let section = text.split("## Job status").nth(1).expect("it is documented");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.take(11).filter_map(|row| row.split('`').next()).map(str::to_owned).collect()
}

#[track_caller]
fn check_attempt(attempt: &Value) {
    check_fields(attempt, &fields("Attempt report"));
    if attempt["outcome"].is_null() {
        return;
    }
    let more: &[&str] = match attempt["outcome"]["outcome"].as_str().expect("a string") {
        "exited" | "timed_out" => &["code"],
        "signaled" => &["signal"],
        "files_missing" => &["files"],
        "launch_failed" => &["stage", "reason"],
        "out_of_memory" => &["used"],
        _ => &[],
    };
    let expected = more.iter().chain(&["outcome"]).map(|name| (*name).to_owned()).collect();
    check_fields(&attempt["outcome"], &expected);
    let known = &tables("Outcome")[0];
    let outcome = attempt["outcome"]["outcome"].as_str().expect("a string");
    assert!(known.iter().any(|name| name == outcome), "{outcome} is not documented");
}

#[track_caller]
fn check_job(job: &Value) {
    check_fields(job, &fields("Job report"));
    if !job["latest"].is_null() {
        check_attempt(&job["latest"]);
    }
    assert!(statuses().iter().any(|status| job["status"] == **status), "{job:#}");
}

#[test]
fn files_and_user_data_have_exactly_the_documented_fields() {
    let place = Place::with(
        "name: w\nfiles: [{name: f, path: f}]\nuser_data: [{name: u}]\njobs: [{name: a, command: 'true'}]",
    );
    place.run(&[]).expect(0);
    check_fields(&place.json(&["files"])[0], &fields("File report"));
    let set = place.json(&["user-data", "set", "u", "1"]);
    check_fields(&set, &fields("User data report"));
    assert_eq!(place.json(&["user-data", "get", "u"]), set);
    assert_eq!(place.json(&["user-data", "list"])[0], set);
}

const MIXED: &str = r#"
name: mixed
execution_config: {enforce_runtime: true, sigterm_lead_seconds: 1}
resource_requirements: [{name: short, runtime: PT1S, memory: 50m}]
files: [{name: f, path: f}]
jobs:
  - {name: good, command: "true"}
  - {name: bad, command: exit 3}
  - {name: killed, command: kill -9 $$}
  - {name: late, command: exec sleep 600, resource_requirements: short}
  - {name: big, resource_requirements: short,
     command: "trap '' TERM; exec python3 -c 'b = bytearray(100 << 20); b.find(b\"x\"); import time; time.sleep(600)'"}
  - {name: lazy, command: "true", output_files: [f]}
  - {name: after, command: "true", depends_on: [bad]}
"#;

#[test]
fn every_report_has_exactly_the_documented_fields() {
    let place = Place::with(MIXED);
    let run = place.run(&["--num-cpus", "4", "--format", "json"]).expect(1).json();
    check_workflow(&run);
    assert_eq!((&run["name"], &run["state"]), (&"mixed".into(), &"ended".into()));
    assert_eq!(run["counts"]["canceled"], 1);
    let status = place.json(&["status"]);
    check_workflow(&status);
    assert_eq!(status["ended_at"], run["ended_at"]);
    for job in place.json(&["jobs"]).as_array().unwrap() {
        check_job(job);
    }
    let results = place.results();
    assert_eq!(results.len(), 6);
    results.iter().for_each(check_attempt);
    assert_eq!(place.json(&["results", "--failed"]).as_array().unwrap().len(), 5);
    assert_eq!(place.json(&["results", "--job", "good"]).as_array().unwrap().len(), 1);
    let failed = place.json(&["jobs", "--status", "failed", "--status", "terminated"]);
    assert_eq!(failed.as_array().unwrap().len(), 5);
    check_fields(&place.json(&["cancel"]), &fields("Cancel report"));
}

#[test]
fn reports_of_a_running_workflow_have_the_same_fields() {
    let place = Place::with(
        r#"
name: w
resource_requirements: [{name: gang, num_nodes: 2, runtime: PT1M}, {name: one, runtime: PT1M}]
jobs:
  - {name: holder, command: "echo > holds; read < go", resource_requirements: one, priority: 9}
  - {name: gang, command: "true", resource_requirements: gang}
  - {name: more, command: "true", depends_on: [gang]}"#,
    );
    let mut holds = place.fifo("holds");
    place.gate("go");
    let run = place.start_run(&["--nodes", "2", "--num-cpus", "1"]);
    holds.line();
    let status = place.json(&["status"]);
    check_workflow(&status);
    assert_eq!(status["state"], "running");
    assert_eq!(status["running"], serde_json::json!(["holder"]));
    assert_eq!(status["nodes"].as_array().unwrap().len(), 2);
    assert_eq!(status["planned"].as_array().unwrap().len(), 1);
    let jobs = place.json(&["jobs"]);
    jobs.as_array().unwrap().iter().for_each(check_job);
    assert_eq!(jobs[2]["depends_on"], serde_json::json!([2]));
    let waiting: BTreeSet<String> =
        ["waiting", "cause", "needs", "idle", "unusable", "planned_at"].map(str::to_owned).into();
    check_fields(&jobs[1]["waiting"], &waiting);
    let results = place.results();
    check_attempt(&results[0]);
    assert!(results[0]["ended_at"].is_null() && results[0]["outcome"].is_null());
    check_fields(&place.json(&["cancel"]), &fields("Cancel report"));
    run.wait().expect(1);
}

#[test]
fn problems_of_a_spec_have_exactly_the_documented_fields() {
    let place = Place::with("name: w\nenable_ro_crate: true\njobs: [{name: a, command: x}]");
    let [list, problem] = &tables("Problem list")[..] else { panic!("two tables") };
    let (list, problem) = (list.iter().cloned().collect(), problem.iter().cloned().collect());
    let valid = place.json(&["validate", "w.yaml"]);
    check_fields(&valid, &list);
    check_fields(&valid["problems"][0], &problem);
    assert_eq!(valid["problems"][0]["severity"], "warning");
    let size = ["name", "jobs", "dependencies", "files", "user_data", "gangs"];
    check_fields(&valid["workflow"], &size.map(str::to_owned).into());

    place.write("w.yaml", "name: w\njobs:\n  - {name: a, command: x, depends_on: [äb, b]}\n");
    let invalid = place.torc(&["--format", "json", "validate", "w.yaml"]).expect(3).json();
    check_fields(&invalid, &list);
    assert!(invalid["workflow"].is_null());
    let second = &invalid["problems"][1];
    check_fields(second, &problem);
    assert_eq!((&second["line"], &second["column"]), (&3.into(), &44.into()), "{second}");
    assert_eq!((&second["file"], &second["code"]), (&"w.yaml".into(), &"spec::unknown-job".into()));

    let run = place.torc(&["run", "w.yaml", "--format", "json"]).expect(3).json();
    check_fields(&run, &["problems".to_owned()].into());
    check_fields(&run["problems"][0], &problem);
}

#[test]
fn a_forecast_has_exactly_the_documented_fields() {
    let place = Place::with(
        r#"
name: w
slurm_schedulers: [{name: s, account: a, walltime: "01:00:00"}]
actions: [{trigger_type: on_workflow_start, action_type: schedule_nodes, scheduler: s}]
resource_requirements: [{name: wide, num_nodes: 2}]
jobs:
  - {name: a, command: x}
  - {name: b, command: x, resource_requirements: wide}
  - {name: c, command: x, depends_on: [b]}"#,
    );
    let found = place.torc(&["plan", "w.yaml", "--format", "json"]).expect(4).json();
    check_fields(&found, &fields("Forecast"));
    let inside = |field: &str| -> BTreeSet<String> {
        let text = std::fs::read_to_string(checkout().join("docs/json.md")).expect("it is there");
        let section = text.split("## Forecast").nth(1).expect("it is documented");
        let row = section.lines().find(|line| line.starts_with(&format!("| `{field}` |")));
        let names = row.expect("it has a row").split('`').skip(3).step_by(2);
        names.map(str::to_owned).collect()
    };
    check_fields(&found["node"], &inside("node"));
    check_fields(&found["critical_path"], &inside("critical_path"));
    check_fields(&found["stages"][0], &inside("stages"));
    check_fields(&found["allocations"][0], &inside("allocations"));
    let idle = "starting_up draining held no_ready_job tail walltime nothing_fits";
    check_fields(&found["idle_cpu_ms"], &idle.split(' ').map(str::to_owned).collect());
    let never = found["never"].as_array().expect("a list");
    never.iter().for_each(|group| check_fields(group, &fields("Jobs that do not run")));
    let causes: Vec<_> = never.iter().map(|group| &group["reason"]["cause"]).collect();
    assert_eq!(causes, ["nodes", "waits_for"]);
    check_fields(&never[1]["reason"], &["cause", "job"].map(str::to_owned).into());
}

#[test]
fn errors_are_json_too() {
    let place = Place::with("name: w\njobs: [{name: a, command: x, labels: [l]}]");
    place.run(&["--label", "l"]).expect(1);
    for (args, code) in [
        (&["status", "--output-dir", "elsewhere"] as &[&str], 5),
        (&["jobs", "7"], 2),
        (&["run", "w.yaml"], 4),
        (&["run", "absent.yaml"], 3),
        (&["logs", "b"], 2),
        (&["restart", "9"], 2),
        (&["cancel", "--job", "b"], 2),
    ] {
        let ended = place.torc(&[args, &["--format", "json"]].concat()).expect(code);
        check_fields(&ended.json(), &fields("Error"));
        ended.says(ended.json()["error"].as_str().unwrap());
    }
}

#[test]
fn the_socket_answers_as_documented() {
    let place = Place::with("name: w\njobs: [{name: a, command: 'echo > holds; read < go'}]");
    let mut holds = place.fifo("holds");
    place.gate("go");
    let run = place.start_run(&[]);
    holds.line();
    let note: Value = serde_json::from_str(&place.read("torc_output/server.json")).unwrap();
    check_fields(
        &note,
        &["protocol", "pid", "host", "socket", "instance"].map(str::to_owned).into(),
    );
    assert_eq!(note["pid"], run.pid().as_raw());
    let ask = |method: &str, path: &str, body: &str| -> (String, Value) {
        let mut stream = UnixStream::connect(note["socket"].as_str().unwrap()).unwrap();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: torc\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().to_owned();
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    };
    let (status, server) = ask("GET", "/v1/server", "");
    assert_eq!(status, "200");
    check_fields(
        &server,
        &["protocol", "version", "pid", "instance", "workflow"].map(str::to_owned).into(),
    );
    check_workflow(&ask("GET", "/v1/workflow?id=1", "").1);
    check_job(&ask("GET", "/v1/jobs", "").1[0]);
    check_attempt(&ask("GET", "/v1/attempts", "").1[0]);
    for (path, expected) in [
        ("/v1/jobs?job=a", 1),
        ("/v1/jobs?job=b", 0),
        ("/v1/attempts?id=1&step=wf1_j1_r1_a1", 1),
        ("/v1/attempts?step=wf1_j1_r1_a2", 0),
    ] {
        assert_eq!(ask("GET", path, "").1.as_array().unwrap().len(), expected, "{path}");
    }
    let (status, unknown) = ask("GET", "/v1/workflow?id=9", "");
    assert_ne!(status, "200");
    check_fields(&unknown, &fields("Error"));
    let (status, unknown) = ask("POST", "/v1/cancel", r#"{"jobs": ["b"]}"#);
    assert_ne!(status, "200");
    check_fields(&unknown, &fields("Error"));
    assert_ne!(ask("POST", "/v1/cancel", "nonsense").0, "200");
    assert_ne!(ask("GET", "/v1/nothing", "").0, "200");
    let (status, canceled) = ask("POST", "/v1/cancel?id=1", r#"{"jobs": null}"#);
    assert_eq!(status, "200");
    check_fields(&canceled, &fields("Cancel report"));
    run.wait().expect(1);
}
