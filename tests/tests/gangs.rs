//! Jobs on several pretended nodes.

use serde_json::Value;
use torc_tests::Place;

const SPEC: &str = r#"
name: w
resource_requirements:
  - {name: gang, num_nodes: 3, num_cpus: 1, runtime: PT1M}
  - {name: single, num_cpus: 1, runtime: PT1M}
jobs:
  - name: "small{i}"
    command: bash -c true
    resource_requirements: single
    parameters: {i: "1:12"}
  - name: "gang{i}"
    command: |
      echo "$TORC_NODELIST $TORC_NUM_NODES $TORC_CPUS_PER_NODE"
      cat "$TORC_HOSTFILE"
      echo once >> ran_{i}
    resource_requirements: gang
    parameters: {i: "1:3"}
  - name: "more{i}"
    command: bash -c true
    resource_requirements: single
    parameters: {i: "1:12"}
"#;

fn time(attempt: &Value, which: &str) -> u64 {
    attempt[which].as_u64().expect("a time")
}

fn nodes(attempt: &Value) -> Vec<&str> {
    attempt["nodes"].as_array().expect("a list").iter().filter_map(Value::as_str).collect()
}

#[test]
fn a_gang_is_started_once_and_told_its_nodes() {
    let place = Place::with(SPEC);
    place.run(&["--nodes", "4", "--num-cpus", "2"]).expect(0).says("27 completed");
    for gang in 1..=3 {
        let job = 12 + gang;
        let output = place.output(&format!("wf1_j{job}_r1_a1.o"));
        let lines: Vec<&str> = output.lines().collect();
        let attempt = &place.attempts(&format!("gang{gang}"))[0];
        let nodes = nodes(attempt);
        assert_eq!(nodes.len(), 3);
        // Whole nodes, whatever it asked for on each.
        assert_eq!(lines[0], format!("{} 3 2,2,2", nodes.join(",")));
        assert_eq!(lines[1..], nodes, "the hostfile has a node a line");
        assert_eq!(place.lines(&format!("ran_{gang}")), ["once"]);
        assert!(nodes.iter().all(|node| ["node1", "node2", "node3", "node4"].contains(node)));
    }
}

#[test]
fn nobody_else_is_on_the_nodes_of_a_gang_while_it_runs() {
    let place = Place::with(SPEC);
    place.run(&["--nodes", "4", "--num-cpus", "2"]).expect(0);
    let attempts = place.results();
    assert_eq!(attempts.len(), 27);
    for gang in attempts.iter().filter(|attempt| nodes(attempt).len() > 1) {
        for other in attempts.iter().filter(|other| other["step"] != gang["step"]) {
            let shares_nodes = nodes(gang).iter().any(|node| nodes(other).contains(node));
            let apart = time(other, "ended_at") <= time(gang, "dispatched_at")
                || time(gang, "ended_at") <= time(other, "dispatched_at");
            assert!(!shares_nodes || apart, "{gang}\nand\n{other}");
        }
    }
}

#[test]
fn pretended_nodes_are_never_given_more_jobs_than_cpus() {
    let place = Place::with(SPEC);
    place.run(&["--nodes", "4", "--num-cpus", "2"]).expect(0);
    let attempts = place.results();
    for attempt in &attempts {
        let at = time(attempt, "dispatched_at");
        for node in nodes(attempt) {
            let beside = attempts.iter().filter(|other| {
                nodes(other).contains(&node)
                    && time(other, "dispatched_at") <= at
                    && at < time(other, "ended_at")
            });
            assert!(beside.count() <= 2, "on {node} at {at}: {attempts:#?}");
        }
    }
}

