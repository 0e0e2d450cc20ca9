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
    place.torc(&["simulate", "--swf", "a.swf", "--nodes", "2"]).expect(2).says("--cores-per-node");
    place.torc(&["simulate", "--swf", "no.swf", "--nodes", "2"]).expect(3).says("no.swf");
    place.write("b.swf", "1 2 3\n");
    place.torc(&["simulate", "--swf", "b.swf"]).expect(3).says("b.swf: line 1: 3 fields");
    let there =
        ["simulate", "--swf", "a.swf", "--nodes", "2", "--cores-per-node", "2", "--csv", "x/y"];
    place.torc(&there).expect(5).says("cannot write x/y");
}
