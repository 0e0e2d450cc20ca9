//! Every file in `examples/` runs to its end as the comment at its top says.

use torc_tests::{Place, Started, checkout, torc};

/// Runs an example in a copy of what it needs, so that nothing is left in the checkout.
fn run_example(file: &str, options: &[&str]) -> (Place, torc_tests::Ended) {
    let place = Place::new();
    for needed in ["examples", "LICENSE"] {
        std::os::unix::fs::symlink(checkout().join(needed), place.join(needed)).expect("a link");
    }
    let path = format!("examples/{file}");
    // Some of them have jobs that call torc.
    let torc = torc().parent().expect("a folder").to_string_lossy().into_owned();
    let path_variable = std::env::var("PATH").unwrap_or_default();
    place.set_env([("PATH".to_owned(), format!("{torc}:{path_variable}"))]);
    let ended = Started::start(place.command(&[&["run", &path], options].concat())).wait();
    (place, ended)
}

#[test]
fn many_independent_jobs_compute_pi() {
    let (place, ended) = run_example("pi.yaml", &[]);
    ended.expect(0).says("41 completed");
    assert!(place.torc(&["logs", "report"]).expect(0).stdout.contains("3.1"));
}

#[test]
fn the_primes_are_counted() {
    run_example("primes.json", &[]).1.expect(0);
}

#[test]
fn heat_spreads_over_four_pretended_nodes() {
    let (place, ended) = run_example("heat.yaml", &["--nodes", "4", "--num-cpus", "1"]);
    ended.expect(0).says("10 completed");
    let nodes = &place.attempts("simulate")[0]["nodes"];
    assert_eq!(*nodes, serde_json::json!(["node1", "node2", "node3", "node4"]));
}

#[test]
fn a_diamond_by_files_is_run_in_order() {
    let (place, ended) = run_example("diamond.yaml", &[]);
    ended.expect(0).says("4 completed");
    let depends = place.json(&["jobs", "--job", "summary"])[0]["depends_on"].clone();
    assert_eq!(depends, serde_json::json!([2, 3]));
}

#[test]
fn the_sweep_finds_a_best_rate() {
    run_example("sweep.yaml", &[]).1.expect(0);
}

#[test]
fn a_job_adds_a_job_for_each_piece_that_it_finds() {
    let (place, ended) = run_example("dynamic.yaml", &[]);
    ended.expect(0).says("5 completed");
    let said = place.torc(&["logs", "sum"]).expect(0).stdout;
    let words = std::fs::read_to_string(checkout().join("LICENSE")).unwrap();
    let words = words.split_whitespace().count();
    assert_eq!(said, format!("3 pieces have {words} words\n"));
}

#[test]
fn the_solver_converges_at_the_third_attempt() {
    let (place, ended) = run_example("retries.yaml", &[]);
    ended.expect(0).says("2 completed");
    let attempts = place.attempts("solve");
    let codes: Vec<_> = attempts.iter().map(|attempt| attempt["return_code"].as_i64()).collect();
    assert_eq!(codes, [Some(42), Some(42), Some(0)]);
}

#[test]
fn priorities_show_in_the_order_of_starts() {
    let (place, ended) = run_example("priorities.yaml", &["--max-parallel-jobs", "1"]);
    ended.expect(0);
    let order = place.lines("torc_output/examples/priorities/order.txt");
    let of = |word: &str| order.iter().rposition(|line| line.contains(word)).expect("it is there");
    assert!(of("urgent") < of("usual") && of("usual") < of("whenever"), "{order:?}");
}

#[test]
fn what_is_for_slurm_can_be_tried_on_pretended_nodes() {
    let (_, ended) = run_example("slurm.yaml", &["--nodes", "2", "--num-cpus", "8"]);
    ended.expect(0).says("25 completed");
}

/// Those that need Slurm: tests/run submits them to the cluster.
const ON_SLURM: [&str; 1] = ["direct.yaml"];

#[test]
fn every_example_is_among_these_tests() {
    let this = include_str!("examples.rs");
    let gate = std::fs::read_to_string(checkout().join("tests/run")).unwrap();
    for name in ON_SLURM {
        assert!(gate.contains(&format!("submit_example {name} ")), "{name} is not submitted");
    }
    for found in std::fs::read_dir(checkout().join("examples")).unwrap() {
        let found = found.unwrap();
        let name = found.file_name().to_string_lossy().into_owned();
        let is_spec = found.path().is_file();
        assert!(!is_spec || this.contains(&format!("\"{name}\"")), "{name} is not run by any test");
    }
}
