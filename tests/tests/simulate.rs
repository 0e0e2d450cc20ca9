//! `torc simulate` as people use it.

use torc_tests::Place;

/// Two nodes of two cores: a job on one core, a gang that waits for it, and one that goes before the gang.
const LOG: &str = "; MaxNodes: 2\n; MaxProcs: 4\n\
1 0 -1 100 1 -1 -1 1 200 -1 1 1 1 1 1 1 -1 -1\n\
2 10 -1 50 3 -1 -1 3 60 -1 1 1 1 1 1 1 -1 -1\n\
3 20 -1 30 2 -1 -1 2 40 -1 1 1 1 1 1 1 -1 -1\n\
4 30 -1 -1 2 -1 -1 2 40 -1 5 1 1 1 1 1 -1 -1\n";

#[test]
fn a_log_is_replayed() {
    let place = Place::new();
    place.write("a.swf", LOG);
    let ended = place.torc(&["simulate", "--swf", "a.swf", "--csv", "out.csv"]).expect(0);
    ended.says("3 jobs on 2 nodes of 2 cores").says("1 more of the log never ran");
    ended.says("makespan:    00:02:30").says("1 jobs were promised a start, 0 of them");
    let expected = "job,processors,submitted,started,ended,wait,nodes,first_node
1,1,0,0,100,0,1,1
2,3,10,100,150,90,2,1
3,2,20,20,50,0,1,2
";
    assert_eq!(place.read("out.csv"), expected);
    let figures = place.json(&["simulate", "--swf", "a.swf", "--nodes", "1"]);
    assert_eq!(figures["never"], 1, "the gang has no second node");
}

#[test]
fn what_cannot_be_simulated_is_said() {
    let place = Place::new();
    let without_comments: String = LOG.lines().skip(2).map(|line| format!("{line}\n")).collect();
    place.write("a.swf", without_comments);
    place.torc(&["simulate", "--swf", "a.swf"]).expect(2).says("name them with --nodes");
    place.torc(&["simulate", "--swf", "a.swf", "--nodes", "2"]).expect(2).says("--cpus-per-node");
    place.torc(&["simulate", "--swf", "no.swf", "--nodes", "2"]).expect(3).says("no.swf");
    place.write("b.swf", "1 2 3\n");
    place.torc(&["simulate", "--swf", "b.swf"]).expect(3).says("b.swf: line 1: 3 fields");
    let there =
        ["simulate", "--swf", "a.swf", "--nodes", "2", "--cores-per-node", "2", "--csv", "x/y"];
    place.torc(&there).expect(5).says("cannot write x/y");
}

/// Eight jobs of ten minutes, and one of an hour, each for a whole node of four CPUs.
const UNEVEN: &str = r#"
name: uneven
compute_node_wait_for_new_jobs_seconds: 0
resource_requirements:
  - {name: short, num_cpus: 4, memory: 1g, runtime: PT10M}
  - {name: long, num_cpus: 4, memory: 1g, runtime: PT1H}
jobs:
  - {name: long, command: "true", resource_requirements: long, priority: 1}
  - {name: "j{i}", command: "true", resource_requirements: short, parameters: {i: "1:8"}}
"#;

const ON_NODES: [&str; 6] =
    ["--cpus-per-node", "4", "--memory-per-node-gb", "8", "--gpus-per-node", "0"];

fn simulate<'a>(spec: &'a str, options: &[&'a str]) -> Vec<&'a str> {
    [&["simulate", spec], options, &ON_NODES].concat()
}

#[test]
fn one_large_allocation_is_compared_with_many_small_ones() {
    let place = Place::new();
    place.write("w.yaml", UNEVEN);
    let options = ["--nodes", "5", "--queue-wait", "1=10m,5=1h"];
    let said = place.torc(&simulate("w.yaml", &options)).expect(0).stdout;
    let expected = "uneven: 9 jobs
on 5 nodes, each with 4 CPUs, 8.0 GiB and 0 GPUs; an allocation lasts as long as it takes
queue: an allocation waits by its nodes: 1 node 00:10:00, 5 nodes 01:00:00
                        ONE LARGE     MANY SMALL
asked for               1 × 5 nodes   5 × 1 node
had nodes               1 allocation  5 allocations
first nodes after       01:00:00      00:10:00
makespan                02:00:00      01:10:00
node-hours              5.00          2.33
CPU time given to jobs  46.7 %        100.0 %
  idle: tail            53.3 %        0.0 %
many small is better: done 00:50:00 (41.7 %) sooner, with 2.67 node-hours less (53.3 %)
";
    assert_eq!(said, expected);
    let report = place.json(&simulate("w.yaml", &options));
    assert_eq!(report["makespan"]["better"], "many_small");
    assert_eq!(report["makespan"]["by_ms"], 50 * 60_000);
    assert_eq!(report["ways"][0]["kind"], "one_large");
    assert_eq!(report["ways"][1]["allocations"][0]["begins_ms"], 10 * 60_000);
    let said = place.torc(&simulate("w.yaml", &["--nodes", "1"])).expect(0);
    said.says("nobody waits").says("nothing to split");
}

#[test]
fn runtimes_are_those_of_an_earlier_run() {
    let place = Place::new();
    let spec = UNEVEN.replace("num_cpus: 4", "num_cpus: 1").replace("1:8", "1:2");
    place.write("few.yaml", &spec);
    place.torc(&["run", "few.yaml"]).expect(0);
    place.write("w.yaml", UNEVEN);
    let options = ["--nodes", "2", "--measured", "1"];
    let report = place.json(&simulate("w.yaml", &options));
    assert_eq!((&report["measured_jobs"], &report["alike_jobs"]), (&3.into(), &6.into()));
    let makespan = report["ways"][0]["makespan_ms"].as_u64().expect("a number");
    assert!(makespan < 600_000, "nobody takes ten minutes: {makespan} ms");
    place.torc(&simulate("w.yaml", &options)).expect(0).says("3 measured, 6 as others with");
    place.write("other.yaml", "{name: w, jobs: [{name: other, command: x}]}");
    place.torc(&simulate("other.yaml", &options)).expect(2).says("nothing was measured");
    place.torc(&simulate("w.yaml", &["--nodes", "2", "--measured", "7"])).expect(2).says("7");
}

#[test]
fn what_is_asked_for_in_vain_is_said() {
    let place = Place::new();
    place.write("w.yaml", UNEVEN);
    place.torc(&simulate("w.yaml", &[])).expect(2).says("name them with --nodes");
    let short = ["--nodes", "2", "--walltime", "30m"];
    place.torc(&simulate("w.yaml", &short)).expect(4).says("`long`");
    let falls = ["--nodes", "2", "--queue-wait", "2=1h,1=2h"];
    place.torc(&simulate("w.yaml", &falls)).expect(2).says("ascending order");
    place.torc(&simulate("w.yaml", &["--nodes", "2", "--csv", "x"])).expect(2).says("--csv");
    place.write("a.swf", LOG);
    let both = ["simulate", "--swf", "a.swf", "--queue-wait", "1h"];
    place.torc(&both).expect(2).says("--queue-wait");
}
