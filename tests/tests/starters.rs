//! `torc new` and `torc completions`: what a new user begins with.

use std::process::Command;

use torc_tests::Place;

#[test]
fn each_starter_is_valid_without_warnings_and_says_its_own_name() {
    let place = Place::new();
    for kind in ["local", "jobs", "multi-node", "mpi", "sweep"] {
        let file = format!("{kind}.yaml");
        place.torc(&["new", kind]).expect(0).says(&file);
        let checked = place.torc(&["validate", &file]).expect(0);
        assert_eq!(checked.stderr, "", "{kind}");
        let text = place.read(&file);
        assert!(text.contains(&format!(" {file}")) && !text.contains("FILE "), "{text}");
        let printed = place.torc(&["new", kind, "-"]).expect(0).stdout;
        assert_eq!(printed.replace("FILE", &file), text);
    }
    place.torc(&["new", "local", "mine.yaml"]).expect(0);
    place.torc(&["new", "sweep", "mine.yaml"]).expect(2).says("mine.yaml is there already");
    place.torc(&["new", "local", "gone/mine.yaml"]).expect(5).says("cannot write gone/mine.yaml");
}

#[test]
fn starters_run_as_their_first_lines_say() {
    let run = |kind: &str, options: &[&str], made: &str, expected: &str| {
        let place = Place::new();
        place.torc(&["new", kind, "w.yaml"]).expect(0);
        place.torc(&[&["run", "w.yaml"], options].concat()).expect(0);
        assert_eq!(place.read(made), expected, "{kind}");
    };
    run("local", &[], "joined.txt", "left\nright\n");
    run("sweep", &[], "sweep_results/best.txt", "0.4\n");
    let place = Place::new();
    place.torc(&["new", "jobs", "w.yaml"]).expect(0);
    place.torc(&["run", "w.yaml"]).expect(0);
    assert_eq!(place.lines("all_parts.txt").len(), 100);
    let place = Place::new();
    place.torc(&["new", "multi-node", "w.yaml"]).expect(0);
    let pretend = ["--nodes", "4", "--num-cpus", "1", "--memory-gb", "1"];
    place.torc(&[&["run", "w.yaml"], &pretend[..]].concat()).expect(0);
    assert!(
        place.read("report.txt").starts_with("4 nodes, among them "),
        "{}",
        place.read("report.txt")
    );
    assert_eq!(place.lines("report.txt").len(), 9);
}

#[test]
fn the_script_of_bash_is_one_that_bash_reads() {
    let place = Place::new();
    place.write("torc.bash", place.torc(&["completions", "bash"]).expect(0).stdout);
    let mut bash = Command::new("bash");
    bash.current_dir(place.path()).args(["-c", "source ./torc.bash && complete -p torc"]);
    let ended = bash.output().expect("bash is there");
    assert!(ended.status.success(), "{ended:?}");
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        place.torc(&["completions", shell]).expect(0).says("simulate");
    }
}