#[test]
fn a_waiting_gang_is_promised_a_start_and_the_reasons_are_shown() {
    let place = Place::with(
        r#"
name: w
resource_requirements:
  - {name: gang, num_nodes: 2, runtime: PT1M}
  - {name: single, runtime: PT1M}
  - {name: long, runtime: PT2H}
jobs:
  - {name: holder, command: "echo > holds; read < go", resource_requirements: single, priority: 9}
  - {name: gang, command: "true", resource_requirements: gang, priority: 5}
  - {name: long, command: "true", resource_requirements: long}"#,
    );
    let mut holds = place.fifo("holds");
    place.gate("go");
    let run = place.start_run(&["--nodes", "2", "--num-cpus", "1"]);
    holds.line();
    let status = place.json(&["status"]);
    let planned = &status["planned"][0];
    assert_eq!(planned["job"], "gang");
    assert_eq!(planned["job_id"], 2);
    assert_eq!(planned["nodes"].as_array().unwrap().len(), 2);
    assert!(planned["at"].as_u64() > status["started_at"].as_u64());
    assert_eq!(planned["held"][0]["name"], "node1");
    assert!(planned["held"][1]["since"].as_u64() >= status["started_at"].as_u64());
    let jobs = place.json(&["jobs"]);
    assert_eq!(jobs[1]["waiting"]["cause"], "waits_for_idle_nodes");
    assert_eq!((&jobs[1]["waiting"]["needs"], &jobs[1]["waiting"]["idle"]), (&2.into(), &1.into()));
    assert_eq!(jobs[2]["waiting"]["cause"], "held_for_planned_start", "it is too long to go first");
    assert_eq!(jobs[2]["waiting"]["job"], 2);
    place
        .torc(&["status"])
        .expect(0)
        .says("planned: gang starts by")
        .says("held for it: node1 node2");
    let gang = place.torc(&["explain", "gang"]).expect(0);
    gang.says("  node1, node2 held for it since ").says("  planned start in 5");
    gang.says("  node1 runs holder, expected to end at ");
    let nodes = place.json(&["nodes"]);
    assert_eq!((&nodes[0]["idle"], &nodes[1]["idle"]), (&Value::Null, &"held".into()));
    assert_eq!(nodes[1]["held_since"], planned["held"][1]["since"]);
    place.torc(&["nodes"]).expect(0).says("held for a planned start");
    place.torc(&["jobs"]).expect(0).says("2 idle nodes (1 now").says("nodes held for gang");
    place.open_gate("go", 1);
    run.wait().expect(0).says("held for a planned start");
    let status = place.json(&["status"]);
    let time = |field: &str| status[field].as_u64().expect("a time");
    let idle = status["idle_cpu_ms"].as_object().expect("by cause").values();
    let idle: u64 = idle.map(|time| time.as_u64().expect("a time")).sum();
    assert_eq!(time("held_cpu_ms") + idle, time("available_cpu_ms"));
}

#[test]
fn a_gang_that_cannot_go_on_four_nodes_of_two_cpus_is_told_how() {
    let place = Place::with(SPEC);
    place.torc(&["run", "w.yaml", "--nodes", "4000"]).expect(2).says("--num-cpus");
    place.run(&["--nodes", "2", "--pin", "--num-cpus", "500"]).expect(2).says("--pin");
    place.run(&["--nodes", "2"]).expect(4).says("`gang1` and 2 like it").says("3").says("2");
}

#[test]
fn on_one_real_node_jobs_can_be_pinned() {
    let place = Place::with(
        "name: w\njobs: [{name: 'n{i}', parameters: {i: '1:4'}, \
         command: 'grep Cpus_allowed_list /proc/self/status'}]",
    );
    place.run(&["--num-cpus", "1", "--pin"]).expect(0);
    for job in 1..=4 {
        let seen = place.output(&format!("wf1_j{job}_r1_a1.o"));
        let cpus = seen.trim().rsplit('\t').next().unwrap();
        assert!(cpus.parse::<u32>().is_ok(), "exactly one CPU: {seen}");
    }
}

#[test]
fn jobs_are_packed_or_spread_as_the_spec_says() {
    let nodes_with = |placer: &str| {
        let place = Place::new();
        place.write(
            "w.yaml",
            format!(
                "name: w\nexecution_config: {{{placer}}}\nresource_requirements: [{{name: r, num_cpus: 1, memory: 1m}}]\n\
                 jobs: [{{name: 'j{{i}}', command: sleep 0.2, resource_requirements: r, parameters: {{i: '1:2'}}}}]"
            ),
        );
        place.run(&["--nodes", "2", "--num-cpus", "2"]).expect(0).says("2 completed");
        let attempts = place.results();
        attempts.iter().map(|one| one["nodes"][0].clone()).collect::<Vec<_>>()
    };
    assert_eq!(nodes_with(""), ["node1", "node1"]);
    assert_eq!(nodes_with("placer: pack"), ["node1", "node1"]);
    assert_eq!(nodes_with("placer: spread"), ["node1", "node2"]);
}
