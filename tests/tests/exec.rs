//! `torc exec`: workflows without a spec.

use torc_tests::Place;

#[test]
fn commands_of_a_file_are_jobs_named_by_their_lines() {
    let place = Place::new();
    place.write(
        "commands.txt",
        "# three\necho one > 1.txt\n\necho 'two words' | tr a-z A-Z > 2.txt\nexit 3\n",
    );
    place.torc(&["exec", "-C", "commands.txt"]).expect(1).says("2 completed").says("line_5");
    assert_eq!(place.read("1.txt"), "one\n");
    assert_eq!(place.read("2.txt"), "TWO WORDS\n");
    // It is a workflow like any other.
    place.torc(&["results", "--failed"]).expect(0).says("line_5").says("3");
    place.torc(&["restart"]).expect(1);
    assert_eq!(place.attempts("line_5").len(), 2);
    assert_eq!(place.attempts("line_2").len(), 1);
    place.torc_reading(&["exec", "-C", "-"], "echo from standard input > 3.txt").expect(0);
    assert_eq!(place.read("3.txt"), "from standard input\n");
}

#[test]
fn parameters_make_jobs_of_one_command() {
    let place = Place::new();
    place
        .torc(&["exec", "--param", "i=1:3", "--param", "x=[a, b]", "--", "touch", "{x} {i}"])
        .expect(0);
    for name in ["a 1", "a 2", "a 3", "b 1", "b 2", "b 3"] {
        assert!(place.join(name).exists(), "{name}");
    }
    place
        .torc(&["exec", "--zip", "--param", "i=1:2", "--param", "x=[c, d]", "--", "echo {i} > {x}"])
        .expect(0);
    assert_eq!((place.read("c"), place.read("d")), ("1\n".to_owned(), "2\n".to_owned()));
    place.torc(&["exec", "--", "touch", "alone"]).expect(0);
    assert!(place.join("alone").exists());
}

#[test]
fn so_many_run_at_once_as_are_asked_for_on_however_few_cpus() {
    let place = Place::new();
    let mut holds = place.fifo_for_many("holds");
    place.gate("go");
    let command = "echo {i} > holds; read < go";
    let run =
        place.start(&["exec", "-j", "5", "--num-cpus", "1", "--param", "i=1:5", "--", command]);
    (1..=5).for_each(|_| {
        holds.line();
    });
    place.open_gate("go", 5);
    run.wait().expect(0);
    // With a size it is a cap: two fit, one is let.
    let alone = "mkdir alone && rmdir alone";
    place
        .torc(&[
            "exec",
            "-j",
            "1",
            "--cpus",
            "1",
            "--num-cpus",
            "2",
            "--param",
            "i=1:4",
            "--",
            alone,
        ])
        .expect(0);
}

#[test]
fn jobs_have_sizes_retries_and_limits() {
    let place = Place::new();
    let command = "echo x >> tries; [ $(wc -l < tries) = 3 ]";
    place.torc(&["exec", "--retries", "2", "--", command]).expect(0);
    assert_eq!(place.attempts("job").len(), 3);
    place.torc(&["exec", "--timeout", "1s", "--", "sleep 100"]).expect(1).says("terminated");
    place
        .torc(&["exec", "--cpus", "3", "--num-cpus", "2", "--", "true"])
        .expect(4)
        .says("needs 3 CPUs");
    let sized = ["--format", "json", "exec", "--cpus", "2", "--num-cpus", "2", "--memory", "64m"];
    let jobs = place.torc(&[&sized[..], &["--name", "sized", "--", "true"]].concat()).json();
    assert_eq!(jobs["name"], "sized");
    assert_eq!(place.json(&["jobs"])[0]["cpus"], 2);
}

#[test]
fn what_is_wrong_is_said() {
    let place = Place::new();
    place.torc(&["exec"]).expect(2).says("there is nothing to run: give -C FILE");
    place.torc(&["exec", "-C", "gone.txt"]).expect(3).says("cannot read gone.txt");
    place.write("empty.txt", "# nothing\n");
    place.torc(&["exec", "-C", "empty.txt"]).expect(3).says("there are no commands in empty.txt");
    place.write("latin.txt", b"echo\necho \xe9\n");
    place.torc(&["exec", "-C", "latin.txt"]).expect(3).says("latin.txt:2: this is not UTF-8 text");
    place.torc(&["exec", "-C", "empty.txt", "--", "true"]).expect(2).says("cannot be used with");
    place.torc(&["exec", "--param", "i", "--", "true"]).expect(2).says("expected NAME=VALUES");
    place
        .torc(&["exec", "--param", "i=1:2:0", "--", "echo {i}"])
        .expect(3)
        .says("spec::bad-parameter");
    place.torc(&["exec", "--memory", "1x", "--", "true"]).expect(3).says("spec::bad-memory");
    assert!(!place.join("torc_output").exists());
}
